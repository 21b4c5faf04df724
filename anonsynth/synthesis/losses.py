"""The losses of the conditional GAN; each is one short function with its source."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "critic_hinge",
    "feature_matching",
    "generator_hinge",
    "grain_difference",
    "masked_l1",
    "segmentation_loss",
]


def critic_hinge(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """Hinge loss of the discriminator over its scales (Lim and Ye 2017, arXiv 1705.02894)."""
    terms = [functional.relu(1 - r).mean() + functional.relu(1 + f).mean() for r, f in zip(real, fake, strict=True)]
    return torch.stack(terms).mean()


def generator_hinge(fake: list[Tensor]) -> Tensor:
    """Adversarial loss of the generator that belongs to `critic_hinge`."""
    return -torch.stack([f.mean() for f in fake]).mean()


def feature_matching(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """Mean absolute difference of the discriminator's features (Wang et al. 2018, arXiv 1711.11585)."""
    return torch.stack([(r.detach() - f).abs().mean() for r, f in zip(real, fake, strict=True)]).mean()


def masked_l1(real: Tensor, fake: Tensor, known: Tensor) -> Tensor:
    """Mean absolute difference over known voxels; a missing modality teaches nothing and costs nothing.

    Args:
        real: (B, C, X, Y, Z).
        fake: (B, C, X, Y, Z).
        known: (B, C, X, Y, Z), 0 or 1.
    """
    return ((real - fake).abs() * known).sum() / known.sum().clamp_min(1)


def grain_difference(real: Tensor, fake: Tensor, one_hot: Tensor) -> Tensor:
    """Mean absolute difference of the grain of each tissue, scan by scan, weighted by the tissue's share.

    Args:
        real: (B, C, X, Y, Z), 0 where unknown; at least three voxels along each axis.
        fake: The same.
        one_hot: (B, K, X, Y, Z), the class map.
    """
    difference = (_grain(real, one_hot) - _grain(fake, one_hot)).abs()
    share = one_hot.mean((2, 3, 4))
    return (difference * share[:, None]).sum(2).mean()


def _grain(image: Tensor, one_hot: Tensor) -> Tensor:
    """Return the mean absolute second difference along all three axes, (B, C, K): a measure of noise.

    The estimator of Immerkær 1996 (Computer Vision and Image Understanding 64(2), 300-302) in three dimensions: taken
    along every axis in turn, second differences are 0 on plateaus, on slopes, and on edges that lie along an axis, so
    that anatomy is hardly counted. Divided by √6 each, they leave the deviation of white noise as it is.
    """
    for axis in (2, 3, 4):
        n = image.shape[axis]
        low, middle, high = (image.narrow(axis, start, n - 2) for start in range(3))
        image = (low - 2 * middle + high) / 6**0.5
    inner = one_hot[:, :, 1:-1, 1:-1, 1:-1]
    return torch.einsum("bcxyz,bkxyz->bck", image.abs(), inner) / inner.sum((2, 3, 4)).clamp_min(1)[:, None]


def segmentation_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """Cross-entropy plus one minus soft Dice (Milletari et al. 2016, arXiv 1606.04797), mean over classes present.

    Args:
        logits: (B, K, X, Y, Z).
        classes: (B, X, Y, Z) integer, 0 to K − 1.
    """
    target = functional.one_hot(classes.long(), logits.shape[1]).movedim(-1, 1).to(logits.dtype)
    probability = logits.softmax(1)
    axes = (0, 2, 3, 4)
    overlap = (probability * target).sum(axes)
    total = (probability + target).sum(axes)
    present = target.sum(axes) > 0
    dice = ((2 * overlap + 1) / (total + 1))[present].mean()
    return functional.cross_entropy(logits, classes.long()) + 1 - dice
