"""Is a value what its attribute is for? A code string or a decimal field can carry a name as well as any text field.

Each check gets the bytes as they stand in the file and returns the bytes that may leave, or None. It never decodes
text:
what leaves is ASCII, so that a character set cannot hide anything.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from functools import cache

from pydicom._uid_dict import UID_dictionary
from pydicom.datadict import dictionary_has_tag

from anonsynth.deid.rules import Rule
from anonsynth.deid.words import clean, vocabulary

__all__ = ["CHECKS", "parts", "swept_number"]

_NUMBER = re.compile(rb"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?")
_WHOLE = re.compile(rb"[+-]?\d{1,10}(?:\.0*)?")
_FORMATS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "UV": "Q", "SV": "q"}
_NUCLEUS = re.compile(rb"(?:1H|2H|3HE|3He|7LI|7Li|13C|17O|19F|23NA|23Na|31P|129XE|129Xe|H1|H)")
_SEQUENCE = re.compile(rb"[*]?([A-Za-z]{1,6}?)([123]d)?(\d{0,3})([a-z]{0,2})((?:_\d{1,3}[a-z]{0,3}){0,2})(#\d{1,3})?")
_AGE = re.compile(rb"(\d{3})Y")
_OLDEST = 90
_LONGEST_NUMBER = 24
_TINY = 1e-12


def parts(raw: bytes) -> list[bytes]:
    """Return the values of a text element without padding."""
    return [part.strip(b" \0") for part in raw.split(b"\\")]


def swept_number(part: bytes) -> bytes:
    """Return the digits of a number as text, to be compared with identifiers."""
    return bytes(byte for byte in part if 48 <= byte <= 57)


def _number(rule: Rule, vr: str, raw: bytes, little: bool) -> bytes | None:
    low, high = _range(rule.argument)
    if vr in _FORMATS:
        return _binary(_FORMATS[vr], rule.most, raw, (low, high), "<" if little else ">")
    if vr not in {"DS", "IS"}:
        return None
    pattern = _NUMBER if vr == "DS" else _WHOLE
    found = parts(raw)
    if len(found) > rule.most:
        return None
    for part in found:
        if not part:
            continue
        if len(part) > _LONGEST_NUMBER or not pattern.fullmatch(part) or not low <= float(part) <= high:
            return None
    return b"\\".join(found)


def _binary(code: str, most: int, raw: bytes, limits: tuple[float, float], order: str) -> bytes | None:
    """Check binary numbers; magnitudes that no measurement has (as text read as a number has) are refused."""
    size = struct.calcsize(code)
    count, rest = divmod(len(raw), size)
    if rest or count > most:
        return None
    low, high = limits
    for value in struct.unpack(f"{order}{count}{code}", raw):
        if not low <= value <= high or (value and abs(value) < _TINY):
            return None
    return raw


@cache
def _range(argument: str) -> tuple[float, float]:
    low, high = argument.split()
    return float(low), float(high)


@cache
def _terms_of(argument: str) -> frozenset[bytes]:
    return frozenset(argument.encode("ascii").split(b"|"))


def _terms(rule: Rule, vr: str, raw: bytes, little: bool) -> bytes | None:  # noqa: ARG001
    """Keep the terms that are known; of several, others become the rule's constant or go."""
    allowed = _terms_of(rule.argument)
    found = parts(raw)
    if all(part in allowed or not part for part in found):
        return b"\\".join(found)
    if len(found) == 1:
        return None
    other = rule.otherwise.encode("ascii") if rule.otherwise not in {"drop", "empty", "fail"} else None
    kept = [part if part in allowed else other for part in found]
    return b"\\".join(part for part in kept if part is not None) or None


def _regex(rule: Rule, vr: str, raw: bytes, little: bool) -> bytes | None:  # noqa: ARG001
    pattern = re.compile(rule.argument.encode("ascii"))
    found = parts(raw)
    return b"\\".join(found) if all(not part or pattern.fullmatch(part) for part in found) else None


def _registered(rule: Rule, vr: str, raw: bytes, little: bool) -> bytes | None:  # noqa: ARG001
    found = parts(raw)
    return b"\\".join(found) if all(part.decode("latin-1") in UID_dictionary for part in found) else None


def _nucleus(rule: Rule, vr: str, raw: bytes, little: bool) -> bytes | None:  # noqa: ARG001
    found = parts(raw)
    return b"\\".join(found) if all(not part or _NUCLEUS.fullmatch(part) for part in found) else None


def _sequence_name(rule: Rule, vr: str, raw: bytes, little: bool) -> bytes | None:  # noqa: ARG001
    """Keep *tfl3d1_16ns and its like: a known stem, dimension and a few digits; or words of the list."""
    name = raw.strip(b" \0")
    found = _SEQUENCE.fullmatch(name)
    if found is not None and found[1].decode("ascii").lower() in vocabulary():
        return name
    return clean(name.decode("latin-1")).encode("ascii") or None


def _tag(rule: Rule, vr: str, raw: bytes, little: bool) -> bytes | None:  # noqa: ARG001
    """Keep pointers to attributes of the standard; a private one could be any four letters."""
    order = "<" if little else ">"
    if len(raw) % 4:
        return None
    pairs = struct.unpack(f"{order}{len(raw) // 2}H", raw)
    known = all(dictionary_has_tag(pairs[at] << 16 | pairs[at + 1]) for at in range(0, len(pairs), 2))
    return raw if known else None


def _age(rule: Rule, vr: str, raw: bytes, little: bool) -> bytes | None:  # noqa: ARG001
    found = _AGE.fullmatch(raw.strip(b" \0"))
    return b"%03dY" % min(int(found[1]), _OLDEST) if found else None


def _round(rule: Rule, vr: str, raw: bytes, little: bool) -> bytes | None:  # noqa: ARG001
    step, low, high = map(float, rule.argument.split())
    text = raw.strip(b" \0")
    if not _NUMBER.fullmatch(text) or not low <= float(text) <= high:
        return None
    return f"{round(float(text) / step) * step:.4g}".encode("ascii")


Check = Callable[[Rule, str, bytes, bool], bytes | None]
CHECKS: dict[str, Check] = {
    "number": _number,
    "terms": _terms,
    "regex": _regex,
    "registered": _registered,
    "nucleus": _nucleus,
    "sequence-name": _sequence_name,
    "tag": _tag,
    "age": _age,
    "round": _round,
}
"""Checks that look at nothing but the value: kind, and what may leave of (rule, VR, bytes, little-endian)."""
