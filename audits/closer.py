"""A query and its candidates, laid on each other and compared in every aspect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import torch

from anonsynth.audits.grain import BOXES, kinships
from anonsynth.audits.index import Index
from anonsynth.audits.likeness import UNKNOWN, correlations, cosine, dependences, joined
from anonsynth.audits.pose import IDENTITY, Pose, Resampler, halving, refined
from anonsynth.audits.probe import Probe, mirrored_in_place, places_at
from anonsynth.audits.ranking import Candidate
from anonsynth.audits.regions import parts_distance
from anonsynth.audits.views import View, ViewVolume, mirrored
from anonsynth.cohort.geometry import FloatVolume

__all__ = ["Aspect", "look_closer"]

SMALLEST = 1e-7
FEWEST_IN_A_BOX = 4
SPARE = 4
"""So many more candidates than are kept are laid on the query at full resolution."""
HALF, MOSTLY = 0.5, 0.75
"""A voxel is body from half of it on; in the field of view, if most of it is."""


class Aspect(StrEnum):
    """One way in which a scan may be a copy.

    intensity   the same intensities, after alignment
    contrast    intensities that are a function of a patient's, as in another modality, at the same edges
    edges       the same edges
    grain       single voxels differ from their neighbours in the same way, whatever else was laid over them
    parts       the same intensities part by part, each part moved a little on its own: whatever bent the scan
    together    near in the first of these at once, though in none by much
    spot        the same grain in one part of the scan
    region      the same intensities in one part of the scan
    learned     the same scan in the eyes of a network that learned from some training patients to know scans again
    label       the same label map, after alignment
    """

    INTENSITY = "intensity"
    CONTRAST = "contrast"
    EDGES = "edges"
    GRAIN = "grain"
    PARTS = "parts"
    TOGETHER = "together"
    SPOT = "spot"
    REGION = "region"
    LEARNED = "learned"
    LABEL = "label"

    @property
    def domain(self) -> str:
        """What of the generated scan is looked at: `image` or `label`."""
        return "label" if self is Aspect.LABEL else "image"


def look_closer(
    query: Mapping[View, ViewVolume],
    voxels: Probe,
    candidates: Sequence[Candidate],
    index: Index,
    domain: str,
    keep: int,
) -> list[tuple[Candidate, Pose, dict[Aspect, float]]]:
    """Align a query with candidates and compare them.

    Args:
        query: The query's views.
        voxels: Single voxels of it at full resolution.
        candidates: Training scans and where to start.
        index: The training scans.
        domain: `image` or `label`.
        keep: How many candidates are compared in every aspect; the others are let go after the first two,
            unless they are to be kept.

    Returns:
        Candidate, pose and similarity in every aspect of the domain.
    """
    if not candidates:
        return []
    grid = index.grid.views
    resampler = Resampler(grid.view_shape, grid.view_spacing)
    guide = View.LABEL if domain == "label" else View.EDGES
    still = [_facing(index.views(candidate.position), candidate.start) for candidate in candidates]
    stack = np.stack([views[guide].volume for views in still])
    ground = query[View.GROUND].volume[0] if domain == "image" else None
    starts = [candidate.start for candidate in candidates]
    near = refined(query[guide].volume, stack, starts, resampler, ground, fine=())
    best = _most_alike(query[guide].volume, stack, near, candidates, resampler, ground, keep + SPARE)
    candidates, still = [candidates[i] for i in best], [still[i] for i in best]
    poses = refined(query[guide].volume, stack[best], [near[i] for i in best], resampler, ground, coarse=())
    moved = _moved(still, poses, resampler)
    if domain == "label":
        return [
            (candidate, pose, {Aspect.LABEL: similarity})
            for candidate, pose, similarity in zip(candidates, poses, _labels(query, still, moved), strict=True)
        ]
    looked = [
        _Looked(candidate, pose, views, laid, similarity)
        for candidate, pose, views, laid, similarity in zip(
            candidates, poses, still, moved, _images(query, still, moved), strict=True
        )
    ]
    looked = sorted(looked, key=_closeness)
    looked = [one for number, one in enumerate(looked) if number < keep or one.candidate.kept]
    _add_parts(looked, query, index)
    _add_voxels(looked, voxels, index)
    return [(one.candidate, one.pose, one.similarity) for one in looked]


def _most_alike(
    query: FloatVolume,
    stack: FloatVolume,
    poses: Sequence[Pose],
    candidates: Sequence[Candidate],
    resampler: Resampler,
    ground: FloatVolume | None,
    count: int,
) -> list[int]:
    """Return which candidates to lay on the query precisely: the `count` most alike at half resolution, the kept."""
    half, reader = halving(resampler)
    laid = reader(half(torch.from_numpy(stack)), *_stacked(poses)).flatten(2)
    weight = torch.ones(laid.shape[2]) if ground is None else half(torch.from_numpy(ground)[None, None]).flatten()
    own = half(torch.from_numpy(query)[None])[0].flatten(1)
    order = np.argsort(-cosine(own, laid, weight.expand(len(laid), -1)), kind="stable")
    return [int(i) for number, i in enumerate(order) if number < count or candidates[i].kept]


FloatMatrix = npt.NDArray[np.float64]
FloatVector = npt.NDArray[np.float64]
Views = Mapping[View, ViewVolume]
Volumes = Mapping[View, FloatVolume]


@dataclass(frozen=True, slots=True)
class _Looked:
    """A candidate laid on the query."""

    candidate: Candidate
    pose: Pose
    still: Views
    moved: Volumes
    similarity: dict[Aspect, float]


def _closeness(one: _Looked) -> float:
    """Order candidates: small is near, in intensities and edges together."""
    return (1 - one.similarity[Aspect.INTENSITY]) * (1 - one.similarity[Aspect.EDGES])


def _images(query: Views, still: Sequence[Views], moved: Sequence[Volumes]) -> list[dict[Aspect, float]]:
    """Compare images; a candidate counts as it lies and as it was moved, whichever is more alike.

    Reading between voxels blurs, so that a copy that was not moved at all would differ from itself by that.
    """
    shared = np.stack([query[View.INTENSITY].present & views[View.INTENSITY].present for views in still])
    image, lines = _flat(query[View.INTENSITY].volume), _flat(query[View.EDGES].volume)
    best = {Aspect.INTENSITY: np.full(len(still), -1.0), Aspect.EDGES: np.full(len(still), -1.0)}
    for laid in ([_volumes(views) for views in still], moved):
        ground = torch.stack([_flat(common_ground(query, one)) for one in laid]).float()
        intensity = torch.stack([_flat(one[View.INTENSITY]) for one in laid])
        edges = torch.stack([_flat(one[View.EDGES]) for one in laid])
        own = correlations(image, intensity, ground)
        best[Aspect.INTENSITY] = np.maximum(best[Aspect.INTENSITY], _joined(own, shared))
        best[Aspect.EDGES] = np.maximum(best[Aspect.EDGES], cosine(lines, edges, ground))
    return [{aspect: float(values[i]) for aspect, values in best.items()} for i in range(len(still))]


def _labels(query: Views, still: Sequence[Views], moved: Sequence[Volumes]) -> list[float]:
    """Compare label maps, as they lie and as they were moved."""
    label = _flat(query[View.LABEL].volume)
    everywhere = torch.ones(len(still), label.shape[1])
    as_they_lie = torch.stack([_flat(views[View.LABEL].volume) for views in still])
    laid = torch.stack([_flat(volumes[View.LABEL]) for volumes in moved])
    best = np.maximum(cosine(label, as_they_lie, everywhere), cosine(label, laid, everywhere))
    return [float(value) for value in best]


def common_ground(query: Views, candidate: Volumes) -> FloatVolume:
    """Return (X, Y, Z) 1 where the query has its body and the candidate its field of view, else 0."""
    body, seen = query[View.GROUND].volume[0], candidate[View.GROUND][1]
    ground: FloatVolume = ((body >= HALF) & (seen >= MOSTLY)).astype(np.float32)
    return ground


def _add_parts(looked: Sequence[_Looked], query: Views, index: Index) -> None:
    """Compare part by part all candidates at once."""
    own = query[View.INTENSITY]
    shared = np.stack([one.still[View.INTENSITY].present & own.present for one in looked])
    moved = np.stack([one.moved[View.INTENSITY] for one in looked])
    ground = np.stack([common_ground(query, one.moved)[None] for one in looked])
    for one, distance in zip(looked, parts_distance(own.volume, moved, ground, shared, index.grid), strict=True):
        one.similarity[Aspect.PARTS] = 1 - float(distance)


def _add_voxels(looked: Sequence[_Looked], voxels: Probe, index: Index) -> None:
    """Compare single voxels with those of each candidate, as it lies and as it was moved.

    Is the query a function of the candidate (contrast), and is its grain the same?
    """
    grid = index.grid.views
    ratios, grains, shared = [], [], []
    for one in looked:
        scan, grain = index.cohort.load(index.records[one.candidate.position]), index.grain(one.candidate.position)
        both = voxels.present & scan.present
        as_it_lies = mirrored_in_place(grid) if one.pose.mirrored else IDENTITY
        ways = [places_at(scan, voxels.positions, where, grid) for where in (as_it_lies, one.pose)]
        ratios.append(
            _better([dependences(voxels.values, scan.image[:, *at.voxels], at.seen, both) for at in ways], both)
        )
        kin = [kinships(voxels.grain, grain[:, *at.voxels], voxels.cells, at.seen, both) for at in ways]
        grains.append(kin[0] if kin[0][0, both].sum() >= kin[1][0, both].sum() else kin[1])
        shared.append(both)
    known, kinship = np.stack(shared), np.stack(grains)
    contrast, same = _joined(np.stack(ratios), known), _joined(kinship[:, 0], known)
    boxes = np.stack([_joined(kinship[:, box], known) for box in range(1, 1 + BOXES)], axis=1)
    spot = _strongest_box(1 - boxes)
    for one, *similarities in zip(looked, contrast, same, 1 - spot, strict=True):
        one.similarity.update(zip((Aspect.CONTRAST, Aspect.GRAIN, Aspect.SPOT), map(float, similarities), strict=True))


def _strongest_box(distances: FloatMatrix) -> FloatVector:
    """Return the least of a candidate's distances in the boxes (B, boxes), each over what is usual there."""
    known = np.where(distances < UNKNOWN, distances, np.nan)
    enough = np.isfinite(known).sum(0) >= FEWEST_IN_A_BOX
    if not enough.any():
        return np.full(len(distances), UNKNOWN)
    over = known[:, enough] / np.nanmedian(known[:, enough], axis=0)
    least: FloatVector = np.where(np.isfinite(over), over, UNKNOWN).min(1)
    return least


