"""What keeps an edited tumour possible: inside the brain, on one side of the falx, out of the ventricles.

A tumour that would lie elsewhere with more than a twentieth of its volume is refused in one sentence; what little
sticks out is cut off and recorded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anonsynth.anatomy.scene import FALX_MM, ImpossibleEditError, Mask, Scene

__all__ = ["LOST", "EditRules", "Places", "held", "hindrance", "refuse", "room"]

LOST = 0.05
"""Largest share of a tumour that may be cut off at the edge of what is possible."""

Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class EditRules:
    """What is asked of an edit.

    Attributes:
        across_midline: The tumour may lie on both sides of the falx.
        into_ventricle: It may lie in a ventricle.
        push: How far it pushes anatomy aside at its edge, as a share of its radius; 0 paints over it.
        tumour: Which tumour is edited, the largest is 1; 0 takes all of them as one.
    """

    across_midline: bool = False
    into_ventricle: bool = False
    push: float = 0.25
    tumour: int = 0


def room(scene: Scene, centre: npt.NDArray[np.float64], rules: EditRules) -> Mask:
    """Return where a tumour with that centre (3,), in voxels, may lie, (X, Y, Z)."""
    allowed = scene.brain.copy()
    if not rules.into_ventricle:
        allowed &= ~scene.ventricles
    if not rules.across_midline:
        allowed &= np.sign(_side_of(scene, centre)) * scene.side > FALX_MM
    return allowed


def held(scene: Scene, places: Places, centre: npt.NDArray[np.float64], rules: EditRules) -> Mask:
    """Tell of each voxel (N, 3) of a tumour with that centre (3,) whether it lies where it may, (N,)."""
    may: Mask = np.all(list(_conditions(scene, places, centre, rules).values()), axis=0)
    return may


def hindrance(scene: Scene, places: Places, centre: npt.NDArray[np.float64], rules: EditRules) -> str | None:
    """Return why a tumour of these voxels (N, 3) cannot be there, or None."""
    limit = LOST * len(places)
    conditions = _conditions(scene, places, centre, rules)
    for why, met in conditions.items():
        if (~met).sum() > limit:
            return why
    kept = np.all(list(conditions.values()), axis=0)
    if (~kept).sum() > limit:
        return "too little of it would lie in tissue"  # each reason alone is small, all of them together are not
    if np.abs(places[kept].mean(0) - centre).max() > 1:
        return "what could stay of it would lie elsewhere"
    return None


def _conditions(scene: Scene, places: Places, centre: npt.NDArray[np.float64], rules: EditRules) -> dict[str, Mask]:
    """Return for each reason that can be against a tumour the voxels (N,) at which it does not hold."""
    shape = np.array(scene.label.shape)
    inside = ((places >= 0) & (places < shape)).all(1)
    at = tuple(np.clip(places, 0, shape - 1).T)
    conditions = {
        "it would lie outside the scan": inside,
        "it would lie outside the brain": scene.brain[at],
        "another tumour is there": ~scene.tumour[at],
    }
    if not rules.across_midline:
        conditions["it would lie across the falx"] = np.sign(_side_of(scene, centre)) * scene.side[at] > FALX_MM
    if not rules.into_ventricle:
        conditions["it would lie in a ventricle"] = ~scene.ventricles[at]
    return conditions


def refuse(what: str, why: str, remedy: str) -> ImpossibleEditError:
    """Return the error of an edit that cannot be done."""
    return ImpossibleEditError(f"the tumour cannot be {what}: {why}; {remedy}")


def _side_of(scene: Scene, centre: npt.NDArray[np.float64]) -> float:
    nearest = np.clip(np.rint(centre).astype(int), 0, np.array(scene.label.shape) - 1)
    return float(scene.side[tuple(nearest)])
