"""MRI → label, the direction that learns anatomy where it is labelled and fills it in where only tumours are."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from anonsynth.cohort.geometry import FloatVolume
from anonsynth.progress import Progress
from anonsynth.seeds import stream, stream_seed
from anonsynth.synthesis.checkpoint import load_checkpoint, save_checkpoint
from anonsynth.synthesis.data import Batch, BatchSource, prefetched
from anonsynth.synthesis.losses import critic_hinge, generator_hinge, segmentation_loss
from anonsynth.synthesis.networks import Discriminator, Translator
from anonsynth.synthesis.settings import PerformanceSettings, TrainSettings

__all__ = ["MRIToLabel", "OneModality", "class_probabilities", "train_mri_to_label"]

ADVERSARIAL_WEIGHT = 0.05
PACE = 3.0
"""This direction is supervised and bears a quicker learning rate than a GAN."""
SUPERVISED_SHARE = 0.5
"""Share of the steps before the discriminator joins: until labels are roughly right it has nothing to teach."""


@dataclass(frozen=True)
class MRIToLabel:
    """The networks of this direction: one image in, class logits out, and a discriminator of (image, class map)."""

    generator: Translator
    critic: Discriminator
    classes: int

    @classmethod
    def new(cls, classes: int, settings: TrainSettings) -> MRIToLabel:
        """Make untrained networks from the seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(settings.seed, "weights of labels"))
            generator = Translator(1, classes, width=settings.width, style=1)
            critic = Discriminator(1, classes, width=settings.width // 2)
        return cls(generator, critic, classes)

    def parts(self) -> dict[str, nn.Module]:
        """Name every network, for checkpoints."""
        return {"generator": self.generator, "critic": self.critic}


@dataclass(frozen=True)
class OneModality:
    """A source of real pairs, showing one random acquired modality of each scan."""

    source: BatchSource
    seed: int

    def batch(self, step: int) -> Batch:
        """Return the batch of `step`."""
        rng = stream(self.seed, "modality", step)
        full = self.source.batch(step)
        acquired = full.known.flatten(2).amax(2) > 0
        chosen = [int(rng.choice(np.nonzero(row.numpy())[0])) for row in acquired]
        index = torch.arange(len(chosen)), torch.tensor(chosen)
        return replace(full, image=full.image[index][:, None], known=full.known[index][:, None])


def train_mri_to_label(
    networks: MRIToLabel,
    source: BatchSource,
    settings: TrainSettings,
    performance: PerformanceSettings,
    device: torch.device,
    checkpoint: Path,
    progress: Progress,
) -> list[dict[str, float]]:
    """Train for `settings.label_steps` steps, going on from `checkpoint` where there is one; return the losses."""
    for part in networks.parts().values():
        part.to(device)
    writer = torch.optim.Adam(networks.generator.parameters(), lr=PACE * settings.rate, betas=(0.9, 0.99))
    judge = torch.optim.Adam(networks.critic.parameters(), lr=settings.rate, betas=(0.5, 0.99))
    optimisers: dict[str, torch.optim.Optimizer] = {"writer": writer, "judge": judge}
    start, history = load_checkpoint(checkpoint, networks.parts(), optimisers)
    saved = time.monotonic()

    for step, cpu_batch in prefetched(source, start, settings.label_steps):
        batch = cpu_batch.to(device)
        fall = 0.05 + 0.475 * (1 + math.cos(math.pi * step / settings.label_steps))
        writer.param_groups[0]["lr"] = PACE * settings.rate * fall

        # 1. Name every voxel.
        logits = networks.generator(batch.image)
        fake = logits.softmax(1)
        real = functional.one_hot(batch.classes.long(), networks.classes).movedim(-1, 1).float()

        right = segmentation_loss(logits, batch.classes)
        losses = {"segmentation": right}
        loss = right

        if step >= SUPERVISED_SHARE * settings.label_steps:
            # 2. Teach the discriminator what anatomy looks like: a true map is soft at no voxel, so both are blurred
            #    a little, lest sharpness alone give it away.
            real_logits, _ = networks.critic(batch.image, _soften(real))
            fake_logits, _ = networks.critic(batch.image, _soften(fake.detach()))
            losses["critic"] = critic_hinge(real_logits, fake_logits)
            judge.zero_grad(set_to_none=True)
            losses["critic"].backward()
            judge.step()
            networks.critic.requires_grad_(False)
            fake_logits, _ = networks.critic(batch.image, _soften(fake))
            loss = loss + ADVERSARIAL_WEIGHT * generator_hinge(fake_logits)

        # 3. Teach the generator to be right, and to be anatomy.
        writer.zero_grad(set_to_none=True)
        loss.backward()
        writer.step()
        networks.critic.requires_grad_(True)

        # 4. Tell, and remember.
        if step % 10 == 0:
            history.append({"step": float(step)} | {name: value.item() for name, value in losses.items()})
        note = " ".join(f"{name} {value:.3f}" for name, value in history[-1].items() if name != "step")
        progress.step("training MRI → label", step + 1, settings.label_steps, note)
        if time.monotonic() - saved >= performance.checkpoint_seconds or step + 1 == settings.label_steps:
            save_checkpoint(checkpoint, step + 1, networks.parts(), optimisers, history)
            saved = time.monotonic()
    return history


@torch.no_grad()
def class_probabilities(
    generator: Translator, image: FloatVolume, present: npt.NDArray[np.bool_], device: torch.device
) -> npt.NDArray[np.float32]:
    """Return class probabilities (K, X, Y, Z), the mean over the acquired modalities of `image` (C, X, Y, Z)."""
    channels = torch.from_numpy(image[present])[:, None].to(device)
    total = torch.stack([generator(one[None]).softmax(1)[0] for one in channels]).mean(0)
    result: npt.NDArray[np.float32] = total.cpu().numpy()
    return result


def _soften(maps: Tensor) -> Tensor:
    return functional.avg_pool3d(maps, 3, stride=1, padding=1)
