"""Compare anonsynth's DICOM reader with dcm2niix on any folder: the worst difference of affine and voxels per series.

    python benchmarks/dicom_geometry.py DIR [DIR ...]

Each series is staged alone and converted by dcm2niix, so that every output is known to belong to it. Both sides are
reoriented to the closest RAS+ orientation and compared volume by volume; dcm2niix may part or merge volumes otherwise,
so each of ours is matched with the output that is closest in voxels and affine. Series are named by a running number
and a hash, never by what their headers say.

Exit status: 0 all within tolerance, 1 a series is out of tolerance, 2 nothing to compare or no dcm2niix.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt

from anonsynth.cohort.dicom.series import SeriesVolumes, iter_series
from anonsynth.cohort.sources import RawVolume
from anonsynth.errors import InputError

AFFINE_TOLERANCE = 1e-3
"""Largest difference of any entry of the affines, in mm (or mm per voxel)."""
VOXEL_TOLERANCE = 0.0
"""Voxels are equal; only values that a header scales may differ, by ROUNDING of their range."""
ROUNDING = 1e-6
CONVERSION_SECONDS = 600

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Canonical:
    """A volume in its closest RAS+ orientation.

    Attributes:
        array: (X, Y, Z) values.
        affine: (4, 4) to RAS+ mm.
        total: Sum of the values; the counterpart of a volume is first sought among those with the nearest sum.
    """

    array: Array
    affine: Array
    total: float


@dataclass(frozen=True)
class Match:
    """How far one volume of ours is from its counterpart.

    Attributes:
        affine: Largest difference of any entry of the affines, mm.
        voxels: Largest difference of any voxel.
        tolerance: What `voxels` may be.
    """

    affine: float
    voxels: float
    tolerance: float

    @property
    def good(self) -> bool:
        """Whether both are within tolerance."""
        return self.affine <= AFFINE_TOLERANCE and self.voxels <= self.tolerance


@dataclass(frozen=True)
class Comparison:
    """One series, compared.

    Attributes:
        name: The series' hash.
        volumes: Volumes we read.
        matches: Those that have a counterpart.
        alone: Ours without a counterpart.
        theirs_alone: dcm2niix's without a counterpart.
        notes: Why we leave parts of the series out, or cannot read them.
    """

    name: str
    volumes: int
    matches: tuple[Match, ...]
    alone: int
    theirs_alone: int
    notes: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether nothing is out of tolerance; what has no counterpart is said, and is an error only if both exist."""
        return all(match.good for match in self.matches) and not (self.alone and self.theirs_alone)


def find_dcm2niix() -> str | None:
    """Return the dcm2niix program: on the path, beside this Python, or in the dcm2niix package."""
    found = shutil.which("dcm2niix") or shutil.which("dcm2niix", path=str(Path(sys.executable).parent))
    if found:
        return found
    try:
        import dcm2niix
    except ImportError:
        return None
    return str(dcm2niix.bin)


def convert(program: str, files: Sequence[Path]) -> list[Canonical]:
    """Convert one series with dcm2niix; return all 3-D volumes of all outputs."""
    with tempfile.TemporaryDirectory() as folder:
        staged, out = Path(folder, "in"), Path(folder, "out")
        staged.mkdir()
        out.mkdir()
        for index, file in enumerate(files):
            (staged / f"{index:06d}.dcm").symlink_to(file.resolve())
        command = [program, "-b", "n", "-z", "n", "-w", "2", "-f", "volume_%s", "-o", str(out), str(staged)]
        subprocess.run(command, check=False, capture_output=True, timeout=CONVERSION_SECONDS)
        return [volume for path in sorted(out.glob("*.nii")) for volume in _load(path)]


def compare(series: SeriesVolumes, theirs: Sequence[Canonical]) -> Comparison:
    """Match our volumes of a series with dcm2niix's."""
    notes = [refusal.reason for refusal in series.refusals]
    left = list(theirs)
    matches: list[Match] = []
    alone = 0
    for volume in series.volumes:
        try:
            ours = canonical(volume.read())
        except InputError as error:
            notes.append(error.reason)
            continue
        found = closest(ours, left)
        if found is None:
            alone += 1
            continue
        left.pop(found[1])
        matches.append(found[0])
    return Comparison(series.name, len(series.volumes), tuple(matches), alone, len(left), tuple(dict.fromkeys(notes)))


