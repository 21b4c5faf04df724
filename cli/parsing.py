"""Values of options that are more than one word."""

from __future__ import annotations

from anonsynth.errors import UsageError

__all__ = ["floats3", "ints", "ints3"]


def floats3(option: str, text: str | None) -> tuple[float, float, float] | None:
    """Read `1,1,2.5`; None stays None.

    Raises:
        UsageError: If there are not three numbers.
    """
    if text is None:
        return None
    try:
        x, y, z = (float(part) for part in text.split(","))
    except ValueError:
        msg = f"{option} needs three numbers, such as 1,1,1"
        raise UsageError(msg) from None
    return (x, y, z)


def ints3(option: str, text: str | None) -> tuple[int, int, int] | None:
    """Read `64,64,48`; None stays None.

    Raises:
        UsageError: If there are not three whole numbers.
    """
    if text is None:
        return None
    try:
        x, y, z = (int(part) for part in text.split(","))
    except ValueError:
        msg = f"{option} needs three whole numbers, such as 64,64,48"
        raise UsageError(msg) from None
    return (x, y, z)


def ints(option: str, text: str | None) -> tuple[int, ...] | None:
    """Read `1,2`; None stays None.

    Raises:
        UsageError: If there are other things than whole numbers.
    """
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        msg = f"{option} needs whole numbers, such as 1,2"
        raise UsageError(msg) from None
