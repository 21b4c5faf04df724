r"""A chain of entries in which none can be changed, taken out or put in without the hashes saying so.

Each entry is one line of canonical JSON. Its hash is SHA-256 over the hash before it, a line end and that line; the
first entry follows sixty-four zeros. Ten lines of any language check it:

    hash[n] = sha256(hash[n-1] + "\n" + body[n])

What the chain alone cannot show: that its last entries were cut off, or that all of it was written anew. For that
somebody has to have noted the hash of the last entry, the *head*, outside the machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["START", "Row", "canonical", "chained", "fault"]

START = "0" * 64
"""What the first entry follows."""


@dataclass(frozen=True, slots=True)
class Row:
    """An entry as it is stored.

    Attributes:
        number: Its place, from 0.
        body: Canonical JSON.
        hash: Lower-case hexadecimal.
    """

    number: int
    body: str
    hash: str


def canonical(value: dict[str, Any]) -> str:
    r"""Return the one way to write a value as JSON: keys sorted, no spaces, ASCII.

    Example:
        >>> canonical({"b": 1.0, "a": "ε"})
        '{"a":"\\u03b5","b":1.0}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def chained(previous: Row | None, body: str) -> Row:
    """Return the row that holds `body` and follows `previous`."""
    before = START if previous is None else previous.hash
    number = 0 if previous is None else previous.number + 1
    return Row(number, body, hashlib.sha256(f"{before}\n{body}".encode()).hexdigest())


def fault(rows: Sequence[Row]) -> str | None:
    """Return what is broken, in one sentence without a full stop, or None.

    Args:
        rows: All entries in the order of their numbers.
    """
    previous: Row | None = None
    for place, row in enumerate(rows):
        if row.number != place:
            return f"entry {place} is missing"
        if row != chained(previous, row.body):
            return f"entry {place} is not what was written there, or an entry before it was taken out or put in"
        previous = row
    return None
