"""One small fixed U-Net, so that training sets are compared and nothing else."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional


class UNet(nn.Module):
    """A 3-D U-Net of about 0.25 million weights: (B, C, X, Y, Z) → (B, classes, X, Y, Z)."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.enter = _pair(inputs, 8)
        self.down1 = _pair(8, 32)
        self.down2 = _pair(32, 64)
        self.narrow1 = nn.Conv3d(64, 32, 1)
        self.up1 = _pair(32 + 32, 32)
        self.narrow0 = nn.Conv3d(32, 8, 1)
        self.up0 = _pair(8 + 8, 8)
        self.out = nn.Conv3d(8, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Segment; sizes are padded to multiples of four and cropped back."""
        size = x.shape[2:]
        x = functional.pad(x, [n for s in reversed(size) for n in (0, -s % 4)])
        a = self.enter(x)
        b = self.down1(functional.max_pool3d(a, 2))
        c = self.down2(functional.max_pool3d(b, 2))
        b = self.up1(torch.cat([functional.interpolate(self.narrow1(c), scale_factor=2.0), b], 1))
        a = self.up0(torch.cat([functional.interpolate(self.narrow0(b), scale_factor=2.0), a], 1))
        out: Tensor = self.out(a)
        return out[..., : size[0], : size[1], : size[2]]


def _pair(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [nn.Conv3d(channels, outputs, 3, padding=1), nn.InstanceNorm3d(outputs, affine=True), nn.LeakyReLU()]
    return nn.Sequential(*layers)


def train_unet(
    images: npt.NDArray[np.float16], labels: npt.NDArray[np.uint8], *, classes: int, steps: int, seed: int
) -> UNet:
    """Train for `steps` steps of two scans with cross-entropy plus soft Dice.

    Args:
        images: (N, C, X, Y, Z) in [0, 1].
        labels: (N, X, Y, Z), 0 to classes − 1.
        classes: Number of classes, background included.
        steps: Optimisation steps; the same for every arm that is compared.
        seed: Weights and order of the scans.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = UNet(images.shape[1], classes)
    optimiser = torch.optim.Adam(net.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for _ in range(steps):
        chosen = rng.choice(len(images), 2, replace=False)
        x = torch.from_numpy(images[chosen].astype(np.float32))
        y = torch.from_numpy(labels[chosen].astype(np.int64))
        logits = net(x)
        target = functional.one_hot(y, classes).movedim(-1, 1).float()
        probability = logits.softmax(1)
        overlap = 2 * (probability * target).sum((0, 2, 3, 4)) + 1
        dice = overlap / ((probability + target).sum((0, 2, 3, 4)) + 1)
        loss = functional.cross_entropy(logits, y) + 1 - dice[1:].mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return net.eval()


@torch.no_grad()
def dice_scores(net: UNet, image: npt.NDArray[np.float16], label: npt.NDArray[np.uint8], classes: int) -> list[float]:
    """Return the Dice of classes 1 to classes − 1 for one scan (C, X, Y, Z), NaN where a class is absent from both."""
    found = net(torch.from_numpy(image[None].astype(np.float32)))[0].argmax(0).numpy()
    scores = []
    for value in range(1, classes):
        a, b = found == value, label == value
        total = a.sum() + b.sum()
        scores.append(float(2 * (a & b).sum() / total) if total else float("nan"))
    return scores
