"""The benchmark of what a guarantee costs a researcher: its quick mode runs, and its ratios are right."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from anonsynth.cohort.store import Cohort


def test_a_quick_run_prints_a_line_an_arm_and_repeats_nothing(
    tiny_cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    benchmark = importlib.import_module("dp_utility")
    shutil.copytree(tiny_cohort.folder, tmp_path / "cohort")
    words = [str(tmp_path / "cohort"), "--out", str(tmp_path / "work"), "--arms", "rung0"]
    words += ["--seeds", "1", "--steps", "2", "--count", "3", "--json", str(tmp_path / "utility.json")]
    monkeypatch.setattr(sys, "argv", ["dp_utility.py", *words])
    benchmark.main()
    first = capsys.readouterr().out
    assert "| real |" in first
    assert "| rung0 |" in first
    assert len(json.loads((tmp_path / "utility.json").read_text())["arms"]["rung0"][0]) == 4
    benchmark.main()
    assert "seed 0" not in capsys.readouterr().out, "a run was repeated"
    real = np.array([[0.8, 0.6, 0.7], [0.9, 0.7, 0.8]])
    lines = benchmark.report({"real": real, "8": real * 0.9})
    assert lines[0].endswith("| 0.750 | 1.000 [1.000, 1.000] |")
    assert lines[1].endswith("| 0.675 | 0.900 [0.900, 0.900] |")
