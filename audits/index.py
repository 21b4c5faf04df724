"""The training scans as the audit looks them up: on disk, so that memory does not grow with their number.

Of every scan three things are kept in the audit's private working folder:

    views/<number>.npy   its views at view resolution, float16, read again when it is somebody's candidate
    grain/<number>.npy   its grain at full resolution, int8, likewise
    rows.f32             one row a scan of what all scans are ranked by, read in blocks from first to last

A row holds, at a coarser resolution and as the cohort's mean sees it (`canonical`), the edges, the intensities, the
field of view and the label map; and, in the scan's own place, the intensities in which regions are looked for and the
grain of single voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from anonsynth.audits.canonical import Template
from anonsynth.audits.grain import Grain, grain_of, grain_places
from anonsynth.audits.pose import Pose, Resampler
from anonsynth.audits.views import View, ViewGrid, ViewVolume, block_mean, make_views
from anonsynth.cohort.geometry import FloatVolume
from anonsynth.cohort.model import ScanRecord
from anonsynth.cohort.store import Cohort
from anonsynth.progress import Progress

__all__ = ["Block", "Index", "IndexGrid", "Learned", "Row", "build_index"]

RANK_VOXELS = 1600
REGION_AXIS = 28
WINDOW, FLATTER = 0.22, 0.1
BLOCK = 128

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Row:
    """What a scan is ranked by; all (C, x, y, z) float32.

    Attributes:
        edges: (6, ...) as the template sees them, of norm 1.
        intensity: (C, ...) likewise, each modality of norm 1.
        seen: (1, ...) field of view as the template sees it, in [0, 1].
        label: (L, ...) as the label template sees it, of norm 1.
        region: (C, ...) intensities in the scan's own place.
        grain: (C, n) of single voxels in the scan's own place, each modality of norm 1.
    """

    edges: FloatVolume
    intensity: FloatVolume
    seen: FloatVolume
    label: FloatVolume
    region: FloatVolume
    grain: Matrix

    def packed(self) -> Matrix:
        """Return all of it as one row of numbers."""
        parts = (self.edges, self.intensity, self.seen, self.label, self.region, self.grain)
        return np.concatenate([part.ravel() for part in parts])


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive rows, flattened: each (n, numbers) float32, in the order and of the kinds of `Row`."""

    first: int
    edges: Matrix
    intensity: Matrix
    seen: Matrix
    label: Matrix
    region: Matrix
    grain: Matrix


@dataclass(frozen=True, slots=True)
class IndexGrid:
    """The coarser grids on which scans are ranked.

    Attributes:
        views: The grid of the views.
        modalities: Number of modalities.
        window: Voxels of the windows in which regions are looked for.
    """

    views: ViewGrid
    modalities: int
    window: tuple[int, int, int] = (1, 1, 1)

    @property
    def step(self) -> int:
        """View voxels per voxel of a row."""
        return int(np.ceil((np.prod(self.views.view_shape) / RANK_VOXELS) ** (1 / 3)))

    @property
    def region_step(self) -> int:
        """View voxels per voxel in which regions are looked for."""
        return -(-max(self.views.view_shape) // REGION_AXIS)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels of a row's volumes."""
        return _coarser(self.views.view_shape, self.step)

    @property
    def region_shape(self) -> tuple[int, int, int]:
        """Voxels in which regions are looked for."""
        return _coarser(self.views.view_shape, self.region_step)

    @property
    def channels(self) -> tuple[int, int, int, int]:
        """Channels of a row's edges, intensity, seen and label."""
        return (6, self.modalities, 1, max(len(self.views.labels), 1))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of each part of a row."""
        count, region = int(np.prod(self.shape)), int(np.prod(self.region_shape))
        grain = len(grain_places(self.views.shape))
        return (*(channels * count for channels in self.channels), self.modalities * region, self.modalities * grain)

    @property
    def resampler(self) -> Resampler:
        """Reads a row's volumes at moved positions."""
        x, y, z = (self.step * s for s in self.views.view_spacing)
        return Resampler(self.shape, (x, y, z))

    def coarse(self, volume: FloatVolume) -> FloatVolume:
        """Average (C, X, Y, Z) view voxels to voxels of a row."""
        return np.stack([block_mean(channel, (self.step,) * 3) for channel in volume])

    def grain_row(self, grain: Grain) -> Matrix:
        """Return (C, n) of a scan's (C, X, Y, Z) grain, each modality of norm 1."""
        own = grain.reshape(len(grain), -1)[:, grain_places(self.views.shape)].astype(np.float32)
        row: Matrix = own / np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-6)
        return row

    def regions(self, volume: FloatVolume) -> FloatVolume:
        """Average (C, X, Y, Z) view voxels to the voxels in which regions are looked for."""
        return np.stack([block_mean(channel, (self.region_step,) * 3) for channel in volume])


