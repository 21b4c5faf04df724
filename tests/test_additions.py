"""Rungs 2 to 4: paid before a patient is read, the same after a kill, nothing in the model that was not paid for."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_tiny_cohort
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant
from safetensors.torch import load_file

from anonsynth.anatomy.priors import Guarantee
from anonsynth.cohort.model import ScanRecord, Split
from anonsynth.cohort.store import Cohort, Scan
from anonsynth.errors import BudgetError, InternalError, UsageError
from anonsynth.files import sha256_file
from anonsynth.policies.model import Policy, SynthesisRules
from anonsynth.privacy import releases as releasing
from anonsynth.privacy.declare import ledger_of
from anonsynth.privacy.events import Gaussian, SampledGaussian
from anonsynth.privacy.private_run import STATE_FILE
from anonsynth.privacy.receipt import Receipt
from anonsynth.privacy.releases import RELEASES
from anonsynth.privacy.spending import Entry
from anonsynth.progress import Progress
from anonsynth.synthesis import additions, private_statistics, private_train, private_writer, scanners
from anonsynth.synthesis.generate import generate_patients
from anonsynth.synthesis.model import open_model
from anonsynth.synthesis.private_card import guarantee_paragraph
from anonsynth.synthesis.private_gan import GeneratorStep
from anonsynth.synthesis.private_patients import PatientScans
from anonsynth.synthesis.private_plan import PrivatePlan, Training
from anonsynth.synthesis.private_train import Request
from anonsynth.synthesis.rungs import open_rung
from anonsynth.synthesis.settings import GuaranteeSettings, PerformanceSettings, TrainSettings

EPSILON, FIGURE, STEPS = 8.0, 2000, 4
"""The cohort is said to be of at most 2000: with its four patients nothing would be affordable."""
STRICT = Policy(id="strict", title="strict", description="strict", synthesis=SynthesisRules(guarantee=True))


class KilledError(Exception):
    """Stands for the end of the process."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw fewer maps and train on fewer of them: all of that is public."""
    for module, name, value in (
        (private_writer, "DRAWN", 1),
        (private_writer, "DISTANCES", (0.0,)),
        (private_statistics, "DRAWN", 2),
        (scanners, "STEPS", 2),
        (scanners, "PEOPLE", 2),
        (additions, "SIMULATED", 2),
    ):
        monkeypatch.setattr(module, name, value)


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    """Three training patients, the first of whom has two scans."""
    made = make_tiny_cohort(tmp_path / "Doe_Jane" / "cohort", patients=6, holdout=2)
    return twice(made)


def twice(cohort: Cohort) -> Cohort:
    records = [r.model_copy(update={"patient": "P0001"}) if r.patient == "P0002" else r for r in cohort.records]
    return replace(cohort, records=tuple(records))


def take_part_often(monkeypatch: pytest.MonkeyPatch, steps: int = STEPS) -> None:
    """Let patients take part in most steps, with the event that says so: by the figure nobody would be drawn."""
    choose = private_train.choose_training

    def chosen(*arguments: Any) -> PrivatePlan:
        plan = choose(*arguments)
        assert plan.training is not None
        return replace(plan, training=Training(1.0, 0.7, steps, 3.0, plan.training.weights))

    monkeypatch.setattr(private_train, "choose_training", chosen)


def asked(rung: int, **changes) -> GuaranteeSettings:
    settings = GuaranteeSettings(
        rung=rung,
        epsilon=EPSILON,
        patients=FIGURE,
        modalities=("T1w", "FLAIR"),
        labels=(1, 2),
        private_steps=STEPS,
    )
    return settings.model_copy(update=changes)


def train(cohort: Cohort, out: Path, what: GuaranteeSettings, policy: Policy = STRICT) -> Path:
    torch.set_num_threads(1)
    with Progress(quiet=True) as progress:
        settings, performance = TrainSettings(width=8, style=2), PerformanceSettings(device="cpu")
        return open_rung(what.rung).train(Request(cohort, settings, what, policy, out, performance, progress))


