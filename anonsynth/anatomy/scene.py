"""A label map that knows what its labels are: where the brain is, its ventricles, its falx, its tumours.

Everything follows from the label map and the names of its values; no scan is needed. The falx is the plane through the
middle between the brain's left and right surface, fitted to all rows; ventricles are fluid that lies deep in the brain.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from anonsynth.cohort.geometry import LabelVolume
from anonsynth.cohort.model import BRAIN_LABELS, LabelEntry, LabelKind
from anonsynth.errors import UsageError

__all__ = ["ImpossibleEditError", "Mask", "Scene", "mirrored"]

OUTSIDE = ("skull", "scalp", "bone", "skin", "air", "background", "soft tissue", "eye", "head")
"""Names of anatomy that is not brain."""
FLUID = ("csf", "cerebrospinal fluid", "fluid")
VENTRICLE_DEPTH_MM = 20.0
"""Fluid deeper than this below the brain's surface is taken for a ventricle."""
FALX_MM = 1.5
"""A tumour keeps this distance from the plane of the falx."""
SEARCHED = 6
"""How far the mirror plane is looked for around the brain's middle, in half voxels."""

Mask = npt.NDArray[np.bool_]
T = TypeVar("T", bound=np.generic)


class ImpossibleEditError(UsageError):
    """The edit would give what cannot be; it is not bent into something else."""


@dataclass(frozen=True)
class Scene:
    """A label map.

    Attributes:
        label: (X, Y, Z) uint8, RAS+.
        spacing: In mm.
        entries: What its values mean.
    """

    label: LabelVolume
    spacing: tuple[float, float, float]
    entries: tuple[LabelEntry, ...] = BRAIN_LABELS

    def with_label(self, label: LabelVolume) -> Scene:
        """Return the scene with another label map."""
        return replace(self, label=label)

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in mL."""
        return float(np.prod(self.spacing)) / 1000

    @cached_property
    def tumour(self) -> Mask:
        """Where any tumour is, (X, Y, Z)."""
        return np.isin(self.label, [entry.value for entry in self.entries if entry.kind is LabelKind.TUMOUR])

    @cached_property
    def brain(self) -> Mask:
        """Where the brain is, its tumours included, (X, Y, Z).

        Raises:
            ImpossibleEditError: If the label map holds no anatomy.
        """
        anatomy = [entry for entry in self.entries if entry.kind is LabelKind.ANATOMY]
        inside = np.isin(self.label, [entry.value for entry in anatomy if _plain(entry.name) not in OUTSIDE])
        if not inside.any():
            msg = "the label map holds no anatomy, so nobody can say what is possible; fill the anatomy in first"
            raise ImpossibleEditError(msg)
        return inside | self.tumour

    @cached_property
    def depth(self) -> npt.NDArray[np.float64]:
        """Distance to the brain's surface from within, mm; 0 outside."""
        padded = np.pad(self.brain, 1)
        inner = ndimage.distance_transform_edt(padded, sampling=self.spacing)
        return np.asarray(inner[1:-1, 1:-1, 1:-1])

    @cached_property
    def fluid(self) -> Mask:
        """Where fluid is."""
        return np.isin(self.label, [entry.value for entry in self.entries if _plain(entry.name) in FLUID])

    @cached_property
    def ventricles(self) -> Mask:
        """Where ventricles are: labelled as such, or fluid that lies deep."""
        named = [entry.value for entry in self.entries if "ventricle" in _plain(entry.name)]
        return np.isin(self.label, named) | (self.fluid & (self.depth > VENTRICLE_DEPTH_MM))

    @cached_property
    def side(self) -> npt.NDArray[np.float64]:
        """Signed distance to the falx along the first axis, mm: negative on the left, (X, Y, Z)."""
        x = np.arange(self.label.shape[0])[:, None, None]
        rows = self.brain.any(0)
        low = np.argmax(self.brain, axis=0)
        high = self.label.shape[0] - 1 - np.argmax(self.brain[::-1], axis=0)
        y, z = np.nonzero(rows)
        design = np.stack([np.ones(len(y)), y, z], axis=1)
        # Long rows say more of the middle than the short ones at the brain's ends.
        weight = np.sqrt((high - low + 1)[rows])
        middle = ((low + high) / 2)[rows]
        fitted, *_ = np.linalg.lstsq(design * weight[:, None], middle * weight, rcond=None)
        plane = (
            fitted[0] + fitted[1] * np.arange(rows.shape[0])[:, None] + fitted[2] * np.arange(rows.shape[1])[None, :]
        )
        return np.asarray((x - plane[None]) * self.spacing[0])

    @cached_property
    def mirror_sum(self) -> int:
        """Index of a voxel along the first axis plus that of its mirror image; whole, so that mirroring loses nothing.

        Only the brain's outline is looked at, so that exchanging what lies in it changes nothing.
        """
        counts = self.brain.sum(axis=(1, 2))
        guess = round(2 * float((counts * np.arange(counts.size)).sum()) / float(counts.sum()))
        tried = sorted(range(guess - SEARCHED, guess + SEARCHED + 1), key=lambda c: abs(c - guess))
        return max(tried, key=lambda c: int((self.brain & mirrored(self.brain, c)).sum()))

    def tumours(self) -> list[Mask]:
        """Return each tumour, the largest first; parts that touch are one."""
        parts, count = ndimage.label(self.tumour, structure=np.ones((3, 3, 3)))
        sizes = np.bincount(parts.ravel())[1:]
        return [parts == index + 1 for index in np.argsort(-sizes, kind="stable")[:count]]

    def chosen(self, which: int) -> Mask:
        """Return the tumour of that number, the largest is 1; 0 is all of them together.

        Raises:
            ImpossibleEditError: If there is none.
        """
        found = self.tumours()
        if not found or which > len(found):
            msg = "the label map holds no tumour" if not found else f"the label map holds {len(found)} tumours"
            raise ImpossibleEditError(f"{msg}; choose another label map or another tumour")
        return self.tumour if which == 0 else found[which - 1]


def mirrored(volume: npt.NDArray[T], total: int) -> npt.NDArray[T]:
    """Return a volume whose voxel x holds what voxel `total` − x held; 0 where that is not on the grid."""
    from_x = total - np.arange(volume.shape[0])
    there = (from_x >= 0) & (from_x < volume.shape[0])
    result = np.zeros_like(volume)
    result[there] = volume[from_x[there]]
    return result


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").split())
