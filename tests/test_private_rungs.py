"""Rungs 0 and 1: paid before a patient is read, the same after a kill, refused where something would be told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_tiny_cohort
from safetensors.numpy import load_file

from anonsynth.anatomy.priors import Guarantee
from anonsynth.cohort.model import LabelEntry, ScanRecord, Split
from anonsynth.cohort.store import Cohort, Scan
from anonsynth.errors import BudgetError, InternalError, UsageError, VerdictError
from anonsynth.files import sha256_file
from anonsynth.policies.model import Policy, SynthesisRules
from anonsynth.privacy import releases as releasing
from anonsynth.privacy.accountant import epsilon_of
from anonsynth.privacy.declare import ledger_of
from anonsynth.privacy.releases import RELEASES
from anonsynth.progress import Progress
from anonsynth.synthesis import private_statistics, private_writer
from anonsynth.synthesis.generate import generate_patients
from anonsynth.synthesis.model import open_model
from anonsynth.synthesis.private_card import guarantee_paragraph
from anonsynth.synthesis.private_train import Request
from anonsynth.synthesis.rungs import open_rung
from anonsynth.synthesis.settings import GuaranteeSettings, PerformanceSettings, PriorChoice, TrainSettings

LARGE = 20.0
"""An ε at which eight patients tell something: the tests are about the way, not about privacy."""
STRICT = Policy(id="strict", title="strict", description="strict", synthesis=SynthesisRules(guarantee=True))
PUBLIC = GuaranteeSettings(epsilon=LARGE, patients=8, modalities=("T1w", "FLAIR"), labels=(1, 2))


class KilledError(Exception):
    """Stands for the end of the process."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at fewer drawn scans: they are public, and a test needs no exact texture."""
    monkeypatch.setattr(private_writer, "DRAWN", 2)
    monkeypatch.setattr(private_writer, "DISTANCES", (0.0, 0.8))
    monkeypatch.setattr(private_statistics, "DRAWN", 3)


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return make_tiny_cohort(tmp_path / "Doe_Jane" / "cohort")


def train(cohort: Cohort, out: Path, asked: GuaranteeSettings = PUBLIC, policy: Policy = STRICT) -> Path:
    with Progress(quiet=True) as progress:
        settings, performance = TrainSettings(width=8, style=2), PerformanceSettings(device="cpu")
        return open_rung(asked.rung).train(Request(cohort, settings, asked, policy, out, performance, progress))


def watch(monkeypatch: pytest.MonkeyPatch, kill_at: int = 0) -> list[str]:
    """Refuse to read a patient as long as the ledger holds no spend; end at the scan of that number."""
    read, seen = Cohort.load, list[str]()

    def load(self: Cohort, record: ScanRecord) -> Scan:
        assert ledger_of(self.folder).read().entries, "a patient was read before the ledger held the spend"
        assert record.split is Split.TRAIN
        seen.append(record.scan)
        if len(seen) == kill_at:
            raise KilledError
        return read(self, record)

    monkeypatch.setattr(Cohort, "load", load)
    return seen


