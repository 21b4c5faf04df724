"""A rate or an estimate with the interval it is never reported without."""

from __future__ import annotations

from dataclasses import dataclass

from anonsynth.audits.calibration import Interval, exact_interval

__all__ = ["Estimate", "Rate", "check_confidence", "rate"]


@dataclass(frozen=True, slots=True)
class Rate:
    """How many of how many.

    Attributes:
        found: Number that were.
        of: Number that could have been.
        value: found / of in [0, 1]; NaN where `of` is 0.
        interval: Clopper-Pearson; the whole of [0, 1] where `of` is 0.
    """

    found: int
    of: int
    value: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number that is not a rate; its ends are NaN where there were too few scans to tell, all is NaN without any."""

    value: float
    low: float
    high: float


def rate(found: int, of: int, confidence: float) -> Rate:
    """Return `found` of `of` with its exact interval.

    Raises:
        ValueError: Not 0 <= found <= of, or a confidence outside (0, 1).

    Example:
        >>> rate(0, 20, 0.95).interval.high.__round__(3)
        0.168
    """
    check_confidence(confidence)
    if not 0 <= found <= of:
        raise ValueError(f"a rate needs 0 <= found <= of, got {found} of {of}")
    return Rate(found, of, found / of if of else float("nan"), exact_interval(found, of, confidence))


def check_confidence(confidence: float) -> None:
    """Raise ValueError unless `confidence` lies strictly between 0 and 1."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
