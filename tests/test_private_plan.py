"""The plan: within its budget, honest about small cohorts, and made without opening a scan."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import make_tiny_cohort
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant
from nifti_sources import save
from typer.testing import CliRunner

from anonsynth.cli.main import app
from anonsynth.cohort.store import Cohort
from anonsynth.errors import UsageError
from anonsynth.synthesis.private_plan import Facts, choose_training, make_plan, patients_needed
from anonsynth.synthesis.rungs import RUNGS, open_rung, outlooks

HUNDRED = Facts(100, (40, 56, 44), 6, 2, 1, shaped=True)


@pytest.mark.parametrize(("epsilon", "facts"), [(1.0, HUNDRED), (8.0, Facts(50, (84, 108, 56), 1, 3, 2, shaped=False))])
def test_a_plan_costs_what_was_asked_for_and_never_more(epsilon: float, facts: Facts) -> None:
    plan = make_plan(facts, epsilon)
    assert epsilon * 0.99 < plan.epsilon <= epsilon
    accountant = PLDAccountant()
    for query in plan.queries:
        accountant.compose(dp_event.GaussianDpEvent(query.noise_multiplier))
    assert accountant.get_epsilon(plan.delta) <= plan.epsilon * 1.001
    assert plan.delta == pytest.approx(1 / (10 * facts.patients))


def test_a_larger_budget_or_cohort_buys_more() -> None:
    plans = [make_plan(HUNDRED, epsilon) for epsilon in (1.0, 3.0, 8.0)]
    assert len(plans[0].waves) < len(plans[1].waves) < len(plans[2].waves)
    assert plans[0].signal_to_noise["frame"] < plans[2].signal_to_noise["frame"]
    few = make_plan(Facts(8, (40, 56, 44), 6, 2, 1, shaped=True), 1.0)
    assert not few.worth
    assert len(few.waves) < len(plans[0].waves)


@pytest.mark.parametrize("rung", [2, 3, 4])
def test_what_a_rung_adds_shares_the_budget(rung: int) -> None:
    facts, epsilon = replace(HUNDRED, patients=1000), 4.0
    extra = RUNGS[rung].addition.takes(facts, 24, 200)  # type: ignore[attr-defined]
    plan = make_plan(facts, epsilon, None, extra)
    if extra.sizes:
        plan = choose_training(facts, epsilon, plan, extra)
    assert epsilon * 0.99 < plan.epsilon <= epsilon
    accountant = PLDAccountant()
    for query in plan.queries:
        accountant.compose(dp_event.GaussianDpEvent(query.noise_multiplier))
    assert (plan.training is None) == (rung == 2)
    if plan.training is not None:
        assert plan.training.settings(0.3).event == plan.training.event
        step = dp_event.GaussianDpEvent(plan.training.noise_multiplier)
        accountant.compose(dp_event.PoissonSampledDpEvent(plan.training.sampling_rate, step), plan.training.steps)
        assert plan.training.expected_batch == pytest.approx(plan.training.sampling_rate * facts.patients)
    assert accountant.get_epsilon(plan.delta) <= plan.epsilon * 1.001
    # What the addition takes, rung 1 lacks.
    assert plan.signal_to_noise["frame"] < make_plan(facts, epsilon).signal_to_noise["frame"]


def test_an_adapter_is_as_large_as_is_worth_its_noise() -> None:
    sizes = []
    for patients in (10, 30, 3000):
        facts = replace(HUNDRED, patients=patients)
        extra = RUNGS[3].addition.takes(facts, 24, 200)  # type: ignore[attr-defined]
        training = choose_training(facts, 3.0, make_plan(facts, 3.0, None, extra), extra).training
        assert training is not None
        sizes.append(training.weights)
    assert sizes[0] < sizes[1] < sizes[2] == extra.sizes[-1]


def test_the_patients_needed_are_enough_and_hardly_more_than_that() -> None:
    needed = patients_needed(HUNDRED, 3.0)
    assert make_plan(Facts(needed, (40, 56, 44), 6, 2, 1, shaped=True), 3.0).worth
    assert not make_plan(Facts(int(needed * 0.9), (40, 56, 44), 6, 2, 1, shaped=True), 3.0).worth


def test_what_the_ladder_says_of_a_hundred_patients() -> None:
    _, every = outlooks(HUNDRED, 1.0)
    assert [outlook.rung for outlook in every] == sorted(RUNGS) == [0, 1, 2, 3, 4]
    assert [outlook.worth for outlook in every] == [True, True, True, False, False]
    assert all(outlook.built for outlook in every)  # rung 3 would do, but for the half of the budget rung 1 is left
    with pytest.raises(UsageError, match="no rung 9"):
        open_rung(9)


def test_a_plan_opens_no_scan_and_says_when_it_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Cohort, "load", load)
    folder = str(make_tiny_cohort(tmp_path / "cohort").folder)
    asked = CliRunner().invoke(app, ["plan", folder, "--epsilon", "2", "--json"])
    told = json.loads(asked.stdout)
    assert told["schema"] == "anonsynth/plan/1"
    assert (told["patients"], told["patients_counted"], told["worth"]) == (8, True, False)
    assert told["patients_needed"] > 8
    given = CliRunner().invoke(app, ["plan", folder, "--epsilon", "2", "--patients", "100", "--json"])
    assert json.loads(given.stdout)["patients_counted"] is False
    assert not (Path(folder) / "ledger.sqlite").exists()


def test_public_maps_leave_the_whole_budget_for_what_scans_look_like(tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    maps.mkdir()
    save(maps / "map.nii.gz", np.ones((4, 4, 4), np.uint8))
    bare = ["plan", "--epsilon", "2", "--patients", "100", "--shape", "40,56,44", "--labels", "2", "--json"]
    folder = ["plan", str(make_tiny_cohort(tmp_path / "cohort").folder), "--epsilon", "2", "--json"]
    for words in (bare, folder):
        without, given = (
            {release["name"]: release for release in json.loads(CliRunner().invoke(app, asked).stdout)["releases"]}
            for asked in (words, [*words, "--anatomy", str(maps)])
        )
        assert set(without) - set(given) == {"frame", "fields"}
        assert given["appearance"]["noise_multiplier"] < without["appearance"]["noise_multiplier"]


def test_a_plan_needs_a_budget_and_facts() -> None:
    asked = CliRunner().invoke(app, ["plan", "--patients", "10", "--shape", "40,40,40"])
    assert "sets no ε" in str(asked.exception)
    asked = CliRunner().invoke(app, ["plan", "--epsilon", "1"])
    assert "needs a cohort" in str(asked.exception)
