"""Free text is cleaned to words of a public list; every other word is taken out, whatever it is.

A list of what may stay cannot miss a name. A list of what must go can, which is how every measured tool leaks.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

__all__ = ["clean", "vocabulary"]

_TOKENS = re.compile(r"[A-Za-z0-9*\u0080-\uffff]+")  # a letter with an accent is part of a word
_PATTERNS = re.compile(
    r"(?:[tf]e?[123]d(?:1|_|)|\d{1,2}(?:mm|ch|d|t|iso|echo|dir|dirs|x|nex|nsa)|b(?:[1-9]?0|\d{1,2}[05]0)|[a-z]{2,6}[123]d1?"
    r"|(?:xa|ve|vb|vd|dv|va|vc|e|d|r|b|a|n)\d{1,2}[a-z]?|\d)"
)
_PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+|\*")
_LONGEST = 64


def clean(text: str, names: frozenset[str] = frozenset()) -> str:
    """Return the words of `text` that are on the list, joined by blanks, at most 64 characters.

    Args:
        text: Any text.
        names: Parts of names that stand in the same file, in small letters: they go even if they are on the list.

    Example:
        >>> clean("T1 MPRAGE sag_Smith 1990")
        'T1 MPRAGE sag'
    """
    known = vocabulary()
    kept = []
    for token in _TOKENS.findall(text.replace("_", " ")):
        low = token.lower()
        if not token.isascii() or low in names:
            continue
        if low in known or _technical(low, known) or _compound(token, known - names):
            kept.append(token)
    return " ".join(kept)[:_LONGEST].rstrip()


@cache
def vocabulary() -> frozenset[str]:
    """Return the words that may stay, in small letters."""
    text = (files("anonsynth.deid") / "data" / "words.txt").read_text("utf-8")
    return frozenset(word for line in text.splitlines() if not line.startswith("#") for word in line.split())


def _compound(token: str, known: frozenset[str]) -> bool:
    """Tell whether a token is several words of the list in one, with at most two digits: HeadMatrix, Head32."""
    parts = _PARTS.findall(token)
    return len(parts) > 1 and all(part.lower() in known or (part.isdigit() and len(part) < 3) for part in parts)


def _technical(low: str, known: frozenset[str]) -> bool:
    """Tell whether a token is built as technicians build them: 3mm, b1000, 32ch; or a known stem and a dimension."""
    if _PATTERNS.fullmatch(low) is None:
        return False
    stem = re.fullmatch(r"([a-z]{2,6})[123]d1?", low)
    return stem is None or stem[1] in known
