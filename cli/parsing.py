"""Values of options that are more than one word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anonsynth.errors import UsageError

if TYPE_CHECKING:
    from anonsynth.synthesis.settings import GuaranteeSettings

__all__ = ["floats3", "guarantee", "ints", "ints3"]


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


def guarantee(
    rung: int | None,
    epsilon: float | None,
    delta: float | None,
    patients: int | None,
    modalities: str | None,
    labels: str | None,
) -> GuaranteeSettings | None:
    """Read the options that ask for a guarantee; None where neither an ε nor a rung is asked for.

    Raises:
        UsageError: If ε is 0, or a list of values is none.
    """
    if epsilon is None and rung is None:
        return None
    if epsilon is not None and epsilon <= 0:
        msg = "--epsilon needs a number above 0; --rung 0 reads no patient"
        raise UsageError(msg)
    from anonsynth.synthesis.settings import GuaranteeSettings

    return GuaranteeSettings(
        rung=1 if rung is None else rung,
        epsilon=epsilon,
        delta=delta,
        patients=patients,
        modalities=None if modalities is None else tuple(modalities.split(",")),
        labels=ints("--labels", labels),
    )
