"""A public basis for fields that say where a structure lies: cosines, and how much of each to expect.

A squashed signed distance, with the pose taken out, is smooth. Cosines of low frequency hold nearly all of it, and they
are the same for every cohort: choosing them reads no patient, whereas a cohort's principal modes are its patients'.
How much of each is to be expected falls with its frequency as `DISTANCE`, `SCORE` and `PARTS` say. These constants were
read off public anatomy: hippocampus, thalamus, caudate, putamen and amygdala of six public head label maps (SynthSeg,
Billot et al. 2023, doi:10.1016/j.media.2023.102789), tissues painted as in a T1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft

__all__ = [
    "DISTANCE",
    "PARTS",
    "SCORE",
    "Spectrum",
    "Waves",
    "choose_waves",
    "expanded",
    "octaves",
    "projected",
]

Shape = tuple[int, int, int]
Floats64 = npt.NDArray[np.float64]
Waves = npt.NDArray[np.int64]
"""(R, 4): which field, and half waves along each axis of the lattice."""

SPREAD = 0.15
"""Spread of a labelled structure as a share of the grid's side, about: what frequencies are measured by."""
OCTAVES = (1.5, 3.0, 6.0)
"""Half waves, whichever their direction, at which the next octave begins."""
FINEST = 14
"""Most half waves along an axis."""


@dataclass(frozen=True, slots=True)
class Spectrum:
    """How much of each cosine a field of some kind is expected to hold.

    Attributes:
        deviation: Root mean square of the whole field around its public centre.
        corner: Frequency from which it falls, in waves per spread of the structure.
        fall: Variance falls as (1 + (frequency ÷ corner)²)^−fall.
        weight: How much an error of 1 in this field matters beside one in the others.
        between: Share of a coefficient's square that differs between people, by octave of frequency (`octaves`); the
            rest is what they have in common.
    """

    deviation: float
    corner: float
    fall: float
    weight: float
    between: tuple[float, float, float, float]

    def deviations(self, lattice: Shape) -> Floats64:
        """Return the expected deviation of each coefficient, (a, b, c), up to `FINEST` half waves an axis."""
        axes = np.meshgrid(*(np.arange(min(n, FINEST)) for n in lattice), indexing="ij")
        frequency = SPREAD / 2 * np.sqrt(sum(np.square(axis, dtype=np.float64) for axis in axes))
        variance = (1 + (frequency / self.corner) ** 2) ** -self.fall
        result: Floats64 = self.deviation * np.sqrt(variance / variance.sum())
        return result


DISTANCE = Spectrum(deviation=0.25, corner=0.16, fall=3.0, weight=1.0, between=(0.12, 0.11, 0.22, 0.58))
"""Squashed distance from all labels together, beside that of an ellipsoid of the same pose."""
PARTS = Spectrum(deviation=0.30, corner=0.10, fall=3.0, weight=0.3, between=(0.12, 0.11, 0.22, 0.58))
"""Squashed distance from one label less the mean over labels."""
SCORE = Spectrum(deviation=0.90, corner=0.20, fall=2.25, weight=0.1, between=(0.20, 0.30, 0.53, 0.77))
"""Normal scores of the surroundings by the rank of their intensity."""


def choose_waves(spectra: tuple[Spectrum, ...], lattice: Shape, loss: float, most: int) -> tuple[Waves, Floats64]:
    r"""Return the coefficients that are worth their noise, and the expected deviation s of each, (R, 4) and (R,).

    Coefficients are released scaled by w with w² = √weight ÷ s: of all scalings this makes the weighted noise least
    (Lagrange; the diagonal case of the matrix mechanism, Li et al. 2015, doi:10.1007/s00778-015-0398-x). The squared
    length of a patient's vector is then expected to be A = Σ aᵢ with a = √weight · s, and the variance of a
    coefficient's noise is loss² · A ÷ w². The signal is larger than that where a ≥ loss² · A: the most coefficients
    are taken for which this holds for the least of them.

    Args:
        spectra: One a field.
        lattice: Of every field.
        loss: Deviation of the noise on a mean over patients, in units of the length of a patient's vector.
        most: Coefficients, at most.
    """
    found, deviations, worth = [], [], []
    for index, spectrum in enumerate(spectra):
        expected = spectrum.deviations(lattice)
        waves = np.indices(expected.shape).reshape(3, -1).T
        found.append(np.column_stack([np.full(len(waves), index), waves]))
        deviations.append(expected.ravel())
        worth.append(np.sqrt(spectrum.weight) * expected.ravel())
    all_worth = np.concatenate(worth)
    order = np.argsort(-all_worth, kind="stable")
    falling = all_worth[order]
    fits = np.flatnonzero(falling >= loss**2 * np.cumsum(falling))
    kept = order[: min(int(fits[-1]) + 1 if fits.size else 1, most)]
    return np.concatenate(found)[kept].astype(np.int64), np.concatenate(deviations)[kept]


def octaves(waves: Waves) -> npt.NDArray[np.int64]:
    """Return the octave (R,) of each coefficient's frequency, 0 to 3."""
    found: npt.NDArray[np.int64] = np.digitize(np.sqrt(np.square(waves[:, 1:]).sum(1)), OCTAVES).astype(np.int64)
    return found


def projected(fields: npt.NDArray[np.floating], waves: Waves) -> Floats64:
    """Return the coefficients (R,) of fields (F, a, b, c); squared they sum to the fields' mean squares or less."""
    cosines = fft.dctn(fields.astype(np.float64), axes=(1, 2, 3), norm="ortho") / np.sqrt(fields[0].size)
    coefficients: Floats64 = cosines[tuple(waves.T)]
    return coefficients


def expanded(coefficients: Floats64, waves: Waves, count: int, lattice: Shape) -> npt.NDArray[np.float32]:
    """Return the fields (F, a, b, c) that coefficients (R,) stand for."""
    cosines = np.zeros((count, *lattice))
    cosines[tuple(waves.T)] = coefficients
    fields = fft.idctn(cosines, axes=(1, 2, 3), norm="ortho") * np.sqrt(np.prod(lattice))
    return np.asarray(fields, np.float32)
