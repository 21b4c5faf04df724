"""Ingest as a whole: one grid, one split, resumed after kill -9, flat in memory, silent about patients."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nifti_sources import RAS, head, images_and_labels, save
from typer.testing import CliRunner

from anonsynth.cli.main import app
from anonsynth.cohort.grid_inference import MAX_VOXELS
from anonsynth.cohort.ingest import IngestSettings, ingest
from anonsynth.cohort.inspect import inspect_rows, summarise
from anonsynth.cohort.model import LabelKind, Split
from anonsynth.cohort.store import Cohort, open_cohort
from anonsynth.errors import InputError, UsageError
from anonsynth.files import UNFINISHED, read_tsv
from anonsynth.policies.model import Policy
from anonsynth.progress import Progress

POLICY = Policy(id="test", title="t", description="d")
QUIET = Progress(quiet=True)


def run(source: Path, out: Path, **changes: object) -> Cohort:
    return ingest(replace(IngestSettings((source,), out), **changes), POLICY, QUIET)


def voxels(cohort: Cohort) -> dict[str, str]:
    return {record.scan: record.sha256 for record in cohort.records}


def gliomas(root: Path, count: int = 6) -> Path:
    """One folder per patient, two modalities and a mask; the second patient lacks one."""
    for number in range(count):
        image, label = head(number)
        save(root / f"TCGA_{number}/flair.nii.gz", image)
        save(root / f"TCGA_{number}/mask.nii.gz", (label == 2).astype(np.uint8))
        if number != 1:
            save(root / f"TCGA_{number}/t1.nii.gz", head(100 + number)[0])
    return root


def test_a_cohort_says_what_it_is(tmp_path: Path) -> None:
    cohort = run(gliomas(tmp_path / "s"), tmp_path / "c")
    info = cohort.info
    assert (info.layout, info.modalities, info.grid_given) == ("one folder per patient", ("T1w", "FLAIR"), False)
    assert [(label.value, label.name, label.kind) for label in info.labels] == [(1, "tumour", LabelKind.TUMOUR)]
    assert [record.modalities for record in cohort.records].count(("FLAIR",)) == 1
    assert len(cohort.patients(Split.HOLDOUT)) == 1
    for record in cohort.records:
        scan = cohort.load(record)
        assert scan.image.min() >= 0
        assert scan.image.max() <= 1
        assert scan.present.sum() == len(record.modalities)
        assert not scan.image[~scan.present].any()
        assert set(np.unique(scan.label)) == {0, 1}
        inside = tuple(slice(low, high) for low, high in zip(record.fov_low, record.fov_high, strict=True))
        beyond = np.ones(info.grid.shape, bool)
        beyond[inside] = False
        assert not scan.image[:, beyond].any()
    sizes = sorted(np.count_nonzero(cohort.load(record).label) for record in cohort.records)
    assert sizes == sorted(np.count_nonzero(head(number)[1] == 2) for number in range(6))


def test_neither_the_order_of_files_nor_their_axes_change_a_cohort(tmp_path: Path) -> None:
    first = run(images_and_labels(tmp_path / "a", 5), tmp_path / "ca")
    flip = np.diag([-2.0, 2.0, 2.0, 1.0])
    flip[0, 3] = 2.0 * 19
    for number in reversed(range(5)):
        image, label = head(number)
        save(tmp_path / f"b/images/case{number:02d}.nii.gz", image[::-1], flip)
        save(tmp_path / f"b/labels/case{number:02d}.nii.gz", label[::-1], flip)
    assert voxels(run(tmp_path / "b", tmp_path / "cb")) == voxels(first)


def test_another_seed_gives_other_pseudonyms_and_the_same_voxels(tmp_path: Path) -> None:
    source = images_and_labels(tmp_path / "s", 6)
    first, second = (voxels(run(source, tmp_path / f"c{seed}", seed=seed)) for seed in (1, 2))
    assert first != second
    assert sorted(first.values()) == sorted(second.values())


def test_crops_of_a_patient_stay_together(tmp_path: Path) -> None:
    source = images_and_labels(tmp_path / "s", 12)
    rows = [f"case{number:02d}\tperson{number // 2}\t{'xy'[number // 6]}" for number in range(12)]
    (tmp_path / "who.tsv").write_text("\n".join(["volume\tpatient\tsite", *rows]) + "\n")
    cohort = run(source, tmp_path / "c", patients=tmp_path / "who.tsv", holdout=0.34)
    assert (cohort.info.patients, cohort.info.scans) == (6, 12)
    train, held = (set(cohort.patients(split)) for split in Split)
    assert not train & held
    groups = {record.patient: record.group for record in cohort.of(Split.HOLDOUT)}
    assert sorted(groups.values()) == ["x", "y"]
    assert {record.scan[-3:] for record in cohort.records} == {"S01", "S02"}


def test_two_sources_are_one_cohort(tmp_path: Path) -> None:
    first = images_and_labels(tmp_path / "s1", 3)
    second = images_and_labels(tmp_path / "s2", 3, start=2)
    save(second / "images/case02.nii.gz", head(50)[0])
    cohort = ingest(IngestSettings((first, second), tmp_path / "c"), POLICY, QUIET)
    assert (cohort.info.patients, cohort.info.scans) == (5, 6)
    for source in (first, second):
        (source / "labels").rename(tmp_path / f"labels-{source.name}")
    (tmp_path / "labels-s2/case02.nii.gz").unlink()
    settings = IngestSettings((first, second), tmp_path / "again", labels=tmp_path / "labels-s2")
    again = ingest(settings, POLICY, QUIET)
    assert (sum(record.labelled for record in again.records), again.info.quarantined) == (2, 0)


def test_given_grid_is_used_and_said(tmp_path: Path) -> None:
    cohort = run(images_and_labels(tmp_path / "s", 4), tmp_path / "c", shape=(16, 16, 8), spacing=(3.0, 3.0, 4.0))
    assert cohort.info.grid_given
    assert cohort.load(cohort.records[0]).image.shape == (1, 16, 16, 8)


def test_finished_it_returns_at_once_and_other_settings_need_another_folder(tmp_path: Path) -> None:
    source = images_and_labels(tmp_path / "s", 4)
    run(source, tmp_path / "c")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "c").rglob("*")}
    run(source, tmp_path / "c")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "c").rglob("*")} == before
    with pytest.raises(UsageError, match="other settings or sources"):
        run(source, tmp_path / "c", seed=5)
    assert run(source, tmp_path / "c", seed=5, force=True).info.seed == 5
    images_and_labels(source, 5)
    with pytest.raises(UsageError, match="other settings or sources"):
        run(source, tmp_path / "c", seed=5)


def test_folders_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    source = images_and_labels(tmp_path / "s", 4)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter1.txt").write_text("years of work")
    for force in (False, True):
        with pytest.raises(UsageError, match="something else"):
            run(source, tmp_path / "thesis", force=force)
    with pytest.raises(UsageError, match="within a source"):
        run(source, source / "cohort")
    assert (tmp_path / "thesis/chapter1.txt").exists()


def test_wrong_settings_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    source = images_and_labels(tmp_path / "s", 1)
    with pytest.raises(UsageError, match="--holdout"):
        run(source, tmp_path / "c", holdout=1.5)
    with pytest.raises(UsageError, match="--shape"):
        run(source, tmp_path / "c", shape=(5, 5, 5))
    with pytest.raises(InputError, match="does not exist"):
        run(tmp_path / "nowhere", tmp_path / "c")
    with pytest.raises(InputError, match="only 1 patients"):
        run(source, tmp_path / "c")
    images_and_labels(source, 4)
    assert run(source, tmp_path / "c").info.patients == 4  # mended, the same folder will do


SLOWED = """
import sys, time
from pathlib import Path
import anonsynth.cohort.ingest as module
from anonsynth.policies.model import Policy
from anonsynth.progress import Progress
prepare = module.prepare_scan
def slowly(*args, **kwargs):
    time.sleep(0.4)
    return prepare(*args, **kwargs)
