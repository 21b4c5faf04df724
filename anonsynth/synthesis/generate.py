"""Generation: a label map from the prior, style codes from their distribution, images from the generator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from anonsynth.anatomy.borders import stray
from anonsynth.anatomy.edit_plan import EditPlan
from anonsynth.anatomy.edits import Record
from anonsynth.cohort.geometry import FloatVolume, LabelVolume
from anonsynth.cohort.model import LabelKind
from anonsynth.errors import UsageError
from anonsynth.seeds import stream, stream_seed
from anonsynth.synthesis.checkpoint import load_weights
from anonsynth.synthesis.device import pick_device
from anonsynth.synthesis.edited import edit_classes
from anonsynth.synthesis.label_source import open_prior
from anonsynth.synthesis.label_to_mri import render
from anonsynth.synthesis.model import GENERATOR_FILE, ModelInfo, check_weights, open_model
from anonsynth.synthesis.painter import PaintedTranslator
from anonsynth.synthesis.style import draw_style
from anonsynth.synthesis.vocabulary import coordinates

__all__ = ["GeneratedScan", "SubstitutePatient", "generate_patients", "load_generator"]


@dataclass(frozen=True, slots=True)
class GeneratedScan:
    """One generated scan.

    Attributes:
        image: (C, X, Y, Z) float32 in [0, 1], modalities in the model's order.
        style_seed: Seed of its style code and noise.
    """

    image: FloatVolume
    style_seed: int


@dataclass(frozen=True, slots=True)
class SubstitutePatient:
    """A patient that does not exist: one label map, one or more scans of it.

    Attributes:
        index: From 1.
        label: (X, Y, Z) uint8 in the cohort's label values.
        recipe: How the label map was drawn.
        scans: The scans.
        edits: What was done to its tumour afterwards, or refused.
    """

    index: int
    label: LabelVolume
    recipe: dict[str, float | str]
    scans: tuple[GeneratedScan, ...]
    edits: tuple[Record, ...] = ()


def generate_patients(
    model_folder: Path,
    indices: list[int],
    *,
    styles: int,
    seed: int,
    device_name: str = "auto",
    edits: EditPlan | None = None,
) -> Iterator[SubstitutePatient]:
    """Yield substitute patients one at a time; patient `i` depends on the model, the seed and `i` only.

    Args:
        model_folder: What `anonsynth train` wrote.
        indices: Which substitute patients, from 1.
        styles: Scans of each.
        seed: The one seed.
        device_name: `auto`, `cpu` or `cuda`.
        edits: Edits of every drawn tumour.

    Raises:
        UsageError: If edits are asked for and the model draws no tumour.
        InputError: If the model is unfinished, or its weights are not those its card names.
    """
    info = open_model(model_folder)
    check_weights(model_folder, info)
    if edits and not any(entry.kind is LabelKind.TUMOUR for entry in info.source.vocabulary.labels):
        raise UsageError("the model draws no tumour that could be edited; leave the options of edits out")
    device = pick_device(device_name)
    generator = load_generator(info, model_folder, device)
    prior = open_prior(info.source, info.grid.grid, model_folder)
    place = coordinates(info.grid.shape)[None].to(device)
    vocabulary = info.source.vocabulary
    for index in indices:
        drawn = prior.draw(stream(seed, "label map", index))
        classes, records = drawn.label, list[Record]()
        if edits:
            classes, records = edit_classes(classes, prior, vocabulary, edits, seed, index)
        # The scan is written for borders that stray from the map's own, as they do in real scans.
        seen = stray(classes, 1 + vocabulary.context, info.border_stray, stream(seed, "border", index))
        shown = torch.from_numpy(np.ascontiguousarray(seen))[None].to(device)
        scans = tuple(
            _scan(generator, shown, classes, place, info, stream_seed(seed, "style", index, number))
            for number in range(1, styles + 1)
        )
        yield SubstitutePatient(index, vocabulary.label_map(classes), drawn.recipe, scans, tuple(records))


@torch.no_grad()
def _scan(
    generator: PaintedTranslator,
    classes: torch.Tensor,
    drawn: LabelVolume,
    place: torch.Tensor,
    info: ModelInfo,
    style_seed: int,
) -> GeneratedScan:
    noise = torch.Generator().manual_seed(style_seed)
    style = draw_style(info.settings.style, noise).to(place)
    image = render(generator, classes, place, style, info.source.vocabulary, noise)[0]
    completed = generator.rim.complete(
        image.cpu().numpy().astype(np.float32), drawn > info.source.vocabulary.context, drawn > 0
    )
    return GeneratedScan(completed, style_seed)


def load_generator(info: ModelInfo, folder: Path, device: torch.device) -> PaintedTranslator:
    """Return a finished model's generator, ready to write scans."""
    settings = info.settings
    generator = PaintedTranslator(
        info.source.vocabulary.classes, len(info.modalities), width=settings.width, style=settings.style
    )
    load_weights(folder / GENERATOR_FILE, generator)
    return generator.to(device).eval()
