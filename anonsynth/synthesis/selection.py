"""Rung 2: patients choose, by noisy votes, how the generator writes: what the four sums leave open.

Rung 1 releases intensities, texture and rims, but holds two things constant: how soft boundaries are, and which share
of the texture is drawn as random fields. Candidates are the pairs of a few values of both: public. Each patient looks
at her own scans beside each candidate's scan of the same class maps in the same colours, and votes for the nearest.
The votes are counted with noise, and the winner is taken.

This is private selection by votes as in PATE (Papernot et al. 2018, arXiv 1802.08908) and Private Evolution (Lin et
al. 2024, arXiv 2305.15560), on settings instead of images: a hundred patients cannot tell many candidates apart.

**Sensitivity.** A patient's vote is a vector of length 1: a one at her candidate, zeros elsewhere, whatever the number
of her scans. One patient more or less changes the counts by one vote, by 1 in the L2 norm. The mechanism is the one of
rung 1 (`privacy/mechanisms.py`), which clips at that length and counts patients in the same vector.

Near is in what an eye would compare: how steep boundaries are and how intensities vary together within a class. Not
voxel by voxel: there the smoothest candidate wins whatever the scans are like.

Zone: spending.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from anonsynth.anatomy.random_field import autocovariance
from anonsynth.cohort.geometry import FloatVolume, LabelVolume
from anonsynth.privacy.per_patient import Items
from anonsynth.seeds import stream_seed
from anonsynth.synthesis.label_to_mri import render
from anonsynth.synthesis.painter import PaintedTranslator
from anonsynth.synthesis.private_patients import PatientScans
from anonsynth.synthesis.private_writer import TEXTURE_SHARE, Manner, in_manner
from anonsynth.synthesis.vocabulary import Vocabulary

__all__ = ["CANDIDATES", "Booth", "features"]

CANDIDATES = tuple(
    Manner(softness, share * TEXTURE_SHARE) for softness in (-3.0, 0.0, 3.0) for share in (0.25, 1.0, 2.5)
)
"""What patients choose from."""
EDGE_SCALE, TEXTURE_SCALE = 0.03, 0.002
"""Public: differences of this size in boundaries and in autocovariances count alike."""

Floats64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Booth:
    """Where a patient votes; nobody else's scans are in it.

    Attributes:
        scans: Reads her.
        writers: The candidates' generators.
        vocabulary: The classes.
        seed: Of the candidates' noise.
    """

    scans: PatientScans
    writers: Sequence[PaintedTranslator]
    vocabulary: Vocabulary
    seed: int

    @classmethod
    def of(cls, scans: PatientScans, generator: PaintedTranslator, vocabulary: Vocabulary, seed: int) -> Booth:
        """Let a generator that was fitted to rung 1's release write in the manner of every candidate."""
        return cls(scans, [in_manner(generator, candidate) for candidate in CANDIDATES], vocabulary, seed)

    def votes(self) -> dict[str, Floats64]:
        """Return every patient's vote, one of (K,): a one and zeros."""
        return {patient: self.vote(patient) for patient in self.scans.patients}

    def vote(self, patient: str) -> Floats64:
        """Return one patient's vote; her scans decide together."""
        distance = np.zeros(len(self.writers))
        for items in self.scans.scans(patient):
            seen = self._features(items, items["image"])
            for index, writer in enumerate(self.writers):
                distance[index] += float(np.linalg.norm(self._features(items, self._written(items, writer)) - seen))
        chosen: Floats64 = np.eye(len(distance))[int(np.argmin(distance))]
        return chosen

    @torch.no_grad()
    def _written(self, items: Items, writer: PaintedTranslator) -> torch.Tensor:
        noise = torch.Generator().manual_seed(stream_seed(self.seed, "candidate"))
        return render(writer, items["classes"], items["place"], items["style"], self.vocabulary, noise)

    def _features(self, items: Items, image: torch.Tensor) -> Floats64:
        """Return what a scan is compared by, over the modalities that were acquired."""
        classes, known = items["classes"][0].numpy(), items["known"][0].numpy() > 0
        found = [
            features(channel, classes, self.vocabulary.classes, self.scans.cohort.grid.spacing)
            for channel, there in zip(image[0].numpy(), known, strict=True)
            if there.any()
        ]
        return np.concatenate(found) if found else np.zeros(1)


def features(image: FloatVolume, classes: LabelVolume, count: int, spacing: tuple[float, float, float]) -> Floats64:
    """Return how steep boundaries are and how intensities vary together within classes, (1 + LAGS + 1,).

    Args:
        image: (X, Y, Z) in [0, 1].
        classes: (X, Y, Z) class map; 0 is outside.
        count: Number of classes.
        spacing: In mm.
    """
    steps, number = 0.0, 0
    for axis in range(3):
        a, b = (np.take(classes, range(start, classes.shape[axis] - 1 + start), axis) for start in (0, 1))
        border = (a != b) & (a > 0) & (b > 0)
        steps += float(np.abs(np.diff(image, axis=axis))[border].sum())
        number += int(border.sum())
    sums, pairs = autocovariance(image, classes, count, spacing)[:, 1:].sum(1)
    within: Floats64 = sums / np.maximum(pairs, 1)
    return np.concatenate([[steps / max(number, 1) / EDGE_SCALE], within / TEXTURE_SCALE])
