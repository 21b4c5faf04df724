"""Does anything that was removed still stand in what is about to leave? Looked for by value, in every byte.

Every secret is written in the forms in which it could have survived: UTF-8, Latin-1, UTF-16 of both orders, base64 at
each of its three alignments, JSON escapes, without accents, names in either order, dates with each usual separator. All
forms are looked for at once: the first four bytes at every place of a file are compared with a bit table, and the few
places that remain byte for byte. Small and capital letters count as the same. A hit names file, kind and form, never
the secret.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom

from anonsynth.audits.harvest import Secrets
from anonsynth.cohort.dicom.quiet import BROKEN, quiet_pydicom
from anonsynth.deid.pixels import find_pixels
from anonsynth.errors import InputError

__all__ = ["Hit", "Sweep", "SweepResult", "streams"]

_BITS = 20
_SHORTEST_FORM = 4
_SHORTEST_IN_PIXELS = 7
_BOUNDED = 10
_UNPACKED = 1 << 28
_DEEPEST = 4
_STROKES = str.maketrans({"ø": "o", "đ": "d", "ł": "l", "ß": "ss", "æ": "ae", "œ": "oe"})
_TWO_LETTERS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ß": "ss", "å": "aa"})
_WORD = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789")
_DIGITS = frozenset(b"0123456789")


@dataclass(frozen=True, slots=True)
class Hit:
    """A secret that is still there: in which file of the output, of what kind, in which form, and where in the file."""

    file: str
    kind: str
    form: str
    place: str


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What was looked for, where, and what was found."""

    searched: dict[str, int]
    too_short: int
    files: int
    bytes: int
    hits: tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class _Form:
    text: bytes
    kind: str
    form: str


class Sweep:
    """Looks for a set of secrets in files."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self._table = np.zeros(1 << _BITS, dtype=bool)
        self._forms: dict[bytes, list[_Form]] = {}
        for kind, value in secrets.items():
            for form, text in forms(kind, value):
                if len(text) >= _SHORTEST_FORM:
                    self._forms.setdefault(text[:4], []).append(_Form(text, kind, form))
        if self._forms:
            heads = np.frombuffer(b"".join(self._forms), dtype="<u4")
            self._table[_hashed(heads)] = True

    def folder(self, out: Path) -> SweepResult:
        """Look through every file below a folder, its name and whatever can be unpacked from it."""
        hits: list[Hit] = []
        count = size = 0
        for path in sorted(path for path in out.rglob("*") if path.is_file()):
            name = path.relative_to(out).as_posix()
            data = path.read_bytes()
            hits += self.file(data, name)
            count, size = count + 1, size + len(data)
        return SweepResult(self._secrets.counts(), self._secrets.too_short, count, size, tuple(hits))

    def file(self, data: bytes, name: str) -> list[Hit]:
        """Look through one file."""
        hits = [Hit(name, form.kind, form.form, "name") for form in self._find(name.encode("utf-8"), None)]
        for place, stream in streams(data):
            hits += [Hit(name, form.kind, form.form, place) for form in self._find(stream, _pixels(stream))]
        return list(dict.fromkeys(hits))

    def _find(self, data: bytes, pixels: tuple[int, int] | None) -> Iterator[_Form]:
        low = data.lower()
        for offset in range(min(4, max(0, len(low) - 3))):
            words = np.frombuffer(low, dtype="<u4", count=(len(low) - offset) // 4, offset=offset)
            for index in np.flatnonzero(self._table[_hashed(words)]):
                at = offset + 4 * int(index)
                for form in self._forms.get(low[at : at + 4], ()):
                    if low.startswith(form.text, at) and _counts(form, low, at, pixels):
                        yield form


def forms(kind: str, value: str) -> Iterator[tuple[str, bytes]]:
    """Yield the forms in which a secret could have survived, in small letters, with the form's name."""
    seen: set[bytes] = set()
    for text in _variants(kind, value):
        for form, raw in _encoded(text):
            low = raw.lower()
            if low not in seen:
                seen.add(low)
                yield form, low


