"""From statistics to a generator that writes scans, without looking at a patient again.

The painter takes the intensities and their axes. What scans drawn like that still lack beside the released texture,
border profile and rims is measured on drawn scans, as `finish.py` measures it on training scans; the translator is
left as it is made, which changes nothing. All of it is post-processing.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from anonsynth.anatomy.borders import stray
from anonsynth.anatomy.priors import LabelPrior
from anonsynth.anatomy.random_field import LAGS, autocovariance, field_variances
from anonsynth.cohort.geometry import FloatVolume, LabelVolume
from anonsynth.progress import Progress
from anonsynth.seeds import stream, stream_seed
from anonsynth.synthesis.appearance import profile_of, rim_of
from anonsynth.synthesis.label_to_mri import render
from anonsynth.synthesis.painter import PaintedTranslator
from anonsynth.synthesis.private_statistics import Statistics
from anonsynth.synthesis.style import StyleSpace, draw_style
from anonsynth.synthesis.texture import WIDTHS
from anonsynth.synthesis.vocabulary import Vocabulary, coordinates

__all__ = ["TEXTURE_SHARE", "Manner", "fit_rims", "fit_writer", "in_manner", "styles_of"]

DRAWN = 16
"""Scans that are drawn to see what they lack."""
TEXTURE_SHARE = 0.3
"""Share of the lacking autocovariance that random fields make up for. The rest is structure, folds and vessels whose
edges drawn maps are too smooth for; shown as random fields it makes scans mottled."""
DISTANCES = (0.0, 0.4, 0.8, 1.2)
"""How far borders stray, in voxels: what is tried."""

Floats64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Manner:
    """How scans are written, where no statistic says so.

    Attributes:
        softness: Of boundaries, in logits of the share that a voxel takes from its neighbours.
        texture: Share of the lacking autocovariance that is drawn as random fields.
    """

    softness: float = 0.0
    texture: float = TEXTURE_SHARE


@torch.no_grad()
def in_manner(generator: PaintedTranslator, manner: Manner) -> PaintedTranslator:
    """Return a copy of a fitted generator that writes in another manner; grain stays as it was fitted."""
    other = copy.deepcopy(generator)
    other.painter.softness.fill_(manner.softness)
    other.texture.strength.mul_((manner.texture / TEXTURE_SHARE) ** 0.5)
    return other


@torch.no_grad()
def fit_writer(
    generator: PaintedTranslator,
    statistics: Statistics,
    vocabulary: Vocabulary,
    prior: LabelPrior,
    seed: int,
    progress: Progress,
) -> float:
    """Let an untrained generator write scans like the statistics; return how far borders are to stray, in voxels.

    Args:
        generator: Its translator has to be untrained.
        statistics: Released, or public.
        vocabulary: The classes.
        prior: What class maps are drawn from.
        seed: Of the drawn scans.
        progress: Shows the fitting.
    """
    appearance = statistics.appearance
    generator.painter.take(styles_of(statistics, vocabulary))
    generator.grain.strength.zero_()
    writer = _Drawn(generator, vocabulary, prior, seed)
    spacing = prior.grid.spacing
    _take_texture(generator, appearance["texture"] - writer.texture(spacing), spacing)
    if vocabulary.context == 1:
        return 0.0
    best, stray_by = np.inf, 0.0
    for number, distance in enumerate(DISTANCES):
        gap = float(np.nansum(np.abs(writer.profile(distance) - appearance["profile"])))
        if gap < best:
            best, stray_by = gap, distance
        progress.step("borders", number + 1, len(DISTANCES), f"{distance} voxels")
    generator.rim.take(appearance["rims"] - writer.rims(stray_by))
    return stray_by


@torch.no_grad()
def fit_rims(
    generator: PaintedTranslator,
    statistics: Statistics,
    vocabulary: Vocabulary,
    prior: LabelPrior,
    seed: int,
    stray_by: float,
) -> None:
    """Measure again what drawn scans lack beside their borders, once the generator writes otherwise than it did."""
    if vocabulary.context > 1:
        rims = _Drawn(generator, vocabulary, prior, seed).rims(stray_by)
        generator.rim.take(statistics.appearance["rims"] - rims)


def styles_of(statistics: Statistics, vocabulary: Vocabulary) -> StyleSpace:
    """Return the painter's colours; class 0, outside the field of view, is black."""
    colours = np.pad(statistics.appearance["colours"], ((0, 0), (1, 0))).clip(0, 1)
    axes = np.pad(statistics.axes, ((0, 0), (0, 0), (1, 0)))
    weight = np.full((len(colours), vocabulary.classes), vocabulary.classes**-0.5)
    return StyleSpace(colours.astype(np.float32), axes.astype(np.float32), weight.astype(np.float32))