@dataclass(frozen=True, slots=True)
class Learned:
    """What a network that learned from some training patients sees in scans (`embedding`).

    Attributes:
        points: Returns (n, D) points of length 1 of (n, C, X, Y, Z) intensity views.
        own: (N, D) those of the index's scans.
        students: The patients that it learned from.
    """

    points: Callable[[FloatVolume], Matrix]
    own: Matrix
    students: frozenset[str]


@dataclass(frozen=True, slots=True)
class Index:
    """All training scans, ready to be looked up.

    Attributes:
        folder: Where views and rows lie; private.
        cohort: Where the scans themselves are.
        records: The N training scans, all scans of a patient beside each other.
        grid: The grids.
        image: The mean of the scans' edges.
        label: The mean of their label maps.
        image_poses: How the image template lies on each scan.
        label_poses: How the label template lies on each label map.
        present: Per view (N, C) or (N, 1) bool.
        learned: What a network sees in them, where one was trained.
    """

    folder: Path
    cohort: Cohort
    records: tuple[ScanRecord, ...]
    grid: IndexGrid
    image: Template
    label: Template
    image_poses: tuple[Pose, ...]
    label_poses: tuple[Pose, ...]
    present: Mapping[View, npt.NDArray[np.bool_]]
    learned: Learned | None = None

    @property
    def students(self) -> frozenset[str]:
        """The patients that the network learned from; nobody where there is none."""
        return self.learned.students if self.learned else frozenset()

    def blocks(self) -> Iterator[Block]:
        """Read all rows, some at a time."""
        sizes = self.grid.sizes
        ends = np.cumsum(sizes)[:-1]
        for first in range(0, len(self.records), BLOCK):
            count = min(BLOCK, len(self.records) - first)
            flat = np.fromfile(self.folder / "rows.f32", np.float32, count * sum(sizes), offset=4 * first * sum(sizes))
            yield Block(first, *np.split(flat.reshape(count, -1), ends, axis=1))

    def views(self, position: int) -> Mapping[View, ViewVolume]:
        """Read the views of a training scan."""
        stack = np.load(self.folder / "views" / f"{position}.npy").astype(np.float32)
        edges, modalities, _, labels = self.grid.channels
        parts = np.split(stack, np.cumsum([modalities, edges, labels]))
        return {view: ViewVolume(part, self.present[view][position]) for view, part in zip(View, parts, strict=True)}

    def grain(self, position: int) -> Grain:
        """Read the (C, X, Y, Z) grain of a training scan."""
        grain: Grain = np.load(self.folder / "grain" / f"{position}.npy")
        return grain

    def row(self, views: Mapping[View, ViewVolume], grain: Grain) -> tuple[Row, Pose, Pose]:
        """Return a scan's row, and how the image and the label template lie on it."""
        edges, intensity, seen, image_pose = self.image_parts(views)
        label = self.grid.coarse(views[View.LABEL].volume)
        label_pose = self.label.pose(label)
        row = Row(
            edges,
            intensity,
            seen,
            _unit(self.label.laid(label, label_pose)),
            self.grid.regions(views[View.INTENSITY].volume),
            self.grid.grain_row(grain),
        )
        return row, image_pose, label_pose

    def image_parts(self, views: Mapping[View, ViewVolume]) -> tuple[FloatVolume, FloatVolume, FloatVolume, Pose]:
        """Return a row's edges, intensity and field of view alone, and how the image template lies on the scan."""
        edges, intensity = self.grid.coarse(views[View.EDGES].volume), self.grid.coarse(views[View.INTENSITY].volume)
        ground = self.grid.coarse(views[View.GROUND].volume)
        pose = self.image.pose(edges, ground[0])
        laid = self.image.laid(np.concatenate([edges, intensity, ground[1:]]), pose)
        parts = np.split(laid, np.cumsum([len(edges), len(intensity)]))
        return _unit(parts[0]), np.stack([_unit(channel) for channel in parts[1]]), parts[2], pose


