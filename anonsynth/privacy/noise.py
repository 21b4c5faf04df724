"""Private noise: drawn from the system's randomness, once for each spend, however often the run is killed.

The seeds that make results repeatable are published, and with a published seed anybody could subtract the noise. So
noise has a seed of its own, 32 bytes of the operating system's randomness, which lies in the cohort's private folder
and never leaves it. It is on the disk before the ledger is written, and its name is part of the spend's: a resumed run
finds its seed and draws the same noise, and a run whose seed is gone has another name and is paid for again.

Numbers come from SHAKE-256 (FIPS 202) over the seed and what the noise is for, so that nobody who sees many of them
can work out others, as one could with the generators made for simulation.

Zone: private.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import special

from anonsynth.errors import InputError

__all__ = ["Draw", "open_draw"]

SEED_BYTES = 32
NAME_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Draw:
    """One draw of noise.

    Attributes:
        seed: Private; never printed.
        name: What the draw is called in the ledger: a hash from which the seed does not follow.
    """

    seed: bytes = field(repr=False)
    name: str

    def normal(self, purpose: str, size: int) -> npt.NDArray[np.float64]:
        """Return (size,) standard normal numbers that belong to `purpose`; the same ones whenever it is asked again.

        Each is the normal quantile of a 64-bit number: one bit is the sign and 63 the upper tail, so that tails reach
        to nine standard deviations and not to the eight where 53 bits end.

        Args:
            purpose: Names the release; no two releases of one draw share it.
            size: How many.
        """
        stream = hashlib.shake_256(b"anonsynth noise\n" + self.seed + purpose.encode())
        words = np.frombuffer(stream.digest(8 * size), "<u8")
        tail = ((words >> np.uint64(1)).astype(np.float64) + 0.5) * 2.0**-64
        sign = np.where(words & np.uint64(1), 1.0, -1.0)
        numbers: npt.NDArray[np.float64] = sign * special.ndtri(tail)
        return numbers


def open_draw(path: Path) -> Draw:
    """Return the draw whose seed lies in a file; make the file if there is none.

    It is on the disk before this returns. Two processes that ask at once get the same seed.

    Args:
        path: A file in the cohort's private folder.

    Raises:
        InputError: If the file is there and holds no seed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _write_once(path, secrets.token_bytes(SEED_BYTES))
    seed = path.read_bytes()
    if len(seed) != SEED_BYTES:
        raise InputError("a file of private noise in the cohort is broken", remedy="restore the cohort's folder")
    name = hashlib.sha256(b"anonsynth draw\n" + seed).hexdigest()[:NAME_DIGITS]
    return Draw(seed, name)


def _write_once(path: Path, data: bytes) -> None:
    """Put a file where there is none, whole and readable by its owner only; leave it if another process was first."""
    handle, name = tempfile.mkstemp(prefix=".", suffix=".partial", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(temporary, path)  # unlike a rename, it never replaces
        except FileExistsError:
            return
    finally:
        temporary.unlink(missing_ok=True)
    if hasattr(os, "O_DIRECTORY"):
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
