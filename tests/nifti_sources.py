"""Small NIfTI files for the ingest tests: heads of noise and texture, no two alike."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

RAS = np.diag([2.0, 2.0, 2.0, 1.0])
SHAPE = (20, 24, 16)


def head(seed: int, shape: tuple[int, int, int] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """Return an int16 image with air around a textured head, and a uint8 label map with the values 1 and 2."""
    rng = np.random.default_rng([7, seed])
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    inside = sum((axis / rng.uniform(0.7, 0.85)) ** 2 for axis in axes) < 1
    texture = ndimage.gaussian_filter(rng.normal(size=shape), 1.5)
    image = np.where(inside, 500 + 900 * texture, 0).clip(0, 3000).astype(np.int16)
    label = inside * (1 + (texture > 0.1)).astype(np.uint8)
    return image, label


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    """Write a volume, both sform and qform set."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = RAS if affine is None else affine
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, 1)
    nib.save(image, path)
    return path


def images_and_labels(root: Path, count: int = 6, start: int = 0) -> Path:
    """Write `images/case00.nii.gz`, ... with label maps."""
    for number in range(start, start + count):
        image, label = head(number)
        save(root / "images" / f"case{number:02d}.nii.gz", image)
        save(root / "labels" / f"case{number:02d}.nii.gz", label)
    return root
