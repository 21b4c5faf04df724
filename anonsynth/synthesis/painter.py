"""The generator of label → MRI: tissues painted from a table, then corrected by a network.

Most of an MRI contrast can be said in one number a tissue and modality, and these numbers can be measured. So they are
painted, the strength of the noise is learnt by itself, where no discriminator can pull it about, and the network,
which is all that the discriminator teaches, starts from a grainy painted image and not from grey. Texture comes last.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from anonsynth.synthesis.networks import Translator
from anonsynth.synthesis.rim import Rim
from anonsynth.synthesis.style import StyleSpace
from anonsynth.synthesis.texture import Texture

__all__ = ["DARKEST", "Grain", "PaintedTranslator", "Painter"]

CODE_NOISE = 0.5
"""Added to the codes that modulate the translator, in standard deviations: no code is a patient's own."""
DARKEST = 0.005
"""Painted intensities stay this far from 0 and 1, where a logit would be infinite."""


class Painter(nn.Module):
    """Paint each class in the intensity that the style gives it, softened by partial volume.

    Args:
        classes: Channels of the one-hot class map.
        modalities: Channels out.
        style: Length of the style code.
    """

    mean: Tensor
    axes: Tensor

    def __init__(self, classes: int, modalities: int, *, style: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(modalities, classes))
        self.register_buffer("axes", torch.zeros(style, modalities, classes))
        self.softness = nn.Parameter(torch.zeros(modalities, 1, 1, 1))

    def take(self, space: StyleSpace) -> None:
        """Paint in the colours of `space` from now on."""
        self.mean.copy_(torch.from_numpy(space.mean))
        self.axes.copy_(torch.from_numpy(space.axes))

    def forward(self, one_hot: Tensor, style: Tensor) -> Tensor:
        """Paint (B, K, X, Y, Z) in styles (B, S); return intensities (B, C, X, Y, Z) in [0, 1].

        A voxel on a boundary holds some of each tissue, so its intensity is a mean of theirs: a learnt mixture of the
        voxel's own colour and the mean over its 3×3×3 neighbours in the field of view.
        """
        colours = (self.mean + torch.einsum("bs,sck->bck", style, self.axes)).clamp(0, 1)
        inside = 1 - one_hot[:, :1]
        painted = torch.einsum("bck,bkxyz->bcxyz", colours, one_hot) * inside
        near = functional.avg_pool3d(inside, 3, stride=1, padding=1)
        around: Tensor = functional.avg_pool3d(painted, 3, stride=1, padding=1) / near.clamp_min(1 / 27)
        share = self.softness.sigmoid()
        softened: Tensor = painted * (1 - share) + around * share
        return softened


class Grain(nn.Module):
    """Noise from voxel to voxel, of a strength that belongs to each class and modality.

    A network asked for noise makes stripes; this is what a scanner adds.

    Args:
        classes: Channels of the one-hot class map.
        modalities: Channels out.
    """

    def __init__(self, classes: int, modalities: int) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.full((modalities, classes), 0.01))

    def forward(self, one_hot: Tensor, source: torch.Generator) -> Tensor:
        """Draw noise (B, C, X, Y, Z) for (B, K, X, Y, Z), in units of intensity."""
        batch, _, *size = one_hot.shape
        # Drawn on the CPU so that a seed gives the same scan on every device.
        noise = torch.randn(batch, len(self.strength), *size, generator=source).to(one_hot)
        return noise * torch.einsum("ck,bkxyz->bcxyz", self.strength.abs(), one_hot)


class PaintedTranslator(nn.Module):
    """Painter, grain, a translator that corrects them in logits, texture: (B, K + 3, X, Y, Z) → (B, C, X, Y, Z).

    Args:
        classes: Channels of the one-hot class map; three coordinates follow it.
        modalities: Channels out.
        width: Channels of the translator at half resolution.
        style: Length of the style code.
    """

    def __init__(self, classes: int, modalities: int, *, width: int, style: int) -> None:
        super().__init__()
        self.painter = Painter(classes, modalities, style=style)
        self.grain = Grain(classes, modalities)
        self.texture = Texture(classes, modalities)
        self.rim = Rim(modalities)  # added where the label map is known, after `forward`
        self.translator = Translator(classes + 3 + modalities, modalities, width=width, style=style)
        # The first picture is the painted one.
        for last in self.translator.out.parameters():
            nn.init.zeros_(last)

    @property
    def taught(self) -> bool:
        """Whether the translator corrects anything; as it is made it does not, and need not be run."""
        return any(bool(last.any()) for last in self.translator.out.parameters())

    def forward(self, one_hot: Tensor, condition: Tensor, style: Tensor, noise: torch.Generator) -> Tensor:
        """Write images for class maps (B, K, X, Y, Z) in styles (B, S), with noise from `noise`.

        Args:
            one_hot: What is painted.
            condition: (B, K + 3, X, Y, Z), what the translator is told: it may be less.
            style: Style codes.
            noise: Source of the noise.
        """
        with torch.no_grad():  # only their own losses teach the painter and the grain
            painted = self.painter(one_hot, style)
            grain = self.grain(one_hot, noise)
        # The contrast reaches the translator through the painting; the code itself, blurred, only sets its manner.
        blurred = style + CODE_NOISE * torch.randn(style.shape, generator=noise).to(style)
        # The translator does not see the grain, or it would learn to take it away again.
        image: Tensor = (painted + grain).clamp(DARKEST, 1 - DARKEST)
        if torch.is_grad_enabled() or self.taught:
            correction = self.translator(torch.cat([condition, painted - 0.5], 1), blurred, noise)
            image = (image.logit() + correction).sigmoid()
        if self.texture.strength.any():  # measured when training is over
            image = (image + self.texture(one_hot, noise)).clamp(0, 1)
        return image
