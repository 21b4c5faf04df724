"""The noise of a private run: one secret from the operating system, and from it streams that can be drawn again.

Noise that can be predicted can be subtracted, so a private run must not draw from the public seed that everything else
flows from: whoever knew the seed and the settings could take the noise off the released weights. Nor may a resumed run
draw anew: two releases of the same sum with different noise are two spends. Hence one secret of 32 bytes
(`secrets.token_bytes`), kept in the private state of the run, and streams that are pure functions of the secret, the
run's key and a name: step 17 has the same noise however often the process is killed.

The streams are SHAKE-256 (FIPS 202), a cryptographic extendable output. Torch's and numpy's generators are not
cryptographic: 624 outputs of a Mersenne Twister give away all the others, and the released weights are made of them.

What remains is arithmetic. A mechanism on floating-point numbers is not the one on real numbers: which doubles can come
out depends on what went in, and that tells outputs apart (Mironov 2012, doi:10.1145/2382196.2382264; for normal noise
Jin et al. 2022, doi:10.1109/SP46214.2022.9833672). Noise is therefore added in double precision and the sum is rounded
to single precision: each number that is released stands for some 2²⁹ doubles. That is a mitigation and no proof; a
proof needs discrete noise (Canonne et al. 2020, arXiv 2004.00010). The largest value that Box-Muller makes of 53 bits
is 8.6 standard deviations; 10⁻¹⁷ of a normal distribution lies beyond it.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

__all__ = ["SECRET_BYTES", "PrivateRandomness"]

SECRET_BYTES = 32
UNIT = 2.0**-53


@dataclass(frozen=True, slots=True)
class PrivateRandomness:
    """All randomness of one private run; equal secrets and keys give equal streams.

    Args:
        secret: 32 bytes that nobody else knows; never printed.
        key: What the run is, the hash of its settings, so that no two different runs share noise.
    """

    secret: bytes = field(repr=False)
    key: str

    @property
    def name(self) -> str:
        """A name of this draw of noise, 32 hexadecimal digits; the secret cannot be found from it."""
        return self.draw(16, "name").hex()

    def draw(self, count: int, *names: str | int) -> bytes:
        """Return `count` bytes of the stream called `names`."""
        # Each part is preceded by its length, so that no two lists of names are the same bytes.
        parts = [self.secret, self.key.encode(), *(str(name).encode() for name in names)]
        told = b"".join(len(part).to_bytes(8, "little") + part for part in parts)
        return hashlib.shake_256(told).digest(count)

    def uniform(self, count: int, *names: str | int) -> Tensor:
        """Return (count,) independent numbers in [0, 1), double precision, each a multiple of 2⁻⁵³."""
        words = np.frombuffer(self.draw(8 * count, "uniform", *names), dtype="<u8")
        return torch.from_numpy((words >> np.uint64(11)).astype(np.float64)).mul_(UNIT)

    def normal(self, count: int, *names: str | int) -> Tensor:
        """Return (count,) independent standard normal numbers (Box and Muller 1958, doi:10.1214/aoms/1177706645)."""
        half = (count + 1) // 2
        drawn = self.uniform(2 * half, "normal", *names)
        radius = drawn[:half].neg_().log1p_().mul_(-2).sqrt_()  # 1 − u is never 0
        angle = drawn[half:].mul_(2 * math.pi)
        return torch.cat([radius * angle.cos(), radius * angle.sin()])[:count]

    def generator(self, *names: str | int) -> torch.Generator:
        """Return a torch generator for crops and augmentations; noise that protects somebody does not come from it."""
        seed = int.from_bytes(self.draw(8, "generator", *names), "little") >> 1
        return torch.Generator().manual_seed(seed)
