"""A query and its candidates, laid on each other and compared in every aspect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch

from anonsynth.audits.index import Index
from anonsynth.audits.likeness import correlation, dependence, overlap_cosine
from anonsynth.audits.pose import IDENTITY, Pose, Resampler, refined
from anonsynth.audits.probe import Probe, read_at
from anonsynth.audits.ranking import Candidate
from anonsynth.audits.regions import parts_distance
from anonsynth.audits.views import View, ViewVolume, mirrored
from anonsynth.cohort.geometry import FloatVolume

__all__ = ["Aspect", "look_closer"]


class Aspect(StrEnum):
    """One way in which a scan may be a copy.

    intensity   the same intensities, after alignment
    contrast    intensities that are a function of a patient's, as in another modality, at the same edges
    edges       the same edges
    parts       the same intensities part by part, each part moved a little on its own: whatever bent the scan
    together    near in all of these at once, though in none by much
    region      the same intensities in one part of the scan
    label       the same label map, after alignment
    """

    INTENSITY = "intensity"
    CONTRAST = "contrast"
    EDGES = "edges"
    PARTS = "parts"
    TOGETHER = "together"
    REGION = "region"
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
        keep: How many candidates are compared in every aspect; the others are let go after the first two.

    Returns:
        Candidate, pose and similarity in every aspect of the domain.
    """
    if not candidates:
        return []
    grid = index.grid.views
    resampler = Resampler(grid.view_shape, grid.view_spacing)
    guide = View.LABEL if domain == "label" else View.EDGES
    views = [_facing(index.views(candidate.position), candidate.start) for candidate in candidates]
    stack = np.stack([view[guide].volume for view in views])
    poses = refined(query[guide].volume, stack, [candidate.start for candidate in candidates], resampler)
    matrices = torch.tensor(np.stack([pose.matrix for pose in poses]), dtype=torch.float32)
    offsets = torch.tensor(np.stack([pose.offset for pose in poses]), dtype=torch.float32)
    rigid = resampler.moved(matrices, offsets)
    alike = _alike_labels if domain == "label" else _alike_images
    looked = [
        _Looked(candidate, pose, view, moved, alike(query, view, moved))
        for candidate, pose, view, moved in zip(candidates, poses, views, _read(views, resampler, rigid), strict=True)
    ]
    if domain == "image":
        looked = sorted(looked, key=_closeness)[:keep]
        _add_parts(looked, query, index)
        _add_contrast(looked, voxels, index)
    return [(one.candidate, one.pose, one.similarity) for one in looked]


@dataclass(frozen=True, slots=True)
class _Looked:
    """A candidate laid on the query."""

    candidate: Candidate
    pose: Pose
    still: Mapping[View, ViewVolume]
    moved: Mapping[View, FloatVolume]
    similarity: dict[Aspect, float]


def _closeness(one: _Looked) -> float:
    """Order candidates: small is near, in intensities and edges together."""
    return (1 - one.similarity[Aspect.INTENSITY]) * (1 - one.similarity[Aspect.EDGES])


def _alike_images(
    query: Mapping[View, ViewVolume], still: Mapping[View, ViewVolume], moved: Mapping[View, FloatVolume]
) -> dict[Aspect, float]:
    """Compare images; a candidate counts as it lies and as it was moved, whichever is more alike.

    Reading between voxels blurs, so that a copy that was not moved at all would differ from itself by that.
    """
    image, lines = query[View.INTENSITY], query[View.EDGES].volume
    shared = image.present & still[View.INTENSITY].present
    seen = (image.volume != 0).any(0)
    similarity = {Aspect.INTENSITY: -1.0, Aspect.EDGES: -1.0}
    for intensity, edges in (
        (still[View.INTENSITY].volume, still[View.EDGES].volume),
        (moved[View.INTENSITY], moved[View.EDGES]),
    ):
        values = {
            Aspect.INTENSITY: correlation(image.volume, intensity, shared),
            Aspect.EDGES: overlap_cosine(lines, edges, seen, (intensity != 0).any(0)),
        }
        similarity = {aspect: max(similarity[aspect], value) for aspect, value in values.items()}
    return similarity


def _alike_labels(
    query: Mapping[View, ViewVolume], still: Mapping[View, ViewVolume], moved: Mapping[View, FloatVolume]
) -> dict[Aspect, float]:
    label = query[View.LABEL].volume
    return {Aspect.LABEL: max(_cosine(label, still[View.LABEL].volume), _cosine(label, moved[View.LABEL]))}


def _add_parts(looked: Sequence[_Looked], query: Mapping[View, ViewVolume], index: Index) -> None:
    """Compare part by part all candidates at once."""
    own = query[View.INTENSITY]
    shared = np.array([np.count_nonzero(one.still[View.INTENSITY].present & own.present) for one in looked])
    moved = np.stack([one.moved[View.INTENSITY] for one in looked])
    distances = parts_distance(own.volume, moved, index.grid, np.maximum(shared, 1))
    for one, distance in zip(looked, distances, strict=True):
        one.similarity[Aspect.PARTS] = 1 - float(distance)


def _add_contrast(looked: Sequence[_Looked], voxels: Probe, index: Index) -> None:
    """Ask of each candidate whether the query's voxels are a function of its own, as it lies and as it was moved."""
    grid = index.grid.views
    for one in looked:
        scan = index.cohort.load(index.records[one.candidate.position])
        shared = voxels.present & scan.present
        as_it_lies = Pose(IDENTITY.matrix, IDENTITY.offset, mirrored=one.pose.mirrored)
        one.similarity[Aspect.CONTRAST] = max(
            dependence(voxels.values, *read_at(scan, voxels.positions, where, grid), shared)
            for where in (as_it_lies, one.pose)
        )


def _facing(views: Mapping[View, ViewVolume], start: Pose) -> Mapping[View, ViewVolume]:
    if not start.mirrored:
        return views
    return {view: ViewVolume(mirrored(own.volume, view), own.present) for view, own in views.items()}


def _read(
    views: Sequence[Mapping[View, ViewVolume]], resampler: Resampler, where: torch.Tensor
) -> list[Mapping[View, FloatVolume]]:
    """Read all views of all candidates at (B, 3, X, Y, Z) positions."""
    names = list(views[0])
    stack = torch.from_numpy(np.stack([np.concatenate([own[name].volume for name in names]) for own in views]))
    ends = np.cumsum([len(views[0][name].volume) for name in names])[:-1]
    values = resampler.at(stack, where).numpy()
    return [dict(zip(names, np.split(own, ends), strict=True)) for own in values]


def _cosine(first: FloatVolume, second: FloatVolume) -> float:
    a, b = first.astype(np.float64).ravel(), second.astype(np.float64).ravel()
    norm = np.linalg.norm(a) * np.linalg.norm(b)
    return min(1.0, float(a @ b / norm)) if norm > 0 else -1.0
