"""The atlas prior from public label maps: a template, turned, scaled and bent, so that drawing one costs nothing.

Classes of surroundings, where there are several, are what `context.py` makes of a patient's scan: the rank of
intensity. Here the intensity is that of a picture painted from the template's tissues in the order of brightness that
the modality gives them, with a texture of its own; all of it public.

Zone: shareable.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from anonsynth.anatomy.context import context_map
from anonsynth.anatomy.cosine_shape import FRAME_CENTRE, FRAME_SPREAD
from anonsynth.anatomy.diffeomorphism import grid_points, random_affine, random_warp
from anonsynth.anatomy.field_of_view import box_holding, in_the_middle, within
from anonsynth.anatomy.fields import multiscale_field
from anonsynth.anatomy.freesurfer import TISSUES, brightness
from anonsynth.anatomy.map_templates import MARGIN_MM, MapTemplates
from anonsynth.anatomy.priors import DrawnLabel, Guarantee, PlacedLabel
from anonsynth.anatomy.shape import TRUNCATION
from anonsynth.anatomy.templates import sample
from anonsynth.anatomy.voxels import pooled, refined
from anonsynth.cohort.geometry import FloatVolume, Grid, LabelVolume
from anonsynth.cohort.model import LabelEntry

__all__ = ["WARP_MM", "MapPrior"]

Floats64 = npt.NDArray[np.float64]
WARP_MM = (1.5, 3.5)
"""Least and most mean length of the random velocity, mm."""
EDGE_VOXELS = 0.6
"""Codes are softened by this much, so that bent borders show no steps of the map's voxels."""
TEXTURE = 0.07
"""Standard deviation of the painted picture's texture: tissues of a scan overlap in their ranks."""
TEXTURE_MM = ((1.0, 1.0), (3.0, 0.7), (12.0, 0.5))
_LATTICE_MM = 4.0


@dataclass(frozen=True)
class MapPrior:
    """Draws class maps from templates, in a field of view of public size.

    Attributes:
        templates: Public.
        grid: The cohort's grid.
        labels: The cohort's labels, in the order of the templates' codes.
        context: Classes of surroundings.
        modality: By whose contrast surroundings are ranked.
        warp: Least and most mean length of the random velocity, mm.
    """

    templates: MapTemplates
    grid: Grid
    labels: tuple[LabelEntry, ...]
    context: int
    modality: str
    warp: tuple[float, float] = WARP_MM
    name: str = "atlas"
    guarantee: Guarantee = Guarantee.PUBLIC

    def draw(self, rng: np.random.Generator) -> DrawnLabel:
        """Draw a class map (X, Y, Z); the same generator state gives the same map."""
        return self.draw_placed(rng).drawn

    def draw_placed(self, rng: np.random.Generator) -> PlacedLabel:
        """Draw the same class map, with where each voxel lies in the template."""
        number = int(rng.integers(len(self.templates.codes)))
        lattice = _lattice(self.grid)
        warp = random_warp(rng, lattice, strength=float(rng.uniform(*self.warp)))
        affine = random_affine(rng)
        fine, factors = refined(self.grid.centred())
        points = affine(warp(grid_points(fine)))
        channels, kinds = _channels(self.templates, number)
        shares = pooled(sample(channels, self.templates.grid, points), factors)
        codes = kinds[shares.argmax(0)]
        low, high = box_holding((codes >= 1) & (codes <= self.templates.labels), self._corners(rng))
        classes = self._classes(codes, shares, kinds, within(self.grid.shape, low, high), rng)
        source = self.templates.sources[number]
        recipe: dict[str, float | str] = {
            "prior": self.name,
            "map": float(source[0] + 1),
            "site": float(source[1] + 1),
            "warp_mm": round(warp.strength, 3),
            "least_jacobian": round(warp.least_jacobian, 4),
            "warp_weakened": float(warp.weakened),
            "size": round(float(np.linalg.det(affine.matrix)) ** (-1 / 3), 4),
        }
        return PlacedLabel(DrawnLabel(classes, low, high, recipe), fine, points)

    def _corners(self, rng: np.random.Generator) -> Floats64:
        """Draw the field of view (6,): a part of the grid where surroundings are seen, as of a crop, else all of it."""
        if self.context == 1:
            return np.array([0.0, 0, 0, *self.grid.shape])
        noise = np.clip(rng.standard_normal(3), -TRUNCATION, TRUNCATION)
        return in_the_middle(FRAME_CENTRE[:3] + FRAME_SPREAD[:3] * noise, self.grid.shape)

    def _classes(
        self,
        codes: LabelVolume,
        shares: FloatVolume,
        kinds: LabelVolume,
        fov: npt.NDArray[np.bool_],
        rng: np.random.Generator,
    ) -> LabelVolume:
        labelled = (codes >= 1) & (codes <= self.templates.labels)
        if self.context > 1:
            labelled = _largest_part(labelled)
        around = np.zeros(codes.shape, np.uint8)
        if self.context > 1:
            around = context_map(self._painted(shares, kinds, rng), fov, self.context)
        classes: LabelVolume = np.where(labelled, codes + self.context, 1 + around).astype(np.uint8)
        classes[~fov] = 0
        return classes

    def _painted(self, shares: FloatVolume, kinds: LabelVolume, rng: np.random.Generator) -> FloatVolume:
        """Return the picture (X, Y, Z) by which surroundings are ranked, about 0 to 1."""
        bright = brightness(self.modality)
        by_tissue = [bright[name] for name in TISSUES]
        labels = [by_tissue[index] for index in self.templates.tissues]
        table = np.array([0.0, *labels, *by_tissue], np.float32)
        image = np.tensordot(table[kinds], shares, axes=1)
        spread = multiscale_field(self.grid.shape, self.grid.spacing, TEXTURE_MM, rng)
        painted: FloatVolume = (image + np.float32(TEXTURE) * spread).astype(np.float32)
        return painted


def _channels(templates: MapTemplates, number: int) -> tuple[FloatVolume, LabelVolume]:
    """Return the softened indicators (K, X, Y, Z) of a template's codes, and the codes (K,)."""
    code = templates.codes[number]
    kinds = np.unique(code).astype(np.uint8)
    soft = [ndimage.gaussian_filter((code == kind).astype(np.float32), EDGE_VOXELS) for kind in kinds]
    return np.stack(soft), kinds


def _largest_part(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the largest connected part: a structure that is thin somewhere must not leave crumbs."""
    parts, count = ndimage.label(mask)
    if count <= 1:
        return mask
    largest: npt.NDArray[np.bool_] = parts == np.bincount(parts.ravel())[1:].argmax() + 1
    return largest


def _lattice(grid: Grid) -> Grid:
    """Return the lattice of the warp: the field of view and a margin, so that its constant rim lies outside."""
    nx, ny, nz = (int((length + MARGIN_MM) / _LATTICE_MM) + 2 for length in grid.extent)
    return Grid((nx, ny, nz), (_LATTICE_MM,) * 3).centred()
