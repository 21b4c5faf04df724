"""Images of a simulated person: every modality from one anatomy, one set of tissues, one texture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anonsynth.anatomy.fields import multiscale_field, smooth_field
from anonsynth.anatomy.physics import (
    Acquisition,
    Tissues,
    draw_acquisitions,
    draw_tissues,
    signal,
    vessel_signal,
)
from anonsynth.anatomy.scanner import bias_field, blurred, rician
from anonsynth.anatomy.subject import CSF, GREY, WHITE, Subject, SubjectSettings, draw_subject
from anonsynth.anatomy.voxels import label_map, pooled, refined
from anonsynth.cohort.geometry import FloatVolume, Grid, LabelVolume

__all__ = ["SimulatedScan", "draw_scan"]

_TEXTURE_R1 = (0.0, 0.01, 0.035, 0.02, 0.06, 0.10, 0.12, 0.45, 0.40)
_TEXTURE_R2 = (0.0, 0.01, 0.035, 0.02, 0.10, 0.12, 0.16, 0.30, 0.16)
"""Relative standard deviation of the relaxation rates within each tissue."""
_DETAIL_R1, _DETAIL_R2 = 1.7, 0.9
"""How the template's own T1 detail translates to relaxation rates: myelin and iron shorten both times."""


@dataclass(frozen=True)
class SimulatedScan:
    """All modalities and the label map of a simulated person.

    Attributes:
        grid: The grid, centred on the world's origin.
        images: (modality, (X, Y, Z) float32 in 0..1) pairs; 1 is a bright tissue, a few voxels may be cut there.
        label: (X, Y, Z) uint8, values of `BRAIN_LABELS`.
        acquisitions: How each image was acquired, in the order of the images.
        recipe: What was drawn, JSON-able.
    """

    grid: Grid
    images: tuple[tuple[str, FloatVolume], ...]
    label: LabelVolume
    acquisitions: tuple[Acquisition, ...]
    recipe: dict[str, float | str]


@dataclass(frozen=True)
class _Texture:
    """What varies within tissues, on the subject's grid: relative changes of the rates, and vessels (0..1)."""

    r1: FloatVolume
    r2: FloatVolume
    lesions: FloatVolume
    vessels: FloatVolume


def draw_scan(grid: Grid, settings: SubjectSettings, rng: np.random.Generator) -> SimulatedScan:
    """Draw a person and acquire T1, post-contrast T1, T2 and FLAIR on `grid` (taken as centred)."""
    grid = grid.centred()
    fine, factors = refined(grid)
    subject = draw_subject(fine, settings, rng)
    acquisitions = draw_acquisitions(rng)
    tissues = draw_tissues(acquisitions[0].field, rng)
    texture = _draw_texture(subject, rng)
    label = label_map(subject.tissue, factors)
    inside = None if settings.head else pooled(subject.tissue[:1], factors)[0] < 0.5
    images = []
    for acquisition in acquisitions:
        ideal = pooled(_ideal(subject, texture, acquisition, tissues), factors)
        images.append((acquisition.modality, _acquired(ideal, grid, inside, rng)))
    recipe = {"field_tesla": acquisitions[0].field, "t1_sequence": str(acquisitions[0].kind), **subject.recipe}
    return SimulatedScan(grid, tuple(images), label, acquisitions, recipe)


def _draw_texture(subject: Subject, rng: np.random.Generator) -> _Texture:
    shape, spacing = subject.grid.shape, subject.grid.spacing
    shared = multiscale_field(shape, spacing, ((1.2, 1.0), (3.5, 0.8), (11.0, 0.7)), rng)
    own = multiscale_field(shape, spacing, ((1.5, 1.0), (5.0, 0.8)), rng)
    ageing = np.float32(subject.recipe["ageing"])
    caps = blurred(subject.ventricle, [2.5 / step for step in spacing])
    foci = np.clip(smooth_field(shape, [2.6 / step for step in spacing], rng) - 3.2 + 0.5 * ageing, 0, 0.6)
    lesions = ageing * (0.8 * caps + 1.2 * foci)
    # Where two smooth fields are both near zero runs a curve: a vessel. They lie in fluid.
    curve = np.hypot(*(smooth_field(shape, [5.0 / step for step in spacing], rng) for _ in range(2)))
    in_sulci = np.clip(3 * blurred(subject.tissue[CSF], [0.8 / step for step in spacing]) - 0.6, 0, 1)
    vessels = np.clip(1.6 - curve / 0.11, 0, 1) * in_sulci * (subject.ventricle < 0.2)
    return _Texture(shared, 0.7 * shared + 0.7 * own, lesions.astype(np.float32), vessels.astype(np.float32))


def _ideal(subject: Subject, texture: _Texture, acquisition: Acquisition, tissues: Tissues) -> FloatVolume:
    """Return the noiseless image: tissue fractions times brightness, with the rates' variation to first order."""
    bright, by_r1, by_r2 = _sensitivities(acquisition, tissues)
    values = np.arange(bright.size)
    brain = np.isin(values, (GREY, WHITE))
    lesion = np.where(values == WHITE, -0.25 * by_r1 - 0.5 * by_r2, 0.0)
    detail = np.where(brain, _DETAIL_R1 * by_r1 + _DETAIL_R2 * by_r2, 0.0)
    weights = np.stack(
        [bright, by_r1 * np.asarray(_TEXTURE_R1), by_r2 * np.asarray(_TEXTURE_R2), detail, lesion]
    ).astype(np.float32)
    flat = weights @ subject.tissue.reshape(subject.tissue.shape[0], -1)
    mean, from_r1, from_r2, from_detail, from_lesion = flat.reshape(-1, *subject.grid.shape)
    image = mean + from_r1 * texture.r1 + from_r2 * texture.r2 + from_detail * subject.detail
    image += from_lesion * texture.lesions
    image += texture.vessels * (np.float32(vessel_signal(acquisition)) - image) * np.float32(0.8)
    ideal: FloatVolume = np.maximum(image, 0)
    return ideal


def _sensitivities(
    acquisition: Acquisition, tissues: Tissues
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the brightness by label value, and its derivatives by the logarithms of R1 and R2."""
    step = 0.04
    bright = signal(acquisition, tissues)
    by_r1 = (signal(acquisition, tissues, r1=1 + step) - signal(acquisition, tissues, r1=1 - step)) / (2 * step)
    by_r2 = (signal(acquisition, tissues, r2=1 + step) - signal(acquisition, tissues, r2=1 - step)) / (2 * step)
    return bright, by_r1, by_r2


def _acquired(
    ideal: FloatVolume, grid: Grid, inside: npt.NDArray[np.bool_] | None, rng: np.random.Generator
) -> FloatVolume:
    """Return the image with blur, bias and noise, 0..1; outside `inside` it is 0, as skull-stripping leaves it."""
    width = float(rng.uniform(0.25, 0.45))
    image = blurred(ideal, (width, width, width + float(rng.uniform(0, 0.25))))
    image *= bias_field(grid.shape, grid.spacing, float(rng.uniform(0.03, 0.1)), rng)
    tissue = image[inside] if inside is not None else image[image > 0.1 * image.max()]
    bright = float(np.percentile(tissue, 99.9)) if tissue.size else 1.0
    image = rician(image / np.float32(max(bright, 1e-6)), float(rng.uniform(0.008, 0.022)), rng)
    if inside is not None:
        image *= inside
    acquired: FloatVolume = np.clip(image / np.float32(1.15), 0, 1)
    return acquired
