"""The interface of every label prior: what it draws, and what drawing from it costs the patients."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np

from anonsynth.cohort.geometry import FloatVolume, Grid, LabelVolume
from anonsynth.cohort.model import LabelEntry

__all__ = ["DrawnLabel", "Guarantee", "LabelPrior", "PlacedLabel"]


class Guarantee(StrEnum):
    """What a step costs the patients of the cohort."""

    PUBLIC = "public"
    """No private value was read: ε = 0."""
    PRIVATE = "differentially private"
    """(ε, δ) per patient, in the ledger."""
    NONE = "no guarantee"
    """Private values were read without a mechanism."""


@dataclass(frozen=True, slots=True)
class DrawnLabel:
    """A new label map.

    Attributes:
        label: (X, Y, Z) uint8 on the prior's grid, values of the prior's labels.
        fov_low: First voxel of the drawn field of view.
        fov_high: One past its last voxel; outside it the label map is 0.
        recipe: What was drawn (warp strength in mm, tumour volume, ...), JSON-able, for the scan's sidecar.
    """

    label: LabelVolume
    fov_low: tuple[int, int, int]
    fov_high: tuple[int, int, int]
    recipe: dict[str, float | str]


@dataclass(frozen=True, slots=True)
class PlacedLabel:
    """A label map that was bent from a public one, and how: for whoever checks that the bending tore nothing.

    Attributes:
        drawn: The label map.
        fine: The grid that it was sampled on before its voxels were pooled.
        places: (3, X, Y, Z) float32, mm: where each voxel of `fine` lies in the public map's world.
    """

    drawn: DrawnLabel
    fine: Grid
    places: FloatVolume


class LabelPrior(Protocol):
    """What new label maps are drawn from."""

    @property
    def name(self) -> str:
        """Name of the prior."""
        ...

    @property
    def guarantee(self) -> Guarantee:
        """What drawing from it costs the cohort's patients."""
        ...

    @property
    def grid(self) -> Grid:
        """Grid of the label maps."""
        ...

    @property
    def labels(self) -> tuple[LabelEntry, ...]:
        """Labels that can be drawn."""
        ...

    def draw(self, rng: np.random.Generator) -> DrawnLabel:
        """Draw one label map; the same generator state gives the same map."""
        ...
