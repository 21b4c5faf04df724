"""A generated scan and its nearest training scan at full resolution, in double precision.

Distances of near-copies drown in rounding when they come from products (|a|² + |b|² - 2ab in single precision was off
by a factor of a hundred). What is reported, and what decides whether two scans are identical, is therefore computed
from explicit differences of float64 voxels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from skimage.metrics import structural_similarity

from anonsynth.audits.alignment import Placement, best_placement, place, spectrum
from anonsynth.audits.views import View, ViewGrid, field_of_view, make_view
from anonsynth.cohort.geometry import FloatVolume, LabelVolume
from anonsynth.cohort.store import Scan

__all__ = ["IDENTICAL_DISTANCE", "Pair", "image_distance", "label_dice", "pair_images", "pair_labels"]

IDENTICAL_DISTANCE = 1e-4
MIN_OVERLAP = 0.5
MIN_IDENTICAL_LABEL_VOXELS = 100
FULL_RESOLUTION = 1 << 16
ONE_MM = (1.0, 1.0, 1.0)
SSIM_WINDOW = 7


@dataclass(frozen=True, slots=True)
class Pair:
    """Two scans laid on each other.

    Attributes:
        placement: How the generated scan lies on the training scan, in grid voxels.
        similarity: Images: correlation averaged over shared modalities; label maps: Dice of all labels. At most 1.
        identical: Correlation above 0.9999 over at least half of the smaller field of view; or the same label map.
        ssim: Structural similarity of the images (doi:10.1109/TIP.2003.819861); NaN for label maps and tiny grids.
    """

    placement: Placement
    similarity: float
    identical: bool
    ssim: float = float("nan")


def pair_images(generated: Scan, training: Scan) -> Pair:
    """Align two scans by their intensities and compare their images."""
    grid = ViewGrid(generated.label.shape, ONE_MM, (), axis=FULL_RESOLUTION)
    views = [spectrum(make_view(scan, grid, View.INTENSITY)) for scan in (generated, training)]
    placement = best_placement(views[0], views[1])
    moved = place(generated.image, placement)
    first, second = field_of_view(moved), field_of_view(training.image)
    overlap = first & second
    shared = generated.present & training.present
    distance = image_distance(moved[shared], training.image[shared], overlap)
    enough = overlap.sum() >= MIN_OVERLAP * min(first.sum(), second.sum())
    ssim = _ssim(moved[shared], training.image[shared])
    return Pair(placement, 1 - distance, bool(enough and distance < IDENTICAL_DISTANCE), ssim)


def pair_labels(generated: Scan, training: Scan) -> Pair:
    """Align two label maps and compare them."""
    values = np.union1d(generated.label, training.label)
    grid = ViewGrid(generated.label.shape, ONE_MM, tuple(int(v) for v in values if v), axis=FULL_RESOLUTION)
    views = [spectrum(make_view(scan, grid, View.LABEL)) for scan in (generated, training)]
    placement = best_placement(views[0], views[1])
    moved = place(generated.label[None], placement)[0]
    dice = label_dice(moved, training.label)
    enough = np.count_nonzero(moved) >= MIN_IDENTICAL_LABEL_VOXELS
    return Pair(placement, dice, bool(enough and dice == 1))


def image_distance(first: FloatVolume, second: FloatVolume, mask: npt.NDArray[np.bool_]) -> float:
    """Return 1 - correlation inside a mask, averaged over modalities, from differences in double precision.

    Args:
        first: (C, X, Y, Z).
        second: (C, X, Y, Z).
        mask: (X, Y, Z) voxels to compare.

    Returns:
        A value in [0, 2]; 1 (uncorrelated) where nothing can be compared.
    """
    if not len(first) or np.count_nonzero(mask) < 2:
        return 1.0
    halves = []
    for a, b in zip(first, second, strict=True):
        u, v = _unit(a[mask].astype(np.float64)), _unit(b[mask].astype(np.float64))
        halves.append(0.5 * float(np.sum((u - v) ** 2)) if u.any() and v.any() else 1.0)
    return float(np.mean(halves))


def label_dice(first: LabelVolume, second: LabelVolume) -> float:
    """Return the Dice coefficient of two label maps, a voxel counting where both have the same label; 0 if empty."""
    total = np.count_nonzero(first) + np.count_nonzero(second)
    same = np.count_nonzero((first == second) & (first > 0))
    return 2 * same / total if total else 0.0


def _unit(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    centred = values - values.mean()
    norm = np.linalg.norm(centred)
    return np.zeros_like(centred) if norm <= np.finfo(np.float64).eps * np.linalg.norm(values) else centred / norm


def _ssim(first: FloatVolume, second: FloatVolume) -> float:
    if not len(first) or min(first.shape[1:]) < SSIM_WINDOW:
        return float("nan")
    scores = [
        structural_similarity(a.astype(np.float64), b.astype(np.float64), data_range=1.0, win_size=SSIM_WINDOW)
        for a, b in zip(first, second, strict=True)
    ]
    return float(np.mean(scores))
