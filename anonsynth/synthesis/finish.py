"""What a trained generator still lacks, measured against a dozen training scans: texture, and borders that stray."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from anonsynth.anatomy.borders import DEPTHS, border_profile, stray
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
    labelled_from = 1 + vocabulary.context
    chosen = records[:: -(-len(records) // LOOKED_AT)]
    spacing = cohort.grid.spacing
    place = coordinates(cohort.info.grid.shape)[None].to(device)
    nothing = np.zeros((len(WIDTHS), len(cohort.info.modalities), vocabulary.classes), np.float32)

    def write(real: _Real, distance: float) -> FloatVolume:
        # The same noise at every distance and in every pass, another for every scan.
        strayed = stray(real.classes, labelled_from, distance, stream(seed, "finish", "border", real.name))
        noise = torch.Generator().manual_seed(stream_seed(seed, "finish", "noise", real.name))
        drawn = torch.from_numpy(np.ascontiguousarray(strayed))[None].to(device)
        style = torch.from_numpy(real.style)[None].to(device)
        written: FloatVolume = render(generator, drawn, place, style, vocabulary, noise)[0].cpu().numpy()
        return written

    best, stray_by, strength = np.inf, 0.0, nothing
    for number, distance in enumerate(DISTANCES):
        generator.texture.take(nothing, spacing)
        covariance = np.zeros((2, *nothing.shape[1:2], 2, vocabulary.classes, LAGS + 1))
        for real in _scans(cohort, chosen, class_maps, codes):
            written = write(real, distance)
            for side, image in enumerate((real.image, written)):
                for channel in np.flatnonzero(real.present):
                    covariance[side, channel] += autocovariance(
                        image[channel], real.classes, vocabulary.classes, spacing
                    )
        texture = np.stack([missing_texture(r, g) for r, g in zip(*covariance, strict=True)], axis=1)
        generator.texture.take(texture, spacing)
        profiles = np.zeros((2, 2, len(DEPTHS) - 1))
        for real in _scans(cohort, chosen, class_maps, codes):
            channel = int(np.argmax(real.present))
            for profile, image in zip(profiles, (real.image, write(real, distance)), strict=True):
                profile += border_profile(image[channel], real.classes, labelled_from)
        gap = float(np.abs(np.subtract(*(counts / np.maximum(total, 1) for counts, total in profiles))).sum())
        if gap < best:
            best, stray_by, strength = gap, distance, texture
        progress.step("texture and borders", number + 1, len(DISTANCES), f"borders {distance} voxels")
    generator.texture.take(strength, spacing)
    return stray_by


def _scans(
    cohort: Cohort, records: tuple[ScanRecord, ...], class_maps: Path, codes: Mapping[str, npt.NDArray[np.float32]]
) -> Iterator[_Real]:
    for record in records:
        scan = cohort.load(record)
        yield _Real(record.scan, scan.image, scan.present, read_class_map(class_maps, record.scan), codes[record.scan])
