"""One simulated person: a brain drawn from the template, perhaps a tumour, perhaps a head, as soft tissue fractions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from anonsynth.anatomy.diffeomorphism import Affine, Warp, grid_points, random_affine, random_warp
from anonsynth.anatomy.fields import multiscale_field, resize, sigmoid
from anonsynth.anatomy.head import head_layers
from anonsynth.anatomy.templates import CHANNELS, BrainTemplate, brain_template, sample
from anonsynth.anatomy.tumour import (
    ENHANCING,
    NECROSIS,
    OEDEMA,
    TumourPlan,
    TumourSite,
    draw_plan,
    grow_tumour,
    push_aside,
)
from anonsynth.cohort.geometry import FloatVolume, Grid, LabelVolume

__all__ = ["TISSUES", "Subject", "SubjectSettings", "draw_subject"]

TISSUES = 9
"""Background and the eight values of `anonsynth.cohort.model.BRAIN_LABELS`."""
CSF, GREY, WHITE, SKULL, SCALP = 1, 2, 3, 7, 8
_LATTICE_MM = 4.0
_MEAN_PULL = 1.09
"""The template is larger than the people it was made of; pulling by this factor restores a mean brain."""


@dataclass(frozen=True)
class SubjectSettings:
    """What to draw.

    Attributes:
        head: With fluid, skull and scalp around the brain; otherwise as if skull-stripped.
        tumour: With a tumour.
        across_midline: Whether a tumour may cross the midline.
        warp: Least and most mean length of the random velocity, mm.
    """

    head: bool = False
    tumour: bool = True
    across_midline: bool = False
    warp: tuple[float, float] = (2.5, 5.5)


@dataclass(frozen=True)
class Subject:
    """A person's anatomy on a grid.

    Attributes:
        grid: The grid.
        tissue: (9, X, Y, Z) float32 fractions, index = label value, sum 1 in every voxel.
        detail: (X, Y, Z) relative T1 brightening within tissue, see `BrainTemplate`.
        ventricle: (X, Y, Z) probability of a ventricle.
        outside: (X, Y, Z) signed distance to the intracranial surface, mm.
        places: (3, X, Y, Z) where each voxel lies in the template's world, mm.
        recipe: What was drawn, JSON-able.
    """

    grid: Grid
    tissue: FloatVolume
    detail: FloatVolume
    ventricle: FloatVolume
    outside: FloatVolume
    places: FloatVolume
    recipe: dict[str, float | str]


@dataclass(frozen=True)
class _Shape:
    """How the subject's world is pulled back to the template's."""

    affine: Affine
    warp: Warp

    def __call__(self, points: FloatVolume) -> FloatVolume:
        return self.affine(self.warp(points))


def draw_subject(grid: Grid, settings: SubjectSettings, rng: np.random.Generator) -> Subject:
    """Draw a person whose brain's centre is near the world's origin."""
    template = brain_template(1.0 if max(grid.spacing) < 1.3 else 1.5)
    shape, recipe = _draw_shape(template, settings, rng)
    points = grid_points(grid)
    plan = _draw_tumour(grid, template, shape, rng) if settings.tumour else None
    where = shape(push_aside(points, plan) if plan else points)
    channels = dict(zip(CHANNELS, sample(template.volumes, template.grid, where), strict=True))
    tissue = _tissues(channels, grid, settings, where, recipe, rng)
    if plan is None:
        recipe["tumour"] = "none"
    else:
        _add_tumour(tissue, plan, channels["ventricle"], where[0], grid, settings, recipe, rng)
    return Subject(grid, tissue, channels["detail"], channels["ventricle"], channels["outside"], where, recipe)


def _draw_shape(
    template: BrainTemplate, settings: SubjectSettings, rng: np.random.Generator
) -> tuple[_Shape, dict[str, float | str]]:
    extent = [n + 60.0 for n in template.extent]
    nx, ny, nz = (int(length / _LATTICE_MM) + 1 for length in extent)
    lattice = Grid((nx, ny, nz), (_LATTICE_MM,) * 3).centred()
    ageing = float(rng.beta(1.3, 2.0))
    coarse = np.stack([resize(part, lattice.shape) for part in _on_lattice(template, lattice)])
    strength = float(rng.uniform(*settings.warp))
    # The pull moves towards the ventricles, so the ventricles grow.
    warp = random_warp(rng, lattice, strength=strength, drift=-coarse * np.float32(6.0 * ageing - 0.8))
    affine = random_affine(rng, scale=_MEAN_PULL)
    recipe: dict[str, float | str] = {
        "warp_mm": round(warp.strength, 3),
        "least_jacobian": round(warp.least_jacobian, 4),
        "warp_weakened": float(warp.weakened),
        "ageing": round(ageing, 3),
        "size": round(float(np.linalg.det(affine.matrix)) ** (-1 / 3) * _MEAN_PULL, 4),
    }
    return _Shape(affine, warp), recipe


def _on_lattice(template: BrainTemplate, lattice: Grid) -> FloatVolume:
    return sample(template.drift, template.grid, grid_points(lattice))


def _tissues(
    channels: dict[str, FloatVolume],
    grid: Grid,
    settings: SubjectSettings,
    where: FloatVolume,
    recipe: dict[str, float | str],
    rng: np.random.Generator,
) -> FloatVolume:
    """Return (9, X, Y, Z) fractions of fluid, grey and white matter, and of the head if it is wanted."""
    ageing = float(recipe["ageing"])
    # Folds of one's own: level sets perturbed at the width of a gyrus.
    folds = multiscale_field(grid.shape, grid.spacing, ((2.2, 1.0), (4.5, 1.0), (14.0, 0.5)), rng)
    ribbon = multiscale_field(grid.shape, grid.spacing, ((2.0, 1.0), (5.0, 0.7)), rng)
    fluid = sigmoid((122.0 + 14.0 * ageing + 11.0 * folds - channels["csf_level"]) / 9.0)
    white = sigmoid((channels["wm_level"] + 0.16 - 0.1 * ageing + 0.16 * ribbon) / 0.16)
    tissue = np.zeros((TISSUES, *grid.shape), np.float32)
    outside = channels["outside"]
    if settings.head:
        layers = head_layers(outside, where, grid, rng)
        brain = sigmoid(-outside / 0.6)
        tissue[SKULL], tissue[SCALP] = layers.skull, layers.scalp
    else:
        layers = None
        margin = np.float32(rng.uniform(-0.6, 0.6)) + 0.5 * folds
        brain = sigmoid((margin - outside) / 0.6)
    tissue[CSF] = brain * fluid
    tissue[WHITE] = brain * (1 - fluid) * white
    tissue[GREY] = brain * (1 - fluid) * (1 - white)
    if layers:
        tissue[CSF] += layers.fluid
    tissue[0] = np.clip(1 - tissue[1:].sum(0), 0, 1)
    return tissue


def _draw_tumour(grid: Grid, template: BrainTemplate, shape: _Shape, rng: np.random.Generator) -> TumourPlan | None:
    """Choose a place in the white matter of the cerebrum, off the midline, and draw a tumour there."""
    step = 4.0
    shape3 = [max(1, int(length / step)) for length in grid.extent]
    coarse = Grid((shape3[0], shape3[1], shape3[2]), (step,) * 3).centred()
    middle = [o + (n - 1) * s / 2 for o, n, s in zip(grid.origin, grid.shape, grid.spacing, strict=True)]
    points = grid_points(coarse) + np.asarray(middle, np.float32)[:, None, None, None]
    where = shape(points)
    channels = dict(zip(CHANNELS, sample(template.volumes, template.grid, where), strict=True))
    x, y, z = where
    cerebrum = (z > -18) | ((y > 5) & (z > -38))
    off_midline = np.abs(x) > 16
    deep = (channels["outside"] < -11) & (channels["ventricle"] < 0.05)
    candidates = np.argwhere((channels["wm_level"] > 0.3) & cerebrum & off_midline & deep)
    if len(candidates) == 0:
        return None
    i, j, k = candidates[rng.integers(len(candidates))]
    px, py, pz = (float(value) for value in points[:, i, j, k] + rng.uniform(-step / 2, step / 2, 3))
    return draw_plan((px, py, pz), rng)


def _add_tumour(
    tissue: FloatVolume,
    plan: TumourPlan,
    ventricle: FloatVolume,
    side: FloatVolume,
    grid: Grid,
    settings: SubjectSettings,
    recipe: dict[str, float | str],
    rng: np.random.Generator,
) -> None:
    """Replace tissue by tumour in place, and write into the recipe what grew."""
    brain = tissue[CSF : WHITE + 1].sum(0)
    allowed = (brain > 0.9) & (ventricle < 0.3)
    if not settings.across_midline:
        nearest = tuple(
            int(np.clip(round((c - o) / s), 0, n - 1))
            for c, o, s, n in zip(plan.centre, grid.origin, grid.spacing, grid.shape, strict=True)
        )
        allowed &= np.sign(side[nearest]) * side > 1.5
    site = TumourSite(grid, allowed, tissue[CSF], tissue[WHITE])
    label = grow_tumour(plan, site, rng)
    _replace(tissue, label, grid, rng)
    recipe.update(
        {
            "tumour": "enhancing" if plan.enhancing else "not enhancing",
            "tumour_ml": round(float((label > 0).sum()) * grid.voxel_volume / 1000, 2),
            "tumour_core_ml": round(float((label > OEDEMA).sum()) * grid.voxel_volume / 1000, 2),
            "tumour_push_mm": round(plan.push, 2),
        }
    )


def _replace(tissue: FloatVolume, label: LabelVolume, grid: Grid, rng: np.random.Generator) -> None:
    """Put the tumour into the tissue fractions; oedema and rim leave some of it between them."""
    window = _bounds(label > 0, pad=3)
    if window is None:
        return
    local = label[window]
    widths = {OEDEMA: 0.9, ENHANCING: 0.5, NECROSIS: 0.7}
    soft = {
        value: ndimage.gaussian_filter((local == value).astype(np.float32), [width / step for step in grid.spacing])
        for value, width in widths.items()
    }
    for value, mean in ((OEDEMA, 0.82), (ENHANCING, 0.88)):
        density = mean + 0.12 * multiscale_field(local.shape, grid.spacing, ((6.0, 1.0), (2.5, 0.4)), rng)
        soft[value] *= np.clip(density, 0.6, 1.0)
    inside = tissue[(slice(None), *window)]
    keep = 1 - np.clip(sum(soft.values()), 0, 1)
    inside *= keep
    for value, fraction in soft.items():
        inside[value] = fraction


def _bounds(mask: npt.NDArray[np.bool_], *, pad: int) -> tuple[slice, slice, slice] | None:
    """Return the box around a mask, `pad` voxels wider, or None for an empty one."""
    slices = []
    for axis in range(3):
        hit = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        if hit.size == 0:
            return None
        slices.append(slice(max(0, int(hit[0]) - pad), int(hit[-1]) + pad + 1))
    return slices[0], slices[1], slices[2]
