"""Values of options that are more than one word."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from anonsynth.errors import UsageError

if TYPE_CHECKING:
    from anonsynth.anatomy.edit_plan import EditPlan
    from anonsynth.anatomy.public_maps import PublicMaps
    from anonsynth.synthesis.settings import GuaranteeSettings

__all__ = ["approvals", "edit_plan", "floats3", "guarantee", "ints", "ints3", "public_maps"]


def approvals(given: list[str]) -> dict[str, str]:
    """Read `ROLE=NAME` of every `--approve`.

    Raises:
        UsageError: If one has no role or no name, or a role comes twice.
    """
    named: dict[str, str] = {}
    for text in given:
        role, _, name = (part.strip() for part in text.partition("="))
        if not role or not name or role in named:
            msg = (
                "--approve needs a role and a name, each role once, such as --approve 'data protection officer=J. Doe'"
            )
            raise UsageError(msg)
        named[role] = name
    return named


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


def public_maps(folder: Path | None, table: Path | None) -> PublicMaps | None:
    """Open the folder of `--anatomy` and the table of `--anatomy-labels`; None if no folder was named.

    Raises:
        UsageError: If there is a table without a folder.
        InputError: If they cannot be used.
    """
    if folder is None:
        if table is not None:
            msg = "--anatomy-labels says what the maps of --anatomy show; name their folder too"
            raise UsageError(msg)
        return None
    from anonsynth.anatomy.public_maps import open_maps

    return open_maps(folder, table)


def edit_plan(
    scale: str | None, move: str | None, *, remove: bool = False, mirror: bool = False, transplant: bool = False
) -> EditPlan:
    """Read the options that ask for edits of a tumour.

    Raises:
        UsageError: If a factor or a place is none.
    """
    from anonsynth.anatomy.edit_plan import EditPlan

    try:
        factors = () if scale is None else tuple(float(part) for part in scale.split(","))
    except ValueError:
        msg = "--tumour-scale needs numbers, such as 0.5,2"
        raise UsageError(msg) from None
    return EditPlan(remove=remove, transplant=transplant, scale=factors, move=move, mirror=mirror)
