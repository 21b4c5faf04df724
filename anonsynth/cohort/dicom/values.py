"""Tolerant access to the values of a pydicom dataset: what is absent or unreadable is a default, no exception."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable

from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from anonsynth.cohort.dicom.header import Vector
from anonsynth.cohort.dicom.quiet import BROKEN

__all__ = ["first_item", "flag", "items", "number", "numbers", "text", "vector", "whole", "words"]

Key = str | BaseTag
_UNTYPED = {4: "<f", 2: "<H"}


def text(dataset: Dataset, key: Key) -> str:
    """Return a value as stripped text; several values are joined by a backslash."""
    return "\\".join(str(part).strip() for part in _parts(dataset, key)).strip()


def words(dataset: Dataset, key: Key) -> tuple[str, ...]:
    """Return the values of a multi-valued text in upper case."""
    return tuple(str(part).strip().upper() for part in _parts(dataset, key) if str(part).strip())


def flag(dataset: Dataset, key: Key) -> bool:
    """Tell whether a value is YES."""
    return text(dataset, key).upper() == "YES"


def numbers(dataset: Dataset, key: Key) -> tuple[float, ...]:
    """Return the finite numbers of a value, or () if any part is none."""
    parts: Iterable[object] = _parts(dataset, key)
    found = []
    for part in parts:
        try:
            found.append(float(str(part)))
        except ValueError:
            return ()
    return tuple(found) if all(map(math.isfinite, found)) else ()


def number(dataset: Dataset, key: Key, default: float = 0.0) -> float:
    """Return a value's first number."""
    found = numbers(dataset, key)
    return found[0] if found else default


def whole(dataset: Dataset, key: Key, default: int = 0) -> int:
    """Return a value's first number as an integer."""
    return int(number(dataset, key, default))


def vector(dataset: Dataset, key: Key) -> Vector | None:
    """Return a value of exactly three numbers."""
    found = numbers(dataset, key)
    return (found[0], found[1], found[2]) if len(found) == 3 else None


def first_item(dataset: Dataset, key: Key) -> Dataset:
    """Return the first item of a sequence, or an empty dataset."""
    return next(iter(items(dataset, key)), Dataset())


def items(dataset: Dataset, key: Key) -> tuple[Dataset, ...]:
    """Return the items of a sequence."""
    return tuple(part for part in _parts(dataset, key) if isinstance(part, Dataset))


def _parts(dataset: Dataset, key: Key) -> tuple[object, ...]:
    """Return a value's parts; a private number that lost its type is read as a 32-bit float or 16-bit integer."""
    try:
        value = dataset[key].value if key in dataset else None
    except BROKEN:
        return ()
    if value is None or (isinstance(value, str) and not value.strip()):
        return ()
    if isinstance(value, bytes):
        return struct.unpack(_UNTYPED[len(value)], value) if len(value) in _UNTYPED else ()
    if isinstance(value, str) or not isinstance(value, Iterable):
        return (value,)
    if type(value).__name__ == "PersonName":
        return (str(value),)
    return tuple(value)
