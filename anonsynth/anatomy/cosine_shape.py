"""A shape model in a public basis: what the differentially private label prior is made of, and what it draws.

As in `shape.py` a class map is squashed distances and a field of scores, apart from its pose. But where that model's
mean and modes are the patients', this one's basis is public (`cosines.py`), and so is its centre: an ellipsoid of the
pose, its parts in a row along the grid's longest side. Only the coefficients' mean and spread, those of the *frame*
(field of view, pose and fill), and which share of the labels' volume each label takes, come from patients, through a
mechanism (`synthesis/private_statistics.py`) or, at rung 0, from nowhere.

Zone: shareable; what it is fitted to is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save
from scipy import ndimage

from anonsynth.anatomy.cosines import DISTANCE, PARTS, SCORE, Spectrum, Waves, expanded, projected
from anonsynth.anatomy.field_of_view import in_the_middle
from anonsynth.anatomy.shape import (
    LATTICE,
    REACH,
    SCORE_WEIGHT,
    TRUNCATION,
    ShapeModel,
    class_vector,
    from_reference,
    lattice_of,
    pose_of,
)
from anonsynth.anatomy.shells import usual_limits
from anonsynth.cohort.geometry import LabelVolume
from anonsynth.files import write_bytes

__all__ = [
    "FRAME_CENTRE",
    "FRAME_SCALE",
    "FRAME_SPREAD",
    "SHARE_SCALE",
    "CosineShapeModel",
    "encode",
    "frame_of",
    "load_cosines",
    "save_cosines",
    "shares_from",
    "shares_of",
]

Floats = npt.NDArray[np.float32]
Floats64 = npt.NDArray[np.float64]
Shape = tuple[int, int, int]

FRAME_CENTRE = np.array([*[np.log(0.85)] * 3, 0, 0, 0, *[np.log(0.18)] * 3, np.log(0.5)])
"""(10,) public centre of a frame: logarithm of the field of view as a share of the grid; centre of the labels from its
middle, as a share of it; logarithm of their spread, as a share of it; logarithm of their fill: volume as a share of
that of the ellipsoid of their spread (bent structures fill little of it)."""
FRAME_SCALE = np.array([*[0.12] * 3, *[0.06] * 3, *[0.35] * 3, 0.5])
"""(10,) how far frames of whatever structure are expected to lie from the centre."""
FRAME_SPREAD = np.array([*[0.06] * 3, *[0.03] * 3, *[0.14] * 3, 0.17])
"""(10,) how far people are expected to lie apart in one structure; spread and fill as in the heads of `cosines.py`."""
SHARE_SCALE = 1.0
"""How far the logarithms of the labels' shares are expected to lie from those of equal ones, whatever the structure."""
LEAST_VOXELS = 0.5
"""A label that a scan does not hold counts as this many voxels, so that its share has a logarithm."""
ROUNDS = 8
"""Rounds in which the labels' shares are settled; with two labels the first is exact."""
ELLIPSOID = 4 / 3 * np.pi * 5**1.5
"""Volume of an ellipsoid whose spread along each axis is 1; its half axes are √5."""


