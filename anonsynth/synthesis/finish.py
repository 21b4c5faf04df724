"""What a trained generator still lacks, measured against a dozen training scans: texture, and borders that stray."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from anonsynth.anatomy.borders import border_profile, stray
from anonsynth.anatomy.random_field import LAGS, autocovariance
from anonsynth.cohort.geometry import FloatVolume, LabelVolume
from anonsynth.cohort.model import ScanRecord
from anonsynth.cohort.store import Cohort
from anonsynth.progress import Progress
from anonsynth.seeds import stream, stream_seed
from anonsynth.synthesis.data import read_class_map
from anonsynth.synthesis.label_to_mri import render
from anonsynth.synthesis.painter import PaintedTranslator
from anonsynth.synthesis.texture import WIDTHS, missing_texture
from anonsynth.synthesis.vocabulary import Vocabulary, coordinates

__all__ = ["LOOKED_AT", "finish"]

LOOKED_AT = 12
DISTANCES = (0.0, 0.3, 0.6, 0.9, 1.2, 1.5)
"""How far borders stray, in voxels: what is tried."""


@dataclass(frozen=True, slots=True)
class _Real:
    """A training scan.

    Attributes:
        name: Its pseudonym.
        image: (C, X, Y, Z) in [0, 1].
        present: (C,) which modalities were acquired.
        classes: (X, Y, Z) its own class map.
        style: (S,) its own code.
    """

    name: str
    image: FloatVolume
    present: npt.NDArray[np.bool_]
    classes: LabelVolume
    style: npt.NDArray[np.float32]


@torch.no_grad()
def finish(
    generator: PaintedTranslator,
    cohort: Cohort,
    records: tuple[ScanRecord, ...],
    class_maps: Path,
    codes: Mapping[str, npt.NDArray[np.float32]],
    vocabulary: Vocabulary,
    seed: int,
    device: torch.device,
    progress: Progress,
) -> float:
    """Give the generator the texture that it lacks; return how far borders are to stray, in voxels.

    A dozen training scans are written again from their own class maps and styles, the borders strayed by each of
    `DISTANCES`. At each distance the missing texture is measured and added, and the border profile compared with that
    of the scans themselves; the distance where they are nearest is taken, with its texture.

    Where surroundings are not modelled nothing is added and the distance is 0: there class maps are filled in, and they
    err by more than tissues vary (on 50 patients, brains came out mottled and scalps in lumps).
    """
    if vocabulary.context == 1:
        return 0.0
    writer = _Writer(generator, vocabulary, coordinates(cohort.info.grid.shape)[None].to(device), seed)
    chosen = records[:: -(-len(records) // LOOKED_AT)]
    spacing = cohort.grid.spacing
    strength = nothing = np.zeros((len(WIDTHS), len(cohort.info.modalities), vocabulary.classes), np.float32)
    best, stray_by = np.inf, 0.0
    for number, distance in enumerate(DISTANCES):
        generator.texture.take(nothing, spacing)
        covariance = sum(
            _covariances(real, writer.write(real, distance), vocabulary.classes, spacing)
            for real in _scans(cohort, chosen, class_maps, codes)
        )
        texture = np.stack([missing_texture(r, g) for r, g in zip(*np.asarray(covariance), strict=True)], axis=1)
        generator.texture.take(texture, spacing)
        profiles = sum(
            _profiles(real, writer.write(real, distance), 1 + vocabulary.context)
            for real in _scans(cohort, chosen, class_maps, codes)
        )
        shares = [counts / np.maximum(total, 1) for counts, total in np.asarray(profiles)]
        gap = float(np.abs(shares[0] - shares[1]).sum())
        if gap < best:
            best, stray_by, strength = gap, distance, texture
        progress.step("texture and borders", number + 1, len(DISTANCES), f"borders {distance} voxels")
    generator.texture.take(strength, spacing)
    return stray_by


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes training scans again, from their own class maps and styles."""

    generator: PaintedTranslator
    vocabulary: Vocabulary
    place: torch.Tensor
    seed: int

    def write(self, real: _Real, distance: float) -> FloatVolume:
        """Return (C, X, Y, Z) for borders strayed by `distance` voxels; each scan always has its own noise."""
        rng = stream(self.seed, "finish", "border", real.name)
        strayed = stray(real.classes, 1 + self.vocabulary.context, distance, rng)
        noise = torch.Generator().manual_seed(stream_seed(self.seed, "finish", "noise", real.name))
        classes = torch.from_numpy(np.ascontiguousarray(strayed))[None].to(self.place.device)
        style = torch.from_numpy(real.style)[None].to(self.place)
        image: FloatVolume = render(self.generator, classes, self.place, style, self.vocabulary, noise)[0].cpu().numpy()
        return image


def _covariances(
    real: _Real, written: FloatVolume, classes: int, spacing: tuple[float, float, float]
) -> npt.NDArray[np.float64]:
    """Return `autocovariance` of the scan and of what was written, by modality: (2, C, 2, K, LAGS + 1)."""
    result = np.zeros((2, len(written), 2, classes, LAGS + 1))
    for side, image in enumerate((real.image, written)):
        for channel in np.flatnonzero(real.present):
            result[side, channel] = autocovariance(image[channel], real.classes, classes, spacing)
    return result


def _profiles(real: _Real, written: FloatVolume, labelled_from: int) -> npt.NDArray[np.float64]:
    """Return `border_profile` of the scan and of what was written, in the first acquired modality: (2, 2, depths)."""
    channel = int(np.argmax(real.present))
    return np.stack([border_profile(image[channel], real.classes, labelled_from) for image in (real.image, written)])


def _scans(
    cohort: Cohort, records: tuple[ScanRecord, ...], class_maps: Path, codes: Mapping[str, npt.NDArray[np.float32]]
) -> Iterator[_Real]:
    for record in records:
        scan = cohort.load(record)
        yield _Real(record.scan, scan.image, scan.present, read_class_map(class_maps, record.scan), codes[record.scan])
