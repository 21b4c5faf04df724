"""Which training scans are worth a closer look: all of them ranked by one matrix product a block.

A query is laid on the cohort's mean as it is and mirrored, moved by up to one voxel along each axis, and compared with
every row of the index: by edges (within the overlap of the fields of view, since a moved copy has lost its rim), by
intensities and by label maps, each for itself; and in its own place, as it is and mirrored, by the grain of single
voxels. The ranking only proposes; what counts is computed after alignment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
import torch

from anonsynth.audits.canonical import between, mirror_pose
from anonsynth.audits.grain import Grain
from anonsynth.audits.index import Block, Index, Row
from anonsynth.audits.pose import IDENTITY, Pose
from anonsynth.audits.views import View, ViewVolume, mirrored
from anonsynth.cohort.geometry import FloatVolume

__all__ = ["Candidate", "Ranking", "propose", "propose_in_place", "rank"]

SHIFTS = tuple(product((0, -1, 1), repeat=3))
LEAST_SEEN = 0.25
SCANS = 2

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Variants:
    """A query in all its positions: (K, numbers) of each kind, and the pose of the template on each."""

    edges: torch.Tensor
    weight: torch.Tensor
    seen: torch.Tensor
    intensity: torch.Tensor
    label: torch.Tensor
    grain: Matrix
    poses: tuple[tuple[Pose, Pose, bool], ...]


@dataclass(frozen=True, slots=True)
class Ranking:
    """Similarity of a query to each of the N training scans, and in which of its positions.

    Attributes:
        similarity: Per view (N,) float32.
        variant: Per view (N,) number of the position.
        poses: (how the image template lies, how the label template lies, whether the query is mirrored) per position.
        grain: (2, N) the same grain in the same place, the query as it is and mirrored; -inf without a shared modality.
    """

    similarity: Mapping[View, Matrix]
    variant: Mapping[View, npt.NDArray[np.int64]]
    poses: tuple[tuple[Pose, Pose, bool], ...]
    grain: Matrix


@dataclass(frozen=True, slots=True)
class Candidate:
    """A training scan to be compared with a query, and the pose to start from.

    Attributes:
        position: Its number in the index.
        start: The pose.
        kept: Compare it in every aspect, however little its image resembles the query's as a whole.
    """

    position: int
    start: Pose
    kept: bool = False


def rank(queries: Sequence[Mapping[View, ViewVolume]], grains: Sequence[Grain], index: Index) -> tuple[Ranking, ...]:
    """Rank all training scans for some queries, given as views and as (C, X, Y, Z) grain, reading the index once."""
    variants = [_variants(query, grain, index) for query, grain in zip(queries, grains, strict=True)]
    kinds = (View.EDGES, View.INTENSITY, View.LABEL)
    count = len(index.records)
    similarity = [{view: np.full(count, -1, np.float32) for view in kinds} for _ in queries]
    best = [{view: np.zeros(count, np.int64) for view in kinds} for _ in queries]
    kinship = [np.zeros((2, count), np.float32) for _ in queries]
    for block in index.blocks():
        here = slice(block.first, block.first + len(block.edges))
        for number, variant in enumerate(variants):
            for view, values in _similarities(variant, block).items():
                top, which = values.max(0)
                similarity[number][view][here] = top.numpy()
                best[number][view][here] = which.numpy()
            shared = index.present[View.INTENSITY][here] & queries[number][View.INTENSITY].present
            kinship[number][:, here] = _kinship(variant.grain, block.grain, shared)
    for number, query in enumerate(queries):
        _mark_missing(similarity[number], query, index)
    return tuple(
        Ranking(found, which, variant.poses, kin)
        for found, which, variant, kin in zip(similarity, best, variants, kinship, strict=True)
    )


def propose(ranking: Ranking, index: Index, view: View, patients: int) -> tuple[Candidate, ...]:
    """Return the best two scans of each of the most similar patients by one view, best first.

    Two scans of one person are much more alike than a copy is to its original before both are aligned: were only one
    of them taken, the wrong one would be as often as not.
    """
    values = ranking.similarity[view]
    best: dict[str, list[int]] = {}
    for position in np.argsort(-values, kind="stable"):
        if values[position] <= -1:
            break
        patient = index.records[position].patient
        if patient in best or len(best) < patients:
            best.setdefault(patient, []).append(int(position))
    chosen = [position for own in best.values() for position in own[:SCANS]]
    return tuple(Candidate(position, _start(ranking, index, view, position)) for position in chosen)


def propose_in_place(
    alike: npt.NDArray[np.floating], index: Index, patients: int, *, kept: bool = False
) -> tuple[Candidate, ...]:
    """Return the best scan of each of the patients who are most alike in the query's own place, best first.

    Args:
        alike: (2, N) larger is more alike, the query as it is and mirrored; -inf where nothing is known.
        index: The training scans.
        patients: How many.
        kept: As in `Candidate`.
    """
    best: dict[str, Candidate] = {}
    way = alike.argmax(0)
    top = alike.max(0)
    for position in np.argsort(-top, kind="stable"):
        if np.isneginf(top[position]):
            break
        start = Pose(IDENTITY.matrix, IDENTITY.offset, mirrored=bool(way[position]))
        best.setdefault(index.records[position].patient, Candidate(int(position), start, kept))
        if len(best) == patients:
            break
    return tuple(best.values())


def _start(ranking: Ranking, index: Index, view: View, position: int) -> Pose:
    image, label, flipped = ranking.poses[ranking.variant[view][position]]
    pose = (
        between(label, index.label_poses[position])
        if view is View.LABEL
        else between(image, index.image_poses[position])
    )
    return mirror_pose(pose) if flipped else pose


def _variants(query: Mapping[View, ViewVolume], grain: Grain, index: Index) -> _Variants:
    rows: list[Row] = []
    poses: list[tuple[Pose, Pose, bool]] = []
    step = np.array(index.grid.resampler.spacing)
    for flipped in (False, True):
        views = {v: ViewVolume(mirrored(q.volume, v), q.present) for v, q in query.items()} if flipped else query
        row, image, label = index.row(views, grain[:, ::-1] if flipped else grain)
        rows.append(row)
        poses += [(_moved(image, step * shift), _moved(label, step * shift), flipped) for shift in SHIFTS]
    edges = np.stack([moved for row in rows for moved in _shifted(row.edges)])
    return _Variants(
        edges=_flat(edges),
        weight=_flat((edges**2).sum(1)),
        seen=_flat(np.stack([moved for row in rows for moved in _shifted(row.seen)])),
        intensity=_flat(np.stack([moved for row in rows for moved in _shifted(row.intensity)])),
        label=_flat(np.stack([moved for row in rows for moved in _shifted(row.label)])),
        grain=np.stack([row.grain for row in rows]),
        poses=tuple(poses),
    )


def _similarities(query: _Variants, block: Block) -> Mapping[View, torch.Tensor]:
    edges, seen = torch.from_numpy(block.edges), torch.from_numpy(block.seen)
    weight = (edges.reshape(len(edges), 6, -1) ** 2).sum(1)
    both = (query.weight @ seen.T).clamp(min=LEAST_SEEN**2) * (query.seen @ weight.T).clamp(min=LEAST_SEEN**2)
    return {
        View.EDGES: query.edges @ edges.T / both.sqrt(),
        View.INTENSITY: query.intensity @ torch.from_numpy(block.intensity).T,
        View.LABEL: query.label @ torch.from_numpy(block.label).T,
    }


def _kinship(query: Matrix, block: Matrix, shared: npt.NDArray[np.bool_]) -> Matrix:
    """Return (2, n) mean absolute correlations of the grain in both positions of a query (2, C, places)."""
    rows = block.reshape(len(block), query.shape[1], -1)
    each = np.abs(np.einsum("kcv,ncv->cnk", query, rows, optimize=True)) * shared.T[:, :, None]
    count = shared.sum(1)
    mean: Matrix = np.where(count > 0, each.sum(0).T / np.maximum(count, 1), -np.inf).astype(np.float32)
    return mean


def _mark_missing(similarity: Mapping[View, Matrix], query: Mapping[View, ViewVolume], index: Index) -> None:
    """Divide intensities by the number of shared modalities; -1 where a view is missing on either side."""
    for view, values in similarity.items():
        shared = (index.present[view] & query[view].present).sum(1)
        if view is View.INTENSITY:
            values /= np.maximum(shared, 1)
        values[shared == 0] = -1


def _moved(pose: Pose, shift: npt.NDArray[np.float64]) -> Pose:
    """Return the pose of a template on a query that was moved by `shift` mm in the template's world."""
    return Pose(pose.matrix, pose.offset - pose.matrix @ shift)


def _shifted(volume: FloatVolume) -> list[FloatVolume]:
    """Move (C, x, y, z) by every shift; 0 comes in."""
    padded = np.pad(volume, ((0, 0), (1, 1), (1, 1), (1, 1)))
    x, y, z = volume.shape[1:]
    return [padded[:, 1 - a : 1 - a + x, 1 - b : 1 - b + y, 1 - c : 1 - c + z] for a, b, c in SHIFTS]


def _flat(volumes: FloatVolume) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(volumes.reshape(len(volumes), -1)))
