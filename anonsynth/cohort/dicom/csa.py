"""The one thing a mosaic needs from Siemens' private CSA image header: the direction in which its slices are stacked.

The header is a list of named tags with text values. Its layout is described in nibabel's "Siemens format DICOM with CSA
header" (https://nipy.org/nibabel/dicom/siemens_csa.html).
"""

from __future__ import annotations

import struct

from anonsynth.cohort.dicom.header import Vector

__all__ = ["csa_numbers", "slice_normal"]

_MAGIC = b"SV10"
_TAG = struct.Struct("<64si4siii")
_ITEM = struct.Struct("<4i")
_MOST_TAGS = 1024


def slice_normal(header: bytes) -> Vector | None:
    """Return the unit normal (LPS+) that points from the first tile's slice to the last one's, if it is stated."""
    found = csa_numbers(header, "SliceNormalVector")
    return (found[0], found[1], found[2]) if len(found) == 3 else None


def csa_numbers(header: bytes, name: str) -> tuple[float, ...]:
    """Return the numbers of a tag of a CSA2 header; () if the header is none, is broken or lacks the tag."""
    if header[:4] != _MAGIC:
        return ()
    try:
        return _search(header, name.encode("ascii"))
    except (struct.error, ValueError):
        return ()


def _search(header: bytes, name: bytes) -> tuple[float, ...]:
    (count,) = struct.unpack_from("<I", header, 8)
    at = 16
    for _ in range(min(count, _MOST_TAGS)):
        label, _, _, _, items, _ = _TAG.unpack_from(header, at)
        at += _TAG.size
        values = []
        for _ in range(items):
            _, length, _, _ = _ITEM.unpack_from(header, at)
            at += _ITEM.size
            value = header[at : at + length].partition(b"\0")[0].strip()
            if value:
                values.append(value)
            at += (length + 3) // 4 * 4
        if label.partition(b"\0")[0] == name:
            return tuple(float(value) for value in values)
    return ()
