"""A volume of a DICOM series, read when its turn comes: pixel data to (X, Y, Z), scaled as dcm2niix scales it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import FileDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from anonsynth.cohort.dicom.geometry import mosaic_affine, place
from anonsynth.cohort.dicom.header import Frame, Mosaic, Scaling
from anonsynth.cohort.dicom.quiet import BROKEN, quiet_pydicom
from anonsynth.cohort.sources import RawVolume
from anonsynth.errors import InputError

__all__ = ["DicomVolume"]

Pixels = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class DicomVolume:
    """The frames of one 3-D volume, in any order, or the one frame of a mosaic; a `VolumeSource`."""

    frames: tuple[Frame, ...]

    @property
    def path(self) -> Path:
        """The first file of the volume; private."""
        return min(frame.path for frame in self.frames)

    def read(self) -> RawVolume:
        """Decode the pixel data.

        Returns:
            (X, Y, Z) = (columns, rows, slices) in the stored integer type, or float where the header scales values;
            slices ascend along the normal.

        Raises:
            InputError: If a file cannot be decoded or does not hold what its header promised.
        """
        mosaic = self.frames[0].mosaic
        if mosaic is not None:
            return _read_mosaic(self.frames[0], mosaic)
        placement = place(self.frames)
        slices: list[Pixels | None] = [None] * len(placement.frames)
        for index, pixels in _decoded(placement.frames):
            slices[index] = pixels.T
        array = np.stack([pixels for pixels in slices if pixels is not None], axis=-1)
        return RawVolume(_scaled(array, [frame.scaling for frame in placement.frames]), placement.affine)


def _read_mosaic(frame: Frame, mosaic: Mosaic) -> RawVolume:
    """Take a mosaic apart; a Siemens one is square, a UIH one as high as its tiles need."""
    count = mosaic.count
    tiles = math.isqrt(count - 1) + 1
    high = tiles if mosaic.corner is None else math.ceil(count / tiles)
    rows, columns = frame.rows // high, frame.columns // tiles
    [(_, pixels)] = _decoded([frame])
    slices = []
    for tile in range(count):
        down, across = rows * (tile // tiles), columns * (tile % tiles)
        slices.append(pixels[down : down + rows, across : across + columns].T)
    array = np.stack(slices, axis=-1)
    return RawVolume(_scaled(array, [frame.scaling]), mosaic_affine(frame, (columns, rows, count)))


def _decoded(frames: Sequence[Frame]) -> Iterator[tuple[int, Pixels]]:
    """Yield (index in `frames`, (rows, columns) stored values); every file is opened once."""
    by_file = sorted(range(len(frames)), key=lambda index: frames[index].path)
    for path, indices in groupby(by_file, key=lambda index: frames[index].path):
        pixels = _decode(path)
        for index in indices:
            frame = frames[index]
            image = pixels[frame.index] if pixels.ndim == 3 else pixels
            if image.shape != (frame.rows, frame.columns) or (pixels.ndim == 3 and len(pixels) != frame.frames):
                raise InputError(
                    "the pixel data has another size than the header says",
                    remedy="copy the file again from where it came from",
                    private_path=path,
                )
            yield index, image


def _decode(path: Path) -> Pixels:
    """Return the stored values of a file, (rows, columns) or (frames, rows, columns)."""
    try:
        with quiet_pydicom():
            dataset = pydicom.dcmread(path, force=True)
            _name_syntax(dataset)
            stored = int(dataset.BitsStored)
            pixels = dataset.pixel_array
    except BROKEN:
        raise InputError(
            "the pixel data cannot be decoded: it is cut off, or compressed in a way anonsynth cannot undo",
            remedy="copy the file again, or decompress it (gdcmconv --raw)",
            private_path=path,
        ) from None
    return _only_stored_bits(pixels, stored)


def _name_syntax(dataset: FileDataset) -> None:
    """Write down the encoding of a file that lacks the part of the header that names it."""
    if "TransferSyntaxUID" in dataset.file_meta:
        return
    implicit, little = dataset.original_encoding
    native = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    dataset.file_meta.TransferSyntaxUID = native if little else ExplicitVRBigEndian


def _only_stored_bits(pixels: Pixels, stored: int) -> Pixels:
    """Clear what old software keeps in the unused high bits: overlays, or no sign where one belongs."""
    unused = pixels.dtype.itemsize * 8 - stored
    if unused <= 0 or pixels.dtype.kind not in "iu":
        return pixels
    integers = pixels.astype(pixels.dtype.newbyteorder("="))
    return np.right_shift(np.left_shift(integers, unused), unused)


def _scaled(array: Pixels, scalings: Sequence[Scaling]) -> Pixels:
    """Apply the scaling of the slices.

    One scaling for all is applied as a NIfTI reader applies scl_slope: factors rounded to 32 bits, the product in 64.
    Philips' scale slope then gives the values before display scaling (Chenevert et al. 2014, Transl Oncol 7:65). Where
    slices differ, their own slope and intercept are applied in 32 bits.
    """
    with np.errstate(all="ignore"):
        return _scaled_as_told(array, scalings)


def _scaled_as_told(array: Pixels, scalings: Sequence[Scaling]) -> Pixels:
    first = scalings[0]
    if any(scaling != first for scaling in scalings):
        slopes = np.array([scaling.slope for scaling in scalings], np.float32)
        intercepts = np.array([scaling.intercept for scaling in scalings], np.float32)
        return np.asarray(array.astype(np.float32) * slopes + intercepts)
    slope, intercept = np.float32(first.slope), np.float32(first.intercept)
    if first.philips:
        whole = slope * np.float32(first.philips)
        at_zero, at_one = intercept / whole, (slope + intercept) / whole
        slope, intercept = at_one - at_zero, at_zero
    if slope == 1 and intercept == 0:
        return array
    return np.asarray(array.astype(np.float64) * np.float64(slope) + np.float64(intercept))
