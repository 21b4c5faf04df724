"""The shape prior: label maps drawn from a statistical shape model of the training patients' label maps.

Every class of a class map is turned into its signed distance function, squashed near the boundary; the stack of them
is a vector, the vectors of all training scans span a principal-component model (Tsai et al. 2003, IEEE TMI 22(2);
label space of logarithmic odds: Pohl et al. 2007), and a draw is a Gaussian sample of its coefficients, turned back
into classes by the largest value. No draw is the map of a patient, but the model was made of patients' maps without a
mechanism, so its guarantee is `no guarantee`, and every policy that asks for one refuses it.

Zone: spending.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save
from scipy import ndimage

from anonsynth.anatomy.priors import DrawnLabel, Guarantee
from anonsynth.cohort.geometry import Grid, LabelVolume
from anonsynth.cohort.model import LabelEntry
from anonsynth.errors import InputError
from anonsynth.files import write_bytes

__all__ = ["ShapeModel", "ShapePrior", "fit_shape_model", "load_shape_model", "save_shape_model"]

LATTICE = 2
"""The model lives on every second voxel; distances are smooth, so nothing finer is lost than is there."""
REACH = 8.0
"""Distances are squashed by tanh at this many voxels: far from a boundary nothing is to be learnt."""
VARIANCE_KEPT = 0.97
LARGEST_RANK = 64
TRUNCATION = 2.0
"""Coefficients are drawn within this many standard deviations."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ShapeModel:
    """A principal-component model of class maps.

    Attributes:
        shape: Grid shape (X, Y, Z) of the class maps.
        classes: Number of modelled classes; class 0, the outside, is not modelled.
        mean: (D,) mean vector, D = (classes − 1) · lattice voxels.
        modes: (R, D) orthonormal modes.
        deviation: (R,) standard deviation of each mode's coefficient.
        fov_mean: (6,) mean of the field of view's low and high corner, in voxels.
        fov_factor: (6, 6) Cholesky-like factor of their covariance.
    """

    shape: tuple[int, int, int]
    classes: int
    mean: Floats
    modes: Floats
    deviation: Floats
    fov_mean: Floats
    fov_factor: Floats

    def project(self, classes: LabelVolume) -> LabelVolume:
        """Return the nearest class map (X, Y, Z) that the model can express, without an outside."""
        vector = _vector(classes, self.classes)
        return self.decode(((vector - self.mean) @ self.modes.T).astype(np.float32))

    def decode(self, coefficients: Floats) -> LabelVolume:
        """Turn (R,) coefficients into a class map (X, Y, Z) without an outside."""
        field = (self.mean + coefficients @ self.modes).reshape(self.classes - 1, *_lattice(self.shape))
        best = np.full(self.shape, -np.inf, np.float32)
        chosen = np.zeros(self.shape, np.uint8)
        for index, coarse in enumerate(field):
            fine = _refine(coarse, self.shape)
            better = fine > best
            best[better] = fine[better]
            chosen[better] = index + 1
        return chosen


