"""The networks of the conditional GAN: one translator used in both directions, and a discriminator.

After Shin et al. 2018 (arXiv 1807.10225), who used one image-to-image GAN (Isola et al. 2017, arXiv 1611.07004) for
MRI → label and label → MRI, with what has been learnt since: group norm instead of batch norm, so that no patient's
statistics reach another's output; style by feature-wise affine modulation (Perez et al. 2018, arXiv 1709.07871); noise
at every scale (Karras et al. 2019, arXiv 1812.04948); spectral norm in the discriminator (Miyato et al. 2018, arXiv
1802.05957).

Most of the work is done at half resolution; only two thin layers see every voxel, which is what makes a step
affordable on two cores.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

__all__ = ["FINE", "Discriminator", "Modulated", "Residual", "Translator"]

GROUPS = 4
FINE = 16
"""Channels at full resolution; a multiple of eight is what CPUs convolve fast."""
CRITIC_GAIN = 4.0
"""Brings intensities in [0, 1] to the spread that the discriminator's initial weights expect."""
STRIDE = 8
"""The translator halves its input three times; sizes that do not divide are padded and cropped back."""


class Modulated(nn.Module):
    """Group norm, then scale and shift from the style code, noise, leaky ReLU. (B, C, X, Y, Z) → same."""

    def __init__(self, channels: int, style: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels, affine=False)
        self.affine = nn.Linear(style, 2 * channels)
        self.noise = nn.Parameter(torch.full((channels, 1, 1, 1), 0.02))

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None) -> Tensor:
        """Apply to features (B, C, X, Y, Z) with style (B, S) and noise (B, 1, X, Y, Z) or none."""
        scale, shift = self.affine(style)[..., None, None, None].chunk(2, dim=1)
        x = self.norm(x) * (1 + scale) + shift
        if noise is not None:
            x = x + self.noise * noise
        return functional.leaky_relu(x, 0.2)


class Residual(nn.Module):
    """Two modulated 3×3×3 convolutions around a skip. (B, C, X, Y, Z) → same."""

    def __init__(self, channels: int, style: int) -> None:
        super().__init__()
        self.first = Modulated(channels, style)
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1)
        self.second = Modulated(channels, style)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None) -> Tensor:
        """Apply to features (B, C, X, Y, Z)."""
        inner = self.conv1(self.first(x, style, noise))
        result: Tensor = x + self.conv2(self.second(inner, style, noise))
        return result