def _better(ways: Sequence[FloatVector], both: npt.NDArray[np.bool_]) -> FloatVector:
    return max(ways, key=lambda way: float(way[both].mean()) if both.any() else 0.0)


def _joined(similarities: FloatMatrix, shared: npt.NDArray[np.bool_]) -> FloatMatrix:
    """Join (B, C) similarities of the modalities to (B,)."""
    distances = np.maximum(1 - similarities, SMALLEST)
    return 1 - joined(distances, shared & (similarities > -1))


def _facing(views: Views, start: Pose) -> Views:
    if not start.mirrored:
        return views
    return {view: ViewVolume(mirrored(own.volume, view), own.present) for view, own in views.items()}


def _volumes(views: Views) -> Volumes:
    return {view: own.volume for view, own in views.items()}


def _moved(views: Sequence[Views], poses: Sequence[Pose], resampler: Resampler) -> list[Volumes]:
    """Read all views of all candidates where the query's voxels lie on them."""
    names = list(views[0])
    stack = torch.from_numpy(np.stack([np.concatenate([own[name].volume for name in names]) for own in views]))
    ends = np.cumsum([len(views[0][name].volume) for name in names])[:-1]
    values = resampler(stack, *_stacked(poses)).numpy()
    return [dict(zip(names, np.split(own, ends), strict=True)) for own in values]


def _stacked(poses: Sequence[Pose]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the (B, 3, 3) matrices and (B, 3) offsets of poses."""
    matrices = torch.tensor(np.stack([pose.matrix for pose in poses]), dtype=torch.float32)
    return matrices, torch.tensor(np.stack([pose.offset for pose in poses]), dtype=torch.float32)


def _flat(volume: FloatVolume) -> torch.Tensor:
    """Return (C, V) of (C, X, Y, Z), or (V,) of (X, Y, Z)."""
    return torch.from_numpy(np.ascontiguousarray(volume.reshape(*volume.shape[:-3], -1)))
