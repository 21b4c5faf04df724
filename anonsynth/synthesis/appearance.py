"""What scans look like, as vectors that can be summed over patients: named blocks around public centres.

A block is a table of numbers of one kind, such as the median intensity of every class. Each is taken from its public
centre and divided by a public scale, so that a patient's block has a length of about 1 whatever its kind, and the
length of a whole vector is known beforehand: it is what clipping needs. What a scan does not tell (a modality that was
not acquired, a class that does not occur) is NaN until a patient's scans are averaged, and then the public centre.

Intensities are in [0, 1], normalised from each scan's own percentiles (`cohort/normalise.py`), so nothing here depends
on a second patient.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anonsynth.anatomy.borders import border_profile, seen_classes
from anonsynth.anatomy.context import CONTEXT_CLASSES
from anonsynth.anatomy.random_field import LAGS, autocovariance
from anonsynth.anatomy.rim import KNOTS, SIDES, RimFit
from anonsynth.anatomy.shells import SHELLS, distance_from, nearest_shell
from anonsynth.cohort.geometry import FloatVolume, LabelVolume
from anonsynth.cohort.store import Scan
from anonsynth.synthesis.style import measure_colours

__all__ = [
    "MOST_PRODUCTS",
    "SPREAD_SCALE",
    "AppearanceBlocks",
    "Block",
    "Blocks",
    "profile_of",
    "public_colours",
    "rim_of",
    "spread_blocks",
]

Floats64 = npt.NDArray[np.float64]
DARK, BRIGHT = 0.2, 0.8
"""Public centre of the median intensities: surroundings from dark to bright, everything else halfway."""
COLOUR_SCALE = 0.15
SPREAD_SCALE = 0.08
"""Public figure for how much medians differ between patients."""
TEXTURE = 0.004 * np.exp(-0.5 * np.arange(LAGS + 1))
"""Public centre of the autocovariance of intensities within a class, at distances of 0 to LAGS voxels."""
PROFILE = (0.2, 0.1, 0.05, 0.03)
FEWEST = 2
"""Stein's estimator is better than the plain mean from three numbers on."""
SQUARES = 1.0
"""How far a patient's mean square is expected to lie from 1."""
LEAST_PAIRS = 50
LEAST_VOXELS = 20


@dataclass(frozen=True)
class Block:
    """Numbers of one kind.

    Attributes:
        name: Of the kind.
        centre: Public.
        scale: Public: how far patients are expected to lie from the centre.
    """

    name: str
    centre: Floats64
    scale: float

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return int(self.centre.size)

    @property
    def unit(self) -> float:
        """What one unit of length of the vector is worth."""
        return self.scale * float(np.sqrt(self.size))


@dataclass(frozen=True)
class Blocks:
    """Blocks as one vector."""

    blocks: tuple[Block, ...]

    @property
    def size(self) -> int:
        """Length D of the vector."""
        return sum(block.size for block in self.blocks)

    @property
    def expected_length(self) -> float:
        """Expected norm of a patient's vector."""
        return float(np.sqrt(len(self.blocks)))

    @property
    def leading(self) -> int:
        """How many numbers the first block holds, without which the others say nothing, times the blocks."""
        return self.blocks[0].size * len(self.blocks)

    def pack(self, values: Mapping[str, npt.NDArray[np.floating]]) -> Floats64:
        """Return the vector (D,) of values by block."""
        return np.concatenate(
            [((np.asarray(values[b.name], np.float64) - b.centre) / b.unit).ravel() for b in self.blocks]
        )

    def unpack(self, vector: Floats64, deviation: float = 0.0) -> dict[str, Floats64]:
        """Return values by block from a released mean (D,) whose noise has a deviation on each coordinate.

        Each block is drawn to its public centre by as much as its noise asks for (the positive part of James & Stein's
        estimator): a block that is all noise becomes its centre.
        """
        values, start = {}, 0
        for block in self.blocks:
            part = vector[start : start + block.size]
            start += block.size
            kept = _kept(part, deviation)
            values[block.name] = block.centre + block.unit * (kept * part).reshape(block.centre.shape)
        return values


def _kept(part: Floats64, deviation: float) -> float:
    """Return the share of noisy numbers (D,) to keep; all of them where there are too few to tell."""
    power = float(part @ part)
    if len(part) <= FEWEST or power == 0:
        return 1.0
    return max(0.0, 1 - (len(part) - 2) * deviation**2 / power)