class Translator(nn.Module):
    """Volume to volume, (B, inputs, X, Y, Z) → (B, outputs, X, Y, Z): the generator of both directions.

    Args:
        inputs: Channels in: a one-hot label map with field of view and coordinates, or images.
        outputs: Channels out: modalities, or class logits.
        width: Channels at half resolution; doubled at each further halving.
        style: Length of the style code; a translator without style is given zeros.
    """

    def __init__(self, inputs: int, outputs: int, *, width: int, style: int) -> None:
        super().__init__()
        w, fine = width, FINE
        self.style = style
        self.enter = nn.Conv3d(inputs, fine, 1)
        self.stem = nn.Conv3d(fine, w, 4, stride=2, padding=1)
        self.at_half = Residual(w, style)
        self.down1 = nn.Conv3d(w, 2 * w, 4, stride=2, padding=1)
        self.at_quarter = Residual(2 * w, style)
        self.down2 = nn.Conv3d(2 * w, 4 * w, 4, stride=2, padding=1)
        self.at_eighth = nn.ModuleList([Residual(4 * w, style), Residual(4 * w, style)])
        self.merge1 = nn.Conv3d(6 * w, 2 * w, 1)
        self.up_quarter = Residual(2 * w, style)
        self.merge2 = nn.Conv3d(3 * w, w, 1)
        self.up_half = Residual(w, style)
        self.to_fine = nn.Conv3d(w, fine, 1)
        self.fine1 = nn.Conv3d(fine + inputs, fine, 3, padding=1)
        self.fine_norm = Modulated(fine, style)
        self.fine2 = nn.Conv3d(fine, fine, 3, padding=1)
        self.out_norm = Modulated(fine, style)
        self.out = nn.Conv3d(fine, outputs, 1)

    def forward(self, x: Tensor, style: Tensor | None = None, noise: torch.Generator | None = None) -> Tensor:
        """Translate `x`.

        Args:
            x: (B, inputs, X, Y, Z).
            style: (B, S) style codes; zeros if left out.
            noise: Source of the noise at each scale; no noise if left out.

        Returns:
            (B, outputs, X, Y, Z), unbounded.
        """
        size = x.shape[2:]
        x = functional.pad(x, [n for s in reversed(size) for n in (0, -s % STRIDE)])
        if style is None:
            style = x.new_zeros(x.shape[0], self.style)
        a = self.at_half(self.stem(self.enter(x)), style, _noise(x, 2, noise))
        b = self.at_quarter(self.down1(a), style, _noise(x, 4, noise))
        c = self.down2(b)
        for block in self.at_eighth:
            c = block(c, style, _noise(x, 8, noise))
        b = self.up_quarter(self.merge1(torch.cat([_double(c), b], 1)), style, _noise(x, 4, noise))
        a = self.up_half(self.merge2(torch.cat([_double(b), a], 1)), style, _noise(x, 2, noise))
        fine = torch.cat([_double(self.to_fine(a)), x], 1)
        fine = self.fine_norm(self.fine1(fine), style, _noise(x, 1, noise))
        fine = self.out_norm(self.fine2(fine), style, _noise(x, 1, noise))
        result: Tensor = self.out(fine)
        return result[..., : size[0], : size[1], : size[2]]


class Discriminator(nn.Module):
    """Judge overlapping patches of (condition, image) at two scales; hinge logits and the features they rest on.

    The image enters centred, and once more as local detail (the image less its 3×3×3 mean): in the few hundred steps
    that a hundred patients allow, a critic that has to find texture by itself first never learns to tell it from blur.

    Args:
        condition: Channels of the condition.
        image: Channels of what is judged.
        width: Channels after the first layer.
    """

    def __init__(self, condition: int, image: int, *, width: int) -> None:
        super().__init__()
        channels = condition + 2 * image
        self.scales = nn.ModuleList([_patch_critic(channels, width), _patch_critic(channels, width)])

    def forward(self, condition: Tensor, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Judge a batch.

        Args:
            condition: (B, K, X, Y, Z).
            image: (B, C, X, Y, Z).

        Returns:
            Logits of each scale, (B, 1, x, y, z), and all inner features in a fixed order.
        """
        detail = image - functional.avg_pool3d(image, 3, stride=1, padding=1)
        x = torch.cat([condition, CRITIC_GAIN * (image - 0.5), CRITIC_GAIN**2 * detail], 1)
        logits, features = [], []
        for critic in self.scales:
            inner = x
            for layer in critic.children():
                inner = layer(inner)
                features.append(inner)
            logits.append(features.pop())
            x = functional.avg_pool3d(x, 2)
        return logits, features


def _patch_critic(channels: int, width: int) -> nn.ModuleList:
    def block(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
        convolution = nn.Conv3d(inputs, outputs, kernel, stride=stride, padding=1)
        nn.init.kaiming_normal_(convolution.weight, 0.2)
        return nn.Sequential(spectral_norm(convolution), nn.LeakyReLU(0.2))

    return nn.ModuleList(
        [
            block(channels, width, 4, 2),
            block(width, 2 * width, 4, 2),
            block(2 * width, 4 * width, 3, 1),
            spectral_norm(nn.Conv3d(4 * width, 1, 3, padding=1)),
        ]
    )


def _double(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="trilinear", align_corners=False)


def _noise(x: Tensor, stride: int, source: torch.Generator | None) -> Tensor | None:
    if source is None:
        return None
    size = [n // stride for n in x.shape[2:]]
    # Drawn on the CPU so that a seed gives the same scan on every device.
    return torch.randn(x.shape[0], 1, *size, generator=source).to(x)
