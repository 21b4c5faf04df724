"""Tissues inside a brain by this scan's own intensities: the fine half of filling in anatomy.

MRI → label finds where brain, scalp and air are. Which brain voxel is fluid, grey or white matter follows more surely
from the scan itself: its intensities fall into three classes, whose order the modality gives.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.filters import threshold_multiotsu

from anonsynth.cohort.geometry import FloatVolume, LabelVolume

__all__ = ["CSF", "GREY", "ORDER", "SCALP", "SKULL", "WHITE", "split_tissues"]

CSF, GREY, WHITE, SKULL, SCALP = 1, 2, 3, 7, 8
"""Values of `anonsynth.cohort.model.BRAIN_LABELS`."""
ORDER = {
    "T1w": (CSF, GREY, WHITE),
    "T1gd": (CSF, GREY, WHITE),
    "FLAIR": (CSF, WHITE, GREY),
    "T2w": (WHITE, GREY, CSF),
    "PDw": (WHITE, GREY, CSF),
}
"""Tissues from dark to bright, in the order in which modalities are preferred."""
BONE_REACH_MM = 8.0
"""Fluid-like voxels this near to the brain's edge are taken for bone, which is as dark; very bright ones for fat."""
CORE_MM = 12.0
"""Thresholds come from voxels deeper than this, where no bone or fat has slipped in."""
SCALP_GAIN = 1.15
LEAST_VOXELS = 64


def split_tissues(
    image: FloatVolume,
    modality: str,
    brain: npt.NDArray[np.bool_],
    scalp: npt.NDArray[np.bool_],
    ignored: npt.NDArray[np.bool_],
    spacing: tuple[float, float, float],
) -> LabelVolume:
    """Return tissue values (X, Y, Z) inside `brain`, 0 elsewhere; all white matter where nothing can be told apart.

    Thresholds are Otsu's for three classes (Liao et al. 2001) over the brain of this scan, slow changes of brightness
    taken out first.

    Args:
        image: (X, Y, Z) in [0, 1].
        modality: One of `ORDER`.
        brain: (X, Y, Z) bool, brain and skull together.
        scalp: (X, Y, Z) bool.
        ignored: (X, Y, Z) bool, tumour; it has no part in the thresholds.
        spacing: Voxel size in mm.
    """
    result = np.where(brain, WHITE, 0).astype(np.uint8)
    depth = ndimage.distance_transform_edt(brain, sampling=spacing)
    core = (depth > CORE_MM) & ~ignored
    if modality not in ORDER or core.sum() < LEAST_VOXELS:
        return result
    flat = _without_bias(image, core, spacing)
    try:
        thresholds = threshold_multiotsu(flat[core], classes=3, nbins=128)
    except ValueError:  # fewer than three distinct intensities
        return result
    result[brain] = np.array(ORDER[modality], np.uint8)[np.digitize(flat[brain], thresholds)]
    rim = brain & (depth <= BONE_REACH_MM)
    if scalp.any():
        result[rim & (flat < thresholds[0])] = SKULL
        result[rim & (flat > SCALP_GAIN * np.quantile(flat[core], 0.99))] = SCALP
    return result


def _without_bias(image: FloatVolume, mask: npt.NDArray[np.bool_], spacing: tuple[float, float, float]) -> FloatVolume:
    """Divide by a very smooth mean over the mask."""
    sigma = [30.0 / step for step in spacing]
    weight = ndimage.gaussian_filter(mask.astype(np.float32), sigma)
    mean = ndimage.gaussian_filter(image * mask, sigma) / np.maximum(weight, 1e-3)
    whole = float(image[mask].mean())
    corrected: FloatVolume = (image * whole / np.maximum(mean, 0.25 * whole + 1e-6)).astype(np.float32)
    return corrected
