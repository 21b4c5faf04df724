"""A patient's items for a step of DP-SGD: every scan of hers, with its class map, cropped alike, and nobody else's.

What is read is made of one patient's scans and of what was released already. Class maps are kept in the cohort's
folder, which is private; they are not written before the ledger holds the spend, because nothing calls this earlier.

Zone: spending.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from anonsynth.cohort.geometry import LabelVolume
from anonsynth.cohort.model import ScanRecord
from anonsynth.cohort.store import Cohort
from anonsynth.privacy.per_patient import Items
from anonsynth.synthesis.data import Shape, read_class_map
from anonsynth.synthesis.preparation import write_class_map
from anonsynth.synthesis.style import StyleSpace, measure_colours
from anonsynth.synthesis.vocabulary import coordinates

__all__ = ["PatientScans", "crop_box"]

Box = tuple[slice, slice, slice]


@dataclass
class PatientScans:
    """Reads one patient at a time.

    Attributes:
        cohort: Whose training scans are read.
        records: The scans that can be read.
        class_map: Makes the class map of a scan.
        folder: Where class maps are kept; private.
        styles: Colours that were released, and their axes.
        crop: Voxels of a crop.
    """

    cohort: Cohort
    records: tuple[ScanRecord, ...]
    class_map: Callable[[ScanRecord], LabelVolume]
    folder: Path
    styles: StyleSpace
    crop: Shape
    _of: dict[str, list[ScanRecord]] = field(init=False)

    def __post_init__(self) -> None:
        """Sort scans by patient."""
        self._of = defaultdict(list)
        for record in self.records:
            self._of[record.patient].append(record)

    @property
    def patients(self) -> tuple[str, ...]:
        """Pseudonyms, each once."""
        return tuple(sorted(self._of))

    def scans(self, patient: str) -> list[Items]:
        """Return every scan of a patient, whole, as a batch of one."""
        return [self._scan(record) for record in self._of[patient]]

    def items(self, patient: str, source: torch.Generator) -> Items:
        """Return the same crop of all of a patient's scans: (K, …) tensors by name.

        `image` and `known` (K, C, X, Y, Z), `classes` (K, X, Y, Z), `place` (K, 3, X, Y, Z), and the `style` (K, S) of
        each scan, measured on that scan alone.
        """
        box = crop_box(self.cohort.info.grid.shape, self.crop, source)
        scans = self.scans(patient)
        return {
            name: torch.cat([scan[name] if name == "style" else scan[name][(..., *box)] for scan in scans])
            for name in scans[0]
        }

    def _scan(self, record: ScanRecord) -> Items:
        path = self.folder / f"{record.scan}.nii"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_class_map(path, self.class_map(record), self.cohort.grid)
        classes = read_class_map(self.folder, record.scan)
        scan = self.cohort.load(record)
        known = np.broadcast_to(scan.present[:, None, None, None] & (classes > 0), scan.image.shape)
        colours, _ = measure_colours(scan.image, known, classes, self.styles.mean.shape[1])
        return {
            "image": _batch(np.where(known, scan.image, 0)),
            "known": _batch(known),
            "classes": torch.from_numpy(classes)[None],
            "place": coordinates(self.cohort.info.grid.shape)[None],
            "style": _batch(self.styles.encode(colours)),
        }


def crop_box(shape: Shape, crop: Shape, source: torch.Generator) -> Box:
    """Draw where a crop lies in the grid."""
    low = [int(torch.randint(n - c + 1, (1,), generator=source)) for n, c in zip(shape, crop, strict=True)]
    x, y, z = (slice(a, a + c) for a, c in zip(low, crop, strict=True))
    return x, y, z


def _batch(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))[None]
