"""The one-run bound is what the paper says, is never above a true ε, and sees a mechanism that leaks."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from private_training_process import SCANS
from torch import nn

from anonsynth.errors import ContradictionError, UsageError
from anonsynth.privacy import dp_sgd
from anonsynth.privacy.accountant import epsilon_of, find_noise
from anonsynth.privacy.canaries import Canaries, canary_loss, flat
from anonsynth.privacy.dp_sgd import DPSGDSettings
from anonsynth.privacy.events import SampledGaussian
from anonsynth.privacy.ledger import Ledger
from anonsynth.privacy.one_run import Guesses, OneRun, best_bound, check_claim, epsilon_at_least, guess, p_value
from anonsynth.privacy.private_run import open_run
from anonsynth.privacy.private_training import PRIVATE, PrivateTask, train_privately
from anonsynth.privacy.receipt import spend_for
from anonsynth.privacy.spending import Budget, Spend, StepKind

DELTA = 1e-5
CANARIES, GUESSES, STEPS, RATE, NORM = 600, 480, 12, 0.5, 1.0


def test_the_papers_own_numbers_come_out() -> None:
    """Steinke et al. 2023, appendix D: 75 of 100 guesses about 100 canaries."""
    seen = Guesses(100, 100, 75)
    assert p_value(seen, math.log(3), 0.0) == pytest.approx(0.553, abs=5e-4)
    assert epsilon_at_least(seen, 0.0) == pytest.approx(0.702, abs=5e-4)
    assert epsilon_at_least(seen, 1e-4) == pytest.approx(0.699, abs=6e-4)


@pytest.mark.parametrize(("m", "r", "v"), [(10, 10, 7), (30, 12, 12), (25, 20, 0), (8, 0, 0), (40, 31, 3)])
def test_the_probability_is_the_exact_sum(m: int, r: int, v: int) -> None:
    delta = Fraction(1, 10_000)
    for right in (Fraction(1, 2), Fraction(3, 4), Fraction(99, 100)):
        mass = [math.comb(r, k) * right**k * (1 - right) ** (r - k) for k in range(r + 1)]
        slack = max([sum(mass[v - i : v]) / i for i in range(1, v + 1)], default=Fraction(0))
        wanted = min(Fraction(1), sum(mass[v:]) + 2 * m * delta * slack)
        epsilon = math.log(right / (1 - right))
        assert p_value(Guesses(m, r, v), epsilon, float(delta)) == pytest.approx(float(wanted), rel=1e-9)


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0])
@pytest.mark.parametrize(("m", "r"), [(200, 200), (1000, 300)])
def test_randomised_response_is_bounded_by_its_epsilon_and_closely(epsilon: float, m: int, r: int) -> None:
    """Randomised response is the worst that an ε allows: the bound may be above ε once in twenty runs, and not far."""
    right = 1 / (1 + math.exp(-epsilon))
    bound = cache(lambda v: epsilon_at_least(Guesses(m, r, v), 0.0))
    repeats = 2000
    bounds = np.array([bound(int(v)) for v in np.random.default_rng(r).binomial(r, right, repeats)])
    assert (bounds > epsilon).mean() <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / repeats)
    # No bound that holds so often can be much closer than 1.65 standard deviations of the share of right guesses.
    low = right - 2 * math.sqrt(right * (1 - right) / r)
    assert np.median(bounds) >= math.log(max(low, 0.5) / (1 - max(low, 0.5)))


def test_a_slack_of_delta_lowers_the_bound_and_never_raises_it() -> None:
    bounds = [epsilon_at_least(Guesses(1000, 500, 490), delta) for delta in (0.0, 1e-6, 1e-4, 1e-2)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] > bounds[-1]
    assert epsilon_at_least(Guesses(1000, 500, 250), 0.0) == 0.0


def test_what_so_many_canaries_could_show_at_best_is_a_closed_form() -> None:
    for m in (10, 100, 1000):
        right = 0.05 ** (1 / m)
        assert best_bound(m, 0.0) == pytest.approx(math.log(right / (1 - right)), abs=1e-5)
    assert best_bound(1000, 1e-5) < best_bound(1000, 0.0)


def test_guesses_are_counted_at_both_ends() -> None:
    scores = np.array([5.0, 4.0, 3.0, 2.0, 1.0, 0.0])
    included = np.array([True, True, False, True, False, False])
    assert guess(scores, included, 2) == Guesses(6, 2, 2)
    assert guess(scores, included, 3) == Guesses(6, 3, 3)
    assert guess(scores, included, 6) == Guesses(6, 6, 4)
    assert guess(-scores, included, 4) == Guesses(6, 4, 0)
    with pytest.raises(UsageError, match="cannot be made"):
        guess(scores, included, 7)
    for impossible in ((5, 6, 1), (5, 3, 4), (0, 0, 0), (5, 3, -1)):
        with pytest.raises(UsageError, match="cannot be"):
            Guesses(*impossible)
    with pytest.raises(UsageError, match="confidence"):
        epsilon_at_least(Guesses(5, 5, 5), 0.0, 1.0)


def test_a_claim_that_is_contradicted_is_a_hard_failure() -> None:
    seen = Guesses(500, 500, 495)
    held = check_claim(seen, 6.0, DELTA)
    assert 0 < held.bound < held.best < 6.0
    assert "495 of 500 guesses about 500 canaries were right" in held.sentence()
    with pytest.raises(ContradictionError, match="the guarantee does not hold") as caught:
        check_claim(seen, 2.0, DELTA)
    assert caught.value.status == 4


# The audit of private training itself, from the released weights.


def audit(folder: Path, noise_multiplier: float, claimed: float, seed: int) -> OneRun:
    """Train on canaries with the code that trains on patients, and guess them from the weights."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(8, 40, 3), nn.LeakyReLU(0.2), nn.Conv3d(40, 8, 3))
    before = flat(network).detach().clone()
    canaries = Canaries.draw(CANARIES, network, seed)
    settings = DPSGDSettings(
        clipping_norm=NORM, noise_multiplier=noise_multiplier, sampling_rate=RATE, steps=STEPS, expected_batch=150
    )
    optimiser = torch.optim.SGD(network.parameters(), lr=1.0)
    run = open_run(folder / "private", "canaries", settings, canaries.names, {PRIVATE: network}, {PRIVATE: optimiser})
    spend = Spend(
        id=f"{run.name} internal canaries",
        step=StepKind.AUDIT,
        what="canaries",
        events=(settings.event,),
        cohort=SCANS,
        patients=CANARIES,
    )
    receipt = spend_for(Ledger(folder / "ledger.sqlite"), spend, Budget("internal"))
    task = PrivateTask(read=lambda name, _: canaries.read(name, NORM), loss=canary_loss)
    train_privately(task, run, receipt, save_every=STEPS)
    scores = canaries.scores(before, flat(network).detach())
    return check_claim(guess(scores, canaries.included, GUESSES), claimed, DELTA)


