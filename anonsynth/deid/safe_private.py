"""Private attributes that are known to be numbers of the acquisition; every other private attribute is removed.

Sources: the vendors' DICOM conformance statements, as dcm2niix and pydicom's private dictionary name them. A value
has to be a number in the range that is given here.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SAFE_PRIVATE", "SafePrivate"]


@dataclass(frozen=True, slots=True)
class SafePrivate:
    """One private attribute: what it is, its VR, its range and the most values it may have."""

    name: str
    vr: str
    low: float
    high: float
    most: int = 1


SAFE_PRIVATE: dict[str, dict[int, SafePrivate]] = {
    "SIEMENS MR HEADER": {
        0x0A: SafePrivate("images in mosaic", "US", 1, 4096),
        0x0C: SafePrivate("b-value", "IS", 0, 100000),
        0x0E: SafePrivate("diffusion gradient direction", "FD", -1.1, 1.1, 3),
        0x27: SafePrivate("b-matrix", "FD", -100000, 100000, 6),
        0x28: SafePrivate("bandwidth per pixel along phase encoding", "FD", 0, 100000),
        0x29: SafePrivate("times of a mosaic's slices", "FD", 0, 100000, 4096),
    },
    "GEMS_ACQU_01": {
        0xBB: SafePrivate("diffusion gradient x", "DS", -100, 100),
        0xBC: SafePrivate("diffusion gradient y", "DS", -100, 100),
        0xBD: SafePrivate("diffusion gradient z", "DS", -100, 100),
    },
    "GEMS_PARM_01": {
        0x2F: SafePrivate("magnitude, phase, real or imaginary", "SS", -1, 10),
        0x39: SafePrivate("b-value", "IS", 0, 2000000000, 4),
    },
    "Philips Imaging DD 001": {
        0x03: SafePrivate("b-value", "FL", 0, 100000),
        0xB0: SafePrivate("diffusion gradient right-left", "FL", -1.1, 1.1),
        0xB1: SafePrivate("diffusion gradient anterior-posterior", "FL", -1.1, 1.1),
        0xB2: SafePrivate("diffusion gradient foot-head", "FL", -1.1, 1.1),
    },
    "Philips MR Imaging DD 001": {
        0x0E: SafePrivate("scale slope", "FL", 0, 1e12),
        0x0D: SafePrivate("scale intercept", "FL", -1e12, 1e12),
    },
    "Image Private Header": {0x51: SafePrivate("tiles of a grid", "DS", 1, 4096)},
}
"""By private creator and the low byte of the element."""
