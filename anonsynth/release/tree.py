"""The files of a folder that goes to others: listed without following anything, hashed, and named in a manifest.

`manifest.sha256` is what `sha256sum` writes: `sha256sum -c manifest.sha256` in the release checks it by hand.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from anonsynth.errors import InputError
from anonsynth.files import sha256_file

__all__ = ["Listing", "copy_hashed", "is_inside", "list_files", "manifest_text", "read_manifest"]

_LINE = re.compile(r"([0-9a-f]{64})  ([^\n\\]+)")
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Listing:
    """What is in a folder.

    Attributes:
        files: Plain files, as POSIX paths from the folder, sorted.
        odd: What is no plain file: links, pipes, empty folders; path and what it is.
    """

    files: tuple[str, ...]
    odd: tuple[tuple[str, str], ...]


def list_files(root: Path) -> Listing:
    """List everything below `root`; no link is followed, so nothing outside it is ever read.

    Raises:
        InputError: If `root` is no folder, or a folder in it cannot be read.
    """
    if root.is_symlink() or not root.is_dir():
        raise InputError(f"{root.name} is no folder", remedy="name the folder itself, not a link to it")

    def unreadable(_: OSError) -> None:
        raise InputError(f"a folder in {root.name} cannot be read", remedy="check its permissions")

    files, odd = [], []
    for folder, folders, names in os.walk(root, followlinks=False, onerror=unreadable):
        for name in (*folders, *names):
            path = Path(folder) / name
            place = path.relative_to(root).as_posix()
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                odd.append((place, "a link"))
            elif stat.S_ISREG(mode):
                files.append(place)
            elif not stat.S_ISDIR(mode):
                odd.append((place, "no plain file"))
            elif not any(path.iterdir()):
                odd.append((place, "an empty folder"))
    return Listing(tuple(sorted(files)), tuple(sorted(odd)))


def copy_hashed(source: Path, target: Path) -> str:
    """Copy a file's bytes, nothing else of it; return their SHA-256, computed on what was written."""
    digest = hashlib.sha256()
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as read, target.open("xb") as written:
        while chunk := read.read(_CHUNK):
            digest.update(chunk)
            written.write(chunk)
        written.flush()
        os.fsync(written.fileno())
    return digest.hexdigest()


def manifest_text(root: Path, known: dict[str, str]) -> str:
    """Return the manifest of all files below `root`; `known` holds hashes that were computed already."""
    return "".join(f"{known.get(name) or sha256_file(root / name)}  {name}\n" for name in list_files(root).files)


def read_manifest(text: str) -> dict[str, str] | str:
    """Return each file's SHA-256 by its path, or what is wrong, one clause without a full stop.

    Paths are those of a sorted listing: none twice, none that leads out of the folder.

    Example:
        >>> read_manifest("0" * 64 + "  ../etc/passwd" + chr(10))
        'line 1 names a path outside the release'
    """
    hashes: dict[str, str] = {}
    last = ""
    lines = text.split("\n")
    if lines.pop() != "":
        return "it does not end with a line end"
    for number, line in enumerate(lines, start=1):
        match = _LINE.fullmatch(line)
        if match is None:
            return f"line {number} is not a SHA-256, two spaces and a path"
        digest, name = match.groups()
        if not is_inside(name):
            return f"line {number} names a path outside the release"
        if name <= last:
            return f"line {number} is out of order or there twice"
        hashes[name], last = digest, name
    return hashes


def is_inside(name: str) -> bool:
    """Tell whether a path stays in its folder: relative, POSIX, without `..`, `.`, empty parts or odd letters."""
    parts = name.split("/")
    return "\\" not in name and name.isprintable() and not {"", ".", ".."} & set(parts) and ":" not in parts[0]