def watch(monkeypatch: pytest.MonkeyPatch, kill_at: int = 0) -> list[str]:
    """Refuse to read a patient as long as the ledger does not hold everything; end at the scan of that number."""
    read, seen = Cohort.load, list[str]()

    def load(self: Cohort, record: ScanRecord) -> Scan:
        assert record.split is Split.TRAIN
        assert ledger_of(self.folder).read().entries, "a patient was read before the ledger held the spend"
        seen.append(record.scan)
        if len(seen) == kill_at:
            raise KilledError
        return read(self, record)

    monkeypatch.setattr(Cohort, "load", load)
    return seen


def end_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """End after a step of private training; every tenth is saved."""

    def tell(_show: object, _steps: int, done: int) -> None:
        if done == step:
            raise KilledError

    monkeypatch.setattr(additions, "_tell", tell)


def independent(entries: tuple[Entry, ...], delta: float) -> float:
    accountant = PLDAccountant()
    for event in (event for entry in entries for event in entry.events):
        match event:
            case Gaussian():
                accountant.compose(dp_event.GaussianDpEvent(event.noise_multiplier), event.count)
            case SampledGaussian():
                step = dp_event.GaussianDpEvent(event.noise_multiplier)
                accountant.compose(dp_event.PoissonSampledDpEvent(event.sampling_rate, step), event.steps)
            case _:
                raise AssertionError
    return accountant.get_epsilon(delta)


@pytest.mark.parametrize("rung", [2, 3, 4])
def test_a_rung_pays_first_and_tells_nothing_that_it_did_not_pay_for(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rung: int
) -> None:
    watch(monkeypatch)
    out = train(cohort, tmp_path / "model", asked(rung))
    entries = ledger_of(cohort.folder).read().entries
    assert [entry.step.value for entry in entries] == ["statistics", "training"][: 1 + (rung > 2)]

    info = open_model(out)
    assert info.guarantee is Guarantee.PRIVATE
    assert info.bought is not None
    assert info.bought.epsilon <= EPSILON
    cost = independent(entries, info.bought.delta)
    assert cost == pytest.approx(info.bought.epsilon, rel=0.01)
    assert info.bought.epsilon >= cost * (1 - 1e-3)
    assert (info.bought.training is not None) == (rung > 2)
    paragraph = guarantee_paragraph(info)
    assert ("DP-SGD" in paragraph) == (rung > 2)
    assert "label prior" in paragraph
    assert info.bought.learnt
    assert info.bought.learnt in (out / "model_card.md").read_text("utf-8")

    # Neither the cohort nor anybody in it nor any secret is in the model.
    hidden = [path.read_bytes() for path in (cohort.folder / RELEASES).glob("*.seed")]
    hidden += [bytes(load_file(p)["secret"].tolist()) for p in (cohort.folder / RELEASES).rglob(STATE_FILE)]
    assert len(hidden) == len(entries)
    names = [b"Doe", b"P0001", sha256_file(cohort.folder / "scans.tsv").encode()]
    for path in out.rglob("*"):
        told = path.read_bytes() if path.is_file() else b""
        assert not any(word in told for word in [*hidden, *names])
    assert {path.suffix for path in out.iterdir()} <= {".json", ".md", ".txt", ".safetensors"}

    patient = next(generate_patients(out, [1], styles=1, seed=0, device_name="cpu"))
    assert np.isfinite(patient.scans[0].image).all()
    assert np.ptp(patient.scans[0].image) > 0.1


