"""`--anatomy DIR`: label maps from a folder of public ones, at no cost to any patient.

The grid, the label values and the names of modalities are all that is taken from the cohort; under a guarantee they are
public (`private_train.py`). The folder's name and place go nowhere: the model holds its SHA-256, and the templates cut
from it.
"""

from __future__ import annotations

from pathlib import Path

from anonsynth.anatomy.context import CONTEXT_CLASSES
from anonsynth.anatomy.map_templates import cut_templates, save_templates
from anonsynth.anatomy.public_maps import PublicMaps, rows_by_name
from anonsynth.cohort.model import CohortInfo
from anonsynth.errors import UsageError
from anonsynth.policies.model import Policy
from anonsynth.synthesis.label_source import ANATOMY_FILE, LabelSource, PublicAnatomy
from anonsynth.synthesis.settings import PriorChoice
from anonsynth.synthesis.vocabulary import Vocabulary

__all__ = ["anatomy_source", "write_templates"]

BRAIN = {"csf", "grey matter", "white matter"}


def anatomy_source(info: CohortInfo, maps: PublicMaps, choice: PriorChoice, policy: Policy) -> LabelSource:
    """Return where label maps come from when public maps were given; no scan is opened.

    Raises:
        UsageError: If another prior is asked for, or the policy does not allow the atlas prior.
    """
    if choice not in (PriorChoice.AUTO, PriorChoice.ATLAS):
        raise UsageError(f"--anatomy is the atlas prior from maps of your own; leave --prior {choice.value} out")
    if PriorChoice.ATLAS not in policy.synthesis.priors:
        raise UsageError(f"policy '{policy.id}' does not allow the atlas prior; choose another policy")
    if not info.labels:
        raise UsageError("--anatomy stands for a cohort's label maps, and this cohort has none; ingest with --labels")
    whole = {entry.name.lower() for entry in info.labels} >= BRAIN
    modality = info.modalities[0]
    return LabelSource(
        prior=PriorChoice.ATLAS,
        reason=f"{len(maps.paths)} public label maps given with --anatomy, cut to the grid and bent at random",
        vocabulary=Vocabulary(context=1 if whole else CONTEXT_CLASSES, labels=info.labels),
        anatomy=PublicAnatomy(sha256=maps.sha256, maps=len(maps.paths), modality=modality),
    )


def write_templates(info: CohortInfo, maps: PublicMaps, source: LabelSource, out: Path) -> None:
    """Cut the maps' templates into a model's folder, unless they are there.

    Raises:
        InputError: If the maps do not show what the cohort labels.
    """
    path = out / ANATOMY_FILE
    if path.exists():
        return
    labels = source.vocabulary.labels
    rows = maps.rows or rows_by_name(maps, labels)
    values = [entry.value for entry in labels]
    templates = cut_templates(maps, rows, values, info.grid.grid, surrounded=source.vocabulary.context > 1)
    save_templates(templates, path)
