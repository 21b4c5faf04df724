"""What an audit compares: the substitute cohort, the training patients and the holdout, all on the training grid."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from anonsynth._version import __version__
from anonsynth.audits.finding import Inputs, Side
from anonsynth.audits.prepare import NamedScan, Skipped, choose_grid, modalities_of, prepare, unique_names
from anonsynth.cohort.layouts import find_nifti
from anonsynth.cohort.model import ScanRecord, Split
from anonsynth.cohort.sources import SourceScan
from anonsynth.cohort.store import Cohort, open_cohort
from anonsynth.errors import InputError, UsageError
from anonsynth.files import sha256_file, write_tsv
from anonsynth.policies.model import AuditRules
from anonsynth.progress import Progress
from anonsynth.synthesis.model import check_weights, open_model
from anonsynth.synthesis.pairing import pair

__all__ = ["AuditSettings", "Sides", "Sources", "check_model", "curve_copies_for", "find_sources", "open_sides"]

NO_HOLDOUT = (
    "give patients the generator never saw with --holdout, or set some aside before training with "
    "`anonsynth ingest --holdout 0.2`; without them nobody can say how near is too near"
)


def curve_copies_for(planted: int) -> int:
    """Return how many copies to plant at each further strength of the curves: a sixth of `planted`, rounded up."""
    return -(-planted // 6)


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """What to audit, and against what: either a cohort, or a folder of training and one of holdout scans.

    Attributes:
        synthetic: Folder of generated NIfTI: `images/` with optional `labels/`, BIDS, or flat; made by any tool.
        out: The audit's folder; private, it shows real scans.
        cohort: A cohort that `anonsynth ingest` wrote.
        train: Folder of the scans that the generator was trained on.
        holdout: Folder of scans of other patients.
        seed: Seed of the controls.
        weaker_copies: Training patients that each weaker kind of planted copy is tried on; 0 leaves those out.
        curve_copies: Training patients at each further strength of the power curves; 0 leaves those out.
        model: The model that made the substitute cohort, if its weights are to be released and attacked too.
    """

    synthetic: Path
    out: Path
    cohort: Path | None = None
    train: Path | None = None
    holdout: Path | None = None
    seed: int = 0
    weaker_copies: int = 6
    curve_copies: int = 1
    model: Path | None = None


@dataclass(frozen=True, slots=True)
class Sources:
    """What was found before any voxel is read.

    Attributes:
        synthetic: Generated scans.
        train: Training scans of a folder; empty with a cohort.
        holdout: Holdout scans of a folder; empty with a cohort.
        cohort: The cohort, if there is one.
        hashes: Hash over the files of each side: synthetic, train, holdout.
        refused: Files of each side that its layout cannot place: synthetic, train, holdout.
        sha256: Hash over all of it, the seed, the rules and the version; equal means the same audit.
    """

    synthetic: tuple[NamedScan, ...]
    train: tuple[NamedScan, ...]
    holdout: tuple[NamedScan, ...]
    cohort: Cohort | None
    hashes: tuple[str, str, str]
    refused: tuple[int, int, int]
    sha256: str


@dataclass(frozen=True, slots=True)
class Sides:
    """Both sides of the comparison on one grid, read one scan at a time.

    Attributes:
        reference: Training and holdout patients.
        synthetic: Generated scans, each a patient of its own.
        inputs: Counts and hashes.
        skipped: Generated scans that could not be compared.
    """

    reference: Cohort
    synthetic: Cohort
    inputs: Inputs
    skipped: tuple[Skipped, ...]


def find_sources(settings: AuditSettings, rules: AuditRules) -> Sources:
    """Find all scans by their names and hash their files.

    Raises:
        UsageError: If it is not clear what to compare with.
        InputError: If there is no holdout, a folder holds no scans, or a patient is on both sides.
    """
    _check(settings)
    findings = find_nifti(settings.synthetic)
    names = unique_names(findings.scans)
    synthetic = tuple(
        NamedScan(name, name, Split.TRAIN, scan) for name, scan in zip(names, findings.scans, strict=True)
    )
    cohort: Cohort | None = None
    train: tuple[NamedScan, ...] = ()
    holdout: tuple[NamedScan, ...] = ()
    refused = (0, 0)
    if settings.cohort is not None:
        cohort = open_cohort(settings.cohort)
        if not cohort.of(Split.HOLDOUT):
            raise InputError("the cohort has no holdout patients", remedy=NO_HOLDOUT)
        sides = (_digest(r.sha256 for r in cohort.of(Split.TRAIN)), _digest(r.sha256 for r in cohort.of(Split.HOLDOUT)))
    elif settings.train is not None and settings.holdout is not None:
        train, holdout, refused = _reference(settings.train, settings.holdout)
        sides = (_hash_files(train), _hash_files(holdout))
    hashes = (_hash_files(synthetic), *sides)
    total = _digest(
        [
            *hashes,
            str(settings.seed),
            str(settings.weaker_copies),
            str(settings.curve_copies),
            rules.model_dump_json(),
            __version__,
            *([] if settings.model is None else check_model(settings.model, cohort)),
        ]
    )
    return Sources(synthetic, train, holdout, cohort, hashes, (len(findings.refusals), *refused), total)


def open_sides(settings: AuditSettings, sources: Sources, work: Path, progress: Progress) -> Sides:
    """Bring everything onto the training grid and open it.

    Args:
        settings: What to audit.
        sources: What `find_sources` found.
        work: Private working folder of this audit.
        progress: Shows how far it is.
    """
    reference = sources.cohort
    if reference is None:
        named = (*sources.train, *sources.holdout)
        grid = choose_grid([scan.source for scan in sources.train], progress)
        modalities = modalities_of([scan.source for scan in sources.train])
        reference, lost = prepare(named, work / "reference", grid, modalities, progress, as_they_are=False)
        _require_both(reference)
        _write_names(settings.out / "private_names.tsv", named, lost)
    shape = reference.info.modalities
    synthetic, skipped = prepare(
        sources.synthetic,
        work / "synthetic",
        reference.grid,
        shape,
        progress,
        as_they_are=sources.cohort is not None,
    )
    train, holdout = reference.of(Split.TRAIN), reference.of(Split.HOLDOUT)
    inputs = Inputs(
        anonsynth=__version__,
        seed=settings.seed,
        grid_shape=reference.grid.shape,
        grid_spacing=reference.grid.spacing,
        modalities=reference.info.modalities,
        synthetic=_side(synthetic.records, sources.hashes[0], len(skipped) + sources.refused[0]),
        train=_side(train, sources.hashes[1], max(len(sources.train) - len(train), 0) + sources.refused[1]),
        holdout=_side(holdout, sources.hashes[2], max(len(sources.holdout) - len(holdout), 0) + sources.refused[2]),
        sha256=sources.sha256,
    )
    return Sides(reference, synthetic, inputs, skipped)


def check_model(folder: Path, cohort: Cohort | None) -> tuple[str, ...]:
    """Return the hashes of a model's weights, after seeing that the cohort can be the one it was trained on.

    Raises:
        UsageError: If there is no cohort.
        InputError: If the model was trained on another cohort, or is unfinished.
    """
    if cohort is None:
        raise UsageError("--model needs the cohort that the model was trained on: name it with --cohort")
    info = open_model(folder)
    check_weights(folder, info)
    pair(info, cohort)
    return tuple(f"{name} {digest}" for name, digest in sorted(info.weights_sha256.items()))


def _check(settings: AuditSettings) -> None:
    if settings.cohort is None and settings.train is None:
        raise UsageError("name what to compare with: --cohort COHORT, or --train DIR and --holdout DIR")
    if settings.cohort is not None and (settings.train is not None or settings.holdout is not None):
        raise UsageError("--cohort already holds both sides; leave --train and --holdout out")
    if settings.cohort is None and settings.holdout is None:
        raise InputError("there is no holdout", remedy=NO_HOLDOUT)


def _reference(train: Path, holdout: Path) -> tuple[tuple[NamedScan, ...], tuple[NamedScan, ...], tuple[int, int]]:
    found = [find_nifti(train), find_nifti(holdout)]
    sides = [findings.scans for findings in found]
    patients = [{scan.patient for scan in scans} for scans in sides]
    both = len(patients[0] & patients[1])
    if both:
        remedy = "a patient's scans all belong to one side; name other folders, or give each a patients.tsv"
        raise InputError(f"{both} patients are in the training and in the holdout folder", remedy=remedy)
    named = []
    for letter, split, scans, people in zip("TH", (Split.TRAIN, Split.HOLDOUT), sides, patients, strict=True):
        pseudonyms = {patient: f"{letter}{number:04d}" for number, patient in enumerate(sorted(people), start=1)}
        visits = dict.fromkeys(people, 0)
        rows = []
        for scan in scans:
            visits[scan.patient] += 1
            name = pseudonyms[scan.patient]
            rows.append(NamedScan(f"{name}-S{visits[scan.patient]:02d}", name, split, scan))
        named.append(tuple(rows))
    return named[0], named[1], (len(found[0].refusals), len(found[1].refusals))


def _require_both(reference: Cohort) -> None:
    if not reference.of(Split.TRAIN):
        raise InputError("no training scan can be read", remedy="name a folder of readable NIfTI images")
    if not reference.of(Split.HOLDOUT):
        raise InputError("no holdout scan can be read", remedy=NO_HOLDOUT)


def _write_names(path: Path, named: Sequence[NamedScan], lost: Sequence[Skipped]) -> None:
    """Say which file a pseudonym stands for; private, like the whole folder."""
    reasons = {entry.scan: entry.reason for entry in lost}
    rows = [
        {
            "scan": n.scan,
            "patient": n.source.patient,
            "path": n.source.modalities[0][1].path,
            "skipped": reasons.get(n.scan),
        }
        for n in named
    ]
    write_tsv(path, ("scan", "patient", "path", "skipped"), rows)


def _side(records: Sequence[ScanRecord], sha256: str, skipped: int) -> Side:
    return Side(
        patients=len({record.patient for record in records}),
        scans=len(records),
        labelled=sum(record.labelled for record in records),
        skipped=skipped,
        sha256=sha256,
    )


def _hash_files(scans: Iterable[NamedScan]) -> str:
    return _digest(f"{named.scan} {sha256_file(path)}" for named in scans for path in _files(named.source))


def _files(scan: SourceScan) -> tuple[Path, ...]:
    volumes = [source for _, source in scan.modalities] + ([scan.label] if scan.label else [])
    return tuple(volume.path for volume in volumes if volume.path.is_file())


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode("utf-8")).hexdigest()
