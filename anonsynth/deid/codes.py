"""Coded items: a code stays if the dictionary that comes with pydicom knows it, with the dictionary's meaning.

CodeMeaning is free text, and every measured tool passes it on.
"""

from __future__ import annotations

from functools import cache
from typing import cast

from pydicom.dataset import Dataset
from pydicom.sr._concepts_dict import concepts
from pydicom.sr._snomed_dict import mapping

__all__ = ["coded", "known_code", "meanings"]

Tables = dict[str, dict[str, dict[str, tuple[str, list[int]]]]]
"""Scheme, keyword, code: meaning and context groups."""
_LONGEST = 64


def known_code(value: str, scheme: str) -> tuple[str, str, str] | None:
    """Return value, scheme and public meaning of a code; None if nobody knows it.

    Example:
        >>> known_code("121311", "DCM")
        ('121311', 'DCM', 'Localizer')
    """
    found = meanings().get((scheme, value))
    if found is None and scheme in {"SRT", "SNM3", "99SDM"}:
        code = mapping["SRT"].get(value)
        found = meanings().get(("SCT", code)) if code else None
        scheme = "SRT"
    return (value, scheme, found) if found else None


def coded(value: str, scheme: str, meaning: str) -> Dataset:
    """Return a code as an item."""
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = scheme
    item.CodeMeaning = meaning
    return item


@cache
def meanings() -> dict[tuple[str, str], str]:
    """Return the meaning of every known code by scheme and value, in ASCII."""
    return {
        (scheme, code): meaning.encode("ascii", "ignore").decode("ascii")[:_LONGEST].strip()
        for scheme, keywords in cast("Tables", concepts).items()
        for codes in keywords.values()
        for code, (meaning, _) in codes.items()
    }
