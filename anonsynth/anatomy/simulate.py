"""A cohort of people who do not exist, written as source data, so that a demo starts where everybody starts: at ingest.

    OUT/sim-001/T1w.nii.gz, T1gd.nii.gz, T2w.nii.gz, FLAIR.nii.gz, seg.nii.gz      format nifti
    OUT/series/sim-001/T1w/0001.dcm, ... and OUT/labels/sim-001.nii.gz            format dicom

With `labels.tsv` and `patients.tsv`; where both formats are asked for, they lie in `OUT/nifti` and `OUT/dicom`.
"""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt

from anonsynth._version import __version__
from anonsynth.anatomy.dicom_series import SeriesOrigin, write_series
from anonsynth.anatomy.mri import SimulatedScan, draw_scan
from anonsynth.anatomy.physics import MODALITIES
from anonsynth.anatomy.subject import SubjectSettings
from anonsynth.cohort.geometry import Grid
from anonsynth.cohort.model import BRAIN_LABELS, LabelKind
from anonsynth.errors import InputError, UsageError
from anonsynth.files import begin_folder, finish_folder, is_finished, read_json, write_bytes, write_json, write_tsv
from anonsynth.progress import Progress
from anonsynth.seeds import stream

__all__ = ["DOCUMENT", "SimulateSettings", "simulate"]

DOCUMENT = "simulation.json"
"""What was asked for; its presence without an unfinished mark says that all patients are there."""
FORMATS = ("nifti", "dicom")
_FIELD_OF_VIEW = {False: (156.0, 192.0, 156.0), True: (204.0, 240.0, 204.0)}
"""Extent in mm without and with a head."""
_SITES = ("site-A", "site-B", "site-C")