module.prepare_scan = slowly
settings = module.IngestSettings((Path(sys.argv[1]),), Path(sys.argv[2]))
module.ingest(settings, Policy(id="test", title="t", description="d"), Progress(quiet=True))
"""


def test_killed_it_resumes_to_the_same_cohort(tmp_path: Path) -> None:
    source = images_and_labels(tmp_path / "s", 6)
    out = tmp_path / "c"
    worker = subprocess.Popen([sys.executable, "-c", SLOWED, str(source), str(out)])
    deadline = time.monotonic() + 60
    while len(list(out.glob("scans/*/scan.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    done = {path: path.stat().st_mtime_ns for path in out.glob("scans/*/scan.json")}
    assert 2 <= len(done) < 6
    assert (out / UNFINISHED).exists()
    with pytest.raises(InputError, match="unfinished"):
        open_cohort(out)
    resumed = run(source, out)
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert not (out / UNFINISHED).exists()
    assert not (out / "survey").exists()
    assert voxels(resumed) == voxels(run(source, tmp_path / "whole"))


def test_memory_does_not_grow_with_the_cohort(tmp_path: Path) -> None:
    peaks = []
    for count in (6, 24):
        source = tmp_path / f"s{count}"
        for number in range(count):
            save(source / f"images/c{number}.nii", head(number, (48, 56, 40))[0])
        tracemalloc.start()
        run(source, tmp_path / f"c{count}")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.25 * peaks[0]


def test_no_name_of_a_source_reaches_what_is_not_meant_for_it(tmp_path: Path) -> None:
    source = images_and_labels(tmp_path / "s", 4)
    save(source / "images/DOE_JANE_19600401.nii.gz", np.zeros((4, 4, 4), np.int16))
    save(source / "images/DOE_JOHN.nii.gz", head(77)[0], RAS)
    out = tmp_path / "c"
    result = CliRunner().invoke(app, ["ingest", str(source), "--out", str(out)])
    assert result.exit_code == 0
    assert "DOE" not in result.output
    told = {
        path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file() and b"DOE" in path.read_bytes()
    }
    assert told == {"quarantine.tsv"}
    assert not [path for path in out.rglob("*") if "DOE" in path.name]
    assert read_tsv(out / "quarantine.tsv")[0]["file"] == "images/DOE_JANE_19600401.nii.gz"


def test_the_commands(tmp_path: Path) -> None:
    source, out = gliomas(tmp_path / "s"), tmp_path / "c"
    runner = CliRunner()
    result = runner.invoke(app, ["ingest", str(source), "--out", str(out), "--json", "--spacing", "2,2,2"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["schema"] == "anonsynth/ingest-result/1"
    assert document["cohort"]["patients"] == 6
    assert "anonsynth inspect" in result.stderr
    result = runner.invoke(app, ["inspect", str(out), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["missing"] == {"T1w": 1, "FLAIR": 0}
    assert (out / "contact_sheet.png").read_bytes().startswith(b"\x89PNG")
    shown = runner.invoke(app, ["inspect", str(out), "--out", str(tmp_path / "sheet.png")])
    assert "missing in 1 of 6 scans" in shown.stdout
    assert "private eyes" in shown.stderr
    assert isinstance(runner.invoke(app, ["ingest", str(source), "--out", "x", "--shape", "4,4"]).exception, UsageError)


def test_inspect_measures_labels_and_lists_reasons(tmp_path: Path) -> None:
    source = images_and_labels(tmp_path / "s", 5)
    (source / "images/bad.nii.gz").write_bytes(b"")
    (source / "labels.tsv").write_text("index\tname\n1\tgrey matter\n2\tlesion core\n")
    save(source / "labels/case04.nii.gz", np.zeros((20, 24, 16), np.uint8))
    cohort = run(source, tmp_path / "c")
    summary = summarise(cohort, QUIET)
    assert (summary.labelled, summary.empty, summary.reasons) == (5, 1, {"the file is empty": 1})
    assert [label.entry.kind for label in summary.labels] == [LabelKind.ANATOMY, LabelKind.TUMOUR]
    sizes = [np.count_nonzero(head(number)[1] == 1) * 8 / 1000 for number in range(4)]
    assert summary.labels[0].volumes[1] == pytest.approx(np.median(sizes), rel=0.02)
    assert ("quarantined", "1") in inspect_rows(cohort, summary)


@pytest.mark.shared_data
def test_some_real_gliomas_come_through_with_their_missing_modalities(shared_data: Path, tmp_path: Path) -> None:
    source = tmp_path / "lgg"
    source.mkdir()
    folders = sorted(path for path in (shared_data / "lgg").iterdir() if path.is_dir())
    lacking = [folder for folder in folders if not (folder / "t1gd.nii.gz").exists()]
    for folder in [*lacking[:2], *folders[:5]]:
        (source / folder.name).symlink_to(folder)
    cohort = run(source, tmp_path / "c")
    assert (cohort.info.patients, cohort.info.quarantined) == (7, 0)
    assert cohort.info.modalities == ("T1w", "T1gd", "FLAIR")
    assert sum("T1gd" not in record.modalities for record in cohort.records) == 2
    assert cohort.info.grid.spacing[2] == 5.0
    assert np.prod(cohort.info.grid.shape) <= MAX_VOXELS
    assert all(cohort.load(record).label.any() for record in cohort.records)


@pytest.mark.shared_data
def test_some_real_crops_keep_every_labelled_voxel(shared_data: Path, tmp_path: Path) -> None:
    table = tmp_path / "crops.csv"
    images = sorted((shared_data / "hippocampus/images").iterdir())[:20]
    rows = [f"{path},{path.parent.parent / 'labels' / path.name},t1,{path.name[12:15]}" for path in images]
    table.write_text("\n".join(["path,label,modality,patient", *rows]) + "\n")
    cohort = run(table, tmp_path / "c")
    assert (cohort.info.modalities, cohort.info.grid.spacing) == (("T1w",), (1.0, 1.0, 1.0))
    written = sorted(tuple(np.bincount(cohort.load(record).label.ravel())[1:]) for record in cohort.records)
    labels = (np.asarray(nib.load(path.parent.parent / "labels" / path.name).dataobj) for path in images)
    assert written == sorted(tuple(np.bincount(label.astype(np.uint8).ravel())[1:]) for label in labels)
