"""Which tissue is how bright in which sequence: relaxation times and the signal equations.

Relaxation times at 1.5 and 3 T are rounded from Stanisz et al. 2005 (Magn Reson Med 54:507-512) and Wansapura et al.
1999 (J Magn Reson Imaging 9:531-538) for the normal brain, and chosen within reported ranges for tumour, oedema and the
head. Signal equations as in Bernstein, King, Zhou, "Handbook of MRI Pulse Sequences", 2004. Relaxivity of a gadolinium
chelate: about 4.3 per s per mM (Rohrer et al. 2005, Invest Radiol 40:715-724).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt

__all__ = [
    "MODALITIES",
    "Acquisition",
    "Kind",
    "Tissues",
    "draw_acquisitions",
    "draw_tissues",
    "signal",
    "vessel_signal",
]

MODALITIES = ("T1w", "T1gd", "T2w", "FLAIR")
"""What the simulator acquires, in order."""
_Values = npt.NDArray[np.float64]

# Rows are label values: background, CSF, grey, white, oedema, enhancing, necrosis, skull with marrow, scalp with fat.
_DENSITY = (0.0, 1.0, 0.82, 0.70, 0.90, 0.86, 0.92, 0.15, 0.85)
_T1 = {
    1.5: (1.0, 4200.0, 1124.0, 790.0, 1450.0, 1350.0, 2300.0, 430.0, 330.0),
    3.0: (1.0, 4300.0, 1500.0, 950.0, 1800.0, 1650.0, 2700.0, 470.0, 380.0),
}
_T2 = {
    1.5: (1.0, 1800.0, 88.0, 74.0, 150.0, 118.0, 230.0, 40.0, 78.0),
    3.0: (1.0, 1600.0, 84.0, 70.0, 140.0, 110.0, 215.0, 36.0, 72.0),
}
_SPREAD = (0.0, 0.01, 0.025, 0.025, 0.09, 0.09, 0.12, 0.15, 0.1)
"""How far a person's relaxation times lie from the table's, relative standard deviation."""
_UPTAKE = (0.0, 0.002, 0.012, 0.006, 0.02, 0.24, 0.03, 0.03, 0.06)
"""Contrast medium that stays in the tissue, mM."""
_RELAXIVITY = 4.3
_BLOOD = (0.85, 260.0, 90.0)
"""Density, T1 and T2 (ms) of a vein after the contrast medium."""


class Kind(StrEnum):
    """The pulse sequences that are simulated."""

    SPIN_ECHO = "spin echo"
    SPOILED_GRADIENT_ECHO = "spoiled gradient echo"
    MAGNETISATION_PREPARED = "magnetisation-prepared gradient echo"
    FLAIR = "fluid-attenuated inversion recovery"


@dataclass(frozen=True)
class Acquisition:
    """How a modality is acquired.

    Attributes:
        modality: One of `MODALITIES`.
        kind: The pulse sequence.
        field: Main field, T.
        tr: Repetition time, ms.
        te: Echo time, ms.
        ti: Inversion time, ms; 0 without inversion.
        flip: Flip angle, degrees.
        contrast: Whether contrast medium was given before.
    """

    modality: str
    kind: Kind
    field: float
    tr: float
    te: float
    ti: float = 0.0
    flip: float = 90.0
    contrast: bool = False


@dataclass(frozen=True)
class Tissues:
    """Proton density (relative), T1 and T2 (ms) and uptake (mM) by label value, each (9,)."""

    density: _Values
    t1: _Values
    t2: _Values
    uptake: _Values


def draw_tissues(field: float, rng: np.random.Generator) -> Tissues:
    """Draw a person's tissues at a main field of 1.5 or 3 T."""

    def around(values: tuple[float, ...]) -> _Values:
        wobble: _Values = np.asarray(values) * np.exp(np.asarray(_SPREAD) * np.clip(rng.standard_normal(9), -1.6, 1.6))
        return wobble

    uptake = np.asarray(_UPTAKE) * rng.uniform(0.75, 1.4)
    return Tissues(np.asarray(_DENSITY), around(_T1[field]), around(_T2[field]), uptake)


def draw_acquisitions(rng: np.random.Generator) -> tuple[Acquisition, ...]:
    """Draw a protocol: the four modalities of one session on one scanner; T1 with and without contrast are alike."""
    field = float(rng.choice([1.5, 3.0]))
    style = rng.choice(3, p=[0.5, 0.25, 0.25])
    if style == 0:
        kind, timing = Kind.MAGNETISATION_PREPARED, ((1900, 2300), (2.5, 4.5), (850, 1000), (8, 10))
    elif style == 1:
        kind, timing = Kind.SPOILED_GRADIENT_ECHO, ((18, 25), (3, 7), (0, 0), (23, 30))
    else:
        kind, timing = Kind.SPIN_ECHO, ((430, 600), (9, 14), (0, 0), (90, 90))
    tr, te, ti, flip = (float(rng.uniform(low, high)) for low, high in timing)
    t1 = Acquisition("T1w", kind, field, tr, te, ti, flip)
    long_tr = float(rng.uniform(8000, 10000))
    null = _nulling(long_tr) * float(rng.uniform(0.985, 1.015))
    return (
        t1,
        replace(t1, modality="T1gd", contrast=True),
        Acquisition("T2w", Kind.SPIN_ECHO, field, float(rng.uniform(4500, 6500)), float(rng.uniform(85, 110))),
        Acquisition("FLAIR", Kind.FLAIR, field, long_tr, float(rng.uniform(100, 130)), null),
    )


def signal(acquisition: Acquisition, tissues: Tissues, *, r1: float = 1.0, r2: float = 1.0) -> _Values:
    """Return the brightness (9,) of each label value; `r1` and `r2` scale the relaxation rates."""
    rate = 1 / tissues.t1
    if acquisition.contrast:
        rate = rate + tissues.uptake * _RELAXIVITY / 1000
    return tissues.density * _weight(acquisition, 1 / (rate * r1), tissues.t2 / r2)


def vessel_signal(acquisition: Acquisition) -> float:
    """Return the brightness of a vessel: bright after contrast medium, a dark flow void otherwise."""
    density, t1, t2 = _BLOOD
    if not acquisition.contrast:
        return 0.0
    return density * float(_weight(acquisition, np.asarray([t1]), np.asarray([t2]))[0])


def _weight(acquisition: Acquisition, t1: _Values, t2: _Values) -> _Values:
    decay = np.exp(-acquisition.te / t2)
    repeat = np.exp(-acquisition.tr / t1)
    invert = np.exp(-acquisition.ti / t1)
    if acquisition.kind is Kind.SPIN_ECHO:
        return np.asarray((1 - repeat) * decay)
    if acquisition.kind is Kind.SPOILED_GRADIENT_ECHO:
        flip = np.deg2rad(acquisition.flip)
        return np.asarray(np.sin(flip) * (1 - repeat) / (1 - np.cos(flip) * repeat) * decay)
    if acquisition.kind is Kind.MAGNETISATION_PREPARED:
        return np.asarray(np.abs(1 - 2 * invert / (1 + repeat)) * decay)
    return np.asarray(np.abs(1 - 2 * invert + repeat) * decay)


def _nulling(tr: float) -> float:
    """Return the inversion time (ms) that nulls fluid of T1 4250 ms."""
    t1 = 4250.0
    return float(t1 * np.log(2 / (1 + np.exp(-tr / t1))))
