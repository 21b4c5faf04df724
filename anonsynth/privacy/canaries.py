"""Canaries for private training: made-up patients whose gradients nobody can overlook.

A canary's gradient is a random direction over all parameters, longer than the clipping norm, so that it enters the sum
with its full norm C: no patient can leave a stronger trace, and random directions in many dimensions hardly disturb one
another. They run through the very code that patients run through: drawn, clipped, summed, noised, stepped. What is
attacked is the released weights alone: trained with plain gradient descent, their way from start to end is the sum of
all private gradients, and a canary's score is how far that way goes along its direction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from anonsynth.privacy.per_patient import Items, trainable
from anonsynth.seeds import stream_seed

__all__ = ["Canaries", "canary_loss"]

DIRECTION = "direction"
LOUDER = 2.0
"""How much longer than the clipping norm a canary's gradient is."""


@dataclass(frozen=True)
class Canaries:
    """Random directions, and the coins that say which of them take part.

    Attributes:
        directions: (m, parameters) of norm 1.
        included: (m,) fair coins.
    """

    directions: Tensor
    included: npt.NDArray[np.bool_]

    @classmethod
    def draw(cls, count: int, network: nn.Module, seed: int) -> Canaries:
        """Draw `count` canaries for a network; the seed must not be known to whoever guesses."""
        size = sum(parameter.numel() for parameter in trainable(network).values())
        generator = torch.Generator().manual_seed(stream_seed(seed, "canaries"))
        directions = torch.randn(count, size, generator=generator)
        directions /= directions.norm(dim=1, keepdim=True)
        coins = torch.rand(count, generator=generator) < 0.5
        return cls(directions, coins.numpy())

    @property
    def names(self) -> tuple[str, ...]:
        """Pseudonyms of the canaries that take part, to be listed among the patients."""
        return tuple(f"canary-{index}" for index in np.flatnonzero(self.included))

    def read(self, name: str, clipping_norm: float) -> Items:
        """Return the one item of a canary, for `canary_loss`."""
        index = int(name.rpartition("-")[2])
        return {DIRECTION: LOUDER * clipping_norm * self.directions[index][None]}

    def scores(self, before: Tensor, after: Tensor) -> npt.NDArray[np.float64]:
        """Return (m,) scores from the flat weights at the start and at the end of plain gradient descent."""
        scores: npt.NDArray[np.float64] = (self.directions @ (before - after).to(self.directions)).double().numpy()
        return scores


def canary_loss(network: nn.Module, items: Items) -> Tensor:
    """Return the loss (K,) of a canary's items; its gradient is the direction itself."""
    return items[DIRECTION] @ flat(network)


def flat(network: nn.Module) -> Tensor:
    """Return all trained parameters in one vector (parameters,)."""
    return torch.cat([parameter.reshape(-1) for parameter in trainable(network).values()])
