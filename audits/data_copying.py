"""Do generated scans lie nearer to the training scans than unseen patients do, region by region?

The three-sample test C_T of Meehan, Chaudhuri and Dasgupta 2020 (arXiv 2004.05675). The feature space is cut into cells
by k-means on the training scans. In each cell the distances of generated and of holdout scans to the nearest training
scan of that cell are compared by a Mann-Whitney rank sum, standardised to z. C_T is the mean of z, each cell weighing
as much as the holdout has in it. Below 0 the generator copies, above 0 it underfits. As in the paper the variance is
not corrected for ties, which takes z towards 0, and a cell that the generator hardly visits is left out; here so is a
cell that the holdout hardly visits, because the paper's tens of thousands of test points are not to be had.

The p-value does not rely on z being normal: the labels generated/holdout are permuted within each cell. It is exact,
given cells and counts, where a generated scan is exchangeable with a holdout scan of the same cell. For that the rows
of the holdout must be independent: one scan per patient.

A smooth generator moves C_T as a copier does. Averaged images lose what is particular to a patient and come nearer to
everybody, so C_T falls far below 0 although nobody was copied. The test with train and holdout in each other's place,
`data_copying(generated, holdout, train)`, tells the two apart: smoothness makes it as negative, copying does not.
C_T alone therefore is no verdict. Nor is a C_T near 0: one copy among hundreds of scans does not move a rank sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.cluster.vq import kmeans
from scipy.spatial.distance import cdist

from anonsynth.audits.calibration import BoolVector, FloatVector
from anonsynth.audits.points import FloatMatrix, as_points
from anonsynth.seeds import stream

__all__ = ["DataCopying", "data_copying"]

IntVector = npt.NDArray[np.intp]

FEWEST = 5
STARTS = 20
BLOCK = 1_000_000
"""Permuted ranks that are held in memory at a time."""


@dataclass(frozen=True, slots=True)
class DataCopying:
    """The answer of the three-sample test over C cells.

    Attributes:
        value: C_T; negative where generated scans lie nearer to train than the holdout does. NaN if no cell counted.
        z: (C,) the standardised rank sum of each cell; NaN where the cell does not count.
        counted: (C,) which cells had enough generated and holdout scans.
        generated: (C,) generated scans in each cell.
        holdout: (C,) holdout scans in each cell.
        share: Share of the holdout that lies in cells that count, in [0, 1]; NaN without a holdout.
        p: One-sided, small where the generator copies, in [1 / (permutations + 1), 1]; NaN if no cell counted.
    """

    value: float
    z: FloatVector
    counted: BoolVector
    generated: IntVector
    holdout: IntVector
    share: float
    p: float


def data_copying(
    generated: npt.ArrayLike,
    train: npt.ArrayLike,
    holdout: npt.ArrayLike,
    *,
    cells: int,
    seed: int,
    fewest: int = FEWEST,
    permutations: int = 9999,
) -> DataCopying:
    """Compare the distances to train of generated and of holdout scans.

    Args:
        generated: (G, D) features of generated scans.
        train: (N, D) of training scans.
        holdout: (H, D) of scans of unseen patients, one per patient.
        cells: How many cells to cut the training scans into; fewer come out where training scans coincide.
        seed: Of k-means and of the permutations.
        fewest: A cell counts if it holds at least so many generated and so many holdout scans.
        permutations: How many to draw for the p-value.

    Raises:
        ValueError: Shapes that do not match, values that are not finite, or a count out of range.

    Example:
        >>> grid = [[float(i), float(j)] for i in range(8) for j in range(8)]
        >>> between = [[i + 0.5, j + 0.5] for i, j in grid]
        >>> copied = data_copying(grid[:32], grid, between[:32], cells=1, seed=0)
        >>> round(copied.value, 1), copied.p
        (-6.9, 0.0001)
    """
    records = as_points("train", train)
    made = as_points("generated", generated, width=records.shape[1])
    unseen = as_points("holdout", holdout, width=records.shape[1])
    if not 1 <= cells <= len(records):
        raise ValueError(f"cells must lie between 1 and the {len(records)} training scans, got {cells}")
    for name, number in (("fewest", fewest), ("permutations", permutations)):
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")

    centres, _ = kmeans(records, cells, iter=STARTS, rng=stream(seed, "audit", "data copying", "cells"))
    of_record, of_made, of_unseen = (cdist(points, centres).argmin(1) for points in (records, made, unseen))
    in_made, in_unseen = (np.bincount(of, minlength=len(centres)) for of in (of_made, of_unseen))
    # By counts alone: they stay as they are when labels are permuted, so leaving cells out does not bias the p-value.
    occupied = np.bincount(of_record, minlength=len(centres)) > 0
    counted = occupied & (in_made >= fewest) & (in_unseen >= fewest)

    z = np.full(len(centres), np.nan)
    permuted = np.zeros(permutations)
    weights = in_unseen / max(1, in_unseen[counted].sum())
    rng = stream(seed, "audit", "data copying", "labels")
    for cell in np.flatnonzero(counted):
        own = records[of_record == cell]
        distances = np.concatenate(
            [_nearest(points[of == cell], own) for points, of in ((made, of_made), (unseen, of_unseen))]
        )
        ranks = stats.rankdata(distances)
        sums = _permuted_sums(ranks, int(in_made[cell]), permutations, rng)
        observed = ranks[: in_made[cell]].sum()
        z[cell] = _standardise(observed, int(in_made[cell]), int(in_unseen[cell]))
        permuted += weights[cell] * _standardise(sums, int(in_made[cell]), int(in_unseen[cell]))

    value = float((weights[counted] * z[counted]).sum()) if counted.any() else float("nan")
    p = float((1 + (permuted <= value + 1e-9).sum()) / (permutations + 1)) if counted.any() else float("nan")
    share = float(in_unseen[counted].sum() / len(unseen)) if len(unseen) else float("nan")
    return DataCopying(value, z, counted, in_made, in_unseen, share, p)


def _nearest(points: FloatMatrix, records: FloatMatrix) -> FloatVector:
    nearest: FloatVector = cdist(points, records).min(1)
    return nearest


def _standardise(rank_sum: npt.ArrayLike, generated: int, holdout: int) -> FloatVector:
    """Turn the rank sum of the generated scans into z: mean 0, variance 1 where the two samples are exchangeable."""
    pairs = generated * holdout
    wins = np.asarray(rank_sum, np.float64) - generated * (generated + 1) / 2
    z: FloatVector = (wins - pairs / 2) / np.sqrt(pairs * (generated + holdout + 1) / 12)
    return z


def _permuted_sums(ranks: FloatVector, generated: int, permutations: int, rng: np.random.Generator) -> FloatVector:
    """Return (permutations,) sums of `generated` of the ranks, drawn without replacement."""
    block = max(1, BLOCK // ranks.size)
    sums = [
        rng.permuted(np.tile(ranks, (min(block, permutations - start), 1)), axis=1)[:, :generated].sum(1)
        for start in range(0, permutations, block)
    ]
    return np.concatenate(sums)