def _variants(kind: str, value: str) -> Iterable[str]:
    if kind == "date":
        year, month, day = value[:4], value[4:6], value[6:8]
        return (value, f"{year}-{month}-{day}", f"{year}.{month}.{day}", f"{year}/{month}/{day}",
                f"{day}.{month}.{year}", f"{day}/{month}/{year}", f"{month}/{day}/{year}")  # fmt: skip
    found = [value]
    if kind == "name" and "^" in value:
        parts = [part for part in value.split("=")[0].split("^") if part]
        found += [glue.join(order) for order in (parts, parts[::-1]) for glue in (" ", ", ", "_", "-")]
    if not value.isascii():
        found += [value.lower(), value.upper(), value.translate(_TWO_LETTERS)]
        low = value.lower().translate(_STROKES)
        found.append("".join(mark for mark in unicodedata.normalize("NFKD", low) if not unicodedata.combining(mark)))
    return dict.fromkeys(found)


def _encoded(text: str) -> Iterator[tuple[str, bytes]]:
    yield "UTF-8", text.encode("utf-8", "surrogateescape")
    if not text.isascii():
        yield "Latin-1", text.encode("latin-1", "ignore")
        yield "JSON", json.dumps(text)[1:-1].encode("ascii")
    yield "UTF-16", text.encode("utf-16-le", "ignore")
    yield "UTF-16", text.encode("utf-16-be", "ignore")
    raw = text.encode("utf-8", "surrogateescape")
    for lead in range(3):
        core = base64.b64encode(b"\0" * lead + raw)[(4 if lead else 0) : (len(raw) + lead) // 3 * 4]
        if len(core) >= 8:
            yield "base64", core


def _counts(form: _Form, low: bytes, at: int, pixels: tuple[int, int] | None) -> bool:
    """Tell whether a place is a hit: not by chance within pixels, and short values as whole words only."""
    end = at + len(form.text)
    if pixels is not None and pixels[0] <= at < pixels[1] and len(form.text) < _SHORTEST_IN_PIXELS:
        return False
    if form.form != "UTF-8" or len(form.text) >= _BOUNDED:
        return True
    before, after = low[at - 1 : at], low[end : end + 1]
    if form.kind == "date":
        clock = low[end : end + 6].isdigit() and len(low[end : end + 6]) == 6
        return not (before and (before[0] in _WORD or before == b".")) and (
            clock or not (after and after[0] in _DIGITS)
        )
    if form.text.isdigit() and (low[at - 2 : at].endswith(b".") and low[at - 2 : at - 1].isdigit()):
        return False  # the decimals of a number, or a part of a UID
    return not (before and before[0] in _WORD) and not (after and after[0] in _WORD)


def _hashed(words: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    return (words * np.uint32(2654435761)) >> np.uint32(32 - _BITS)


def _pixels(data: bytes) -> tuple[int, int] | None:
    """Return where a DICOM file's pixels lie; short secrets occur there by chance."""
    if data[128:132] != b"DICM":
        return None
    try:
        with quiet_pydicom():
            stream = BytesIO(data)
            header = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=["Rows", "Columns"])
            implicit, little = header.original_encoding
            header.BitsAllocated = 1
            found = find_pixels(memoryview(data), stream.tell(), header, implicit=bool(implicit), little=bool(little))
            return found.start, len(data)
    except (*BROKEN, InputError):
        return None


def streams(data: bytes, depth: int = 0) -> Iterator[tuple[str, bytes]]:
    """Yield a file's bytes and whatever can be unpacked from them: gzip, zip, tar, zlib; bounded in depth and size."""
    yield "bytes" if not depth else "unpacked", data
    if depth >= _DEEPEST:
        return
    for inner in _unpacked(data):
        yield from streams(inner, depth + 1)


def _unpacked(data: bytes) -> Iterator[bytes]:
    try:
        if data[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
                yield stream.read(_UNPACKED)
        elif data[:4] == b"PK\x03\x04":
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                for entry in archive.infolist():
                    yield entry.filename.encode("utf-8", "surrogateescape")
                    with archive.open(entry) as member:
                        yield member.read(_UNPACKED)
        elif data[257:262] == b"ustar":
            with tarfile.open(fileobj=io.BytesIO(data)) as tape:
                for part in tape:
                    yield part.name.encode("utf-8", "surrogateescape")
                    content = tape.extractfile(part) if part.isfile() else None
                    if content is not None:
                        yield content.read(_UNPACKED)
        elif data[:5] == b"%PDF-" or data[:4] == b"\x89PNG":
            yield from _zlib_streams(data)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError, RuntimeError):
        return


def _zlib_streams(data: bytes) -> Iterator[bytes]:
    for mark in (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"):
        at = data.find(mark)
        while at >= 0:
            try:
                found = zlib.decompressobj().decompress(data[at:], _UNPACKED)
            except zlib.error:
                found = b""
            if len(found) > 3:
                yield found
            at = data.find(mark, at + 2)
