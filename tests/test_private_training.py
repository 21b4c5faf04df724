"""Private training survives kills, spends nothing twice, and does not run undeclared."""

from __future__ import annotations

import random
import secrets
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_tiny_cohort
from private_training_process import (
    PATIENTS,
    SCANS,
    TASK,
    Killed,
    begin,
    declared,
    kill_again_and_again,
    make_network,
    weights,
)
from torch import nn

from anonsynth.errors import InputError, InternalError, UsageError
from anonsynth.policies.model import load_policy
from anonsynth.privacy import private_training
from anonsynth.privacy.declare import Step, declare, ledger_of
from anonsynth.privacy.events import SampledGaussian
from anonsynth.privacy.ledger import Ledger
from anonsynth.privacy.private_run import STATE_FILE, PrivateRun, forget, open_run
from anonsynth.privacy.private_training import PRIVATE, PrivateTask, train_privately
from anonsynth.privacy.receipt import Receipt, spend_for
from anonsynth.privacy.spending import Budget, Entry, StepKind


def start(folder: Path, steps: int = 12) -> tuple[PrivateRun, Receipt]:
    folder.mkdir(parents=True, exist_ok=True)
    run = begin(folder, steps)
    return run, declared(folder, run)


def test_killed_at_random_moments_it_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    chance = random.Random(11)  # noqa: S311 - when to kill, not a secret
    seen = kill_again_and_again(tmp_path, 6, 24, chance)
    assert seen.kills >= 3
    assert seen == Killed(seen.kills, seen.undeclared, seen.steps, 0, 1, 0, equal=True)
    assert seen.steps >= 24


def test_a_run_that_died_between_its_secret_and_its_declaration_has_spent_nothing_and_keeps_its_name(
    tmp_path: Path,
) -> None:
    name = begin(tmp_path).name
    assert not (tmp_path / "ledger.sqlite").exists()
    run, receipt = start(tmp_path)
    assert run.name == name
    assert receipt.entry.id.startswith(name)
    # A folder that was lost takes its noise with it: what follows is another draw and another spend.
    forget(tmp_path / "private")
    again, _ = start(tmp_path)
    assert again.name != name
    assert len(Ledger(tmp_path / "ledger.sqlite").read().entries) == 2


def test_it_begins_with_the_weights_that_it_began_with(tmp_path: Path) -> None:
    begin(tmp_path)
    other = make_network(seed=1)
    begin(tmp_path, network=other)
    assert torch.equal(weights(other), weights(make_network()))


def test_the_private_folder_is_its_owners_and_its_secret_is_in_no_other_file(tmp_path: Path) -> None:
    run, _ = start(tmp_path)
    assert (tmp_path / "private").stat().st_mode & 0o077 == 0
    (tmp_path / "private" / ".half.partial.safetensors").write_bytes(run.randomness.secret)
    begin(tmp_path)
    assert [path.name for path in (tmp_path / "private").iterdir()] == [STATE_FILE]
    assert run.randomness.secret not in (tmp_path / "ledger.sqlite").read_bytes()
    assert str(run.randomness.secret) not in repr(run)


def test_noise_is_never_used_for_another_run(tmp_path: Path) -> None:
    begin(tmp_path)
    with pytest.raises(UsageError, match="noise must not be used again"):
        begin(tmp_path, steps=13)
    network = make_network()
    optimiser = torch.optim.Adam(network.parameters())
    run = begin(tmp_path)
    for key, patients in (("another key", PATIENTS), ("a key", PATIENTS[1:]), ("a key", PATIENTS[::-1])):
        with pytest.raises(UsageError, match="noise must not be used again"):
            open_run(tmp_path / "private", key, run.settings, patients, {PRIVATE: network}, {PRIVATE: optimiser})
    (tmp_path / "private" / STATE_FILE).write_bytes(b"no weights")
    with pytest.raises(InputError, match="cannot be read"):
        begin(tmp_path)


def test_without_a_patient_or_with_one_twice_it_does_not_begin(tmp_path: Path) -> None:
    network = make_network()
    networks, optimisers = {PRIVATE: network}, {PRIVATE: torch.optim.SGD(network.parameters())}
    for patients in ((), ("P1", "P2", "P1")):
        with pytest.raises(UsageError, match="named once"):
            open_run(tmp_path / "x", "key", begin(tmp_path).settings, patients, networks, optimisers)
    assert not (tmp_path / "x").exists()


# No step without the ledger.


def test_a_receipt_that_was_made_up_is_worth_nothing(tmp_path: Path) -> None:
    run = begin(tmp_path)
    before = weights(run.networks[PRIVATE])
    entry = Entry(
        id=f"{run.name} internal training",
        step=StepKind.TRAINING,
        what="a test",
        events=(run.settings.event,),
        cohort=SCANS,
        patients=12,
        policy="internal",
        anonsynth="0",
        time="now",
    )
    with pytest.raises(InternalError, match="was not declared"):
        train_privately(TASK, run, Receipt(Ledger(tmp_path / "ledger.sqlite"), entry))
    assert torch.equal(weights(run.networks[PRIVATE]), before)
    assert run.step == 0


