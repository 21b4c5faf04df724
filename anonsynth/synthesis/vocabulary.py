"""Class maps: what the networks see of a label map.

A class map names every voxel with a small integer: 0 outside the field of view, then *context* classes for what no
label covers, then the cohort's labels. Context exists because most cohorts label a structure, not a body: around a
labelled hippocampus there is a temporal lobe, and a generator that is told nothing of it can only blur it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field

from anonsynth.cohort.geometry import LabelVolume
from anonsynth.cohort.model import LabelEntry

__all__ = ["Vocabulary", "condition_tensor", "coordinates", "without_seams"]


class Vocabulary(BaseModel):
    """Which class stands for what.

    Attributes:
        context: Number of context classes; at least one, "in the field of view, no label".
        labels: The label values, in the order of their classes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    context: int = Field(ge=1)
    labels: tuple[LabelEntry, ...]

    @property
    def classes(self) -> int:
        """Number of classes, the outside included."""
        return 1 + self.context + len(self.labels)

    @property
    def channels(self) -> int:
        """Channels of `condition_tensor`: a one-hot of all classes, and three coordinates."""
        return self.classes + 3

    def class_map(self, label: LabelVolume, context: LabelVolume, fov: npt.NDArray[np.bool_]) -> LabelVolume:
        """Merge a label map (X, Y, Z) with a context map (X, Y, Z; 0 to context − 1) inside the field of view."""
        table = np.zeros(256, np.uint8)
        for index, entry in enumerate(self.labels):
            table[entry.value] = 1 + self.context + index
        classes = table[label]
        return np.where(fov, np.where(classes > 0, classes, context + 1), 0).astype(np.uint8)

    def label_map(self, classes: LabelVolume) -> LabelVolume:
        """Return the label map (X, Y, Z) that a class map holds; context and outside become 0."""
        table = np.zeros(256, np.uint8)
        for index, entry in enumerate(self.labels):
            table[1 + self.context + index] = entry.value
        return table[classes]


def coordinates(shape: tuple[int, int, int]) -> torch.Tensor:
    """Return (3, X, Y, Z) float32 coordinates from −1 to 1, so that a crop knows where it was cut."""
    axes = [torch.linspace(-1, 1, n) if n > 1 else torch.zeros(1) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def condition_tensor(classes: torch.Tensor, place: torch.Tensor, vocabulary: Vocabulary) -> torch.Tensor:
    """Return what the networks are conditioned on.

    Args:
        classes: (B, X, Y, Z) integer class maps.
        place: (B, 3, X, Y, Z) coordinates of the same voxels.
        vocabulary: Names the classes.

    Returns:
        (B, vocabulary.channels, X, Y, Z) float32.
    """
    one_hot = torch.nn.functional.one_hot(classes.long(), vocabulary.classes)
    return torch.cat([one_hot.movedim(-1, 1).to(place.dtype), place], dim=1)


def without_seams(condition: torch.Tensor, vocabulary: Vocabulary) -> torch.Tensor:
    """Return `condition_tensor` (B, K + 3, ...) with all labels in one channel, where surroundings are modelled.

    Borders between parts of one structure are often a convention that no scan shows. A discriminator that sees them
    looks for an edge there, and a translator that sees them draws one: between the halves of the hippocampus a seam of
    0.1, where real scans have 0.01. The painter still gives each label its own colour.
    """
    if vocabulary.context == 1:
        return condition
    first, last = 1 + vocabulary.context, vocabulary.classes
    merged = condition.clone()
    merged[:, first] = condition[:, first:last].sum(1)
    merged[:, first + 1 : last] = 0
    return merged