@cache
def promised() -> tuple[float, float]:
    """A noise multiplier, and the ε that it gives."""

    def event(noise: float) -> SampledGaussian:
        return SampledGaussian(noise_multiplier=noise, sampling_rate=RATE, steps=STEPS)

    noise = find_noise(event, 3.0, DELTA)
    return noise, epsilon_of([event(noise)], DELTA)


def test_the_mechanism_as_it_is_keeps_below_its_claim_and_is_not_invisible(tmp_path: Path) -> None:
    noise, claimed = promised()
    seen = audit(tmp_path, noise, claimed, seed=1)
    assert 0.1 < seen.bound < claimed < seen.best, seen.sentence()


@pytest.mark.parametrize("factor", [0.0, 0.1])
def test_a_mechanism_that_leaks_is_found_out_by_its_canaries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    noise, claimed = promised()
    real = dp_sgd.noise_like
    monkeypatch.setattr(dp_sgd, "noise_like", lambda like, strength, *names: real(like, factor * strength, *names))
    # The look at the noise itself would end the run at its first step; here it looks away.
    monkeypatch.setattr(dp_sgd, "check_noise", lambda *_: None)
    with pytest.raises(ContradictionError, match="the guarantee does not hold"):
        audit(tmp_path, noise, claimed, seed=2)


def test_a_mechanism_that_does_not_clip_is_found_out_by_its_canaries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise, claimed = promised()
    monkeypatch.setattr(dp_sgd, "clipped", lambda gradient, _: {k: 10 * v for k, v in gradient.items()})
    monkeypatch.setattr(dp_sgd, "norm", lambda _: 0.0)
    with pytest.raises(ContradictionError, match="the guarantee does not hold"):
        audit(tmp_path, noise, claimed, seed=3)