def test_a_receipt_is_good_for_one_run_with_one_cost(tmp_path: Path) -> None:
    run, receipt = start(tmp_path)
    other, _ = start(tmp_path / "other")
    with pytest.raises(InternalError, match="declared as something else"):
        train_privately(TASK, other, receipt)
    cheaper = run.settings.model_copy(update={"noise_multiplier": 0.15})
    with pytest.raises(InternalError, match="declared as something else"):
        train_privately(TASK, replace(run, settings=cheaper), receipt)
    with pytest.raises(InternalError, match="declared as something else"):
        train_privately(TASK, replace(run, patients=(*run.patients, "P9999")), receipt)


def test_the_same_noise_on_another_cohort_is_not_the_same_spend(tmp_path: Path) -> None:
    _, receipt = start(tmp_path)
    entry = receipt.entry
    spend = Entry.model_validate({**dict(entry), "cohort": "cd" * 32})
    assert entry.is_of(entry, Budget("internal"))
    assert not entry.is_of(spend, Budget("internal"))
    with pytest.raises(UsageError, match="a step has one cost"):
        spend_for(receipt.ledger, spend, Budget("internal"))


def test_declaring_returns_receipts_that_the_training_believes(tmp_path: Path) -> None:
    cohort = make_tiny_cohort(tmp_path / "cohort", patients=16, holdout=4)
    run = begin(tmp_path)
    step = Step("training", StepKind.TRAINING, "made-up crops", (run.settings.event,))
    (receipt,) = declare(cohort, load_policy("internal"), run.name, step)
    told: list[int] = []
    train_privately(TASK, run, receipt, tell=told.append)
    assert told == list(range(1, 13))
    assert [entry.events for entry in ledger_of(cohort.folder).read().entries] == [
        (SampledGaussian(noise_multiplier=1.5, sampling_rate=0.4, steps=12),)
    ]
    # Called again when it is over it does nothing.
    final = weights(run.networks[PRIVATE])
    resumed = begin(tmp_path)
    train_privately(TASK, resumed, declare(cohort, load_policy("internal"), resumed.name, step)[0])
    assert torch.equal(weights(resumed.networks[PRIVATE]), final)
    assert len(ledger_of(cohort.folder).read().entries) == 1


# What else could void the proof.


def test_patients_at_once_changes_nothing_but_the_last_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = secrets.token_bytes(32)
    monkeypatch.setattr(secrets, "token_bytes", lambda _: secret)
    ends = []
    for at_once in (1, 5):
        run, receipt = start(tmp_path / str(at_once))
        train_privately(TASK, run, receipt, at_once=at_once)
        ends.append(weights(run.networks[PRIVATE]))
    torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-5)
    assert not torch.equal(ends[0], weights(make_network()))


def test_a_sampler_that_is_not_poisson_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def of_fixed_size(patients, rate, _randomness, step):
        size = round(rate * len(patients))
        return tuple(np.random.default_rng(step).permutation(patients)[:size])

    monkeypatch.setattr(private_training, "draw_patients", of_fixed_size)
    run, receipt = start(tmp_path, steps=30)
    with pytest.raises(InternalError, match="independent coins"):
        train_privately(TASK, run, receipt)
    monkeypatch.setattr(private_training, "check_participation", lambda _: None)
    train_privately(TASK, run, receipt)


def test_an_optimiser_that_moves_something_without_noise_is_refused(tmp_path: Path) -> None:
    run, receipt = start(tmp_path)
    stray = torch.optim.SGD([*run.networks[PRIVATE].parameters(), nn.Parameter(torch.zeros(1))])
    with pytest.raises(InternalError, match="trainable parameters, all of them and no others"):
        train_privately(TASK, replace(run, optimisers={PRIVATE: stray}), receipt)


class Remembering(nn.Module):
    """Keeps a running mean of what it sees: patients, without noise."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv3d(1, 1, 1)
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.mean.lerp_(x.detach().mean(), 0.1)
        result: torch.Tensor = self.inner(x)
        return result


def test_a_buffer_that_learns_from_patients_ends_the_run(tmp_path: Path) -> None:
    run = begin(tmp_path, network=Remembering())
    receipt = declared(tmp_path, run)
    with pytest.raises(UsageError, match="not on the list"):
        train_privately(TASK, run, receipt)
    vouched = PrivateTask(read=TASK.read, loss=TASK.loss, composed=(Remembering,))
    with pytest.raises(InternalError, match="a buffer of the private network changed"):
        train_privately(vouched, run, receipt)


def test_what_is_done_afterwards_is_resumed_with_the_rest(tmp_path: Path) -> None:
    """A generator that learns from the private discriminator only: after-work on what was released already."""
    steps_seen: list[int] = []
    task = PrivateTask(read=TASK.read, loss=TASK.loss, afterwards=steps_seen.append)
    run, receipt = start(tmp_path)

    def stop(step: int) -> None:
        if step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_privately(task, run, receipt, save_every=3, tell=stop)
    run, receipt = start(tmp_path)
    assert run.step == 6
    train_privately(task, run, receipt)
    assert steps_seen == [*range(7), *range(6, 12)]
