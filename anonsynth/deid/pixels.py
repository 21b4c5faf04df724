"""Pixel data as the bytes they are: found, measured and copied, never decoded.

What stands behind the last pixel is no pixel and is left behind.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pydicom.dataset import Dataset

from anonsynth.errors import InputError

__all__ = ["PixelBytes", "find_pixels"]

_UNDEFINED = 0xFFFFFFFF
_ITEM = (0xFFFE, 0xE000)
_END = (0xFFFE, 0xE0DD)
_PIXEL_DATA = (0x7FE0, 0x0010)
_AGAIN = "copy the file again from where it came from"


@dataclass(frozen=True, slots=True)
class PixelBytes:
    """Where pixel data lie in a file: VR ("" if not written), whether encapsulated, and first and last byte + 1."""

    vr: str
    encapsulated: bool
    start: int
    stop: int

    def element(self, data: memoryview, order: str) -> bytes:
        """Return the element as it is written: header and the same bytes."""
        pixels = bytes(data[self.start : self.stop])
        padding = b"\0" * (len(pixels) % 2)
        length = _UNDEFINED if self.encapsulated else len(pixels) + len(padding)
        head = struct.pack(f"{order}HH", *_PIXEL_DATA)
        head += self.vr.encode("ascii") + b"\0\0" if self.vr else b""
        return head + struct.pack(f"{order}I", length) + pixels + padding


def find_pixels(data: memoryview, at: int, header: Dataset, *, implicit: bool, little: bool) -> PixelBytes:
    """Find the pixel data whose element begins at byte `at`.

    Args:
        data: The file.
        at: Where pydicom stopped reading the header.
        header: The header, for the number of pixels.
        implicit: Whether value representations are not written.
        little: Whether numbers are little-endian.

    Raises:
        InputError: If there are none, or fewer bytes than pixels.
    """
    order = "<" if little else ">"
    lead = 8 if implicit else 12
    if at + lead > len(data):
        raise InputError("it holds no pixel data", remedy="nothing to do unless it should be an image")
    if struct.unpack_from(f"{order}HH", data, at) != _PIXEL_DATA:
        raise InputError("it holds no integer pixel data", remedy="nothing to do unless it should be an image")
    vr = "" if implicit else bytes(data[at + 4 : at + 6]).decode("latin-1")
    if vr not in {"", "OB", "OW"}:
        raise InputError("its pixel data have no valid type", remedy=_AGAIN)
    (length,) = struct.unpack_from(f"{order}I", data, at + lead - 4)
    start = at + lead
    if length == _UNDEFINED:
        return PixelBytes(vr, encapsulated=True, start=start, stop=_end_of_items(data, start))
    wanted = _pixel_bytes(header)
    if start + min(length, wanted) > len(data) or length < wanted:
        raise InputError("its pixel data are cut off", remedy=_AGAIN)
    return PixelBytes(vr, encapsulated=False, start=start, stop=start + wanted)


def _end_of_items(data: memoryview, at: int) -> int:
    while at + 8 <= len(data):
        group, element, length = struct.unpack_from("<HHI", data, at)
        if (group, element) == _END:
            return at + 8
        if (group, element) != _ITEM or length == _UNDEFINED:
            break
        at += 8 + length
    raise InputError("its compressed pixel data are cut off or broken", remedy=_AGAIN)


def _pixel_bytes(header: Dataset) -> int:
    values = [int(header.get(name) or 1) for name in ("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames")]
    bits = int(header.get("BitsAllocated") or 0)
    count = values[0] * values[1] * values[2] * values[3]
    if count <= 0 or bits not in {1, 8, 16, 32, 64}:
        raise InputError("its header does not say how many pixels there are", remedy=_AGAIN)
    return -(-count * bits // 8)
