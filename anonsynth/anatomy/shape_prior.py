"""The shape prior: label maps drawn from a statistical shape model of the training patients' label maps.

A draw is a Gaussian sample of the model's coefficients, turned back into classes. No draw is the map of a patient, but
the model was made of patients' maps without a mechanism, so its guarantee is `no guarantee`, and every policy that asks
for one refuses it.

Zone: spending.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anonsynth.anatomy.field_of_view import box_holding, within
from anonsynth.anatomy.priors import DrawnLabel, Guarantee
from anonsynth.anatomy.shape import ShapeModel
from anonsynth.cohort.geometry import Grid
from anonsynth.cohort.model import LabelEntry

__all__ = ["ShapePrior"]


@dataclass(frozen=True)
class ShapePrior:
    """Draws class maps from a `ShapeModel`; the field of view always holds the labels whole.

    Attributes:
        model: The fitted model.
        grid: The cohort's grid.
        labels: The cohort's labels.
    """

    model: ShapeModel
    grid: Grid
    labels: tuple[LabelEntry, ...]
    name: str = "shape"
    guarantee: Guarantee = Guarantee.NONE

    def draw(self, rng: np.random.Generator) -> DrawnLabel:
        """Draw a class map; `label` holds classes, not label values, and 0 outside the drawn field of view."""
        rank = self.model.deviation.size
        deviation = np.maximum(self.model.deviation, 1e-12)  # a released one may be 0
        coefficients = self.model.draw_coefficients(rng)
        corners, pose = self.model.draw_frame(rng)
        classes = self.model.decode(coefficients, pose)
        low, high = box_holding(classes > self.model.context, corners)
        inside = within(self.grid.shape, low, high)
        recipe: dict[str, float | str] = {
            "prior": self.name,
            "modes": float(rank),
            "mahalanobis": round(float(np.linalg.norm(coefficients / deviation) / np.sqrt(rank)), 4),
        }
        return DrawnLabel(np.where(inside, classes, 0).astype(np.uint8), low, high, recipe)
