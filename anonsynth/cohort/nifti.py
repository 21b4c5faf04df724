"""One NIfTI file, read with distrust: what its header promises is checked before anything is allocated.

nibabel's own loader repairs broken headers silently (a negative voxel size becomes positive), which would place a
label map beside its image. Here a header is refused or believed, never mended.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import nibabel as nib
import numpy as np
import numpy.typing as npt

from anonsynth.cohort.sources import RawVolume
from anonsynth.errors import InputError

__all__ = ["NiftiVolume", "is_nifti", "stem"]

MAX_VOXELS = 2**28
"""Largest volume that is read (a cube of 645 voxels), so that a forged header cannot take the machine's memory."""
DEFLATE_MAX_RATIO = 1032
"""Deflate cannot compress better than this, so a smaller .nii.gz cannot hold what its header promises."""
GZIP_MAGIC = b"\x1f\x8b"
CHUNK = 1 << 22
EXPORT_AGAIN = "export it again from where it came from"
REAL_CODES = {2, 4, 8, 16, 64, 256, 512, 768, 1024, 1280}


def is_nifti(path: Path) -> bool:
    """Tell by its name whether a file claims to be NIfTI."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def stem(path: Path) -> str:
    """Return a file's name without `.nii` or `.nii.gz`.

    Example:
        >>> stem(Path("images/a.b_0000.nii.gz"))
        'a.b_0000'
    """
    name = path.name
    for suffix in (".nii.gz", ".nii"):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return path.stem


@dataclass(frozen=True, slots=True)
class NiftiVolume:
    """A `.nii` or `.nii.gz` file, read when its turn comes."""

    path: Path

    def read(self) -> RawVolume:
        """Read the voxels, the file's scaling applied.

        Returns:
            (X, Y, Z) voxels of any real dtype and the (4, 4) affine to RAS+ mm; trailing axes of length 1 are dropped.

        Raises:
            InputError: One sentence for whatever is wrong with the file; its path only in `private_path`.
        """
        try:
            with self._open() as stream:
                header = _read_header(stream, self.path)
                shape = _shape(header, self.path)
                array = _read_voxels(stream, header, shape, self.path)
        except (EOFError, zlib.error):
            raise _refuse(
                "the compressed file is cut short or damaged", "copy or download it again", self.path
            ) from None
        except gzip.BadGzipFile:
            raise _refuse(
                "the compressed file fails its own checksum", "copy or download it again", self.path
            ) from None
        except OSError:
            raise _refuse("the file cannot be read", "check that it exists and may be read", self.path) from None
        return RawVolume(_scaled(array, header), _affine(header, self.path))

    def _open(self) -> IO[bytes]:
        path = self.path
        if path.is_symlink() and not path.exists():
            raise _refuse("the file is a link to nothing", "copy the file itself", path)
        if path.is_dir():
            raise _refuse("it is a folder with a file's name", "rename the folder", path)
        if path.stat().st_size == 0:
            raise _refuse("the file is empty", EXPORT_AGAIN, path)
        with path.open("rb") as stream:
            start = stream.read(4)
        compressed, named_gz = start[:2] == GZIP_MAGIC, path.name.lower().endswith(".gz")
        if named_gz and not compressed:
            raw = len(start) == 4 and 348 in (*struct.unpack("<i", start), *struct.unpack(">i", start))
            remedy = "rename it to .nii" if raw else EXPORT_AGAIN
            raise _refuse("the file is named .nii.gz but is not compressed with gzip", remedy, path)
        if compressed and not named_gz:
            raise _refuse("the file is named .nii but is compressed with gzip", "rename it to .nii.gz", path)
        return cast("IO[bytes]", gzip.open(path, "rb")) if compressed else path.open("rb")


def _refuse(reason: str, remedy: str, path: Path) -> InputError:
    return InputError(reason, remedy=remedy, private_path=path)


def _read_header(stream: IO[bytes], path: Path) -> nib.Nifti1Header:
    """Parse the header without nibabel's repairs; the stream is left behind it."""
    first = stream.read(4)
    sizes = {} if len(first) < 4 else {order: struct.unpack(order + "i", first)[0] for order in "<>"}
    for order, size in sizes.items():
        kind: Any = {348: nib.Nifti1Header, 540: nib.Nifti2Header}.get(size)
        if kind is None:
            continue
        block = first + stream.read(size - 4)
        if len(block) < size:
            raise _refuse("the file ends within its header", EXPORT_AGAIN, path)
        header = kind(block, endianness=order, check=False)
        magic = bytes(header["magic"])[:3]
        if magic in (b"ni1", b"ni2"):
            raise _refuse("the file is the header of a .hdr/.img pair", "convert the pair to one .nii.gz", path)
        if magic in (b"n+1", b"n+2"):
            return cast("nib.Nifti1Header", header)
    raise _refuse("the file is not NIfTI, whatever its name says", EXPORT_AGAIN, path)


