"""Edits of a drawn class map, between the prior and the generator."""

from __future__ import annotations

import numpy as np

from anonsynth.anatomy.edit_apply import apply_edits
from anonsynth.anatomy.edit_plan import EditPlan
from anonsynth.anatomy.edits import Record, remove_tumour
from anonsynth.anatomy.priors import LabelPrior
from anonsynth.anatomy.scene import Scene
from anonsynth.cohort.geometry import LabelVolume
from anonsynth.seeds import stream, stream_seed
from anonsynth.synthesis.vocabulary import Vocabulary

__all__ = ["edit_classes"]


def edit_classes(
    classes: LabelVolume, prior: LabelPrior, vocabulary: Vocabulary, plan: EditPlan, seed: int, index: int
) -> tuple[LabelVolume, list[Record]]:
    """Return a drawn class map (X, Y, Z) after a plan's edits, and what was done or refused.

    The healthy brain of a transplant is another draw, without its tumour.

    Args:
        classes: As drawn.
        prior: What the host of a transplant is drawn from.
        vocabulary: The classes.
        plan: The edits.
        seed: The one seed.
        index: Of the substitute patient.
    """
    around, host = classes, None
    if plan.transplant:
        around = prior.draw(stream(seed, "host of a transplant", index)).label
        host = _scene(around, prior, vocabulary)
        if host.tumour.any():
            host = remove_tumour(host).scene
    scene = _scene(classes, prior, vocabulary)
    place = stream_seed(seed, "place of a tumour", index) % 2**31
    edited, records = apply_edits(scene, plan, other=host, number=index - 1, seed=place)
    if not any(record["edit"] == "transplant" and "refused" not in record for record in records):
        around = classes
    context = np.where((around > 0) & (around <= vocabulary.context), around - 1, 0).astype(np.uint8)
    return vocabulary.class_map(edited.label, context, around > 0), records


def _scene(classes: LabelVolume, prior: LabelPrior, vocabulary: Vocabulary) -> Scene:
    return Scene(vocabulary.label_map(classes), prior.grid.spacing, vocabulary.labels)
