"""All randomness flows from one seed: named, independent streams derived from it."""

from __future__ import annotations

import hashlib

import numpy as np

__all__ = ["stream", "stream_seed"]


def stream_seed(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed for the stream called `names`, independent of every other name's."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:8], "big") >> 1


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return numpy's generator for the stream called `names`.

    Example:
        >>> float(stream(1, "split").random()) == float(stream(1, "split").random())
        True
    """
    return np.random.default_rng(stream_seed(seed, *names))
