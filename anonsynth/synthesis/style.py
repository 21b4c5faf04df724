"""Styles: what makes one scan's contrast differ from another's, measured and not learnt.

The style of a scan is the median intensity of each class in each modality. Over the training scans these few numbers
have a mean and principal axes; a style code says how far along each axis a scan lies, in standard deviations. New
codes are drawn from a standard normal, cut at two deviations, so that new contrasts spread as those of the cohort do.
A learnt encoder has to find all this by itself, and within a few hundred steps it does not.

The mean and the axes are statistics of private scans, read without a mechanism, and the model card lists them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from anonsynth.cohort.geometry import FloatVolume, LabelVolume

__all__ = ["StyleSpace", "draw_style", "fit_styles", "measure_colours"]

TRUNCATION = 2.0
SMALLEST_DEVIATION = 1e-4
"""Axes along which the scans differ by less are noise of rounding."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class StyleSpace:
    """Mean colours and the axes along which they differ.

    Attributes:
        mean: (C, K) mean over the scans of each class's median intensity in each modality, 0 to 1.
        axes: (S, C, K); a step of 1 along an axis is one standard deviation of the training scans. Unused axes are 0.
        weight: (C, K) how much a class counts when a scan is placed: the root of its share of the voxels.
    """

    mean: Floats
    axes: Floats
    weight: Floats

    def encode(self, colours: Floats) -> Floats:
        """Return the code (S,) of measured colours (C, K); what was not measured (NaN) counts as average."""
        offset = np.nan_to_num(colours - self.mean) * self.weight
        weighted = self.axes * self.weight
        lengths = np.square(weighted).sum((1, 2))
        return np.where(lengths > 0, (weighted * offset).sum((1, 2)) / np.maximum(lengths, 1e-20), 0).astype(np.float32)


def measure_colours(
    image: FloatVolume, known: npt.NDArray[np.bool_], classes: LabelVolume, count: int
) -> tuple[Floats, Floats]:
    """Return the median intensity and the voxels of each class in each modality, both (C, K).

    The median, because a class map is never quite right: scalp that was taken for air must not make air grey.

    Args:
        image: (C, X, Y, Z) in [0, 1].
        known: (C, X, Y, Z); only these voxels count.
        classes: (X, Y, Z) class map.
        count: Number of classes K. A class without a voxel has NaN for its median.
    """
    medians, voxels = np.full((len(image), count), np.nan), np.zeros((len(image), count))
    for channel, (values, mask) in enumerate(zip(image, known, strict=True)):
        present = np.bincount(classes[mask], minlength=count)
        voxels[channel] = present
        for index in np.flatnonzero(present):
            medians[channel, index] = np.median(values[mask & (classes == index)])
    return medians.astype(np.float32), voxels.astype(np.float32)


def fit_styles(measured: Sequence[tuple[Floats, Floats]], size: int) -> StyleSpace:
    """Return mean and principal axes of what `measure_colours` found in the training scans.

    Args:
        measured: (medians, voxels), both (C, K), of each scan.
        size: Length S of a code; axes beyond what the scans span are 0.
    """
    colours = np.stack([medians for medians, _ in measured]).astype(np.float64)
    seen = ~np.isnan(colours)
    mean = np.where(seen, colours, 0).sum(0) / np.maximum(seen.sum(0), 1)
    share = np.mean([voxels for _, voxels in measured], axis=0)
    weight = np.sqrt(share / max(share.sum(), 1))
    offsets = (np.where(seen, colours - mean, 0) * weight).reshape(len(measured), -1)
    _, values, directions = np.linalg.svd(offsets, full_matrices=False)
    axes = np.zeros((size, *mean.shape))
    for index, (value, direction) in enumerate(zip(values[:size], directions, strict=False)):
        deviation = value / np.sqrt(max(len(measured) - 1, 1))
        if deviation > SMALLEST_DEVIATION:
            step = (deviation * direction).reshape(mean.shape)
            axes[index] = np.divide(step, weight, out=np.zeros_like(step), where=weight > 0)
    return StyleSpace(mean.astype(np.float32), axes.astype(np.float32), weight.astype(np.float32))


def draw_style(size: int, noise: torch.Generator) -> torch.Tensor:
    """Draw a style code, (1, S): standard normal, cut at two deviations."""
    return torch.randn(1, size, generator=noise).clamp(-TRUNCATION, TRUNCATION)