@dataclass(frozen=True)
class SimulateSettings:
    """What to simulate.

    Attributes:
        out: Folder of the source data.
        patients: How many people.
        seed: The one seed; a patient depends on it and on the patient's number only.
        formats: `nifti`, `dicom` or both.
        spacing: Voxel size, mm; slices are as thick as pixels are wide.
        head: With skull and scalp, instead of skull-stripped.
        tumour: With a tumour in every patient.
        missing: Probability that a modality of a patient is left out; at least one stays.

    Raises:
        UsageError: If a value is out of range.
    """

    out: Path
    patients: int
    seed: int = 0
    formats: tuple[str, ...] = ("nifti",)
    spacing: float = 2.0
    head: bool = False
    tumour: bool = True
    missing: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated."""
        unknown = set(self.formats) - set(FORMATS)
        if unknown or not self.formats:
            msg = f"--format takes nifti, dicom or nifti,dicom, got {','.join(self.formats)!r}"
            raise UsageError(msg)
        if not 1 <= self.patients <= 9999:
            msg = f"the number of patients must be 1 to 9999, got {self.patients}"
            raise UsageError(msg)
        if not 0.8 <= self.spacing <= 8:
            msg = f"the spacing must be 0.8 to 8 mm, got {self.spacing:g}"
            raise UsageError(msg)
        if not 0 <= self.missing < 1:
            msg = f"the fraction of missing modalities must be at least 0 and below 1, got {self.missing:g}"
            raise UsageError(msg)

    @property
    def grid(self) -> Grid:
        """The grid of every scan."""
        nx, ny, nz = (round(length / self.spacing) for length in _FIELD_OF_VIEW[self.head])
        return Grid((nx, ny, nz), (self.spacing,) * 3).centred()

    def roots(self) -> dict[str, Path]:
        """Return the root folder of each format."""
        return {name: self.out if len(set(self.formats)) == 1 else self.out / name for name in self.formats}

    @property
    def source(self) -> Path:
        """What to give to ingest: the scans of the first format asked for."""
        form = self.formats[0]
        return _scans_of(form, self.roots()[form])


@dataclass(frozen=True)
class _Patient:
    name: str
    site: str
    scan: SimulatedScan
    kept: tuple[str, ...]
    stored: dict[str, npt.NDArray[np.uint16]]


def simulate(settings: SimulateSettings, progress: Progress) -> Path:
    """Write the simulated patients; resumes, and returns at once when all is there.

    Returns:
        The folder to give to ingest, `settings.source`.

    Raises:
        InputError: If the folder holds the patients of other settings.
    """
    roots = settings.roots()
    wanted = _record(settings)
    document = settings.out / DOCUMENT
    if document.exists() and read_json(document) != wanted:
        raise InputError("the folder holds patients simulated with other settings", remedy="choose another --out")
    if is_finished(settings.out, DOCUMENT):
        return settings.source
    begin_folder(settings.out)
    write_json(document, wanted)
    names = [f"sim-{number + 1:03d}" for number in range(settings.patients)]
    for root in roots.values():
        _write_tables(root, settings, names)
    for _ in progress.track(_patients(settings, names), total=len(names), what="simulating patients"):
        pass
    finish_folder(settings.out)
    return settings.source


def _record(settings: SimulateSettings) -> dict[str, object]:
    asked = {key: value for key, value in asdict(settings).items() if key != "out"}
    return {"schema": "anonsynth/simulation/1", "anonsynth": __version__, **asked, "formats": sorted(settings.formats)}


def _patients(settings: SimulateSettings, names: list[str]) -> Iterator[str]:
    """Write the patients that are not there yet, one after the other."""
    writers: dict[str, Callable[[Path, _Patient, int], None]] = {"nifti": _write_nifti, "dicom": _write_dicom}
    for name in names:
        missing = {form: root for form, root in settings.roots().items() if not (_scans_of(form, root) / name).exists()}
        if missing:
            patient = _draw(settings, name)
            for form, root in missing.items():
                writers[form](root, patient, settings.seed)
        yield name


def _draw(settings: SimulateSettings, name: str) -> _Patient:
    rng = stream(settings.seed, "simulate", name)
    scan = draw_scan(settings.grid, SubjectSettings(head=settings.head, tumour=settings.tumour), rng)
    chances = rng.random(len(MODALITIES))
    kept = [m for m, chance in zip(MODALITIES, chances, strict=True) if chance >= settings.missing]
    kept = kept or [MODALITIES[int(chances.argmax())]]
    # A scanner's scale is arbitrary and differs between images.
    stored = {m: (image * rng.uniform(500, 3500)).round().astype(np.uint16) for m, image in scan.images}
    return _Patient(name, _site(settings, name), scan, tuple(kept), stored)


def _site(settings: SimulateSettings, name: str) -> str:
    return str(stream(settings.seed, "site", name).choice(_SITES))


def _write_tables(root: Path, settings: SimulateSettings, names: list[str]) -> None:
    """Write who is who, and what the label values mean."""
    rows = [{"volume": name, "patient": name, "site": _site(settings, name)} for name in names]
    write_tsv(root / "patients.tsv", ("volume", "patient", "site"), rows)
    entries = [entry for entry in BRAIN_LABELS if _used(entry.value, entry.kind, settings)]
    lookup = [{"index": entry.value, "name": entry.name, "kind": entry.kind.value} for entry in entries]
    write_tsv(root / "labels.tsv", ("index", "name", "kind"), lookup)


def _used(value: int, kind: LabelKind, settings: SimulateSettings) -> bool:
    return (settings.tumour or kind is LabelKind.ANATOMY) and (settings.head or value < 7)


def _scans_of(form: str, root: Path) -> Path:
    return root if form == "nifti" else root / "series"


def _write_nifti(root: Path, patient: _Patient, _seed: int) -> None:
    with _arriving(_scans_of("nifti", root) / patient.name) as folder:
        for modality in patient.kept:
            _save(folder / f"{modality}.nii.gz", patient.stored[modality].astype(np.int16), patient.scan.grid)
        _save(folder / "seg.nii.gz", patient.scan.label, patient.scan.grid)


def _write_dicom(root: Path, patient: _Patient, seed: int) -> None:
    labels = root / "labels"
    labels.mkdir(exist_ok=True)
    shutil.copyfile(root / "labels.tsv", labels / "labels.tsv")
    _save(labels / f"{patient.name}.nii.gz", patient.scan.label, patient.scan.grid)
    with _arriving(_scans_of("dicom", root) / patient.name) as folder:
        for number, acquisition in enumerate(patient.scan.acquisitions, start=1):
            if acquisition.modality in patient.kept:
                origin = SeriesOrigin(patient.name, number, f"anonsynth simulate {seed} {patient.name}", patient.site)
                voxels = patient.stored[acquisition.modality]
                write_series(folder / acquisition.modality, voxels, patient.scan.grid, acquisition, origin)


@contextmanager
def _arriving(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder beside `folder` that takes its place when the block succeeds: all or nothing."""
    partial = folder.parent / f".{folder.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    partial.replace(folder)


def _save(path: Path, voxels: npt.NDArray[np.int16] | npt.NDArray[np.uint8], grid: Grid) -> None:
    image = nibabel.Nifti1Image(voxels, grid.affine)
    image.header.set_xyzt_units("mm", "sec")
    # Without a time stamp, so that the same seed gives the same bytes.
    write_bytes(path, gzip.compress(image.to_bytes(), compresslevel=6, mtime=0))
