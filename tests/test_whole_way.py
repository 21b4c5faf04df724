"""The whole way from DICOM, as a hospital has it: series in, an audited substitute cohort out, resumed after a kill."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from anonsynth.files import sha256_file


def anonsynth(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "anonsynth.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_from_dicom_to_a_report_and_again_after_a_kill(tmp_path: Path) -> None:
    simulated = tmp_path / "simulated"
    made = anonsynth("simulate", "--out", str(simulated), "-n", "8", "--spacing", "8", "--format", "dicom")
    assert made.returncode == 0, made.stderr
    series, labels = simulated / "series", simulated / "labels"
    run = ["run", str(series), "--labels", str(labels), "-n", "4", "--steps", "12"]

    whole = tmp_path / "whole"
    ended = anonsynth(*run, "--out", str(whole))
    assert ended.returncode == 4, ended.stderr  # eight patients are too few for a pass
    verdict = json.loads((whole / "audit" / "audit.json").read_text("utf-8"))["verdict"]
    assert verdict in {"inconclusive", "fail"}
    assert verdict.upper() in ended.stdout + ended.stderr

    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "anonsynth.cli.main", *run, "--out", str(killed)]
    for stage in ("cohort", "model", "synthetic"):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not (killed / stage).exists() and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert anonsynth(*run, "--out", str(killed)).returncode == 4
    for name in ("model/generator.safetensors", "synthetic/participants.tsv"):
        assert sha256_file(killed / name) == sha256_file(whole / name), name
    images = sorted(path.relative_to(whole) for path in (whole / "synthetic").rglob("*.nii.gz"))
    assert len(images) == 4 * 5
    assert all(sha256_file(whole / path) == sha256_file(killed / path) for path in images)
