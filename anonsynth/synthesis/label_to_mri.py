"""Label → MRI, the direction that writes scans: one loop, to be read from top to bottom."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from anonsynth.progress import Progress
from anonsynth.seeds import stream_seed
from anonsynth.synthesis.checkpoint import load_checkpoint, save_checkpoint, update_mean
from anonsynth.synthesis.data import BatchSource, prefetched
from anonsynth.synthesis.losses import (
    critic_hinge,
    feature_matching,
    generator_hinge,
    grain_difference,
    masked_l1,
)
from anonsynth.synthesis.networks import Discriminator
from anonsynth.synthesis.painter import PaintedTranslator
from anonsynth.synthesis.settings import PerformanceSettings, TrainSettings
from anonsynth.synthesis.style import StyleSpace, draw_style
from anonsynth.synthesis.vocabulary import Vocabulary, condition_tensor, without_seams

__all__ = ["LabelToMRI", "render", "train_label_to_mri"]

HISTORY_EVERY = 10
JUDGE_PACE = 1 / 3
"""The discriminator's learning rate as a share of the generator's; quicker, it wins before there is a picture."""
QUICK_PACE = 10.0
"""The learning rate of softness and grain: they are few, and the rest is built on them."""
WARM_UP_SHARE = 0.1
"""Share of the steps before the discriminator joins: a picture that is grey all over is no match for it."""


@dataclass(frozen=True)
class LabelToMRI:
    """The networks of this direction; `mean` is the running mean that generation uses."""

    generator: PaintedTranslator
    mean: PaintedTranslator
    critic: Discriminator

    @classmethod
    def new(cls, vocabulary: Vocabulary, modalities: int, settings: TrainSettings) -> LabelToMRI:
        """Make untrained networks from the seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(settings.seed, "weights"))
            generator = PaintedTranslator(vocabulary.classes, modalities, width=settings.width, style=settings.style)
            critic = Discriminator(vocabulary.channels, modalities, width=settings.width)
        return cls(generator, copy.deepcopy(generator).requires_grad_(False), critic)

    def take(self, styles: StyleSpace) -> None:
        """Let both generators paint in the measured colours."""
        self.generator.painter.take(styles)
        self.mean.painter.take(styles)

    def parts(self) -> dict[str, nn.Module]:
        """Name every network, for checkpoints."""
        return {"generator": self.generator, "mean": self.mean, "critic": self.critic}


def render(
    generator: PaintedTranslator,
    classes: Tensor,
    place: Tensor,
    style: Tensor,
    vocabulary: Vocabulary,
    noise: torch.Generator,
) -> Tensor:
    """Write images for class maps.

    Args:
        generator: The translator of this direction.
        classes: (B, X, Y, Z) class maps.
        place: (B, 3, X, Y, Z) coordinates.
        style: (B, S) style codes.
        vocabulary: Names the classes.
        noise: Source of the noise.

    Returns:
        (B, C, X, Y, Z) in [0, 1], 0 outside the field of view.
    """
    condition = condition_tensor(classes, place, vocabulary)
    one_hot, told = condition[:, : vocabulary.classes], without_seams(condition, vocabulary)
    image: Tensor = generator(one_hot, told, style, noise)
    return image * (classes > 0)[:, None]