def test_a_killed_training_resumes_with_the_same_noise_and_pays_once(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watch(monkeypatch, kill_at=19)  # in the third of the four releases
    with pytest.raises(KilledError):
        train(cohort, tmp_path / "model")
    kept = {path.name: path.read_bytes() for path in (cohort.folder / RELEASES).iterdir()}
    assert sorted(name.rpartition("-")[2] for name in kept) == ["fields.json", "frame.json", "strict.seed"]
    out = train(cohort, tmp_path / "model")
    entries = ledger_of(cohort.folder).read().entries
    assert len(entries) == 1
    assert all((cohort.folder / RELEASES / name).read_bytes() == data for name, data in kept.items())
    unbroken = train(cohort, tmp_path / "again")
    for name in ("generator.safetensors", "shape_prior.safetensors", "model.json"):
        assert sha256_file(out / name) == sha256_file(unbroken / name)
    assert ledger_of(cohort.folder).read().entries == entries
    reads = len(seen)
    train(cohort, out)
    assert len(seen) == reads, "a finished model was trained again"

    info = open_model(out)
    assert info.guarantee is Guarantee.PRIVATE
    assert info.bought is not None
    assert info.bought.epsilon == pytest.approx(epsilon_of(entries[0].events, info.bought.delta))
    assert info.bought.epsilon <= LARGE
    # What would betray the cohort to somebody who holds all of it but one patient is not in the model.
    told = "".join(path.read_text("utf-8") for path in out.glob("*.*") if path.suffix in {".json", ".md", ".txt"})
    assert sha256_file(cohort.folder / "scans.tsv") not in told
    assert "Doe" not in told
    assert "P0001" not in told
    card = (out / "model_card.md").read_text("utf-8")
    for words in ("unit of privacy is the patient", "one patient more", "Gaussian mechanism", "Not covered"):
        assert words in card
    patient = next(generate_patients(out, [1], styles=1, seed=0, device_name="cpu"))
    # Whether every draw holds the small label is a matter of the noise, which no test can fix.
    assert {1} <= set(np.unique(patient.label)) <= {0, 1, 2}
    assert np.ptp(patient.scans[0].image) > 0.1


def test_another_seed_is_another_spend(cohort: Cohort, tmp_path: Path) -> None:
    train(cohort, tmp_path / "model")
    for path in (cohort.folder / RELEASES).glob("*.seed"):
        path.unlink()  # whoever throws the seed away would draw noise anew
    train(cohort, tmp_path / "again")
    assert len(ledger_of(cohort.folder).read().entries) == 2
    first, second = (load_file(tmp_path / name / "shape_prior.safetensors")["mean"] for name in ("model", "again"))
    assert not np.array_equal(first, second)


def test_a_training_that_skips_the_ledger_is_caught(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch(monkeypatch)
    monkeypatch.setattr(releasing, "declare", lambda *_, **__: ())
    with pytest.raises(AssertionError, match="before the ledger held the spend"):
        train(cohort, tmp_path / "model")


def test_rung_0_opens_no_scan_and_spends_nothing(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object) -> None:
        raise AssertionError

    with monkeypatch.context() as patched:
        patched.setattr(Cohort, "load", load)
        asked = PUBLIC.model_copy(update={"rung": 0, "epsilon": None})
        out = train(cohort, tmp_path / "model", asked)
    assert open_model(out).guarantee is Guarantee.PUBLIC
    assert not (cohort.folder / "ledger.sqlite").exists()
    assert "No patient was read" in (out / "model_card.md").read_text("utf-8")
    # The same model whoever the patients are.
    others = make_tiny_cohort(tmp_path / "others", seed=7)
    assert (train(others, tmp_path / "model 2", asked) / "model.json").read_bytes() == (out / "model.json").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modalities": None}, "which modalities occur"),
        ({"labels": None}, "which labels occur"),
        ({"patients": None}, "the number of patients"),
    ],
)
def test_what_is_not_said_to_be_public_is_refused(
    cohort: Cohort, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(VerdictError, match=f"asks for a guarantee, and {message} would be told"):
        train(cohort, tmp_path / "model", PUBLIC.model_copy(update=change))
    assert not (cohort.folder / "ledger.sqlite").exists()


def test_without_such_a_policy_it_is_told_and_the_card_claims_nothing(cohort: Cohort, tmp_path: Path) -> None:
    loose = Policy(id="loose", title="loose", description="loose")
    info = open_model(train(cohort, tmp_path / "model", PUBLIC.model_copy(update={"patients": None}), loose))
    assert info.guarantee is Guarantee.NONE
    assert info.unprotected == ("the number of patients",)
    assert guarantee_paragraph(info).startswith("**No guarantee for the model as a whole")


def test_an_inferred_grid_is_refused_and_wrong_names_are_no_public_ones(cohort: Cohort, tmp_path: Path) -> None:
    inferred = replace(cohort, info=cohort.info.model_copy(update={"grid_given": False}))
    with pytest.raises(VerdictError, match="the grid was inferred from the scans"):
        train(inferred, tmp_path / "model")
    with pytest.raises(UsageError, match="--labels names others"):
        train(cohort, tmp_path / "model", PUBLIC.model_copy(update={"labels": (1,)}))


def test_too_few_patients_are_refused_in_one_sentence_with_how_many_would_do(cohort: Cohort, tmp_path: Path) -> None:
    with pytest.raises(
        BudgetError, match=r"^8 patients are too few for ε = 1: .* about \d+ would make sense;"
    ) as caught:
        train(cohort, tmp_path / "model", PUBLIC.model_copy(update={"epsilon": 1.0}))
    assert "." not in str(caught.value)
    assert not (cohort.folder / "ledger.sqlite").exists()


def test_a_budget_that_does_not_hold_it_refuses_before_anything_is_read(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = STRICT.model_copy(update={"synthesis": SynthesisRules(guarantee=True, epsilon=LARGE / 2)})

    def load(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Cohort, "load", load)
    with pytest.raises(BudgetError, match="the privacy budget does not hold"):
        train(cohort, tmp_path / "model", policy=small)


def test_scans_of_one_patient_count_once(cohort: Cohort, tmp_path: Path) -> None:
    """All scans as one patient's: the released number of patients falls to one, whatever the number of scans."""
    one = tuple(record.model_copy(update={"patient": "P0001"}) for record in cohort.records)
    train(replace(cohort, records=one), tmp_path / "model")
    kept = [json.loads(path.read_text()) for path in (cohort.folder / RELEASES).glob("*.json")]
    assert len(kept) == 4
    deviation = sum(k["count_deviation"] ** -2 for k in kept) ** -0.5
    pooled = sum(k["count"] * k["count_deviation"] ** -2 for k in kept) * deviation**2
    assert abs(pooled - 1) < 4 * deviation
    assert 4 * deviation < 7, "the test could not tell one patient from eight"


def test_an_undeclared_release_is_refused(tmp_path: Path) -> None:
    from anonsynth.privacy.randomness import PrivateRandomness
    from anonsynth.privacy.releases import Releases

    with pytest.raises(InternalError, match="not declared"):
        Releases(tmp_path, PrivateRandomness(bytes(32), "x"), ()).take("frame", dict)


def test_brains_take_the_public_atlas_and_release_their_appearance_alone(cohort: Cohort, tmp_path: Path) -> None:
    names = ("CSF", "grey matter", "white matter")
    labels = tuple(LabelEntry(value=value, name=name) for value, name in enumerate(names, start=1))
    brains = replace(cohort, info=cohort.info.model_copy(update={"labels": labels}))
    out = train(brains, tmp_path / "model", PUBLIC.model_copy(update={"labels": (1, 2, 3)}))
    info = open_model(out)
    assert info.source.prior is PriorChoice.ATLAS
    assert info.source.fov_slices is None, "how many slices patients' scans have would be told"
    assert info.bought is not None
    assert [release["name"] for release in info.bought.releases] == ["appearance", "spread"]
    assert info.guarantee is Guarantee.PRIVATE
    patient = next(generate_patients(out, [1], styles=1, seed=0, device_name="cpu"))
    assert {1, 2, 3} <= set(np.unique(patient.label).tolist())
