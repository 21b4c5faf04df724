"""The audit on folders that other tools made: every layout, orientation, grid and data type, and the same answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from scipy import ndimage

from anonsynth.audits.audit import AuditSettings, audit
from anonsynth.audits.finding import AuditDocument, SampleResult, Verdict
from anonsynth.audits.loading import find_sources, open_sides
from anonsynth.audits.prepare import unique_names
from anonsynth.cohort.sources import SourceScan
from anonsynth.errors import InputError
from anonsynth.policies.model import AuditRules, Policy
from anonsynth.progress import Progress

POLICY = Policy(id="test", title="t", description="d", audit=AuditRules(max_copy_rate=0.3))
QUIET = Progress(quiet=True)
SIZE, SPACING = 20, 1.5
TRAIN, HOLDOUT, NEW = 16, 14, 5
COPIED = (1, 2, 4, 7, 8, 11)
COPIES = {f"gen{NEW + n:03d}" for n in range(len(COPIED))}


@dataclass(frozen=True)
class Stored:
    """How a scan is stored.

    Attributes:
        axes: Where the voxel axes point.
        dtype: Data type on disk.
        scale: What an intensity of 1 becomes.
        spacing: Voxel size of the grid it was resampled to, None for its own.
        margin: Voxels of air around the scan.
        centred: Whether the world's origin is in the middle of the volume.
    """

    axes: str = "RAS"
    dtype: type = np.float32
    scale: float = 700.0
    spacing: float | None = None
    margin: int = 0
    centred: bool = False


PLAIN = Stored()
LOSSLESS = (
    Stored(axes="LPS"),
    Stored(axes="PIR", dtype=np.uint8, scale=250),
    Stored(axes="SAL", scale=1.0, margin=4),
    Stored(centred=True, scale=1.7e6),
)
WAYS = (
    *LOSSLESS,
    Stored(spacing=1.2, dtype=np.int16),
    Stored(spacing=1.2, axes="LAS", dtype=np.uint8, scale=250, margin=3, centred=True),
)
Side = tuple[str, tuple[Stored, ...]]
"""A folder's layout (`labels`, `images`, `flat` or `bids`), and how its scans are stored, taken in turn."""