def fit_shape_model(
    maps: Iterable[tuple[LabelVolume, tuple[int, int, int], tuple[int, int, int]]], *, classes: int
) -> ShapeModel:
    """Fit the model to class maps, one at a time.

    The vectors wait in a file that is mapped, not in memory; only their Gram matrix and the modes are held.

    Args:
        maps: (class map (X, Y, Z), fov_low, fov_high) of each training scan.
        classes: Number of classes, the outside (0) included.

    Raises:
        InputError: If there are fewer than two maps.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors"
        boxes: list[tuple[int, ...]] = []
        shape: tuple[int, int, int] | None = None
        with path.open("wb") as stream:
            for label, low, high in maps:
                x, y, z = label.shape
                shape = (x, y, z)
                boxes.append((*low, *high))
                _vector(label, classes).tofile(stream)
        if shape is None or len(boxes) < 2:
            raise InputError(
                "a shape prior needs at least two labelled training scans", remedy="add label maps or use --prior atlas"
            )
        vectors = np.memmap(path, np.float32, "r").reshape(len(boxes), -1)
        mean, modes, deviation = _principal_components(vectors)
        del vectors
    corners = np.array(boxes, np.float64)
    covariance = np.cov(corners.T)
    values, axes = np.linalg.eigh(covariance)
    factor = axes * np.sqrt(np.clip(values, 0, None))
    return ShapeModel(
        shape, classes, mean, modes, deviation, corners.mean(0).astype(np.float32), factor.astype(np.float32)
    )


@dataclass(frozen=True)
class ShapePrior:
    """Draws class maps from a `ShapeModel`.

    Attributes:
        model: The fitted model.
        grid: The cohort's grid.
        labels: The cohort's labels.
        labelled_from: First class that stands for a label; the field of view always holds them whole.
    """

    model: ShapeModel
    grid: Grid
    labels: tuple[LabelEntry, ...]
    labelled_from: int
    name: str = "shape"
    guarantee: Guarantee = Guarantee.NONE

    def draw(self, rng: np.random.Generator) -> DrawnLabel:
        """Draw a class map; `label` holds classes, not label values, and 0 outside the drawn field of view."""
        rank = self.model.deviation.size
        coefficients = np.clip(rng.standard_normal(rank), -TRUNCATION, TRUNCATION) * self.model.deviation
        classes = self.model.decode(coefficients.astype(np.float32))
        low, high = self._field_of_view(classes, rng)
        inside = np.zeros(classes.shape, bool)
        inside[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
        recipe: dict[str, float | str] = {
            "prior": self.name,
            "modes": float(rank),
            "mahalanobis": round(float(np.linalg.norm(coefficients / self.model.deviation) / np.sqrt(rank)), 4),
        }
        return DrawnLabel(np.where(inside, classes, 0).astype(np.uint8), low, high, recipe)

    def _field_of_view(
        self, classes: LabelVolume, rng: np.random.Generator
    ) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        noise = np.clip(rng.standard_normal(6), -TRUNCATION, TRUNCATION)
        corners = np.rint(self.model.fov_mean + self.model.fov_factor @ noise).astype(int)
        shape = np.array(classes.shape)
        low = np.clip(corners[:3], 0, shape - 1)
        high = np.clip(corners[3:], low + 1, shape)
        labelled = np.argwhere(classes >= self.labelled_from)
        if labelled.size:
            low = np.minimum(low, np.maximum(labelled.min(0) - 1, 0))
            high = np.maximum(high, np.minimum(labelled.max(0) + 2, shape))
        return (int(low[0]), int(low[1]), int(low[2])), (int(high[0]), int(high[1]), int(high[2]))


def save_shape_model(model: ShapeModel, path: Path) -> None:
    """Write the model as safetensors, atomically."""
    tensors = {
        "mean": model.mean,
        "modes": model.modes,
        "deviation": model.deviation,
        "fov_mean": model.fov_mean,
        "fov_factor": model.fov_factor,
        "shape": np.array([*model.shape, model.classes], np.int64),
    }
    write_bytes(path, save({name: np.ascontiguousarray(value) for name, value in tensors.items()}))


def load_shape_model(path: Path) -> ShapeModel:
    """Read what `save_shape_model` wrote."""
    tensors = load_file(path)
    x, y, z, classes = (int(n) for n in tensors.pop("shape"))
    return ShapeModel((x, y, z), classes, **tensors)


def _lattice(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    x, y, z = (-(-n // LATTICE) for n in shape)
    return (x, y, z)


def _vector(classes: LabelVolume, count: int) -> Floats:
    """Return the squashed signed distances of classes 1 to count − 1 on the lattice, flat, float32."""
    filled = _fill_outside(classes)
    parts = []
    for index in range(1, count):
        inside = filled == index
        if inside.any() and not inside.all():
            distance = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
            # Half a voxel lies between the last voxel inside and the first outside.
            distance -= 0.5 * np.sign(distance)
        else:
            distance = np.full(filled.shape, REACH if inside.any() else -REACH)
        # Measured on the grid, kept on the lattice: the boundary keeps its place to a fraction of a voxel.
        kept = distance[::LATTICE, ::LATTICE, ::LATTICE]
        parts.append(np.tanh(kept / REACH).astype(np.float32).ravel())
    return np.concatenate(parts)


def _fill_outside(classes: LabelVolume) -> LabelVolume:
    """Give every voxel outside the field of view the class of the nearest one inside."""
    outside = classes == 0
    if not outside.any() or outside.all():
        return classes
    nearest = ndimage.distance_transform_edt(outside, return_distances=False, return_indices=True)
    filled: LabelVolume = classes[tuple(nearest)]
    return filled


def _refine(coarse: Floats, shape: tuple[int, int, int]) -> Floats:
    """Interpolate a lattice field linearly to the grid; lattice voxel i lies on grid voxel LATTICE·i."""
    axes = [np.arange(n) / LATTICE for n in shape]
    for axis, places in enumerate(axes):
        low = np.minimum(places.astype(int), coarse.shape[axis] - 1)
        high = np.minimum(low + 1, coarse.shape[axis] - 1)
        weight = (places - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        coarse = coarse.take(low, axis) * (1 - weight) + coarse.take(high, axis) * weight
    return coarse


def _principal_components(vectors: npt.NDArray[np.float32]) -> tuple[Floats, Floats, Floats]:
    """Return mean (D,), orthonormal modes (R, D) and coefficient deviations (R,), through the Gram matrix."""
    count = vectors.shape[0]
    mean = vectors.mean(0, dtype=np.float64).astype(np.float32)
    gram = np.empty((count, count))
    for row in range(count):
        gram[row] = _centred_products(vectors, mean, row)
    values, axes = np.linalg.eigh(gram)
    order = np.argsort(values)[::-1]
    values, axes = np.clip(values[order], 0, None), axes[:, order]
    share = np.cumsum(values) / max(values.sum(), 1e-12)
    rank = int(min(np.searchsorted(share, VARIANCE_KEPT) + 1, LARGEST_RANK, count - 1))
    modes = np.zeros((rank, mean.size), np.float32)
    for row in range(count):
        modes += np.outer(axes[row, :rank], vectors[row] - mean).astype(np.float32)
    modes /= np.sqrt(np.maximum(values[:rank], 1e-12))[:, None].astype(np.float32)
    deviation = np.sqrt(values[:rank] / (count - 1)).astype(np.float32)
    return mean, modes, deviation


def _centred_products(vectors: npt.NDArray[np.float32], mean: Floats, row: int) -> npt.NDArray[np.float64]:
    one = (vectors[row] - mean).astype(np.float64)
    # (v − m)·u for all v, without a centred copy of all vectors in memory.
    products: npt.NDArray[np.float64] = vectors @ one.astype(np.float32) - float(mean @ one.astype(np.float32))
    return products.astype(np.float64)
