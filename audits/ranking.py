"""Which training scans are worth a closer look: all of them ranked by one matrix product a block.

A query is laid on the cohort's mean as it is and mirrored, moved by up to one voxel along each axis, and compared with
every row of the index: by edges (within the overlap of the fields of view, since a moved copy has lost its rim), by
intensities and by label maps, each for itself. The ranking only proposes; what counts is computed after alignment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
import torch

from anonsynth.audits.canonical import between, mirror_pose
from anonsynth.audits.index import Block, Index, Row
from anonsynth.audits.pose import Pose
from anonsynth.audits.views import View, ViewVolume, mirrored
from anonsynth.cohort.geometry import FloatVolume

__all__ = ["Candidate", "Ranking", "propose", "rank"]

SHIFTS = tuple(product((0, -1, 1), repeat=3))
LEAST_SEEN = 0.25

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Variants:
    """A query in all its positions: (K, numbers) of each kind, and the pose of the template on each."""

    edges: torch.Tensor
    weight: torch.Tensor
    seen: torch.Tensor
    intensity: torch.Tensor
    label: torch.Tensor
    poses: tuple[tuple[Pose, Pose, bool], ...]


@dataclass(frozen=True, slots=True)
class Ranking:
    """Similarity of a query to each of the N training scans, and in which of its positions.

    Attributes:
        similarity: Per view (N,) float32.
        variant: Per view (N,) number of the position.
        poses: (how the image template lies, how the label template lies, whether the query is mirrored) per position.
    """

    similarity: Mapping[View, Matrix]
    variant: Mapping[View, npt.NDArray[np.int64]]
    poses: tuple[tuple[Pose, Pose, bool], ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A training scan to be compared with a query, and the pose to start from."""

    position: int
    start: Pose


def rank(queries: Sequence[Mapping[View, ViewVolume]], index: Index) -> tuple[Ranking, ...]:
    """Rank all training scans for some queries, reading the index once."""
    variants = [_variants(query, index) for query in queries]
    kinds = (View.EDGES, View.INTENSITY, View.LABEL)
    count = len(index.records)
    similarity = [{view: np.full(count, -1, np.float32) for view in kinds} for _ in queries]
    best = [{view: np.zeros(count, np.int64) for view in kinds} for _ in queries]
    for block in index.blocks():
        here = slice(block.first, block.first + len(block.edges))
        for number, variant in enumerate(variants):
            for view, values in _similarities(variant, block).items():
                top, which = values.max(0)
                similarity[number][view][here] = top.numpy()
                best[number][view][here] = which.numpy()
    for number, query in enumerate(queries):
        _mark_missing(similarity[number], query, index)
    return tuple(
        Ranking(found, which, variant.poses) for found, which, variant in zip(similarity, best, variants, strict=True)
    )


def propose(ranking: Ranking, index: Index, view: View, patients: int) -> tuple[Candidate, ...]:
    """Return the best scan of each of the most similar patients by one view, best first."""
    values = ranking.similarity[view]
    best: dict[str, int] = {}
    for position in np.argsort(-values, kind="stable"):
        if values[position] <= -1:
            break
        best.setdefault(index.records[position].patient, int(position))
        if len(best) == patients:
            break
    return tuple(Candidate(position, _start(ranking, index, view, position)) for position in best.values())


def _start(ranking: Ranking, index: Index, view: View, position: int) -> Pose:
    image, label, flipped = ranking.poses[ranking.variant[view][position]]
    pose = (
        between(label, index.label_poses[position])
        if view is View.LABEL
        else between(image, index.image_poses[position])
    )
    return mirror_pose(pose) if flipped else pose


def _variants(query: Mapping[View, ViewVolume], index: Index) -> _Variants:
    rows: list[Row] = []
    poses: list[tuple[Pose, Pose, bool]] = []
    step = np.array(index.grid.resampler.spacing)
    for flipped in (False, True):
        views = {v: ViewVolume(mirrored(q.volume, v), q.present) for v, q in query.items()} if flipped else query
        row, image, label = index.row(views)
        rows.append(row)
        poses += [(_moved(image, step * shift), _moved(label, step * shift), flipped) for shift in SHIFTS]
    edges = np.stack([moved for row in rows for moved in _shifted(row.edges)])
    return _Variants(
        edges=_flat(edges),
        weight=_flat((edges**2).sum(1)),
        seen=_flat(np.stack([moved for row in rows for moved in _shifted(row.seen)])),
        intensity=_flat(np.stack([moved for row in rows for moved in _shifted(row.intensity)])),
        label=_flat(np.stack([moved for row in rows for moved in _shifted(row.label)])),
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