def train_label_to_mri(
    networks: LabelToMRI,
    source: BatchSource,
    vocabulary: Vocabulary,
    settings: TrainSettings,
    performance: PerformanceSettings,
    device: torch.device,
    checkpoint: Path,
    progress: Progress,
) -> list[dict[str, float]]:
    """Train for `settings.steps` steps, going on from `checkpoint` where there is one; return the losses.

    Even steps reconstruct a scan from its label map and its own style; odd steps take another patient's style,
    so that the discriminator judges label maps and styles that do not belong together, as they will be generated.
    """
    for part in networks.parts().values():
        part.to(device)
    painter, grain = networks.generator.painter, networks.generator.grain
    slow, quick = list(networks.generator.translator.parameters()), [painter.softness, grain.strength]
    writer = torch.optim.Adam([{"params": slow}, {"params": quick}], betas=(0.5, 0.99))
    judge = torch.optim.Adam(networks.critic.parameters(), betas=(0.5, 0.99))
    optimisers: dict[str, torch.optim.Optimizer] = {"writer": writer, "judge": judge}
    start, history = load_checkpoint(checkpoint, networks.parts(), optimisers)
    saved = time.monotonic()

    for step, cpu_batch in prefetched(source, start, settings.steps):
        batch = cpu_batch.to(device)
        rate = settings.rate * (0.1 + 0.45 * (1 + math.cos(math.pi * step / settings.steps)))
        for group, pace in zip(writer.param_groups, (1, QUICK_PACE), strict=True):
            group["lr"] = pace * rate
        judge.param_groups[0]["lr"] = JUDGE_PACE * rate
        noise = torch.Generator().manual_seed(stream_seed(settings.seed, "noise", step))
        condition = condition_tensor(batch.classes, batch.place, vocabulary)
        one_hot, told = condition[:, : vocabulary.classes], without_seams(condition, vocabulary)

        # 1. Write a scan for every label map of the batch.
        warm = step < WARM_UP_SHARE * settings.steps
        reconstructing = warm or step % 2 == 0
        style = batch.style if reconstructing else _other_style(batch.style, noise)
        fake = render(networks.generator, batch.classes, batch.place, style, vocabulary, noise) * batch.known

        losses: dict[str, Tensor] = {}
        loss = fake.new_zeros(())
        if reconstructing:
            painted = painter(one_hot, style)
            losses["paint"] = masked_l1(batch.image, painted, batch.known)
            losses["l1"] = masked_l1(batch.image, fake, batch.known)
            grainy = painted.detach() + grain(one_hot, noise)
            losses["grain"] = grain_difference(batch.image, grainy * batch.known, one_hot)
            loss = settings.l1_weight * (losses["l1"] + losses["paint"]) + settings.grain_weight * losses["grain"]

        if not warm:
            # 2. Teach the discriminator to tell it from the real one. It sees both through the same random contrast,
            #    which keeps a few dozen patients from being learnt by heart (Zhao et al. 2020, arXiv 2006.10738).
            seen_real, seen_fake = _same_contrast(batch.image, fake, batch.known, noise)
            real_logits, real_features = networks.critic(told, seen_real)
            fake_logits, _ = networks.critic(told, seen_fake.detach())
            losses["critic"] = critic_hinge(real_logits, fake_logits)
            judge.zero_grad(set_to_none=True)
            losses["critic"].backward()
            judge.step()

            # 3. Teach the generator to pass; where it reconstructs, to look to the discriminator like that very scan.
            networks.critic.requires_grad_(False)
            fake_logits, fake_features = networks.critic(told, seen_fake)
            losses["adversarial"] = generator_hinge(fake_logits)
            loss = loss + losses["adversarial"]
            if reconstructing:
                losses["matching"] = feature_matching(real_features, fake_features)
                loss = loss + settings.matching_weight * losses["matching"]
        writer.zero_grad(set_to_none=True)
        loss.backward()
        writer.step()
        networks.critic.requires_grad_(True)
        update_mean(networks.mean, networks.generator, settings.ema_decay, step)

        # 4. Tell, and remember.
        if reconstructing and step % HISTORY_EVERY == 0:
            history.append({"step": float(step)} | {name: value.item() for name, value in losses.items()})
        note = " ".join(f"{name} {value:.3f}" for name, value in history[-1].items() if name != "step")
        progress.step("training label → MRI", step + 1, settings.steps, note)
        if time.monotonic() - saved >= performance.checkpoint_seconds or step + 1 == settings.steps:
            save_checkpoint(checkpoint, step + 1, networks.parts(), optimisers, history)
            saved = time.monotonic()
    return history


def _other_style(style: Tensor, noise: torch.Generator) -> Tensor:
    """Return another patient's style for each scan (B, S), or a drawn one where the batch holds a single patient."""
    if len(style) > 1:
        return style.roll(1, 0)
    return draw_style(style.shape[1], noise).to(style)


def _same_contrast(real: Tensor, fake: Tensor, known: Tensor, noise: torch.Generator) -> tuple[Tensor, Tensor]:
    """Change brightness and contrast of both batches (B, C, X, Y, Z) in the same random way."""
    size = (real.shape[0], real.shape[1], 1, 1, 1)
    gain = (1 + 0.2 * torch.randn(size, generator=noise)).to(real)
    lift = (0.1 * torch.randn(size, generator=noise)).to(real)
    return (real * gain + lift) * known, (fake * gain + lift) * known
