"""A folder of public label maps, and what their values stand for in a cohort: read, never guessed from a scan.

Without a table the cohort's labels are found by their names: in the folder's `labels.tsv` or `dseg.tsv`, or among
FreeSurfer's. A table (`--anatomy-labels`) says it in so many words:

    site    value   label   part            mirror
    left    17      1       anterior 0.45   no
    left    17      2       posterior 0.55  no
    right   53      1       anterior 0.45   yes
    right   53      2       posterior 0.55  yes
            930     bone

`label` is a value of the cohort, or a tissue of the surroundings. Rows of one *site* are drawn together, in the middle
of the grid: a cohort of crops around a left or a right structure has two. `part` cuts a structure where the cohort's
labels divide what the maps do not: the share of its voxels that lie farthest to one side. `mirror` swaps left and right
at a site, where the cohort shows one side only or was turned to it. Only `value` and `label` have to be there.

Zone: shareable; nothing here reads a patient.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from anonsynth.anatomy.freesurfer import TISSUES, values_of
from anonsynth.cohort.lookup import find_lookup
from anonsynth.cohort.model import LabelEntry
from anonsynth.cohort.nifti import NiftiVolume, is_nifti
from anonsynth.cohort.orient import to_ras
from anonsynth.cohort.sources import RawVolume
from anonsynth.errors import InputError
from anonsynth.files import read_tsv, sha256_file

__all__ = ["SIDES", "MapRow", "PublicMaps", "open_maps", "rows_by_name"]

SIDES = {
    "left": (0, -1),
    "right": (0, 1),
    "posterior": (1, -1),
    "anterior": (1, 1),
    "inferior": (2, -1),
    "superior": (2, 1),
}
"""Axis and direction of each side in RAS+."""
_EXAMPLE = "such as 17, 1 and 'anterior 0.45'"


@dataclass(frozen=True, slots=True)
class MapRow:
    """What a value of the maps stands for.

    Attributes:
        value: In the maps.
        label: Value in the cohort, or one of `TISSUES`.
        site: Rows of one site are drawn together; "" holds for all of them.
        side: Of `SIDES`, or "" for the whole structure.
        share: Of the structure's voxels, those that lie farthest to that side.
        mirror: Whether left and right are swapped at this site.
    """

    value: int
    label: int | str
    site: str = ""
    side: str = ""
    share: float = 1.0
    mirror: bool = False


@dataclass(frozen=True, slots=True)
class PublicMaps:
    """Public label maps.

    Attributes:
        paths: The files, in the order of their hashes: their names never matter.
        names: What the folder says of its values.
        rows: The table's rows; none without a table.
        sha256: Hash of all files' contents and of the table.
    """

    paths: tuple[Path, ...]
    names: dict[int, LabelEntry]
    rows: tuple[MapRow, ...]
    sha256: str

    def read(self) -> Iterator[tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]]:
        """Yield each map (X, Y, Z) with RAS+ axes, and its affine.

        Raises:
            InputError: If one cannot be read or holds other values than whole numbers.
        """
        for number, path in enumerate(self.paths, start=1):
            raw = NiftiVolume(path).read()
            array = np.asarray(raw.array)
            if not np.array_equal(array, np.rint(array)) or array.min() < 0 or array.max() > 2**30:
                raise InputError(
                    f"public map {number} of {len(self.paths)} holds other values than labels, 0 and above",
                    remedy="leave images out of the folder named with --anatomy",
                    private_path=path,
                )
            turned = to_ras(RawVolume(array.astype(np.int32), raw.affine))
            yield np.asarray(turned.array, np.int32), turned.affine


def open_maps(folder: Path, table: Path | None = None) -> PublicMaps:
    """Find the maps of a folder and read the table.

    Raises:
        InputError: If there are no maps, or the table does not hold what it should.
    """
    if not folder.is_dir():
        raise InputError("the folder of public label maps does not exist", remedy="check --anatomy")
    paths = [path for path in sorted(folder.iterdir()) if is_nifti(path)]
    if not paths:
        raise InputError("the folder named with --anatomy holds no NIfTI", remedy="name a folder of label maps")
    hashed = sorted((sha256_file(path), path) for path in paths)
    rows = () if table is None else tuple(_read_row(row) for row in read_tsv(table))
    if table is not None and not rows:
        raise InputError("the table of --anatomy-labels has no rows", remedy=f"give value, label and part, {_EXAMPLE}")
    parts = [*(digest for digest, _ in hashed), *map(str, rows)]
    sha256 = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return PublicMaps(tuple(path for _, path in hashed), find_lookup(folder), rows, sha256)


def rows_by_name(maps: PublicMaps, labels: Sequence[LabelEntry]) -> tuple[MapRow, ...]:
    """Return a row for each value whose name is that of a label of the cohort.

    Raises:
        InputError: If a label's name means none.
    """
    rows = []
    for entry in labels:
        name = plain(entry.name)
        values = [value for value, named in maps.names.items() if plain(named.name) == name] or list(values_of(name))
        if not values:
            raise InputError(
                f"no value of the public maps is known to show label {entry.value} of the cohort",
                remedy="say with --anatomy-labels which one does",
            )
        rows += [MapRow(value, entry.value) for value in values]
    return tuple(rows)


def plain(name: str) -> str:
    """Return a name as it is compared: small letters, one space, British spelling."""
    return " ".join(name.lower().replace("_", " ").replace("-", " ").replace("gray", "grey").split())


def _read_row(row: dict[str, str]) -> MapRow:
    cells = {(key or "").strip().lower(): (cell or "").strip() for key, cell in row.items()}
    value, label, part = cells.get("value", ""), plain(cells.get("label", "")), cells.get("part", "")
    cut = ("", 1.0) if not part else _cut(part)
    if not value.isdigit() or not (label.isdigit() or label in TISSUES) or cut is None:
        raise InputError(
            f"a row of --anatomy-labels needs a value, a label of the cohort or one of {', '.join(TISSUES)}, and "
            f"perhaps a part, {_EXAMPLE}",
            remedy="correct the table",
        )
    mirror = cells.get("mirror", "").lower() in ("yes", "true", "1")
    return MapRow(int(value), int(label) if label.isdigit() else label, cells.get("site", ""), *cut, mirror=mirror)


def _cut(part: str) -> tuple[str, float] | None:
    """Read `anterior 0.45`; None if it is no such thing."""
    side, _, number = part.lower().partition(" ")
    try:
        share = float(number)
    except ValueError:
        return None
    return (side, share) if side in SIDES and 0 < share <= 1 else None