def test_a_killed_training_goes_on_to_the_same_weights_and_pays_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_part_often(monkeypatch, 12)
    weights, spent = [], []
    for name in ("unbroken", "killed"):
        whole = make_tiny_cohort(tmp_path / name, patients=6, holdout=2)
        drawn = iter([bytes([number]) * 32 for number in range(9)])
        # The same luck twice, so that the two can be compared.
        monkeypatch.setattr(secrets, "token_bytes", lambda _, drawn=drawn: next(drawn))
        lives = ((watch, 17), (end_after, 11)) if name == "killed" else ()
        for end, when in lives:
            with monkeypatch.context() as patched:
                end(patched, when)
                with pytest.raises(KilledError):
                    train(whole, tmp_path / f"{name} model", asked(4))
        out = train(whole, tmp_path / f"{name} model", asked(4))
        weights.append(load_file(out / "generator.safetensors"))
        spent.append(ledger_of(whole.folder).read().entries)
    # Another folder gets the same model, and nothing is spent for it.
    again = train(whole, tmp_path / "again", asked(4))
    assert sha256_file(again / "generator.safetensors") == sha256_file(out / "generator.safetensors")
    assert ledger_of(whole.folder).read().entries == spent[-1]
    assert [len(entries) for entries in spent] == [2, 2]
    assert [entry.id for entry in spent[0]] == [entry.id for entry in spent[1]]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_training_that_was_not_declared_reads_nobody(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receipt that was made up gets as far as the ledger: there it is not found, and no gradient is computed."""
    declare = releasing.declare

    def half(cohort, policy, run, statistics, training, **rest):
        (receipt,) = declare(cohort, policy, run, statistics, **rest)
        made_up = receipt.entry.model_copy(
            update={"id": f"{training.draw} {policy.id} training", "events": training.events}
        )
        return receipt, Receipt(receipt.ledger, made_up)

    def items(*_):
        pytest.fail("a patient was read for training that the ledger does not hold")

    monkeypatch.setattr(releasing, "declare", half)
    monkeypatch.setattr(PatientScans, "_scan", items)
    with pytest.raises(InternalError, match="was not declared"):
        train(cohort, tmp_path / "model", asked(4))


def test_the_generator_reads_nobody(cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take_part_often(monkeypatch)
    seen, own_step, steps = watch(monkeypatch), GeneratorStep.__call__, list[int]()

    def step(self: GeneratorStep, number: int) -> None:
        before = len(seen)
        own_step(self, number)
        assert len(seen) == before, "the generator read a patient"
        assert all(parameter.grad is None for parameter in self.critic.parameters())
        steps.append(number)

    monkeypatch.setattr(GeneratorStep, "__call__", step)
    train(cohort, tmp_path / "model", asked(4))
    assert steps == list(range(STEPS))


def test_scans_of_one_patient_are_one_contribution(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_part_often(monkeypatch)
    train(cohort, tmp_path / "model", asked(3))
    (state,) = (cohort.folder / RELEASES).rglob(STATE_FILE)
    log = load_file(state)
    assert len(log["log/patients"]) == 3, "four scans of three patients"
    assert log["log/patients"].sum() == log["log/batches"].sum() > 0
    assert log["log/batches"].max() <= 3


@pytest.mark.parametrize("rung", [2, 3, 4])
def test_too_few_patients_are_refused_with_how_many_would_do(cohort: Cohort, tmp_path: Path, rung: int) -> None:
    with pytest.raises(BudgetError, match=r"^8 patients are too few for ε = 1: .* about \d+ would make sense;"):
        train(cohort, tmp_path / "model", asked(rung, patients=8, epsilon=1.0))
    assert not (cohort.folder / "ledger.sqlite").exists()


def test_a_budget_that_holds_half_of_it_spends_nothing(cohort: Cohort, tmp_path: Path) -> None:
    small = STRICT.model_copy(update={"synthesis": SynthesisRules(guarantee=True, epsilon=0.9 * EPSILON)})
    with pytest.raises(BudgetError, match="the privacy budget does not hold this training step"):
        train(cohort, tmp_path / "model", asked(3), small)
    assert not ledger_of(cohort.folder).read().entries


def test_a_figure_below_the_number_of_patients_is_refused(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = tuple(cohort.records[0].model_copy(update={"patient": f"P{index}"}) for index in range(FIGURE + 1))
    monkeypatch.setattr(additions, "usable_records", lambda *_: many)
    with pytest.raises(UsageError, match="give a figure with --patients that holds all"):
        train(cohort, tmp_path / "model", asked(3))
    assert not (cohort.folder / "ledger.sqlite").exists()
