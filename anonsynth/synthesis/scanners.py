"""Simulated scanners: what a scan may show beyond painted classes, made up, so that a network can be trained on nobody.

Where a scan departs from its classes' intensities (fields of brightness, blur, what lies near a structure, tissues
that are not as bright as thought) it does so along a few kinds. A simulated scanner is a random mixture of them. The
translator is trained to write the scans of several scanners at once from a drawn class map, a head for each: its body
then knows *where* a scan may depart, and no patient was asked (ε = 0). By how much the patients' own scans do is what
an adapter learns (`adapter.py`).

Randomised simulation after Billot et al. 2023 (doi:10.1016/j.media.2023.102789).

Zone: shareable.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from anonsynth.anatomy.priors import LabelPrior
from anonsynth.progress import Progress
from anonsynth.seeds import stream, stream_seed
from anonsynth.synthesis.data import Shape
from anonsynth.synthesis.networks import FINE, Modulated, Translator
from anonsynth.synthesis.painter import DARKEST, Painter
from anonsynth.synthesis.private_patients import crop_box
from anonsynth.synthesis.style import draw_style
from anonsynth.synthesis.vocabulary import Vocabulary, condition_tensor, coordinates, without_seams

__all__ = ["Drawing", "SimulatedScanner", "pretrain", "quieten"]

SCANNERS = 8
PEOPLE = 16
"""Class maps that are drawn to train on."""
STEPS = 150
RATE = 2e-3


@dataclass(frozen=True)
class SimulatedScanner:
    """One scanner that does not exist.

    Attributes:
        field: (6,) how brightness changes with the coordinates and their products, in logits.
        shift: (K,) how much brighter each class is than it is painted, in intensity.
        near: How much brighter what lies near a structure is, in intensity.
        blur: Share of each voxel that is the mean of its neighbours.
    """

    field: Tensor
    shift: Tensor
    near: float
    blur: float

    @classmethod
    def new(cls, classes: int, seed: int, index: int) -> SimulatedScanner:
        """Make up a scanner."""
        rng = stream(seed, "simulated scanner", index)
        field, shift = rng.normal(0, 0.2, 6), rng.normal(0, 0.05, classes)
        return cls(_tensor(field), _tensor(shift), float(rng.normal(0, 0.2)), float(rng.uniform(0, 1)))

    def correction(self, one_hot: Tensor, place: Tensor, painted: Tensor, context: int) -> Tensor:
        """Return what the scanner adds to painted images (B, C, X, Y, Z), in logits.

        Args:
            one_hot: (B, K, X, Y, Z).
            place: (B, 3, X, Y, Z).
            painted: What is corrected.
            context: Classes of surroundings.
        """
        x, y, z = place.unbind(1)
        fields = torch.stack([x, y, z, x * y, y * z, x * z], 1)
        labelled = one_hot[:, 1 + context :].sum(1, keepdim=True)
        near = functional.avg_pool3d(labelled, 5, stride=1, padding=2) * (1 - labelled)
        image = painted * (1 - self.blur) + self.blur * functional.avg_pool3d(painted, 3, stride=1, padding=1)
        image = image + torch.einsum("k,bkxyz->bxyz", self.shift, one_hot)[:, None] + self.near * near
        seen = image.clamp(DARKEST, 1 - DARKEST).logit() - painted.clamp(DARKEST, 1 - DARKEST).logit()
        return seen + torch.einsum("f,bfxyz->bxyz", self.field, fields)[:, None]


@dataclass(frozen=True)
class Drawing:
    """Draws crops of class maps from a prior, a few over and over: what a generator learns from without patients.

    Attributes:
        vocabulary: The classes.
        maps: Class maps.
        crop: Voxels of a crop.
        styles: Length of a style code.
        seed: Where the randomness comes from.
    """

    vocabulary: Vocabulary
    maps: tuple[Tensor, ...]
    crop: Shape
    styles: int
    seed: int

    @classmethod
    def of(
        cls,
        prior: LabelPrior,
        vocabulary: Vocabulary,
        crop: Shape,
        styles: int,
        seed: int,
        bend: Callable[[np.ndarray, np.random.Generator], np.ndarray] = lambda label, _: label,
    ) -> Drawing:
        """Draw the maps; `bend` changes each before it is written."""
        labels = (
            bend(prior.draw(stream(seed, "drawn map", i)).label, stream(seed, "bent map", i)) for i in range(PEOPLE)
        )
        return cls(vocabulary, tuple(torch.from_numpy(label.copy())[None] for label in labels), crop, styles, seed)

    def draw(self, step: int, what: str) -> tuple[Tensor, Tensor, Tensor, torch.Generator]:
        """Return a crop of a class map (1, x, y, z), its coordinates, a style and noise; a function of the step."""
        noise = torch.Generator().manual_seed(stream_seed(self.seed, what, step))
        classes = self.maps[int(torch.randint(len(self.maps), (1,), generator=noise))]
        x, y, z = classes.shape[1:]
        box = crop_box((x, y, z), self.crop, noise)
        place = coordinates((x, y, z))[None]
        return classes[(..., *box)], place[(..., *box)], draw_style(self.styles, noise), noise


def quieten(translator: Translator) -> Translator:
    """Let the translator be a function of the class map and its painting alone: no noise, no style; for good.

    A loss with a guarantee may draw nothing at random (`privacy/per_patient.py`), and the same network writes scans
    afterwards. Grain and texture have teachers of their own.
    """
    for module in translator.modules():
        if isinstance(module, Modulated):
            nn.init.zeros_(module.noise).requires_grad_(False)
            nn.init.zeros_(module.affine.weight).requires_grad_(False)
    return translator


def pretrain(translator: Translator, painter: Painter, drawing: Drawing, progress: Progress) -> None:
    """Train a quiet translator on simulated scanners; its last layer is zero afterwards, so that it corrects nothing.

    Args:
        translator: Is trained in place.
        painter: With public colours.
        drawing: Of maps from a public prior.
        progress: Shows it.
    """
    vocabulary, context = drawing.vocabulary, drawing.vocabulary.context
    modalities = len(painter.mean)
    last = translator.out
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(drawing.seed, "heads"))
        translator.out = nn.Conv3d(FINE, SCANNERS * modalities, 1)
    scanners = [SimulatedScanner.new(vocabulary.classes, drawing.seed, index) for index in range(SCANNERS)]
    trained = [parameter for parameter in translator.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=RATE)
    for step in range(STEPS):
        classes, place, style, _ = drawing.draw(step, "pretraining")
        condition = condition_tensor(classes, place, vocabulary)
        one_hot = condition[:, : vocabulary.classes]
        with torch.no_grad():
            painted = painter(one_hot, style)
            wanted = torch.cat([s.correction(one_hot, place, painted, context) for s in scanners], 1)
        found = translator(torch.cat([without_seams(condition, vocabulary), painted - 0.5], 1))
        inside = (classes > 0)[:, None]
        loss = ((found - wanted).abs() * inside).sum() / (inside.sum() * found.shape[1]).clamp_min(1)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        progress.step("pretraining on simulated scanners", step + 1, STEPS, f"{loss.item():.3f}")
    translator.out = last
    for parameter in last.parameters():
        nn.init.zeros_(parameter)


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
