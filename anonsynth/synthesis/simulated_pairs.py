"""Pairs of an image and its class map that no patient's voxel went into, to train MRI → label on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from anonsynth.anatomy.contrast import random_contrast
from anonsynth.anatomy.mri import draw_scan
from anonsynth.anatomy.subject import SubjectSettings
from anonsynth.cohort.geometry import FloatVolume, Grid, LabelVolume
from anonsynth.progress import Progress
from anonsynth.seeds import stream
from anonsynth.synthesis.data import Batch

__all__ = ["SimulatedPairs"]

SLICE_STRETCH = (0.6, 1.6)
"""Slices are simulated between these multiples of their nominal distance: headers are often wrong about it."""
RANDOM_CONTRAST_SHARE = 0.25
"""How often an image of no sequence is shown instead (Billot et al. 2023), so that odd protocols are no surprise."""
FOREGROUND = 0.05


class SimulatedPairs:
    """Simulated people under the modalities of a cohort, with random gamma, mirror image and field of view.

    Args:
        grid: Grid of the pairs.
        settings: With or without head and tumour.
        table: (atlas value, class) pairs; what is not named is class 1.
        modalities: The cohort's modalities; one that cannot be simulated is shown in random contrast.
        fov_slices: Least and most slices of the field of view.
        people: Number of people drawn.
        size: Scans in a batch.
        seed: Where the randomness comes from.
        progress: Shows the drawing.
    """

    def __init__(
        self,
        grid: Grid,
        settings: SubjectSettings,
        table: Sequence[tuple[int, int]],
        modalities: Sequence[str],
        *,
        fov_slices: tuple[int, int],
        people: int,
        size: int,
        seed: int,
        progress: Progress,
    ) -> None:
        self._grid = grid
        self._modalities = tuple(modalities)
        self._fov_slices = fov_slices
        self._size = size
        self._seed = seed
        self._classes = np.ones(256, np.uint8)
        for value, index in table:
            self._classes[value] = index
        self._labels: list[LabelVolume] = []
        self._images: list[dict[str, npt.NDArray[np.float16]]] = []
        for index in progress.track(range(people), total=people, what="simulating people"):
            rng = stream(seed, "simulated person", index)
            x, y, z = grid.spacing
            stretched = Grid(grid.shape, (x, y, z * float(rng.uniform(*SLICE_STRETCH))))
            scan = draw_scan(stretched, settings, rng)
            self._labels.append(scan.label)
            self._images.append({name: image.astype(np.float16) for name, image in scan.images if name in modalities})

    def batch(self, step: int) -> Batch:
        """Return the batch of `step`: one modality of each person, (B, 1, X, Y, Z)."""
        rng = stream(self._seed, "simulated pair", step)
        images, maps = zip(*(self._pair(rng) for _ in range(self._size)), strict=True)
        image, truth = torch.from_numpy(np.stack(images))[:, None], torch.from_numpy(np.stack(maps))
        known = (truth > 0)[:, None].float()
        count = image.shape[0]
        place = image.new_zeros(count, 3, *image.shape[2:])
        return Batch(image * known, known, truth, place, image.new_zeros(count, 0))

    def _pair(self, rng: np.random.Generator) -> tuple[FloatVolume, LabelVolume]:
        person = int(rng.integers(len(self._labels)))
        label = self._labels[person]
        simulated = self._images[person].get(self._modalities[int(rng.integers(len(self._modalities)))])
        if simulated is None or rng.random() < RANDOM_CONTRAST_SHARE:
            image = random_contrast(label, self._grid, rng)
        else:
            image = _normalised(simulated.astype(np.float32)) ** np.float32(np.exp(rng.normal(0, 0.25)))
        classes = self._classes[label]
        slices = int(rng.integers(self._fov_slices[0], self._fov_slices[1] + 1))
        low = int(rng.integers(label.shape[2] - slices + 1))
        classes[:, :, :low] = 0
        classes[:, :, low + slices :] = 0
        if rng.random() < 0.5:
            image, classes = image[::-1], classes[::-1]
        return np.ascontiguousarray(image, np.float32), np.ascontiguousarray(classes)


def _normalised(image: FloatVolume) -> FloatVolume:
    """Map the body's 0.5th and 99.5th percentile to 0 and 1, as ingest does."""
    body = image[image > FOREGROUND]
    low, high = np.percentile(body, (0.5, 99.5)) if body.size else (0.0, 1.0)
    result: FloatVolume = np.clip((image - low) / max(float(high - low), 1e-6), 0, 1).astype(np.float32)
    return result