def build_index(
    cohort: Cohort,
    records: Sequence[ScanRecord],
    grid: ViewGrid,
    folder: Path,
    progress: Progress,
    like: Index | None = None,
) -> Index:
    """Read every training scan once and keep what it is looked up by.

    Args:
        cohort: Where the scans are.
        records: The training scans.
        grid: The grid of the views.
        folder: A private folder for the index; overwritten.
        progress: Shows how far it is.
        like: An index whose mean and windows are used, instead of these scans' own.
    """
    ordered = tuple(sorted(records, key=lambda record: (record.patient, record.scan)))
    sizes = IndexGrid(grid, len(cohort.info.modalities))
    sizes = like.grid if like else replace(sizes, window=_window(ordered, sizes))
    for kept in ("views", "grain"):
        (folder / kept).mkdir(parents=True, exist_ok=True)
    present: dict[View, list[npt.NDArray[np.bool_]]] = {view: [] for view in View}
    edges = np.zeros((6, *sizes.shape), np.float32)
    label = np.zeros((sizes.channels[3], *sizes.shape), np.float32)
    for number, record in progress.track(enumerate(ordered), total=len(ordered), what="reading training scans"):
        scan = cohort.load(record)
        views = make_views(scan, grid)
        stack = np.concatenate([views[view].volume for view in View])
        np.save(folder / "views" / f"{number}.npy", stack.astype(np.float16))
        np.save(folder / "grain" / f"{number}.npy", grain_of(scan.image))
        edges += sizes.coarse(views[View.EDGES].volume) / len(ordered)
        label += sizes.coarse(views[View.LABEL].volume) / len(ordered)
        for view in View:
            present[view].append(views[view].present)
    index = Index(
        folder,
        cohort,
        ordered,
        sizes,
        like.image if like else Template(edges, sizes.resampler),
        like.label if like else Template(label, sizes.resampler),
        (),
        (),
        {view: np.stack(rows) for view, rows in present.items()},
    )
    return _with_rows(index, progress)


def _with_rows(index: Index, progress: Progress) -> Index:
    image_poses, label_poses = [], []
    count = len(index.records)
    with (index.folder / "rows.f32").open("wb") as file:
        for number in progress.track(range(count), total=count, what="indexing training scans"):
            row, image, label = index.row(index.views(number), index.grain(number))
            row.packed().tofile(file)
            image_poses.append(image)
            label_poses.append(label)
    return replace(index, image_poses=tuple(image_poses), label_poses=tuple(label_poses))


def _window(records: Sequence[ScanRecord], grid: IndexGrid) -> tuple[int, int, int]:
    """Return a fifth of each axis of a scan's field of view; of one of the flatter ones, where some are slabs.

    An ellipsoid of 0.15 of a scan's box, copied from one of them, then holds at least one window.
    """
    boxes = np.array([np.subtract(record.fov_high, record.fov_low) for record in records])
    extents = np.quantile(boxes, FLATTER, axis=0) / np.array(grid.views.factors) / grid.region_step
    x, y, z = (min(n, max(3, round(WINDOW * extent))) for n, extent in zip(grid.region_shape, extents, strict=True))
    return (x, y, z)


def _coarser(shape: tuple[int, int, int], step: int) -> tuple[int, int, int]:
    x, y, z = (-(-n // step) for n in shape)
    return (x, y, z)


def _unit(volume: FloatVolume) -> FloatVolume:
    norm = np.float32(np.linalg.norm(volume.astype(np.float64)))
    return volume / norm if norm > 0 else volume
