"""Dates go back by the patient's own number of days; times are counted from the start of their study, at noon.

Intervals between a patient's studies stay the same to the day, and those within a study to the microsecond. The time of
day goes: with a log of the scanner it would name the patient.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

__all__ = ["Moments", "seconds_of"]

_DATE = re.compile(rb"(\d{4})\.?(\d\d)\.?(\d\d)")
_TIME = re.compile(rb"(\d\d):?(\d\d)?:?(\d\d)?(?:\.(\d{1,6}))?")
_DATETIME = re.compile(rb"(\d{8})(\d{2,6}(?:\.\d{1,6})?)?(?:[+-]\d{4})?")
_NOON = 43_200_000_000
_HALF_DAY = 43_200_000_000


def seconds_of(raw: bytes) -> int | None:
    """Return a DICOM time in microseconds since midnight; None if it is none."""
    found = _TIME.fullmatch(raw.strip(b" \0"))
    if found is None:
        return None
    hours, minutes, seconds = (int(part or 0) for part in found.groups()[:3])
    if hours > 23 or minutes > 59 or seconds > 60:
        return None
    return (hours * 3600 + minutes * 60 + seconds) * 1_000_000 + int((found[4] or b"0").ljust(6, b"0"))


@dataclass(frozen=True, slots=True)
class Moments:
    """What becomes of the dates and times of one file.

    Attributes:
        mode: `shift`, `keep` or `remove`.
        days: By how many days dates go back.
        start: When the study began, in microseconds since midnight; None if the file does not say.
    """

    mode: str
    days: int
    start: int | None

    def date(self, raw: bytes) -> bytes | None:
        """Return what replaces a date; None if it cannot stay."""
        found = _DATE.fullmatch(raw)
        if self.mode == "remove" or found is None:
            return None
        try:
            date = dt.date(int(found[1]), int(found[2]), int(found[3]))
            if self.mode == "shift":
                date -= dt.timedelta(days=self.days)
        except (ValueError, OverflowError):
            return None
        return b"%04d%02d%02d" % (date.year, date.month, date.day)

    def time(self, raw: bytes) -> bytes | None:
        """Return what replaces a time; None if it cannot stay, or lies half a day or more from the study's start."""
        at = seconds_of(raw)
        if self.mode == "remove" or at is None:
            return None
        if self.mode == "shift":
            if self.start is None or abs(at - self.start) >= _HALF_DAY:
                return None
            at += _NOON - self.start
        seconds, rest = divmod(at, 1_000_000)
        clock = b"%02d%02d%02d" % (seconds // 3600, seconds // 60 % 60, seconds % 60)
        return clock + (b".%06d" % rest if rest else b"")

    def datetime(self, raw: bytes) -> bytes | None:
        """Return what replaces a date with its time; the zone goes."""
        found = _DATETIME.fullmatch(raw)
        date = self.date(found[1]) if found else None
        if found is None or date is None:
            return None
        time = self.time(found[2]) if found[2] else None
        return date + (time or b"120000")
