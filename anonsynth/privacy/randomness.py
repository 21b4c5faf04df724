"""Private noise, from one source: secrets of the operating system, and from them streams that can be drawn again.

Noise that can be predicted can be subtracted, so nothing private is drawn from the public seed that everything else
flows from: whoever knew the seed and the settings could take the noise off what was released. Nor may a resumed run
draw anew: two releases of the same sum with different noise are two spends. Hence a secret of 32 bytes (`new_secret`),
which lies in a private folder before the ledger is written and never leaves it, and streams that are pure functions of
the secret, the run's key and a name: step 17 has the same noise however often the process is killed. The ledger names
the draw by a digest, so that a run whose secret is gone has another name and is paid for again.

The streams are SHAKE-256 (FIPS 202), a cryptographic extendable output. Torch's and numpy's generators are not
cryptographic: 624 outputs of a Mersenne Twister give away all the others, and what is released is made of them.

What remains is arithmetic. A mechanism on floating-point numbers is not the one on real numbers: which doubles can come
out depends on what went in, and that tells outputs apart (Mironov 2012, doi:10.1145/2382196.2382264; for normal noise
Jin et al. 2022, doi:10.1109/SP46214.2022.9833672). Sums over patients are therefore formed in integers
(`mechanisms.py`). Gradients are not: noise is added in double precision and the sum is rounded to single precision,
each number that is released standing for some 2²⁹ doubles. That is a mitigation and no proof; a proof needs discrete
noise (Canonne et al. 2020, arXiv 2004.00010).

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
import torch
from scipy import special
from torch import Tensor

from anonsynth.errors import InputError

__all__ = ["SECRET_BYTES", "PrivateRandomness", "keep_secret", "new_secret"]

SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class PrivateRandomness:
    """All private randomness of one run; equal secrets and keys give equal streams.

    Args:
        secret: 32 bytes that nobody else knows; never printed.
        key: What the run is, the hash of its settings, so that no two different runs share noise.
    """

    secret: bytes = field(repr=False)
    key: str

    @property
    def name(self) -> str:
        """A name of this draw of noise for the ledger, 32 hexadecimal digits; the secret cannot be found from it."""
        return self.draw(16, "name").hex()

    def draw(self, count: int, *names: str | int) -> bytes:
        """Return `count` bytes of the stream called `names`."""
        # Each part is preceded by its length, so that no two lists of names are the same bytes.
        parts = [self.secret, self.key.encode(), *(str(name).encode() for name in names)]
        told = b"".join(len(part).to_bytes(8, "little") + part for part in parts)
        return hashlib.shake_256(told).digest(count)

    def normal(self, count: int, *names: str | int) -> Tensor:
        """Return (count,) independent standard normal numbers of the stream called `names`, in double precision.

        Each is the normal quantile of a 64-bit number: one bit is the sign and 63 the upper tail, so that tails reach
        to nine standard deviations and not to the eight where 53 bits end.

        Args:
            count: How many.
            names: Of what they are for; no two releases of one run share them.
        """
        words = np.frombuffer(self.draw(8 * count, "normal", *names), "<u8")
        tail = ((words >> np.uint64(1)).astype(np.float64) + 0.5) * 2.0**-64
        sign = np.where(words & np.uint64(1), 1.0, -1.0)
        return torch.from_numpy(sign * special.ndtri(tail))

    def generator(self, *names: str | int) -> torch.Generator:
        """Return a torch generator for crops and augmentations; noise that protects somebody does not come from it."""
        seed = int.from_bytes(self.draw(8, "generator", *names), "little") >> 1
        return torch.Generator().manual_seed(seed)


def new_secret() -> bytes:
    """Return a secret that nobody can predict; the one place that asks the operating system for one."""
    return secrets.token_bytes(SECRET_BYTES)


def keep_secret(path: Path) -> bytes:
    """Return the secret that lies in a file; make the file if there is none.

    It is on the disk before this returns. Two processes that ask at once get the same secret.

    Args:
        path: A file in the cohort's private folder.

    Raises:
        InputError: If the file is there and holds no secret.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _write_once(path, new_secret())
    secret = path.read_bytes()
    if len(secret) != SECRET_BYTES:
        raise InputError("a file of private noise in the cohort is broken", remedy="restore the cohort's folder")
    return secret


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