def closest(ours: Canonical, others: Sequence[Canonical]) -> tuple[Match, int] | None:
    """Return the best match among volumes of the same shape, and its index; the first one within tolerance will do."""
    best: tuple[Match, int] | None = None
    for index in sorted(range(len(others)), key=lambda index: abs(others[index].total - ours.total)):
        if others[index].array.shape != ours.array.shape:
            continue
        match = measure(ours, others[index])
        if best is None or (match.voxels, match.affine) < (best[0].voxels, best[0].affine):
            best = (match, index)
        if match.good:
            return match, index
    return best


def measure(ours: Canonical, theirs: Canonical) -> Match:
    """Return the largest differences of two volumes of one shape."""
    scaled = not np.array_equal(theirs.array, np.rint(theirs.array))
    span = float(np.ptp(theirs.array)) if scaled else 0.0
    return Match(
        affine=float(np.abs(ours.affine - theirs.affine).max()),
        voxels=float(np.abs(ours.array - theirs.array).max()),
        tolerance=max(VOXEL_TOLERANCE, ROUNDING * span),
    )


def canonical(volume: RawVolume) -> Canonical:
    """Reorient what our reader returns."""
    return _canonical(nib.Nifti1Image(np.asarray(volume.array, np.float64), volume.affine))


def compare_folders(program: str, folders: Sequence[Path]) -> Iterator[Comparison]:
    """Compare every series under the folders, one at a time."""
    for series in iter_series(folders):
        yield compare(series, convert(program, series.files))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return the exit status."""
    parser = argparse.ArgumentParser(description="Compare anonsynth's DICOM reader with dcm2niix.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    folders: list[Path] = parser.parse_args(arguments).folders
    program = find_dcm2niix()
    if program is None:
        print("dcm2niix is not installed: pip install dcm2niix", file=sys.stderr)
        return 2
    print(f"{'series':<20}{'volumes':>8}{'matched':>8}{'affine, mm':>12}{'voxels':>12}  verdict")
    results = []
    for number, result in enumerate(compare_folders(program, folders), start=1):
        results.append(result)
        print(_line(number, result), flush=True)
    compared = sum(bool(result.matches) for result in results)
    bad = sum(not result.good for result in results)
    print(f"{len(results)} series, {compared} compared, {bad} out of tolerance (affine {AFFINE_TOLERANCE:g} mm)")
    if bad:
        return 1
    return 0 if compared else 2


def _line(number: int, result: Comparison) -> str:
    affine = f"{max(match.affine for match in result.matches):.2e}" if result.matches else "-"
    voxels = f"{max(match.voxels for match in result.matches):.3g}" if result.matches else "-"
    said = ["equal" if result.matches and result.good else "no comparison" if result.good else "OUT OF TOLERANCE"]
    if result.alone:
        said.append(f"{result.alone} without a counterpart in dcm2niix")
    if result.theirs_alone:
        said.append(f"{result.theirs_alone} of dcm2niix without a counterpart")
    said.extend(f"left out: {note}" for note in result.notes)
    head = f"{number:>4} {result.name:<15}{result.volumes:>8}{len(result.matches):>8}"
    return f"{head}{affine:>12}{voxels:>12}  {'; '.join(said)}"


def _load(path: Path) -> Iterator[Canonical]:
    image = nib.Nifti1Image.from_filename(path)
    if image.header.get_data_dtype().fields is not None:
        return
    array = image.get_fdata()
    for volume in np.moveaxis(array.reshape(*array.shape[:3], -1), -1, 0):
        yield _canonical(nib.Nifti1Image(volume, image.affine))


def _canonical(image: nib.Nifti1Image) -> Canonical:
    turned = nib.as_closest_canonical(image)
    array = np.asarray(turned.dataobj, np.float64)
    return Canonical(array, np.asarray(turned.affine, np.float64), float(array.sum()))


if __name__ == "__main__":
    sys.exit(main())
