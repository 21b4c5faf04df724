"""Rung 4: a conditional GAN whose discriminator alone meets patients, by DP-SGD.

    a patient's scans, their class maps ─▶ discriminator ◀─ the generator's scans of the same maps
                    clipped, noise added         │
    maps drawn from rung 1's prior ─▶ generator ◀┘   post-processing

What protects whom (DESIGN §2: a discriminator trained with DP protects nothing if the generator sees patients through
another door):

- the **discriminator** is given a patient's scans and their class maps, and the generator's scans of these maps. Both
  are her contribution: one loss, one gradient, clipped as one, whatever the number of scans;
- the **generator** never meets a patient's scan or label map. It writes maps that are drawn from the prior, which rung
  1 released and paid for, and learns from the discriminator's weights after each noisy step. That is post-processing;
- **colours, texture and the prior** are rung 1's releases. The ledger holds these and the DP-SGD event; ε composes
  both.

Spectral norm, which the plain discriminator rests on, keeps a state that learns from every patient and is refused;
group norm within each scan takes its place. The generator is drawn to the painting (`ANCHOR`), which bounds what a
discriminator of mostly noise can do to it.

Zone: spending.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from anonsynth.privacy.per_patient import Items
from anonsynth.synthesis.adapter import running_mean
from anonsynth.synthesis.label_to_mri import render
from anonsynth.synthesis.networks import CRITIC_GAIN, Translator
from anonsynth.synthesis.painter import PaintedTranslator
from anonsynth.synthesis.private_patients import PatientScans
from anonsynth.synthesis.scanners import Drawing
from anonsynth.synthesis.vocabulary import Vocabulary, condition_tensor, without_seams

__all__ = ["COMPOSED", "GeneratorStep", "PrivateCritic", "critic_loss", "critic_weights", "with_fakes"]

WIDTH = 8
ANCHOR = 30.0
"""Weight of the generator's mean squared distance from the painting, beside a hinge loss of about 1."""


class PrivateCritic(nn.Module):
    """Judge overlapping patches of (condition, image), of layers that keep patients apart.

    Args:
        condition: Channels of the condition.
        image: Channels of what is judged.
    """

    def __init__(self, condition: int, image: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(condition + 2 * image, WIDTH, 3, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv3d(WIDTH, 2 * WIDTH, 3, stride=2, padding=1),
            nn.GroupNorm(2, 2 * WIDTH),
            nn.LeakyReLU(0.2),
            nn.Conv3d(2 * WIDTH, 1, 3, padding=1),
        )

    def forward(self, condition: Tensor, image: Tensor) -> Tensor:
        """Return hinge logits (B, 1, x, y, z) for conditions (B, K, X, Y, Z) and images (B, C, X, Y, Z)."""
        detail = image - functional.avg_pool3d(image, 3, stride=1, padding=1)
        logits: Tensor = self.layers(torch.cat([condition, CRITIC_GAIN * (image - 0.5), CRITIC_GAIN**2 * detail], 1))
        return logits


COMPOSED = (PrivateCritic,)
"""Vouched for by `tests/test_private_gan.py`."""


def critic_weights(condition: int, modalities: int) -> int:
    """Return how many weights the discriminator has."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in PrivateCritic(condition, modalities).parameters())


def critic_loss(network: nn.Module, items: Items) -> Tensor:
    """Return the hinge loss (K,) of each of a patient's scans: hers beside the generator's of the same class map."""
    real = network(items["condition"], items["image"])
    fake = network(items["condition"], items["fake"])
    terms = functional.relu(1 - real) + functional.relu(1 + fake)
    loss: Tensor = terms.flatten(1).mean(1)
    return loss


@torch.no_grad()
def with_fakes(
    scans: PatientScans, patient: str, generator: PaintedTranslator, vocabulary: Vocabulary, source: torch.Generator
) -> Items:
    """Return a patient's items for the discriminator: `condition`, `image`, and what the generator writes: `fake`."""
    items = scans.items(patient, source)
    fake = render(generator, items["classes"], items["place"], items["style"], vocabulary, source) * items["known"]
    condition = without_seams(condition_tensor(items["classes"], items["place"], vocabulary), vocabulary)
    return {"condition": condition, "image": items["image"], "fake": fake}


@dataclass(frozen=True)
class GeneratorStep:
    """The generator's own step after each of the discriminator's: it reads no patient.

    Attributes:
        generator: Its translator is trained.
        mean: Running mean of the translator's weights.
        critic: As the last noisy step left it.
        optimiser: Of the translator.
        drawing: Of maps from the released prior.
    """

    generator: PaintedTranslator
    mean: Translator
    critic: nn.Module
    optimiser: torch.optim.Optimizer
    drawing: Drawing

    def __call__(self, step: int) -> None:
        """Learn once."""
        vocabulary = self.drawing.vocabulary
        classes, place, style, noise = self.drawing.draw(step, "the generator's step")
        condition = condition_tensor(classes, place, vocabulary)
        fake = render(self.generator, classes, place, style, vocabulary, noise)
        with torch.no_grad():
            painted = self.generator.painter(condition[:, : vocabulary.classes], style)
        judged = self.critic(without_seams(condition, vocabulary), fake).mean()
        loss = ANCHOR * (fake - painted).square().mean() - judged
        self.optimiser.zero_grad(set_to_none=True)
        trained = [p for group in self.optimiser.param_groups for p in group["params"]]
        for parameter, gradient in zip(trained, torch.autograd.grad(loss, trained), strict=True):
            parameter.grad = gradient  # the critic's own are left alone
        self.optimiser.step()
        running_mean(self.generator.translator, step, self.mean)
