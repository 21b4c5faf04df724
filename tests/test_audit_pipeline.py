from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel as nib
import pytest
from conftest import make_tiny_cohort
from typer.testing import CliRunner

from anonsynth.audits.audit import AuditResult, AuditSettings, audit
from anonsynth.audits.finding import Verdict
from anonsynth.cli.main import app
from anonsynth.cohort.model import Split
from anonsynth.cohort.store import Cohort, Scan
from anonsynth.errors import InputError, UsageError
from anonsynth.policies.model import AuditRules, Policy
from anonsynth.progress import Progress

POLICY = Policy(id="test", title="t", description="d", audit=AuditRules(max_copy_rate=0.2))
QUIET = Progress(quiet=True)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return make_tiny_cohort(tmp_path_factory.mktemp("audit") / "cohort", patients=32, holdout=10)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Patients of the same kind whom nobody trained on: the best generator there could be."""
    return make_tiny_cohort(tmp_path_factory.mktemp("others") / "cohort", patients=20, holdout=1, seed=99)


def write_bids(folder: Path, scans: list[tuple[str, Scan]], cohort: Cohort) -> Path:
    for name, scan in scans:
        anat = folder / f"sub-{name}" / "anat"
        anat.mkdir(parents=True)
        for channel, modality in enumerate(cohort.info.modalities):
            if scan.present[channel]:
                path = anat / f"sub-{name}_{modality}.nii.gz"
                nib.save(nib.Nifti1Image(scan.image[channel], cohort.grid.affine), path)
        nib.save(nib.Nifti1Image(scan.label, cohort.grid.affine), anat / f"sub-{name}_dseg.nii.gz")
    (folder / "dataset_description.json").write_text('{"Name": "substitute", "BIDSVersion": "1.10.0"}', "utf-8")
    return folder


def _generated(others: Cohort) -> list[tuple[str, Scan]]:
    return [(f"synth{n:04d}", others.load(record)) for n, record in enumerate(others.records, start=1)]


def _copies(cohort: Cohort, count: int) -> list[tuple[str, Scan]]:
    return [(f"copy{n:02d}", cohort.load(record)) for n, record in enumerate(cohort.of(Split.TRAIN)[2 : 2 + count])]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory, cohort: Cohort, others: Cohort) -> AuditResult:
    folder = tmp_path_factory.mktemp("clean")
    synthetic = write_bids(folder / "synthetic", _generated(others), cohort)
    return audit(
        AuditSettings(synthetic, folder / "audit", cohort=cohort.folder, weaker_copies=2, curve_copies=1), POLICY, QUIET
    )


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory, cohort: Cohort, others: Cohort) -> Path:
    return write_bids(tmp_path_factory.mktemp("leaky") / "synthetic", _generated(others) + _copies(cohort, 6), cohort)


def test_nothing_is_flagged_where_nobody_was_copied(clean: AuditResult) -> None:
    assert clean.document.verdict is Verdict.PASS, clean.sentence
    assert not any(sample.flagged for sample in clean.document.samples)
    controls = {control.kind: control for control in clean.document.controls}
    assert controls["exact copy"].detected == controls["exact copy"].planted == 22
    for kind in (
        "image copied, new label map",
        "left and right swapped",
        "noise at 15 dB",
        "label map copied, new image",
    ):
        assert controls[kind].detected == controls[kind].planted == 2, kind
    assert controls["blended with weight 0.1"].planted == 1
    assert "Power by strength" in clean.report.read_text("utf-8")
    assert not (clean.folder / "work").exists()
    assert not (clean.folder / "UNFINISHED").exists()


def test_planted_copies_are_all_flagged_and_the_command_says_fail(
    tmp_path: Path, leaky: Path, cohort: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    command = [
        "audit",
        str(leaky),
        "--cohort",
        str(cohort.folder),
        "--out",
        str(tmp_path / "audit"),
        "--json",
        "--planted",
        "1",
    ]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 4, result.stderr
    document = json.loads(result.stdout)
    flagged = {sample["id"] for sample in document["samples"] if sample["flagged"]}
    copies = {sample["id"] for sample in document["samples"] if sample["id"].startswith("copy")}
    assert len(copies) == 6
    assert copies <= flagged
    assert len(flagged - copies) <= 1
    assert "FAIL: " in result.stderr
    best = next(sample for sample in document["samples"] if sample["id"] in copies)
    assert best["similarity"] == pytest.approx(1)
    assert any("identical" in reason for reason in best["reasons"])
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 4
    assert "nothing was computed again" in again.stderr
    assert json.loads(again.stdout) == document


def test_the_report_needs_nothing_from_outside(clean: AuditResult) -> None:
    html = clean.report.read_text("utf-8")
    assert not re.findall(r"https?://|src=\"(?!data:)|url\(", html)
    assert "default-src 'none'" in html
    assert "INTERNAL: shows real patients, must not leave" in html
    assert "PASS: none of 20" in html
    images = re.findall(r"<img [^>]*>", html)
    assert len(images) >= 4
    assert all(re.search(r'alt="[^"]{20,}"', image) for image in images)
    assert html.index("PASS: none") < html.index("<table")
    assert "<script" not in html


def test_names_of_generated_scans_are_escaped(tmp_path: Path, tiny_cohort: Cohort, others: Cohort) -> None:
    images = tmp_path / "synthetic" / "images"
    images.mkdir(parents=True)
    scan = others.load(others.records[0])
    for number in range(3):
        volume = nib.Nifti1Image(scan.image[0] * (1 + number), tiny_cohort.grid.affine)
        nib.save(volume, images / f"a<b>&{number}_T1w.nii.gz")
    result = audit(
        AuditSettings(
            tmp_path / "synthetic", tmp_path / "out", cohort=tiny_cohort.folder, weaker_copies=0, curve_copies=0
        ),
        POLICY,
        QUIET,
    )
    assert result.document.verdict is not Verdict.PASS
    assert "a<b>" not in result.report.read_text("utf-8")


def test_without_a_holdout_it_refuses_and_says_what_to_do(tmp_path: Path, leaky: Path) -> None:
    with pytest.raises(InputError, match=r"no holdout; .*--holdout"):
        audit(AuditSettings(leaky, tmp_path / "out", train=leaky), POLICY, QUIET)
    with pytest.raises(InputError, match="patients are in the training and in the holdout"):
        audit(AuditSettings(leaky, tmp_path / "out", train=leaky, holdout=leaky), POLICY, QUIET)
    with pytest.raises(UsageError, match="--cohort"):
        audit(AuditSettings(leaky, tmp_path / "out"), POLICY, QUIET)
    result = CliRunner().invoke(app, ["audit", str(leaky), "--train", str(leaky), "--out", str(tmp_path / "out")])
    assert isinstance(result.exception, InputError)


def test_somebody_elses_folder_is_not_written_into(tmp_path: Path, leaky: Path, cohort: Cohort) -> None:
    (tmp_path / "thesis.txt").write_text("mine", "utf-8")
    with pytest.raises(UsageError, match="holds other things"):
        audit(AuditSettings(leaky, tmp_path, cohort=cohort.folder, weaker_copies=0, curve_copies=0), POLICY, QUIET)


def test_few_patients_are_inconclusive(tmp_path: Path, tiny_cohort: Cohort, others: Cohort) -> None:
    synthetic = write_bids(tmp_path / "synthetic", _generated(others), tiny_cohort)
    result = audit(
        AuditSettings(synthetic, tmp_path / "out", cohort=tiny_cohort.folder, weaker_copies=0, curve_copies=0),
        POLICY,
        QUIET,
    )
    assert result.document.verdict is Verdict.INCONCLUSIVE
    assert "17 training patients" in result.sentence
    assert "the policy asks for 10" in result.sentence


def test_twelve_patients_are_inconclusive_and_it_says_how_many_are_needed(tmp_path: Path, others: Cohort) -> None:
    cohort = make_tiny_cohort(tmp_path / "cohort", patients=12, holdout=3)
    synthetic = write_bids(tmp_path / "synthetic", _generated(others)[:6], cohort)
    result = audit(
        AuditSettings(synthetic, tmp_path / "out", cohort=cohort.folder, weaker_copies=0, curve_copies=0),
        POLICY,
        QUIET,
    )
    assert result.document.verdict is Verdict.INCONCLUSIVE
    assert "there are 3 holdout patients, the policy asks for 10" in result.sentence
    assert "takes 40 patients in place of 12, or 27 patients, 10 of them held out" in result.sentence


def test_an_interrupted_audit_goes_on(tmp_path: Path, tiny_cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    synthetic = write_bids(tmp_path / "synthetic", _copies(tiny_cohort, 2), tiny_cohort)
    settings = AuditSettings(synthetic, tmp_path / "out", cohort=tiny_cohort.folder, weaker_copies=0, curve_copies=0)
    with monkeypatch.context() as broken:
        broken.setattr("anonsynth.audits.audit.write_report", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            audit(settings, POLICY, QUIET)
    assert (settings.out / "UNFINISHED").exists()
    assert not (settings.out / "audit.json").exists()
    assert audit(settings, POLICY, QUIET).document.verdict is Verdict.FAIL


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_copies_of_real_patients_are_found(tmp_path: Path, shared_data: Path) -> None:
    """Hippocampi, split by patient: training, holdout, and people whom nobody trained on."""
    source = shared_data / "hippocampus"
    rows = [line.split("\t") for line in (source / "patients.tsv").read_text("utf-8").splitlines()[1:]]
    first = {patient: volume for volume, patient in reversed(rows)}
    people = sorted(first)[::2]
    sides = {"train": people[:24], "holdout": people[24:36], "synthetic": [*people[36:48], *people[:4]]}
    for side, patients in sides.items():
        for kind in ("images", "labels"):
            (tmp_path / side / kind).mkdir(parents=True)
            for number, patient in enumerate(patients):
                target = tmp_path / side / kind / f"{side}{number:03d}.nii.gz"
                target.symlink_to(source / kind / f"{first[patient]}.nii.gz")
    settings = AuditSettings(
        tmp_path / "synthetic",
        tmp_path / "out",
        train=tmp_path / "train",
        holdout=tmp_path / "holdout",
        weaker_copies=0,
        curve_copies=0,
    )
    result = audit(settings, POLICY, QUIET)
    flagged = {sample.id for sample in result.document.samples if sample.flagged}
    assert flagged == {f"synthetic{number:03d}" for number in range(12, 16)}
    assert str(tmp_path) not in result.report.read_text("utf-8")
    assert str(tmp_path) not in (result.folder / "audit.json").read_text("utf-8")