@cache
def _person(seed: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an image in [0, 1] and a label map: a body with its own shape, texture and lesion in noisy air."""
    rng = np.random.default_rng([seed, number])
    axes = np.meshgrid(*[np.linspace(-1, 1, SIZE)] * 3, indexing="ij")
    wobble = ndimage.gaussian_filter(rng.normal(size=(SIZE,) * 3), 4) * 6
    radius = sum((axis / size) ** 2 for axis, size in zip(axes, rng.uniform(0.65, 0.85, 3), strict=True)) + wobble
    body = radius < 1
    texture = ndimage.gaussian_filter(rng.normal(size=(SIZE,) * 3), 1.5)
    image = np.where(body, 0.55 + 0.12 * texture / texture.std(), 0)
    centre = rng.uniform(-0.3, 0.3, 3)
    lesion = body & (sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True)) < rng.uniform(0.04, 0.08))
    image = np.clip(image + 0.25 * lesion, 0, 1) + np.abs(rng.normal(0, 0.01, image.shape))
    return np.clip(image, 0, 1).astype(np.float32), body.astype(np.uint8) + lesion


def _file(volume: np.ndarray, stored: Stored) -> nib.Nifti1Image:
    label = volume.dtype == np.uint8
    spacing = stored.spacing or SPACING
    if stored.spacing:
        volume = ndimage.zoom(volume, SPACING / spacing, order=0 if label else 1)
    volume = np.pad(volume, stored.margin)
    if not label:
        volume = np.round(volume * stored.scale) if np.issubdtype(stored.dtype, np.integer) else volume * stored.scale
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = (
        [-(n - 1) / 2 * spacing for n in volume.shape] if stored.centred else [7.0, -31.0, 12.0 + stored.margin]
    )
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(tuple(stored.axes)))
    turned = nib.orientations.apply_orientation(volume, turn)
    dtype = np.uint8 if label else stored.dtype
    return nib.Nifti1Image(turned.astype(dtype), affine @ inv_ornt_aff(turn, volume.shape))


def _write(folder: Path, people: Sequence[tuple[np.ndarray, np.ndarray]], prefix: str, side: Side) -> Path:
    layout, ways = side
    for number, (image, label) in enumerate(people):
        name, stored = f"{prefix}{number:03d}", ways[number % len(ways)]
        paths = {
            "labels": (folder / "images" / f"{name}.nii.gz", folder / "labels" / f"{name}.nii.gz"),
            "images": (folder / "images" / f"{name}.nii",),
            "flat": (folder / f"{name}.nii.gz",),
            "bids": tuple(folder / f"sub-{name}" / "anat" / f"sub-{name}_{end}.nii.gz" for end in ("T1w", "dseg")),
        }[layout]
        for path, volume in zip(paths, (image, label), strict=False):
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(_file(volume, stored), path)
    if layout == "bids":
        (folder / "dataset_description.json").write_text('{"Name": "n", "BIDSVersion": "1.10.0"}', "utf-8")
    return folder


def _settings(folder: Path, synthetic: Side, train: Side, holdout: Side) -> AuditSettings:
    """Write new people and copies of training patients, the training and the holdout patients."""
    training = [_person(0, number) for number in range(TRAIN)]
    generated = [*(_person(2, number) for number in range(NEW)), *(training[number] for number in COPIED)]
    others = [_person(1, number) for number in range(HOLDOUT)]
    return AuditSettings(
        _write(folder / "synthetic", generated, "gen", synthetic),
        folder / "audit",
        train=_write(folder / "train", training, "t", train),
        holdout=_write(folder / "holdout", others, "h", holdout),
        weaker_copies=0,
        curve_copies=0,
    )


@pytest.fixture(scope="module", autouse=True)
def _no_report() -> Iterator[None]:
    """The report is tested elsewhere and takes as long as half of such an audit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("anonsynth.audits.audit.write_report", lambda path, *_: path.write_text("left out", "utf-8"))
        yield


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> AuditDocument:
    side = ("labels", (PLAIN,))
    return audit(_settings(tmp_path_factory.mktemp("plain"), side, side, side), POLICY, QUIET).document


def _named(document: AuditDocument) -> dict[str, SampleResult]:
    return {sample.id.removeprefix("sub-"): sample for sample in document.samples}


def _stored_alike(name: str, synthetic: Side, train: Side) -> bool:
    """Tell whether neither a copy nor its original was resampled."""
    number = int(name.removeprefix("gen"))
    sides = ((synthetic, number), (train, COPIED[number - NEW]))
    return all(ways[own % len(ways)].spacing is None for (_, ways), own in sides)


def _flagged(document: AuditDocument) -> set[str]:
    return {name for name, sample in _named(document).items() if sample.flagged}


def test_the_plain_folders_are_what_the_others_are_held_against(plain: AuditDocument) -> None:
    assert _flagged(plain) == COPIES
    assert plain.verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("synthetic", "train", "holdout"),
    [
        (("labels", WAYS), ("labels", (PLAIN,)), ("labels", (PLAIN,))),
        (("bids", WAYS), ("labels", WAYS[::-1]), ("bids", WAYS)),
        (("images", LOSSLESS), ("flat", (Stored(axes="SAL", dtype=np.uint8, scale=250),)), ("images", WAYS)),
        (("flat", (PLAIN,)), ("bids", (Stored(spacing=2.0, axes="LIP"),)), ("flat", (PLAIN, *WAYS))),
    ],
    ids=["every way to store a copy", "every way on every side", "images only", "flat against coarse BIDS"],
)
def test_however_folders_are_stored_the_same_scans_are_flagged(
    tmp_path: Path, plain: AuditDocument, synthetic: Side, train: Side, holdout: Side
) -> None:
    result = audit(_settings(tmp_path, synthetic, train, holdout), POLICY, QUIET)
    document = result.document
    assert _flagged(document) == COPIES
    assert document.verdict is plain.verdict
    found = _named(document)
    assert {found[name].nearest for name in COPIES} == {_named(plain)[name].nearest for name in COPIES}
    # What was resampled is flagged by its contrast, its edges or its label map, and noise and air look like nobody's.
    unchanged = [name for name in sorted(COPIES) if _stored_alike(name, synthetic, train)]
    assert all((found[name].similarity or 0) > 0.95 for name in unchanged)
    inputs = document.inputs
    assert (inputs.synthetic.scans, inputs.train.patients, inputs.holdout.patients) == (NEW + 6, TRAIN, HOLDOUT)
    assert inputs.synthetic.skipped == inputs.train.skipped == inputs.holdout.skipped == 0
    assert str(tmp_path) not in (result.folder / "audit.json").read_text("utf-8")
    assert inputs.synthetic.labelled == (NEW + 6 if synthetic[0] in ("labels", "bids") else 0)


