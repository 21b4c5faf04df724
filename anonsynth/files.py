"""Atomic writes, unfinished folders, hashes and tables: how anonsynth touches the disk.

A file is written beside its place and renamed into it. A folder that a command is still filling holds `UNFINISHED`;
the command removes it last, so that a folder that was not finished says so.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anonsynth.errors import InputError

__all__ = [
    "UNFINISHED",
    "begin_folder",
    "finish_folder",
    "is_finished",
    "is_untouched",
    "read_json",
    "read_tsv",
    "replacing",
    "sha256_file",
    "sha256_listing",
    "write_bytes",
    "write_json",
    "write_text",
    "write_tsv",
]

UNFINISHED = "UNFINISHED"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path with the same suffixes beside `path`; rename it there when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = "".join(path.suffixes)
    handle, name = tempfile.mkstemp(prefix=".", suffix=".partial" + suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically as UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401 - whatever json can hold
    """Write `value` as indented JSON, atomically; non-finite numbers are an error."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:  # noqa: ANN401 - whatever json can hold
    """Read JSON; raise InputError with the file's name if it is absent or broken."""
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"there is no {path.name} in the folder", remedy="name a folder that anonsynth wrote"
        ) from None
    except (OSError, ValueError):
        raise InputError(f"{path.name} cannot be read as JSON", remedy="make the folder again") from None


def write_tsv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write a table with a header line, tab separated; None becomes `n/a`, tabs and line ends become spaces."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
        writer.writerow(columns)
        for row in rows:
            writer.writerow([_cell(row.get(column)) for column in columns])


def read_tsv(path: Path) -> list[dict[str, str]]:
    """Read a tab-separated table with a header line; a byte-order mark is accepted."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return [dict(row) for row in csv.DictReader(stream, delimiter="\t")]
    except (OSError, ValueError, csv.Error):
        raise InputError("the table cannot be read as tab-separated UTF-8 text", private_path=path) from None


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as lower-case hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_listing(root: Path) -> str:
    """Return a hash of the names and sizes of all files below `root`, or of a single file's bytes.

    Quick enough for a folder of a hundred thousand slices; a file that changes and keeps its size is not seen.
    """
    if root.is_file():
        return sha256_file(root)
    digest = hashlib.sha256()
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = Path(folder) / name
            size = path.stat().st_size if path.exists() else -1
            digest.update(f"{path.relative_to(root).as_posix()}\t{size}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def begin_folder(folder: Path) -> None:
    """Create `folder` and mark it as unfinished."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / UNFINISHED).write_text("anonsynth has not finished writing this folder.\n", "utf-8")


def is_untouched(folder: Path) -> bool:
    """Tell whether `folder` is absent, empty, or only just begun: marks and halves of files, nothing written yet."""
    if not folder.is_dir():
        return not folder.exists()
    files = (path for path in folder.rglob("*") if not path.is_dir())
    return all(path.name == UNFINISHED or (path.name.startswith(".") and ".partial" in path.name) for path in files)


def finish_folder(folder: Path) -> None:
    """Remove the mark that `begin_folder` left."""
    (folder / UNFINISHED).unlink(missing_ok=True)


def is_finished(folder: Path, document: str) -> bool:
    """Tell whether `folder` holds `document` and no unfinished mark."""
    return (folder / document).is_file() and not (folder / UNFINISHED).exists()


def _cell(value: object) -> str:
    if value is None:
        return "n/a"
    return " ".join(str(value).split()) if isinstance(value, str) else str(value)
