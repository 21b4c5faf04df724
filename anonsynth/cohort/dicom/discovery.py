"""Which files under a folder are DICOM, read as headers only; broken DICOM is refused, everything else skipped."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import pydicom
from pydicom.dataset import FileDataset
from pydicom.uid import MediaStorageDirectoryStorage

from anonsynth.cohort.dicom.classic import classic_frame, series_info
from anonsynth.cohort.dicom.enhanced import enhanced_frames, enhanced_info, is_enhanced
from anonsynth.cohort.dicom.header import DicomHeader
from anonsynth.cohort.dicom.quiet import BROKEN, quiet_pydicom
from anonsynth.cohort.dicom.tags import WANTED
from anonsynth.cohort.dicom.values import whole
from anonsynth.cohort.sources import Refusal

__all__ = ["headers", "list_files", "read_header"]

_SUFFIXES = {".dcm", ".dicom", ".ima"}
_PREAMBLE = 128
_MAGIC = b"DICM"
_LONGEST_FIRST_VALUE = 1024
_COPY_AGAIN = "copy the file again from where it came from"


def headers(roots: Sequence[Path]) -> Iterator[DicomHeader | Refusal]:
    """Read the header of every DICOM file under the roots, in a fixed order; never raises for what a file holds."""
    seen: set[Path] = set()
    for found in list_files(roots):
        if isinstance(found, Refusal):
            yield found
            continue
        real = Path(os.path.realpath(found))
        if real in seen:
            continue
        seen.add(real)
        header = read_header(found)
        if header is not None:
            yield header


def list_files(roots: Sequence[Path]) -> Iterator[Path | Refusal]:
    """Yield all files under the roots, sorted within each folder, and a refusal for each folder that cannot be read."""
    for root in roots:
        if root.is_file():
            yield root
            continue
        unreadable: list[OSError] = []
        for folder, folders, names in os.walk(root, onerror=unreadable.append):
            folders.sort()
            # "._name" is what macOS leaves beside a file on a foreign disk.
            yield from (Path(folder, name) for name in sorted(names) if not name.startswith("._"))
        for error in unreadable:
            where = Path(str(error.filename)) if error.filename else root
            yield Refusal(where, "the folder cannot be read", "give this user the right to read it")


def read_header(path: Path) -> DicomHeader | Refusal | None:
    """Read one file's header.

    Returns:
        The header; a refusal if the file should be DICOM and is broken; None if it is no DICOM image.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            start = stream.read(_PREAMBLE + len(_MAGIC))
    except OSError:
        return Refusal(path, "the file cannot be read", "give this user the right to read it") if _named(path) else None
    if size == 0:
        return Refusal(path, "the file is empty", _COPY_AGAIN) if _named(path) or not path.suffix else None
    marked = start[_PREAMBLE:] == _MAGIC
    if not marked and not _starts_with_a_tag(start):
        reason = "the file is named like DICOM but holds something else"
        return Refusal(path, reason, _COPY_AGAIN) if _named(path) else None
    return _parse(path, size, sure=marked or _named(path))


def _parse(path: Path, size: int, *, sure: bool) -> DicomHeader | Refusal | None:
    broken = Refusal(path, "the DICOM header is broken or cut off", _COPY_AGAIN) if sure else None
    try:
        with quiet_pydicom(), path.open("rb") as stream:
            dataset = pydicom.dcmread(stream, stop_before_pixels=True, force=True, specific_tags=WANTED)
            return _interpret(dataset, path, size - stream.tell()) or broken
    except BROKEN:
        return broken


def _interpret(dataset: FileDataset, path: Path, left: int) -> DicomHeader | Refusal | None:
    """Make a header of what was read; `left` bytes follow it in the file."""
    meta = dataset.file_meta
    if meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        return Refusal(path, "a DICOMDIR, an index without images", "nothing to do: its images are read on their own")
    info = series_info(dataset)
    if not info.sop_class or not info.series:
        return None
    if _cut_off(dataset, left):
        return Refusal(path, "the pixel data is cut off", _COPY_AGAIN)
    if is_enhanced(dataset):
        info = enhanced_info(dataset, info)
        frames = enhanced_frames(dataset, path, info)
        return DicomHeader(info, frames) if frames else None
    return DicomHeader(info, (classic_frame(dataset, path, info),))


def _cut_off(dataset: FileDataset, left: int) -> bool:
    """Tell whether an uncompressed file is too short for its voxels; compressed ones show it when they are decoded."""
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None or syntax.is_compressed or syntax.is_deflated:
        return False
    values = whole(dataset, "Rows") * whole(dataset, "Columns") * max(1, whole(dataset, "NumberOfFrames", 1))
    return left < values * whole(dataset, "SamplesPerPixel", 1) * whole(dataset, "BitsAllocated") // 8


def _named(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES


def _starts_with_a_tag(start: bytes) -> bool:
    """Tell whether bytes start like a DICOM dataset without the preamble: a tag of group 2 or 8 with a short value."""
    if len(start) < 8:
        return False
    group, element, length = struct.unpack_from("<HHI", start)
    if group not in (0x0002, 0x0008) or element > 0x0100:
        return False
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    return explicit or length <= _LONGEST_FIRST_VALUE