def _shape(header: nib.Nifti1Header, path: Path) -> tuple[int, int, int]:
    count = int(header["dim"][0])
    if not 1 <= count <= 7:
        raise _refuse(f"the header says the image has {count} axes", EXPORT_AGAIN, path)
    lengths = [int(length) for length in header["dim"][1 : count + 1]]
    if min(lengths) < 1:
        raise _refuse("the image has no voxels", EXPORT_AGAIN, path)
    while len(lengths) > 3 and lengths[-1] == 1:
        lengths.pop()
    if len(lengths) > 3:
        many = math.prod(lengths[3:])
        raise _refuse(f"the image is {len(lengths)}-D with {many} volumes", "export one 3-D file per volume", path)
    if len(lengths) < 3 or min(lengths) == 1:
        raise _refuse("the image is 2-D, a single slice", "give the whole 3-D volume", path)
    if math.prod(lengths) > MAX_VOXELS:
        raise _refuse(f"the header promises more than {MAX_VOXELS:,} voxels", "crop or down-sample the volume", path)
    return (lengths[0], lengths[1], lengths[2])


def _read_voxels(
    stream: IO[bytes], header: nib.Nifti1Header, shape: tuple[int, int, int], path: Path
) -> npt.NDArray[np.generic]:
    code = int(header["datatype"])
    if code in (128, 2304):
        raise _refuse("the voxels are RGB colours", "export the grey-level image", path)
    if code in (32, 1792, 2048):
        raise _refuse("the voxels are complex numbers", "export the magnitude image", path)
    if code not in REAL_CODES:
        raise _refuse(f"the voxels have an unsupported data type (code {code})", "save it as int16 or float32", path)
    dtype = np.dtype(header.get_data_dtype())
    size = math.prod(shape) * dtype.itemsize
    offset = int(header["vox_offset"]) if np.isfinite(header["vox_offset"]) else 0
    on_disk = path.stat().st_size
    holds = on_disk * DEFLATE_MAX_RATIO if path.name.lower().endswith(".gz") else on_disk - offset
    if size > holds:
        raise _refuse("the file holds far fewer voxels than its header promises", EXPORT_AGAIN, path)
    stream.seek(max(offset, int(header["sizeof_hdr"]) + 4))
    voxels = np.empty(size, np.uint8)  # untouched pages cost nothing until they are filled
    filled = 0
    while filled < size:
        got = stream.read(min(CHUNK, size - filled))
        if not got:
            raise _refuse("the file holds fewer voxels than its header promises", EXPORT_AGAIN, path)
        voxels[filled : filled + len(got)] = np.frombuffer(got, np.uint8)
        filled += len(got)
    for _ in range(64):  # on to the end, where gzip keeps its checksum; what follows the voxels is not used
        if not stream.read(CHUNK):
            break
    return np.asarray(voxels.view(dtype).reshape(shape, order="F"))


def _scaled(array: npt.NDArray[np.generic], header: nib.Nifti1Header) -> npt.NDArray[np.generic]:
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if not np.isfinite(slope) or slope == 0:
        return native
    intercept = intercept if np.isfinite(intercept) else 0.0
    if (slope, intercept) == (1.0, 0.0):
        return native
    if native.dtype.itemsize > 2:
        return native.astype(np.float64) * slope + intercept
    return np.asarray(native.astype(np.float32) * np.float32(slope) + np.float32(intercept))


def _affine(header: nib.Nifti1Header, path: Path) -> npt.NDArray[np.float64]:
    sizes = np.asarray(header["pixdim"][1:4], np.float64)
    if not np.isfinite(sizes).all() or (sizes <= 0).any():
        raise _refuse("a voxel size in the header is not positive", "correct the header's pixdim", path)
    if int(header["sform_code"]) <= 0 and int(header["qform_code"]) <= 0:
        remedy = "set the sform from the original scan; left and right are unknown without it"
        raise _refuse("the header does not say where the voxels lie (sform and qform are 0)", remedy, path)
    try:
        affine = np.asarray(header.get_best_affine(), np.float64)
    except (ValueError, nib.spatialimages.HeaderDataError):
        raise _refuse("the rotation in the header is impossible", "correct the header's qform", path) from None
    return checked_affine(affine, path)


def checked_affine(affine: npt.NDArray[np.float64], path: Path) -> npt.NDArray[np.float64]:
    """Return the (4, 4) affine if it can be inverted; raise InputError otherwise."""
    columns = affine[:3, :3]
    lengths = np.linalg.norm(columns, axis=0)
    flat = not np.isfinite(affine).all() or (lengths <= 0).any()
    if flat or abs(np.linalg.det(columns / lengths)) < 1e-3:
        raise _refuse("the affine in the header is singular", "correct the header's sform", path)
    return affine