@dataclass(frozen=True, slots=True)
class CosineShapeModel(ShapeModel):
    """`mean` and `deviation` are (R,) coefficients of `waves`; `modes` and `volumes` stay empty.

    Attributes:
        waves: (R, 4) field and half waves of each coefficient.
        frame: (10,) mean frame, as in `FRAME_CENTRE`.
        frame_deviation: (10,).
        shares: (L,) of the labels' volume that each label takes; they sum to 1. A small label that lies elsewhere in
            every patient has a mean field that nowhere exceeds its neighbours', and would vanish without them.
    """

    waves: Waves
    frame: Floats64
    frame_deviation: Floats64
    shares: Floats64

    @classmethod
    def new(
        cls,
        shape: Shape,
        context: int,
        labels: int,
        waves: Waves,
        *,
        frame: Floats64 = FRAME_CENTRE,
        frame_deviation: Floats64 = FRAME_SPREAD,
        shares: Floats64 | None = None,
        mean: Floats64 | None = None,
        deviation: Floats64 | None = None,
        limits: Floats | None = None,
    ) -> CosineShapeModel:
        """Make a model; what is left out is public: a mean of 0, coefficients that do not vary."""
        nothing = np.zeros(len(waves))
        box, pose = _frame_in_voxels(frame, shape)
        return cls(
            shape,
            context,
            labels,
            (nothing if mean is None else mean).astype(np.float32),
            np.zeros((0, 0), np.float32),
            (nothing if deviation is None else deviation).astype(np.float32),
            np.zeros((2, 2), np.float32),
            np.concatenate([box, pose]).astype(np.float32),
            np.zeros((12, 12), np.float32),
            usual_limits(context) if limits is None else limits,
            waves,
            frame,
            frame_deviation,
            np.full(labels, 1 / labels) if shares is None else shares,
        )

    @property
    def reference(self) -> Floats:
        """The pose (6,) in which the fields lie on each other."""
        return self.frame_mean[6:]

    def draw_frame(self, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Draw a field of view (6,), low and high corner in voxels, and a pose (6,)."""
        noise = np.clip(rng.standard_normal(len(self.frame)), -TRUNCATION, TRUNCATION)
        return _frame_in_voxels(self.frame + self.frame_deviation * noise, self.shape)

    def decode(self, coefficients: Floats, pose: Floats) -> LabelVolume:
        """Turn (R,) coefficients in a pose (6,) into a class map (X, Y, Z): every label in one piece."""
        scores, together, own = self._fields(coefficients, pose)
        inside = self._inside(together, pose)
        around = 1 + self._surroundings(scores, inside)
        parts = _in_one_piece(_with_shares(own, inside, self.shares), inside)
        return np.where(inside, 1 + self.context + parts, around).astype(np.uint8)

    def _inside(self, together: Floats, pose: Floats) -> npt.NDArray[np.bool_]:
        """Return the labels together (X, Y, Z): as many voxels as their spread and fill foretell, in one piece."""
        voxels = ELLIPSOID * float(np.exp(self.frame[9] + pose[3:].sum()))
        wanted = min(max(round(voxels), 1), together.size - 1)
        return _largest(together > float(np.partition(together, -wanted - 1, axis=None)[-wanted - 1]))

    def draw_scores(self, rng: np.random.Generator, pose: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Draw normal scores of surroundings (X, Y, Z), and the labels that they surround, in a pose (6,)."""
        scores, together, _ = self._fields(self.draw_coefficients(rng), pose)
        return np.zeros(self.shape, np.float32) if scores is None else scores, self._inside(together, pose)

    def scores_near(self, classes: LabelVolume) -> npt.NDArray[np.float32]:
        """Return the normal scores (X, Y, Z) that the basis can express nearest to those of a class map."""
        pose = pose_of(classes > self.context, self.reference)
        own = self.waves[:, 0] == 0
        coefficients = np.where(own, encode(classes, self, pose), 0)
        field = expanded(coefficients, self.waves, self.count, lattice_of(self.shape))[0]
        return from_reference(field, self.shape, pose, self.reference)

    @property
    def count(self) -> int:
        """Number of fields: scores (with surroundings), all labels together, each label (if there are several)."""
        return len(spectra_of(self.context, self.labels))

    def _fields(self, coefficients: Floats, pose: Floats) -> tuple[Floats | None, Floats, Floats]:
        total = self.mean.astype(np.float64) + coefficients
        lattice = expanded(total, self.waves, self.count, lattice_of(self.shape)) + centre_fields(self)
        fields = np.stack([from_reference(field, self.shape, pose, self.reference) for field in lattice])
        first = 1 if self.context > 1 else 0
        together = fields[first]
        own = fields[first + 1 :] if self.labels > 1 else together[None]
        return (fields[0] if self.context > 1 else None), together, own


def spectra_of(context: int, labels: int) -> tuple[Spectrum, ...]:
    """Return what is expected of each field of a model, in order."""
    return (*([SCORE] if context > 1 else []), DISTANCE, *([PARTS] * labels if labels > 1 else []))


def frame_of(classes: LabelVolume, context: int, low: Shape, high: Shape) -> Floats64:
    """Return the frame (10,) of a class map, as in `FRAME_CENTRE`; NaN where there is no label to tell."""
    shape, extent = np.array(classes.shape), np.array(high) - np.array(low)
    inside = classes > context
    pose = pose_of(inside, np.full(6, np.nan, np.float32)).astype(np.float64)
    middle = (np.array(low) + np.array(high) - 1) / 2
    fill = np.log(max(int(inside.sum()), 1) / ELLIPSOID) - pose[3:].sum()
    return np.array(
        [*np.log(extent / shape), *((pose[:3] - middle) / extent), *(pose[3:] - np.log(extent)), fill], np.float64
    )


def shares_of(classes: LabelVolume, context: int, labels: int) -> Floats64:
    """Return the shares of a class map's labels as logarithms around equal ones (L,); nothing with one label.

    NaN where there is no label to tell.
    """
    if labels == 1:
        return np.zeros(0)
    voxels = np.bincount(classes.ravel(), minlength=1 + context + labels)[1 + context :].astype(np.float64)
    if voxels.sum() == 0:
        return np.full(labels, np.nan)
    logarithms: Floats64 = np.log(np.maximum(voxels, LEAST_VOXELS) / voxels.sum() * labels)
    return logarithms


def shares_from(logarithms: Floats64) -> Floats64:
    """Return shares (max(L, 1),) that sum to 1 from what `shares_of` returns, or from a mean of that with noise."""
    raw = np.exp(logarithms) if logarithms.size else np.ones(1)
    shares: Floats64 = raw / raw.sum()
    return shares


def encode(classes: LabelVolume, model: CosineShapeModel, pose: Floats | None = None) -> Floats64:
    """Return the coefficients (R,) of a class map (X, Y, Z) around the model's public centre."""
    if pose is None:
        pose = pose_of(classes > model.context, model.reference)
    vector = class_vector(classes, model.context, model.labels, pose, model.reference)
    fields = vector.reshape(-1, *lattice_of(model.shape)).astype(np.float64)
    if model.context > 1:
        fields[0] /= SCORE_WEIGHT
    if model.labels > 1:
        fields[-model.labels :] -= fields[-model.labels :].mean(0)
    return projected(fields - centre_fields(model), model.waves)


def centre_fields(model: CosineShapeModel) -> Floats:
    """Return the public centre of a model's fields (F, a, b, c): no scores, an ellipsoid, its parts in a row."""
    pose = model.reference.astype(np.float64)
    spread = np.exp(pose[3:])
    places = np.indices(lattice_of(model.shape)).astype(np.float64) * LATTICE
    offset = (places - pose[:3, None, None, None]) / spread[:, None, None, None]
    radius = np.sqrt(np.square(offset).sum(0)) / np.sqrt(5)
    # To first order a point at `radius` times the border lies (radius − 1) times the border's distance outside.
    slope = np.sqrt(np.square(offset / spread[:, None, None, None]).sum(0)) / (5 * np.maximum(radius, 1e-6))
    depth = (1 - radius) / np.maximum(slope, 1e-6)
    fields = np.zeros((model.count, *radius.shape), np.float32)
    first = 1 if model.context > 1 else 0
    fields[first] = np.tanh(np.clip(depth, -4 * REACH, 4 * REACH) / REACH)
    if model.labels > 1:
        longest = int(np.argmax(model.shape))
        middles = np.sqrt(5) * (1 - (2 * np.arange(model.labels) + 1) / model.labels)
        away = np.abs(offset[longest] - middles[:, None, None, None]) * spread[longest]
        parts = np.tanh(-away / REACH)
        fields[first + 1 :] = parts - parts.mean(0)
    return fields


def save_cosines(model: CosineShapeModel, path: Path) -> None:
    """Write the model as safetensors, atomically."""
    tensors = {
        "mean": model.mean,
        "deviation": model.deviation,
        "limits": model.limits,
        "waves": model.waves,
        "frame": model.frame,
        "frame_deviation": model.frame_deviation,
        "shares": model.shares,
        "shape": np.array([*model.shape, model.context, model.labels], np.int64),
    }
    write_bytes(path, save({name: np.ascontiguousarray(value) for name, value in tensors.items()}))


def load_cosines(path: Path) -> CosineShapeModel:
    """Read what `save_cosines` wrote."""
    tensors = load_file(path)
    x, y, z, context, labels = (int(n) for n in tensors.pop("shape"))
    return CosineShapeModel.new((x, y, z), context, labels, tensors.pop("waves"), **tensors)


def _frame_in_voxels(frame: Floats64, shape: Shape) -> tuple[Floats, Floats]:
    """Return the field of view (6,) and the pose (6,) of a frame; the field of view lies in the grid's middle."""
    box = in_the_middle(frame[:3], shape)
    extent = box[3:] - box[:3]
    centre = (np.array(shape) - 1) / 2 + frame[3:6] * extent
    pose = np.concatenate([centre, np.log(extent) + frame[6:9]])
    return box.astype(np.float32), pose.astype(np.float32)


def _largest(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the largest piece of a mask."""
    pieces, count = ndimage.label(inside)
    if count <= 1:
        return inside
    largest: npt.NDArray[np.bool_] = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    return largest


def _with_shares(own: Floats, inside: npt.NDArray[np.bool_], shares: Floats64) -> npt.NDArray[np.int64]:
    """Return which label's field (L, X, Y, Z) is highest once each is raised so far that it takes its share inside."""
    level = np.zeros(len(own))
    values = own[:, inside].astype(np.float64)
    for number in (*range(1, len(own)),) * ROUNDS:
        others = np.delete(values + level[:, None], number, axis=0).max(0)
        level[number] = -np.quantile(values[number] - others, 1 - shares[number])
    parts: npt.NDArray[np.int64] = (own + level[:, None, None, None]).argmax(0)
    return parts


def _in_one_piece(parts: npt.NDArray[np.int64], inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Give what is cut off from the largest piece of its part to the part beside it."""
    kept = np.zeros(parts.shape, bool)
    for part in np.unique(parts[inside]):
        kept |= _largest(inside & (parts == part))
    nearest = ndimage.distance_transform_edt(~kept, return_distances=False, return_indices=True)
    joined: npt.NDArray[np.int64] = parts[tuple(nearest)]
    return joined
