"""Where new style codes are drawn from: the normal distribution that the training scans' inferred styles fill.

The encoder's codes never fill a standard normal exactly; a code drawn from one would ask the generator for a style that
it was never taught. Their mean and covariance over the training scans are matched instead. They are two statistics of
private scans, read without a mechanism, and the model card lists them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import load_file, save

from anonsynth.files import write_bytes
from anonsynth.synthesis.networks import StyleEncoder

__all__ = ["STYLE_FILE", "StyleDistribution", "fit_style", "load_style", "save_style"]

STYLE_FILE = "style.safetensors"


@dataclass(frozen=True, slots=True)
class StyleDistribution:
    """A normal distribution of style codes.

    Attributes:
        mean: (S,) float32.
        factor: (S, S) float32; factor · factorᵀ is the covariance.
    """

    mean: npt.NDArray[np.float32]
    factor: npt.NDArray[np.float32]

    def draw(self, noise: torch.Generator) -> torch.Tensor:
        """Draw one code, (1, S)."""
        standard = torch.randn(self.mean.size, generator=noise)
        return (torch.from_numpy(self.mean) + torch.from_numpy(self.factor) @ standard)[None]


@torch.no_grad()
def fit_style(encoder: StyleEncoder, scans: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> StyleDistribution:
    """Match mean and covariance of the inferred styles: Cov = Cov(means) + mean of the variances.

    Args:
        encoder: The trained encoder.
        scans: (image, known), both (1, C, X, Y, Z), one scan at a time.
    """
    means, variances = [], []
    for image, known in scans:
        mean, log_variance = encoder(image, known)
        means.append(mean[0].cpu().numpy())
        variances.append(log_variance[0].exp().cpu().numpy())
    spread = np.diag(np.mean(variances, axis=0))
    covariance = spread + (np.cov(np.stack(means).T) if len(means) > 1 else 0)
    values, axes = np.linalg.eigh(np.asarray(covariance, np.float64))
    factor = axes * np.sqrt(np.clip(values, 0, None))
    return StyleDistribution(np.mean(means, axis=0).astype(np.float32), factor.astype(np.float32))


def save_style(path: Path, style: StyleDistribution) -> None:
    """Write the distribution as safetensors, atomically."""
    write_bytes(path, save({"mean": style.mean, "factor": np.ascontiguousarray(style.factor)}))


def load_style(path: Path) -> StyleDistribution:
    """Read what `save_style` wrote."""
    tensors = load_file(path)
    return StyleDistribution(tensors["mean"], tensors["factor"])