def test_a_folder_with_no_holdout_is_refused_with_what_to_do_instead(tmp_path: Path) -> None:
    people = [_person(0, number) for number in range(3)]
    for layout in ("images", "labels", "bids"):
        synthetic = _write(tmp_path / layout / "synthetic", people, "gen", (layout, (PLAIN,)))
        train = _write(tmp_path / layout / "train", people, "t", (layout, (PLAIN,)))
        with pytest.raises(InputError, match=r"no holdout; .*--holdout.*ingest --holdout 0\.2") as refused:
            audit(AuditSettings(synthetic, tmp_path / "out", train=train), POLICY, QUIET)
        assert refused.value.remedy
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="no NIfTI file was found"):
        audit(AuditSettings(synthetic, tmp_path / "out", train=train, holdout=empty), POLICY, QUIET)


def test_an_unreadable_label_map_is_not_passed_over(tmp_path: Path) -> None:
    """Its image is compared, but the audit must not pass as if there had been nothing else to compare."""
    side = ("labels", (PLAIN,))
    settings = _settings(tmp_path, side, side, side)
    settings.out.mkdir()
    broken = settings.synthetic / "labels" / "gen000.nii.gz"
    label = nib.load(broken)
    nib.save(nib.Nifti1Image(label.get_fdata().astype(np.float32) * 0.5, label.affine), broken)
    for _ in range(2):  # the second time everything is there already, as after a kill
        sides = open_sides(settings, find_sources(settings, POLICY.audit), tmp_path / "work", QUIET)
        assert [(entry.scan, entry.reason) for entry in sides.skipped] == [
            ("gen000", "the label map has fractional values")
        ]
        counts = sides.inputs.synthetic
        assert (counts.scans, counts.labelled, counts.skipped) == (NEW + len(COPIED), NEW + len(COPIED) - 1, 1)


def test_training_files_that_cannot_be_compared_are_counted(tmp_path: Path) -> None:
    side = ("images", (PLAIN,))
    settings = _settings(tmp_path, side, side, side)
    assert settings.train is not None
    (settings.train / "images" / "broken.nii").write_bytes(b"nothing")
    (settings.train / "images" / "other.mgz").write_bytes(b"nothing")
    settings.out.mkdir()
    sides = open_sides(settings, find_sources(settings, POLICY.audit), tmp_path / "work", QUIET)
    assert sides.inputs.train.patients == TRAIN
    assert sides.inputs.train.skipped == 2
    assert sides.inputs.holdout.skipped == 0


def test_two_scans_never_share_a_name() -> None:
    """Two scans under one name would be read once, and the second never compared."""
    keys = ("a b", "a-b", "A-B", "a-b-2", "...", "scan")
    names = unique_names([SourceScan(key, "", ()) for key in keys])
    assert len({name.casefold() for name in names}) == len(keys)
    assert names == ("a-b", "a-b-2", "A-B-3", "a-b-2-2", "scan", "scan-2")