def _take_texture(generator: PaintedTranslator, lacking: Floats64, spacing: tuple[float, float, float]) -> None:
    """Add random fields and grain for autocovariances (C, K − 1, LAGS + 1) that drawn scans lack."""
    variances = np.stack([field_variances(of_modality, WIDTHS) for of_modality in lacking])
    grain = np.sqrt(np.clip(lacking[..., 0] - variances.sum(-1), 0, None))
    outside = ((0, 0), (0, 0), (1, 0))
    strength = np.pad(np.sqrt(TEXTURE_SHARE * variances).transpose(2, 0, 1), outside)
    generator.texture.take(strength.astype(np.float32), spacing)
    generator.grain.strength.copy_(torch.from_numpy(np.pad(grain, outside[1:]).astype(np.float32)))


@dataclass(frozen=True)
class _Drawn:
    """Drawn scans, the same ones again whenever they are asked for."""

    generator: PaintedTranslator
    vocabulary: Vocabulary
    prior: LabelPrior
    seed: int

    def texture(self, spacing: tuple[float, float, float]) -> Floats64:
        """Return autocovariances by modality and class (C, K − 1, LAGS + 1)."""
        modalities, classes = self.generator.painter.mean.shape
        total = np.zeros((modalities, 2, classes, LAGS + 1))
        for index in range(DRAWN):
            label = self._label(index)
            for channel, image in enumerate(self._image(label, index, 0.0)):
                total[channel] += autocovariance(image, label, classes, spacing)
        covariance: Floats64 = (total[:, 0] / np.maximum(total[:, 1], 1))[:, 1:]
        return covariance

    def profile(self, distance: float) -> Floats64:
        """Return the share of voxels that look like the surroundings, by depth, if borders stray by `distance`."""
        found = []
        for index in range(DRAWN):
            label = self._label(index)
            image = self._image(label, index, distance)[0]
            found.append(profile_of(image, label > self.vocabulary.context, label > 0))
        shares = np.array(found)
        told = ~np.isnan(shares)
        # Where noise has made labels too thin for a depth, no scan tells of it.
        means = np.where(told, shares, 0).sum(0) / np.maximum(told.sum(0), 1)
        profile: Floats64 = np.where(told.any(0), means, np.nan)
        return profile

    def rims(self, distance: float) -> Floats64:
        """Return the mean rims by modality (C, SIDES, knots)."""
        found = []
        for index in range(DRAWN):
            label = self._label(index)
            inside, fov = label > self.vocabulary.context, label > 0
            found.append([rim_of(image, inside, fov) for image in self._image(label, index, distance)])
        rims: Floats64 = np.mean(found, axis=0)
        return rims

    def _label(self, index: int) -> LabelVolume:
        return self.prior.draw(stream(self.seed, "writer", "map", index)).label

    def _image(self, label: LabelVolume, index: int, distance: float) -> FloatVolume:
        noise = torch.Generator().manual_seed(stream_seed(self.seed, "writer", "noise", index))
        style = draw_style(len(self.generator.painter.axes), noise)
        labelled_from = 1 + self.vocabulary.context
        strayed = stray(label, labelled_from, distance, stream(self.seed, "writer", "border", index))
        classes = torch.from_numpy(np.ascontiguousarray(strayed))[None]
        place = coordinates(label.shape)[None]
        image: FloatVolume = render(self.generator, classes, place, style, self.vocabulary, noise)[0].numpy()
        return image
