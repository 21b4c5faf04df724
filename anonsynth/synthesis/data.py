"""Batches of training scans, a pure function of the seed and the step, read from disk as they are needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import nibabel as nib
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from anonsynth.cohort.geometry import LabelVolume
from anonsynth.cohort.model import ScanRecord
from anonsynth.cohort.store import Cohort
from anonsynth.seeds import stream
from anonsynth.synthesis.vocabulary import coordinates

__all__ = ["Batch", "BatchSource", "ScanSampler", "crop_shape", "prefetched", "read_class_map"]

CROP_MULTIPLE = 8
Shape = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Batch:
    """What a training step sees.

    Attributes:
        image: (B, C, X, Y, Z) float32 in [0, 1]; 0 where unknown.
        known: (B, C, X, Y, Z) float32, 0 where the modality was not acquired or outside the field of view.
        classes: (B, X, Y, Z) uint8 class maps.
        place: (B, 3, X, Y, Z) float32 coordinates of the voxels in the whole grid, −1 to 1.
        style: (B, S) float32 style codes; S is 0 where none were measured.
    """

    image: Tensor
    known: Tensor
    classes: Tensor
    place: Tensor
    style: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return Batch(*(t.to(device) for t in (self.image, self.known, self.classes, self.place, self.style)))


class BatchSource(Protocol):
    """Gives the batch of a step; the same step gives the same batch."""

    def batch(self, step: int) -> Batch:
        """Return the batch of `step`."""
        ...


@dataclass(frozen=True)
class ScanSampler:
    """Draws patients, then one scan of each, then a crop of it.

    Attributes:
        cohort: The open cohort.
        records: The scans to draw from; training scans only.
        class_maps: Folder with one class map a scan, `<scan>.nii`.
        size: Scans in a batch.
        crop: Voxels of a crop.
        seed: Where the randomness comes from.
        styles: Style code (S,) of each scan by its name; none if empty.
    """

    cohort: Cohort
    records: tuple[ScanRecord, ...]
    class_maps: Path
    size: int
    crop: Shape
    seed: int
    styles: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)

    def batch(self, step: int) -> Batch:
        """Return the batch of `step`: patients are drawn first, so one with many scans counts no more than others."""
        rng = stream(self.seed, "batch", step)
        patients = sorted({record.patient for record in self.records})
        chosen = rng.choice(len(patients), self.size, replace=self.size > len(patients))
        items = []
        for index in chosen:
            scans = [record for record in self.records if record.patient == patients[index]]
            items.append(self._item(scans[int(rng.integers(len(scans)))], rng))
        return Batch(*(torch.stack(parts) for parts in zip(*items, strict=True)))

    def _item(self, record: ScanRecord, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        scan = self.cohort.load(record)
        classes = read_class_map(self.class_maps, record.scan)
        shape = self.cohort.info.grid.shape
        corner = [int(rng.integers(n - c + 1)) for n, c in zip(shape, self.crop, strict=True)]
        box = tuple(slice(a, a + c) for a, c in zip(corner, self.crop, strict=True))
        cut = np.ascontiguousarray(classes[box])
        known = scan.present[:, None, None, None] & (cut > 0)[None]
        image = np.where(known, scan.image[(slice(None), *box)], 0)
        return (
            torch.from_numpy(image.astype(np.float32)),
            torch.from_numpy(known.astype(np.float32)),
            torch.from_numpy(cut),
            coordinates(shape)[(slice(None), *box)].contiguous(),
            torch.from_numpy(self.styles.get(record.scan, np.zeros(0, np.float32))),
        )


def crop_shape(shape: Shape, voxels: int) -> Shape:
    """Return the whole grid if it has at most `voxels`, else a box of like proportions in multiples of eight."""
    if np.prod(shape) <= voxels:
        return shape
    scale = (voxels / float(np.prod(shape))) ** (1 / 3)
    x, y, z = (min(n, max(CROP_MULTIPLE, round(n * scale / CROP_MULTIPLE) * CROP_MULTIPLE)) for n in shape)
    return (x, y, z)


def read_class_map(folder: Path, scan: str) -> LabelVolume:
    """Read a scan's class map (X, Y, Z) uint8."""
    image = nib.Nifti1Image.from_filename(folder / f"{scan}.nii")
    return np.asarray(image.dataobj).astype(np.uint8)


def prefetched(source: BatchSource, start: int, stop: int) -> Iterator[tuple[int, Batch]]:
    """Yield (step, batch); the next batch is read while the current one is trained on."""
    with ThreadPoolExecutor(1) as reader:
        waiting = reader.submit(source.batch, start)
        for step in range(start, stop):
            batch = waiting.result()
            if step + 1 < stop:
                waiting = reader.submit(source.batch, step + 1)
            yield step, batch
