"""From the positions of slices to the affine of a volume, and what makes slices no volume.

Slices are ordered by their position along the normal, never by name or instance number. The affine is the one dcm2niix
gives. Where a header rounds positions (GE writes six digits), the two ends of a stack and its first step disagree by
that rounding, and an affine has to settle on one of them; dcm2niix takes the first two slices of the numbering, and so
does this module: InstanceNumber decides which end is trusted, not which slice comes next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from anonsynth.cohort.dicom.header import Frame
from anonsynth.errors import InputError

__all__ = ["SAME_PLACE", "Placement", "along_normal", "axes", "mosaic_affine", "place", "same_orientation"]

Matrix = npt.NDArray[np.float64]

SAME_PLACE = 0.01
"""Slices closer than this (mm, along the normal) are at the same place."""
STEP_TOLERANCE = 0.05
"""Steps between slices may differ by this much (mm) from the median step, or by STEP_SHARE of it if that is more."""
STEP_SHARE = 0.02
ORIENTATION_TOLERANCE = 1e-3
"""Direction cosines of the slices of a volume may differ by this much."""
SHEAR_TOLERANCE = 0.01
"""In-plane drift of the stack per mm along the normal (about 0.6 degrees); a gantry tilt is more."""
ANCHOR_TOLERANCE = 0.5
"""The trusted first step may misplace the far end of the stack by this much (mm); beyond, the mean step is taken."""

_SEND_AGAIN = "send the whole series again from the scanner or the archive"
_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a stack of frames is.

    Attributes:
        frames: The frames in ascending order along the normal: the third axis of the volume.
        affine: (4, 4) from (column, row, slice) indices to RAS+ mm.
    """

    frames: tuple[Frame, ...]
    affine: Matrix


def axes(frame: Frame) -> Matrix:
    """Return (3, 3): the unit vectors (LPS+) along a row, along a column and along the normal, one a line.

    Raises:
        InputError: If the orientation is absent or its directions are not at right angles.
    """
    if frame.row is None or frame.column is None:
        raise InputError("the slices do not say how they are oriented", remedy=_SEND_AGAIN, private_path=frame.path)
    row = np.asarray(frame.row) / np.linalg.norm(frame.row)
    column = np.asarray(frame.column) / np.linalg.norm(frame.column)
    if abs(row @ column) > SHEAR_TOLERANCE:
        raise InputError(
            "the rows and columns of the slices are not at right angles", remedy=_SEND_AGAIN, private_path=frame.path
        )
    return np.stack([row, column, np.cross(row, column)])


def same_orientation(one: Frame, other: Frame) -> bool:
    """Tell whether two frames are parallel, with the same rows and columns."""
    if one.row is None or one.column is None or other.row is None or other.column is None:
        return one.row == other.row and one.column == other.column
    pairs = zip((*one.row, *one.column), (*other.row, *other.column), strict=True)
    return all(abs(a - b) <= ORIENTATION_TOLERANCE for a, b in pairs)


def along_normal(frames: Sequence[Frame]) -> npt.NDArray[np.float64]:
    """Return (n,) positions in mm of parallel frames along the first one's normal.

    Raises:
        InputError: If a position or the orientation is absent.
    """
    normal = axes(frames[0])[2]
    return np.asarray(_positions(frames) @ normal)


def place(frames: Sequence[Frame]) -> Placement:
    """Order parallel frames of one size along their normal and find their affine.

    Args:
        frames: At least one frame, of one size and orientation, each at its own place.

    Raises:
        InputError: If a slice is missing or doubled, if the steps differ or the stack is sheared, or if the header
            does not say where the slices are.
    """
    if frames[0].spacing is None:
        raise InputError("the slices do not say how large a pixel is", remedy=_SEND_AGAIN, private_path=frames[0].path)
    directions = axes(frames[0])
    offsets = along_normal(frames)
    order = np.argsort(offsets, kind="stable")
    ordered = [frames[index] for index in order]
    offsets = offsets[order]
    if len(ordered) == 1:
        return Placement(tuple(ordered), _affine(ordered[0], directions, ordered[0].gap or ordered[0].thickness or 1.0))
    _check_steps(ordered, np.diff(offsets))
    _check_shear(ordered, directions)
    numbers = np.array([frame.number for frame in ordered])
    descending = numbers[0] > numbers[-1]
    step = _step(ordered, offsets, descending=bool(descending), numbered=_in_sequence(numbers))
    affine = _affine(ordered[0], directions, step)
    if descending and _in_sequence(numbers):
        affine[:3, 3] = _affine(ordered[-1], directions, step)[:3, 3] - (len(ordered) - 1) * affine[:3, 2]
    return Placement(tuple(ordered), affine)


