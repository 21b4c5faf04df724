"""The rim of a generator: what its scans lack, on average, beside the borders of their labels (`anatomy/rim.py`)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from anonsynth.anatomy.rim import KNOTS, SIDES, rim_volume
from anonsynth.cohort.geometry import FloatVolume

__all__ = ["Rim"]


class Rim(nn.Module):
    """Intensities that are added around the borders of labels; nothing until `take` was called.

    Args:
        modalities: Channels of the images.
    """

    lacking: Tensor

    def __init__(self, modalities: int) -> None:
        super().__init__()
        self.register_buffer("lacking", torch.zeros(modalities, SIDES, len(KNOTS) - 1))

    def take(self, lacking: npt.NDArray[np.floating]) -> None:
        """Add `lacking` (C, SIDES, knots), in units of intensity, from now on."""
        self.lacking.copy_(torch.from_numpy(lacking.astype(np.float32)))

    def complete(self, image: FloatVolume, labelled: npt.NDArray[np.bool_], fov: npt.NDArray[np.bool_]) -> FloatVolume:
        """Return the image (C, X, Y, Z) with what it lacks around its labels (X, Y, Z), in [0, 1].

        The labels are those that the scan is written with, not the strayed ones that it is painted by.
        """
        if not self.lacking.any():
            return image
        added = image + rim_volume(labelled, self.lacking.cpu().numpy())
        completed: FloatVolume = np.where(fov, added.clip(0, 1), image).astype(np.float32)
        return completed
