"""How far generated borders have to stray from their label maps to fit them no better than real ones do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from anonsynth.anatomy.borders import DEPTHS, border_profile, stray
from anonsynth.cohort.model import ScanRecord
from anonsynth.cohort.store import Cohort
from anonsynth.seeds import stream, stream_seed
from anonsynth.synthesis.data import read_class_map
from anonsynth.synthesis.label_to_mri import render
from anonsynth.synthesis.painter import PaintedTranslator
from anonsynth.synthesis.vocabulary import Vocabulary, coordinates

__all__ = ["measure_stray"]

LOOKED_AT = 12
DISTANCES = (0.0, 0.3, 0.6, 0.9, 1.2, 1.5)
"""What is tried, in voxels."""


@torch.no_grad()
def measure_stray(
    generator: PaintedTranslator,
    cohort: Cohort,
    records: tuple[ScanRecord, ...],
    class_maps: Path,
    codes: Mapping[str, npt.NDArray[np.float32]],
    vocabulary: Vocabulary,
    seed: int,
    device: torch.device,
) -> float:
    """Return the distance in voxels at which generated scans' border profiles are nearest to the real ones.

    A dozen training scans are rendered from their own class maps, strayed by each of `DISTANCES`, and compared with the
    scans themselves. Where surroundings are not modelled there is no border to measure, and the distance is 0.
    """
    labelled_from = 1 + vocabulary.context
    if vocabulary.context == 1:
        return 0.0
    place = coordinates(cohort.info.grid.shape)[None].to(device)
    real, *generated = np.zeros((1 + len(DISTANCES), 2, len(DEPTHS) - 1))
    for record in records[:: -(-len(records) // LOOKED_AT)]:
        classes = read_class_map(class_maps, record.scan)
        scan = cohort.load(record)
        channel = int(np.argmax(scan.present))
        real += border_profile(scan.image[channel], classes, labelled_from)
        style = torch.from_numpy(codes[record.scan])[None].to(device)
        for total, distance in zip(generated, DISTANCES, strict=True):
            strayed = stray(classes, labelled_from, distance, stream(seed, "measured border", str(distance)))
            noise = torch.Generator().manual_seed(stream_seed(seed, "measured border", str(distance)))
            drawn = torch.from_numpy(strayed)[None].to(device)
            image = render(generator, drawn, place, style, vocabulary, noise)[0, channel].cpu().numpy()
            total += border_profile(image, classes, labelled_from)
    gaps = [float(np.abs(_shares(total) - _shares(real)).sum()) for total in generated]
    return DISTANCES[int(np.argmin(gaps))]


def _shares(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    shares: npt.NDArray[np.float64] = counts[0] / np.maximum(counts[1], 1)
    return shares