def mosaic_affine(frame: Frame, shape: tuple[int, int, int]) -> Matrix:
    """Return the affine of a mosaic taken apart into `shape` (columns, rows, slices).

    ImagePositionPatient of a Siemens mosaic is the corner of a slice as large as the whole mosaic around the true
    centre, so the true corner lies half the difference further in. A UIH grid states the true corner.
    """
    mosaic = frame.mosaic
    if mosaic is None:
        raise InputError("the mosaic does not say how it is made", remedy=_SEND_AGAIN, private_path=frame.path)
    directions = axes(frame)
    if directions[2] @ np.asarray(mosaic.normal) < 0:
        directions[2] = -directions[2]
    step = frame.gap or frame.thickness or 1.0
    if mosaic.corner is not None:
        return _affine(replace(frame, position=mosaic.corner), directions, step)
    affine = _affine(frame, directions, step)
    inset = [(frame.columns - shape[0]) / 2, (frame.rows - shape[1]) / 2]
    affine[:3, 3] += affine[:3, :2] @ np.array(inset)
    return affine


def _affine(corner: Frame, directions: Matrix, step: float) -> Matrix:
    """Return the RAS+ affine of a stack that starts at `corner` and takes steps of `step` mm along the normal."""
    if corner.spacing is None or corner.position is None:
        raise InputError("a slice does not say where it is", remedy=_SEND_AGAIN, private_path=corner.path)
    between_rows, between_columns = corner.spacing
    affine = np.eye(4)
    affine[:3, :3] = directions.T * np.array([between_columns, between_rows, step])
    affine[:3, 3] = corner.position
    return np.asarray(_TO_RAS @ affine)


def _positions(frames: Sequence[Frame]) -> Matrix:
    for frame in frames:
        if frame.position is None:
            raise InputError("a slice does not say where it is", remedy=_SEND_AGAIN, private_path=frame.path)
    return np.array([frame.position for frame in frames], dtype=np.float64)


def _in_sequence(numbers: npt.NDArray[np.int64]) -> bool:
    """Tell whether instance numbers rise or fall all along the stack."""
    differences = np.diff(numbers)
    return bool((differences > 0).all() or (differences < 0).all())


def _step(ordered: Sequence[Frame], offsets: npt.NDArray[np.float64], *, descending: bool, numbered: bool) -> float:
    """Return the distance in mm between neighbouring slices; see the module's docstring."""
    mean = float((offsets[-1] - offsets[0]) / (len(offsets) - 1))
    if ordered[0].frames > 1:
        first = ordered[0].gap or mean
    else:
        near, far = (ordered[-1], ordered[-2]) if descending and numbered else (ordered[0], ordered[1])
        ends = _positions([near, far])
        first = float(np.linalg.norm(ends[1] - ends[0]))
    return first if abs(first - mean) * (len(offsets) - 1) <= ANCHOR_TOLERANCE else mean


def _check_steps(ordered: Sequence[Frame], steps: npt.NDArray[np.float64]) -> None:
    path = ordered[0].path
    if steps.min() <= SAME_PLACE:
        raise InputError("a slice is there twice", remedy="remove the second copy", private_path=path)
    typical = float(np.median(steps))
    tolerance = max(STEP_TOLERANCE, STEP_SHARE * typical)
    if np.abs(steps - typical).max() <= tolerance:
        return
    # With few slices a gap can outweigh the median, so gaps are counted in the smallest step.
    unit = float(steps.min())
    multiples = np.rint(steps / unit)
    if np.abs(steps - multiples * unit).max() <= max(STEP_TOLERANCE, STEP_SHARE * unit) * multiples.max():
        missing = int((multiples - 1).sum())
        words = "a slice is" if missing == 1 else f"{missing} slices are"
        raise InputError(f"{words} missing", remedy=_SEND_AGAIN, private_path=path)
    raise InputError(
        f"the distance between slices is not constant: {steps.min():.2f} to {steps.max():.2f} mm",
        remedy=_SEND_AGAIN,
        private_path=path,
    )


def _check_shear(ordered: Sequence[Frame], directions: Matrix) -> None:
    """Refuse stacks whose slices are shifted against each other, as with a tilted gantry."""
    relative = _positions(ordered) - np.asarray(ordered[0].position)
    along = relative @ directions[2]
    drift = np.linalg.norm(relative @ directions[:2].T, axis=1)
    if (drift > SHEAR_TOLERANCE * along + ANCHOR_TOLERANCE).any():
        raise InputError(
            "the slices are shifted against each other (a tilted gantry?)",
            remedy="resample the series to a straight stack, or leave it out",
            private_path=ordered[0].path,
        )