@dataclass(frozen=True)
class AppearanceBlocks:
    """What is measured of every scan.

    Attributes:
        blocks: The blocks.
        context: Classes of surroundings.
        labels: Labels.
    """

    blocks: Blocks
    context: int
    labels: int

    @classmethod
    def of(cls, modalities: int, context: int, labels: int) -> AppearanceBlocks:
        """Return the blocks for a cohort; with one class of surroundings only intensities and grain."""
        classes = context + labels
        blocks = [
            Block("colours", public_colours(modalities, context, labels), COLOUR_SCALE),
            Block("texture", np.broadcast_to(TEXTURE, (modalities, classes, LAGS + 1)).copy(), 0.004),
        ]
        if context > 1:
            blocks += [
                Block("shells", np.full((len(SHELLS), context), 1 / context), 0.12),
                Block("rims", np.zeros((modalities, SIDES, len(KNOTS) - 1)), 0.07),
                Block("profile", np.array(PROFILE), 0.1),
            ]
        return cls(Blocks(tuple(blocks)), context, labels)

    def measure(
        self, scan: Scan, classes: LabelVolume, plain: LabelVolume, spacing: tuple[float, float, float]
    ) -> dict[str, Floats64]:
        """Measure a scan: values by block, NaN where it does not tell.

        Args:
            scan: The scan.
            classes: (X, Y, Z) the class map that it would be written from.
            plain: (X, Y, Z) its labels over the intensity classes of its own surroundings.
            spacing: In mm.
        """
        count = 1 + self.context + self.labels
        known = np.broadcast_to(scan.present[:, None, None, None] & (classes > 0), scan.image.shape)
        colours, _ = measure_colours(scan.image, known, classes, count)
        values = {"colours": colours[:, 1:].astype(np.float64)}
        texture = np.full((len(scan.image), count - 1, LAGS + 1), np.nan)
        for channel in np.flatnonzero(scan.present):
            sums, pairs = autocovariance(scan.image[channel], classes, count, spacing)[:, 1:]
            texture[channel] = np.where(pairs >= LEAST_PAIRS, sums / np.maximum(pairs, 1), np.nan)
        values["texture"] = texture
        if self.context > 1:
            labelled = plain > self.context
            values["shells"] = _shells(plain, self.context)
            values["rims"] = np.full((len(scan.image), SIDES, len(KNOTS) - 1), np.nan)
            for channel in np.flatnonzero(scan.present) if labelled.any() else ():
                values["rims"][channel] = rim_of(scan.image[channel], labelled, plain > 0)
            values["profile"] = profile_of(scan.image[int(np.argmax(scan.present))], labelled, plain > 0)
        return values


def spread_blocks(
    modalities: int, classes: int, groups: int, *, shaped: bool, excess: tuple[Floats64, Floats64] | None = None
) -> Blocks:
    """Return the blocks of second moments around the released means; the first is that of the intensities.

    Intensities: products of the offsets of every two classes, in units of the public figure for their spread, where
    they are few; squares alone where they are many. Frames and coefficients: squares, the latter's mean by group.
    """
    numbers = modalities * (classes - 1)
    if numbers <= MOST_PRODUCTS:
        size = numbers * (numbers + 1) // 2
        blocks = [Block("colours", np.zeros(size), numbers / math.sqrt(size))]  # the norm of x·xᵀ is ‖x‖²
    else:
        blocks = [Block("colours", np.zeros(numbers), math.sqrt(3))]  # the fourth moment of a normal number is 3
    if shaped:
        frame, fields = (np.zeros(10), np.zeros(groups)) if excess is None else excess
        blocks += [Block("frame", 1 + frame, SQUARES), Block("groups", 1 + fields, SQUARES)]
    return Blocks(tuple(blocks))


MOST_PRODUCTS = 12
"""More intensities than these have no covariances, only variances."""


def public_colours(modalities: int, context: int, labels: int) -> Floats64:
    """Return the public centre of the median intensities (C, K − 1), from class 1 on."""
    surroundings = np.linspace(DARK, BRIGHT, context) if context > 1 else np.array([(DARK + BRIGHT) / 2])
    row = np.concatenate([surroundings, np.full(labels, (DARK + BRIGHT) / 2)])
    return np.tile(row, (modalities, 1))


def profile_of(image: FloatVolume, labelled: npt.NDArray[np.bool_], fov: npt.NDArray[np.bool_]) -> Floats64:
    """Return the share of voxels that look like the surroundings, by depth inside the labels, or NaN."""
    like, all_ = border_profile(image, seen_classes(image, labelled, fov), 1 + CONTEXT_CLASSES)
    return np.where(all_ >= LEAST_VOXELS, like / np.maximum(all_, 1), np.nan)


def rim_of(image: FloatVolume, labelled: npt.NDArray[np.bool_], fov: npt.NDArray[np.bool_]) -> Floats64:
    """Return the rim (SIDES, knots) of one scan's labels."""
    fit = RimFit()
    fit.add(image, labelled, fov)
    return fit.solve()


def _shells(plain: LabelVolume, context: int) -> Floats64:
    """Return the share of each class of surroundings at each distance from the labels, (len(SHELLS), context)."""
    around = (plain > 0) & (plain <= context)
    shell = nearest_shell(distance_from(plain > context)[around])
    counts = np.zeros((len(SHELLS), context))
    np.add.at(counts, (shell, plain[around].astype(int) - 1), 1)
    total = counts.sum(1, keepdims=True)
    return np.where(total >= LEAST_VOXELS, counts / np.maximum(total, 1), np.nan)
