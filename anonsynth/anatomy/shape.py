"""The shape model: class maps of training patients as a mean and principal modes, apart from where they lie.

The pose of a class map (centre and spread of its labels) is taken out first, so that what lies beside the labels comes
to lie on itself. Then every label is turned into its signed distance function, squashed near the boundary, and
surroundings that are classed by intensity into one field of normal scores. Together they are a vector; the vectors of
all training scans span a principal-component model (Tsai et al. 2003, IEEE TMI 22(2)). Modes are smooth: folds and
vessels of the surroundings are not in the model.

Zone: spending.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save
from scipy import ndimage

from anonsynth.anatomy.context import normal_scores
from anonsynth.anatomy.shells import classes_in_shells, limits_in_shells, usual_limits
from anonsynth.cohort.geometry import FloatVolume, LabelVolume
from anonsynth.errors import InputError
from anonsynth.files import write_bytes
from anonsynth.seeds import stream

__all__ = [
    "ShapeModel",
    "class_vector",
    "fit_shape_model",
    "from_reference",
    "lattice_of",
    "load_shape_model",
    "pose_of",
    "save_shape_model",
]

LATTICE = 2
"""The model lives on every second voxel; distances are smooth, so nothing finer is lost than is there."""
REACH = 8.0
"""Distances are squashed by tanh at this many voxels: far from a boundary nothing is to be learnt."""
VARIANCE_KEPT = 0.97
LARGEST_RANK = 64
TRUNCATION = 2.0
"""Coefficients are drawn within this many standard deviations."""
DRAWS = 200
"""How many are drawn to know the volumes that plain draws have."""
SCORE_WEIGHT = 0.25
"""How much a normal score of the surroundings weighs beside a squashed distance."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ShapeModel:
    """A principal-component model of class maps.

    Attributes:
        shape: Grid shape (X, Y, Z) of the class maps.
        context: Classes 1 to `context` are surroundings, darkest first.
        labels: Number of labels, whose classes follow; class 0, the outside, is not modelled.
        mean: (D,) mean vector: fields of the surroundings (if there is more than one class of them), of all labels
            together (if there are several), and of each label, on the lattice.
        modes: (R, D) orthonormal modes.
        deviation: (R,) standard deviation of each mode's coefficient.
        volumes: (2, 2) mean and standard deviation of the logarithm of the labels' volume, first of the training maps,
            then of what plain draws of the coefficients give.
        frame_mean: (12,) mean of the field of view's low and high corner and of the pose: centre of the labels, in
            voxels, and logarithm of their spread along each axis.
        frame_factor: (12, 12) Cholesky-like factor of their covariance.
        limits: (len(SHELLS), context − 1) normal scores between the classes of surroundings, by distance from the
            labels (`anatomy/shells.py`).
    """

    shape: tuple[int, int, int]
    context: int
    labels: int
    mean: Floats
    modes: Floats
    deviation: Floats
    volumes: Floats
    frame_mean: Floats
    frame_factor: Floats
    limits: Floats

    def draw_frame(self, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Draw a field of view (6,), low and high corner in voxels, and a pose (6,)."""
        noise = np.clip(rng.standard_normal(self.frame_mean.size), -TRUNCATION, TRUNCATION)
        frame = (self.frame_mean + self.frame_factor @ noise).astype(np.float32)
        return frame[:6], frame[6:]

    def draw_coefficients(self, rng: np.random.Generator) -> Floats:
        """Draw (R,) coefficients from a normal distribution, cut at `TRUNCATION` standard deviations."""
        drawn = np.clip(rng.standard_normal(self.deviation.size), -TRUNCATION, TRUNCATION)
        return (drawn * self.deviation).astype(np.float32)

    def decode(self, coefficients: Floats, pose: Floats) -> LabelVolume:
        """Turn (R,) coefficients in a pose (6,) into a class map (X, Y, Z) without an outside."""
        scores, together, own = self._fields(coefficients, pose)
        inside = together > self._level(together)
        around = 1 + self._surroundings(scores, inside)
        return np.where(inside, 1 + self.context + own.argmax(0), around).astype(np.uint8)

    def surroundings(self, classes: LabelVolume) -> LabelVolume:
        """Return the context (X, Y, Z), 0 to context − 1, that the model can express nearest to that of a class map."""
        scores = self.scores_near(classes) if self.context > 1 else None
        return self._surroundings(scores, classes > self.context)

    def scores_near(self, classes: LabelVolume) -> FloatVolume:
        """Return the normal scores (X, Y, Z) that the model can express nearest to those of a class map."""
        pose = pose_of(classes > self.context, self.frame_mean[6:])
        vector = class_vector(classes, self.context, self.labels, pose, self.frame_mean[6:])
        coefficients = ((vector - self.mean) @ self.modes.T).astype(np.float32)
        scores = self._fields(coefficients, pose)[0]
        return np.zeros(self.shape, np.float32) if scores is None else scores

    def _surroundings(self, scores: FloatVolume | None, labelled: npt.NDArray[np.bool_]) -> LabelVolume:
        return np.zeros(self.shape, np.uint8) if scores is None else classes_in_shells(scores, labelled, self.limits)

    def _level(self, together: FloatVolume) -> float:
        """Return the level above which the labels' field is inside.

        A sum of modes has flatter slopes than a distance, so volumes taken at 0 vary more than the patients' do. The
        level that is returned gives the volume with the same rank among the patients'.
        """
        (mean, deviation), (drawn_mean, drawn_deviation) = self.volumes.astype(float)
        if drawn_deviation <= 0:
            return 0.0
        rank = (_log_volume(together > 0) - drawn_mean) / drawn_deviation
        voxels = round(float(np.exp(mean + deviation * rank)))
        voxels = min(max(voxels, 1), together.size - 1)
        return float(np.partition(together, -voxels - 1, axis=None)[-voxels - 1])

    def _fields(self, coefficients: Floats, pose: Floats) -> tuple[FloatVolume | None, FloatVolume, FloatVolume]:
        lattice = (self.mean + coefficients @ self.modes).reshape(-1, *lattice_of(self.shape))
        fields = np.stack([from_reference(coarse, self.shape, pose, self.frame_mean[6:]) for coarse in lattice])
        own = fields[-self.labels :]
        together = fields[-self.labels - 1] if self.labels > 1 else own[0]
        return (fields[0] / SCORE_WEIGHT if self.context > 1 else None), together, own


def fit_shape_model(
    maps: Iterable[tuple[LabelVolume, tuple[int, int, int], tuple[int, int, int]]],
    *,
    context: int,
    labels: int,
) -> ShapeModel:
    """Fit the model to class maps, one at a time.

    The vectors wait in a file that is mapped, not in memory; only their Gram matrix and the modes are held.

    Args:
        maps: (class map (X, Y, Z), fov_low, fov_high) of each training scan.
        context: Number of classes of surroundings.
        labels: Number of labels.

    Raises:
        InputError: If there are fewer than two maps.
    """
    with tempfile.TemporaryDirectory() as folder:
        waiting = _Waiting(Path(folder) / "maps", context)
        for classes, low, high in maps:
            waiting.add(classes, low, high)
        if len(waiting.boxes) < 2:
            raise InputError(
                "a shape prior needs at least two labelled training scans", remedy="add label maps or use --prior atlas"
            )
        poses = waiting.poses()
        reference = poses.mean(0)
        path = Path(folder) / "vectors"
        with path.open("wb") as file:
            for classes, pose in zip(waiting.maps(), poses, strict=True):
                class_vector(classes, context, labels, pose, reference).tofile(file)
        vectors = np.memmap(path, np.float32, "r").reshape(len(poses), -1)
        mean, modes, deviation = _principal_components(vectors)
        del vectors
        frames = np.concatenate([np.array(waiting.boxes, np.float64), poses], axis=1)
        values, axes = np.linalg.eigh(np.cov(frames.T))
        factor = axes * np.sqrt(np.clip(values, 0, None))
        model = ShapeModel(
            waiting.shape,
            context,
            labels,
            mean,
            modes,
            deviation,
            np.zeros((2, 2), np.float32),
            frames.mean(0).astype(np.float32),
            factor.astype(np.float32),
            usual_limits(context),
        )
        if context > 1:
            scored = ((classes, model.scores_near(classes)) for classes in waiting.maps())
            model = replace(model, limits=limits_in_shells(scored, context))
        return replace(model, volumes=_measure_volumes(model, waiting.volumes))


class _Waiting:
    """Class maps that wait in a file until all are there, and what is to be known of each."""

    def __init__(self, path: Path, context: int) -> None:
        self.path = path
        self.context = context
        self.shape = (0, 0, 0)
        self.boxes: list[tuple[int, ...]] = []
        self.volumes: list[float] = []

    def add(self, classes: LabelVolume, low: tuple[int, int, int], high: tuple[int, int, int]) -> None:
        x, y, z = classes.shape
        self.shape = (x, y, z)
        self.boxes.append((*low, *high))
        self.volumes.append(_log_volume(classes > self.context))
        with self.path.open("ab") as file:
            classes.astype(np.uint8).tofile(file)

    def maps(self) -> npt.NDArray[np.uint8]:
        return np.memmap(self.path, np.uint8, "r").reshape(len(self.boxes), *self.shape)

    def poses(self) -> Floats:
        """Return the pose of each map, (N, 6); one without a label gets the mean of the others."""
        unknown = np.full(6, np.nan, np.float32)
        poses = np.stack([pose_of(classes > self.context, unknown) for classes in self.maps()])
        usual = np.array([*(n / 2 for n in self.shape), *(np.log(n / 6) for n in self.shape)], np.float32)
        known = ~np.isnan(poses[:, 0])
        poses[~known] = poses[known].mean(0) if known.any() else usual
        return poses


def pose_of(inside: npt.NDArray[np.bool_], otherwise: Floats) -> Floats:
    """Return centre and log spread of a mask (X, Y, Z) along each axis, in voxels: (6,); `otherwise` if it is empty."""
    places = np.argwhere(inside)
    if not len(places):
        return otherwise
    # A mask one voxel thick still has the spread of a box.
    spread = np.sqrt(places.var(0) + 1 / 12)
    return np.concatenate([places.mean(0), np.log(spread)]).astype(np.float32)


def _measure_volumes(model: ShapeModel, trained: list[float]) -> Floats:
    """Return mean and deviation of log volumes: those of the training maps, and those of plain draws of the model."""
    rng = stream(0, "volumes of a shape model")
    drawn = []
    for _ in range(DRAWS):
        _, pose = model.draw_frame(rng)
        drawn.append(_log_volume(model.decode(model.draw_coefficients(rng), pose) > model.context))
    return np.array([[float(np.mean(side)), float(np.std(side))] for side in (trained, drawn)], np.float32)


def _log_volume(inside: npt.NDArray[np.bool_]) -> float:
    return float(np.log(max(int(np.count_nonzero(inside)), 1)))


def save_shape_model(model: ShapeModel, path: Path) -> None:
    """Write the model as safetensors, atomically."""
    tensors = {
        "mean": model.mean,
        "modes": model.modes,
        "deviation": model.deviation,
        "frame_mean": model.frame_mean,
        "volumes": model.volumes,
        "frame_factor": model.frame_factor,
        "limits": model.limits,
        "shape": np.array([*model.shape, model.context, model.labels], np.int64),
    }
    write_bytes(path, save({name: np.ascontiguousarray(value) for name, value in tensors.items()}))


def load_shape_model(path: Path) -> ShapeModel:
    """Read what `save_shape_model` wrote."""
    tensors = load_file(path)
    x, y, z, context, labels = (int(n) for n in tensors.pop("shape"))
    return ShapeModel((x, y, z), context, labels, **tensors)


def lattice_of(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the shape of the lattice that the fields of a grid (X, Y, Z) live on."""
    x, y, z = (-(-n // LATTICE) for n in shape)
    return (x, y, z)


def class_vector(classes: LabelVolume, context: int, labels: int, pose: Floats, reference: Floats) -> Floats:
    """Return the fields of `ShapeModel.mean` of a class map, in the reference pose, on the lattice, flat, float32."""
    fields = []
    if context > 1:
        fields.append(SCORE_WEIGHT * ndimage.gaussian_filter(_scores(classes, context), LATTICE / 2))
    filled = _filled(classes, classes > 0)
    masks = [filled > context] if labels > 1 else []
    masks += [filled == 1 + context + index for index in range(labels)]
    fields += [_squashed_distance(mask) for mask in masks]
    # Measured on the grid, kept on the lattice: the boundary keeps its place to a fraction of a voxel.
    return np.concatenate([to_reference(field, pose, reference).ravel() for field in fields])


def _squashed_distance(inside: npt.NDArray[np.bool_]) -> FloatVolume:
    if not inside.any() or inside.all():
        return np.full(inside.shape, np.tanh(1.0 if inside.any() else -1.0), np.float32)
    distance = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    # Half a voxel lies between the last voxel inside and the first outside.
    distance -= 0.5 * np.sign(distance)
    squashed: FloatVolume = np.tanh(distance / REACH).astype(np.float32)
    return squashed


def _scores(classes: LabelVolume, context: int) -> FloatVolume:
    """Return the normal scores (X, Y, Z) of the surroundings; labels get those of the nearest surroundings."""
    around = _filled(classes, (classes > 0) & (classes <= context))
    scores: FloatVolume = normal_scores(context)[np.clip(around.astype(int) - 1, 0, context - 1)]
    return scores


def _filled(classes: LabelVolume, known: npt.NDArray[np.bool_]) -> LabelVolume:
    """Give every voxel that is not known the class of the nearest one that is."""
    if known.all() or not known.any():
        return classes
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    filled: LabelVolume = classes[tuple(nearest)]
    return filled


def to_reference(field: FloatVolume, pose: Floats, reference: Floats) -> FloatVolume:
    """Sample a field (X, Y, Z) on the lattice of the reference pose; lattice voxel i lies on grid voxel LATTICE · i."""
    scale = np.exp(pose[3:] - reference[3:]).astype(float)
    offset = pose[:3] - scale * reference[:3]
    sampled: FloatVolume = ndimage.affine_transform(
        field.astype(np.float32), scale * LATTICE, offset, lattice_of(field.shape), order=1, mode="nearest"
    )
    return sampled


def from_reference(coarse: FloatVolume, shape: tuple[int, int, int], pose: Floats, reference: Floats) -> FloatVolume:
    """Sample a lattice field of the reference pose on the grid, in a pose."""
    scale = np.exp(reference[3:] - pose[3:]).astype(float)
    offset = reference[:3] - scale * pose[:3]
    sampled: FloatVolume = ndimage.affine_transform(
        coarse.astype(np.float32), scale / LATTICE, offset / LATTICE, shape, order=1, mode="nearest"
    )
    return sampled


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
