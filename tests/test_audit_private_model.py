"""`anonsynth audit --model` on models that must not name their cohort: the ledger names them, or the audit says so."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import make_tiny_cohort
from typer.testing import CliRunner, Result

from anonsynth.audits import generator_attack
from anonsynth.cli.main import app
from anonsynth.cohort.store import Cohort, open_cohort
from anonsynth.errors import InputError
from anonsynth.policies.model import load_policy
from anonsynth.progress import Progress
from anonsynth.synthesis import private_statistics, private_writer
from anonsynth.synthesis.model import ModelInfo, open_model
from anonsynth.synthesis.pairing import pair
from anonsynth.synthesis.private_train import Request
from anonsynth.synthesis.rungs import open_rung
from anonsynth.synthesis.settings import GuaranteeSettings, PerformanceSettings, TrainSettings

ASKED = GuaranteeSettings(epsilon=20.0, patients=8, modalities=("T1w", "FLAIR"), labels=(1, 2))
"""An ε at which eight patients tell something: the tests are about the way, not about privacy."""


def train(cohort: Cohort, out: Path, asked: GuaranteeSettings = ASKED) -> Path:
    settings, performance = TrainSettings(width=8, style=2), PerformanceSettings(device="cpu")
    with Progress(quiet=True) as progress, pytest.MonkeyPatch.context() as patched:
        # Fewer drawn scans: they are public, and a test needs no exact texture.
        patched.setattr(private_writer, "DRAWN", 2)
        patched.setattr(private_writer, "DISTANCES", (0.0,))
        patched.setattr(private_statistics, "DRAWN", 3)
        request = Request(cohort, settings, asked, load_policy("internal"), out, performance, progress)
        return open_rung(asked.rung).train(request)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return make_tiny_cohort(tmp_path_factory.mktemp("audited") / "cohort")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, cohort: Cohort) -> Path:
    return train(cohort, tmp_path_factory.mktemp("model") / "model")


def anonsynth(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_weights_with_a_guarantee_are_attacked_from_the_command_line(
    tmp_path: Path, cohort: Cohort, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generator_attack, "PAINTINGS", 1)
    synthetic, audited = tmp_path / "synthetic", tmp_path / "audit"
    assert anonsynth("generate", str(model), "--out", str(synthetic), "-n", "3").exit_code == 0
    command = ["audit", str(synthetic), "--cohort", str(cohort.folder), "--model", str(model), "--planted", "0"]
    ended = anonsynth(*command, "--out", str(audited), "--json")
    assert ended.exit_code == 4, ended.stderr  # four holdout patients are too few for a pass
    findings = {finding["id"]: finding for finding in json.loads(ended.stdout)["findings"]}
    assert {"reconstruction", "reconstruction-few"} <= findings.keys()
    assert findings["reconstruction"]["verdict"] != "fail"
    assert "The cohort's ledger holds the noise that the model was made with." in ended.stderr

    others = make_tiny_cohort(tmp_path / "others", seed=5)
    shutil.copy(cohort.folder / "ledger.sqlite", others.folder)
    command[3] = str(others.folder)
    refused = anonsynth(*command, "--out", str(tmp_path / "refused"))
    assert isinstance(refused.exception, InputError)
    assert "trained on another cohort" in str(refused.exception)


def test_the_ledger_of_another_cohort_does_not_name_the_model(tmp_path: Path, cohort: Cohort, model: Path) -> None:
    info = open_model(model)
    assert pair(info, cohort).proven
    others = make_tiny_cohort(tmp_path / "others", seed=5)
    train(others, tmp_path / "theirs", ASKED)
    with pytest.raises(InputError, match="ledger does not hold what the model"):
        pair(info, others)
    with pytest.raises(InputError, match="ledger does not hold what the model"):
        pair(open_model(tmp_path / "theirs"), cohort)


OTHER = ASKED.model_copy(update={"epsilon": 9.0})


@pytest.mark.parametrize("change", [{"settings_sha256": "0" * 64}, {"asked": OTHER}])
def test_a_model_that_the_ledger_did_not_pay_for_is_refused(
    cohort: Cohort, model: Path, change: dict[str, object]
) -> None:
    with pytest.raises(InputError, match="ledger does not hold what the model"):
        pair(open_model(model).model_copy(update=change), cohort)


def test_what_cannot_be_checked_is_said(tmp_path: Path, cohort: Cohort, model: Path) -> None:
    bare = tmp_path / "copied"
    shutil.copytree(cohort.folder, bare, ignore=shutil.ignore_patterns("ledger.sqlite", "releases"))
    info = open_model(model)
    for found, why in (
        (pair(info, open_cohort(bare)), "the cohort has no ledger"),
        (pair(info.model_copy(update={"asked": None}), cohort), "an earlier version wrote it"),
        (pair(simulated(tmp_path, cohort), cohort), "read no patient"),
    ):
        assert not found.proven
        assert why in found.sentence
    assert info.cohort_sha256 == "", "a model with a guarantee must not name its cohort"


def simulated(folder: Path, cohort: Cohort) -> ModelInfo:
    return open_model(train(cohort, folder / "rung 0", ASKED.model_copy(update={"rung": 0, "epsilon": None})))


def test_a_cohort_of_other_geometry_is_refused(tmp_path: Path, cohort: Cohort, model: Path) -> None:
    coarse = cohort.info.model_copy(update={"modalities": ("T1w",)})
    with pytest.raises(InputError, match="trained on another cohort"):
        pair(open_model(model), replace(cohort, info=coarse))
    filled = simulated(tmp_path, cohort)
    filled = filled.model_copy(update={"source": filled.source.model_copy(update={"filled": True})})
    with pytest.raises(InputError, match=r"cannot fill in this cohort's anatomy.*leave --model out"):
        pair(filled, cohort)
