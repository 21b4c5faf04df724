"""ε is never below an independent computation and within 1 % of it; what is not the recorded mechanism is caught."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import beta, norm

from anonsynth.errors import BudgetError, InputError, UsageError
from anonsynth.privacy.accountant import default_delta, epsilon_of, find_noise, settle_delta
from anonsynth.privacy.events import (
    DiscreteLaplace,
    Event,
    Gaussian,
    Laplace,
    NoGuarantee,
    Promise,
    SampledGaussian,
    as_json,
    describe,
    from_json,
)

NEAR = 0.01
"""How far above an independent computation ε may lie."""
SETTINGS = (
    # sampling rate, noise multiplier, steps, δ
    *((rate, noise, 100, 1e-3) for rate in (0.02, 0.1, 0.3) for noise in (1.0, 2.0, 4.0)),
    *((rate, noise, 50, 1e-4) for rate in (0.05, 0.5) for noise in (1.5, 6.0, 15.0)),
    (0.02, 1.0, 600, 1e-3),
    (0.01, 0.9, 400, 1e-5),
    (0.02, 5.0, 600, 1e-3),
    (0.9, 20.0, 50, 1e-3),
    (0.05, 1.2, 1, 1e-3),
)


def balle_wang(noise: float, count: int, delta: float) -> float:
    """ε of `count` releases with normal noise, in closed form (Balle & Wang 2018, theorem 8, arXiv 1805.06530)."""
    distance = math.sqrt(count) / noise

    def excess(epsilon: float) -> float:
        far = norm.logcdf(-distance / 2 - epsilon / distance) + epsilon
        return float(norm.cdf(distance / 2 - epsilon / distance) - math.exp(far) - delta)

    return float(brentq(excess, 0, 200, xtol=1e-12)) if excess(0) > 0 else 0.0


def one_sampled_step(rate: float, noise: float, delta: float) -> float:
    """ε of one sampled step, in closed form: the best test between the mixture and the plain noise is a threshold."""

    def excess(epsilon: float) -> float:
        threshold = 0.5 + noise**2 * math.log((math.expm1(epsilon) + rate) / rate)
        there, absent = norm.sf((threshold - 1) / noise), norm.sf(threshold / noise)
        return float(rate * there + (1 - rate) * absent - math.exp(epsilon) * absent - delta)

    return float(brentq(excess, 0, 100, xtol=1e-12)) if excess(0) > 0 else 0.0


@pytest.mark.parametrize(
    ("noise", "count", "delta"),
    [(1, 1, 1e-3), (4, 10, 1e-3), (20, 3, 1e-4), (100, 1, 1e-3), (0.5, 1, 1e-5), (3, 50, 1e-5), (0.8, 2, 1e-6)],
)
def test_normal_noise_agrees_with_the_closed_form(noise: float, count: int, delta: float) -> None:
    exact = balle_wang(noise, count, delta)
    assert exact <= epsilon_of([Gaussian(noise_multiplier=noise, count=count)], delta) <= exact * (1 + NEAR)
    apart = [Gaussian(noise_multiplier=noise)] * count
    assert epsilon_of(apart, delta) == pytest.approx(epsilon_of([Gaussian(noise_multiplier=noise, count=count)], delta))


def test_normal_noise_of_several_strengths_composes_as_one() -> None:
    noises = (3.0, 5.0, 9.0)
    exact = balle_wang(1 / math.sqrt(sum(noise**-2 for noise in noises)), 1, 1e-3)
    assert exact <= epsilon_of([Gaussian(noise_multiplier=noise) for noise in noises], 1e-3) <= exact * (1 + NEAR)


@pytest.mark.parametrize(("rate", "noise", "delta"), [(0.3, 0.8, 1e-3), (0.05, 0.5, 1e-4), (0.7, 3, 1e-3)])
def test_one_sampled_step_agrees_with_the_closed_form(rate: float, noise: float, delta: float) -> None:
    exact = one_sampled_step(rate, noise, delta)
    spent = epsilon_of([SampledGaussian(noise_multiplier=noise, sampling_rate=rate, steps=1)], delta)
    assert exact <= spent <= exact * (1 + NEAR)


def test_twenty_settings_lie_within_one_percent_above_an_independent_accountant() -> None:
    """Opacus composes by another method (Gopi et al. 2021, arXiv 2106.02848), with a proven error on either side."""
    from opacus.accountants import PRVAccountant

    assert len(SETTINGS) == 20
    for rate, noise, steps, delta in SETTINGS:
        spent = epsilon_of([SampledGaussian(noise_multiplier=noise, sampling_rate=rate, steps=steps)], delta)
        accountant = PRVAccountant()
        accountant.history = [(noise, rate, steps)]
        error = min(max(0.01 * spent, 2e-3), 2e-2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the Rényi orders with which Opacus chooses its grid
            losses = accountant._get_dprv(eps_error=error, delta_error=delta / 1000)
        low, middle, high = losses.compute_epsilon(delta, delta / 1000, error)
        # The truth lies between `low` and `high`; their middle is far nearer to it than is proven.
        assert low <= spent <= high, (rate, noise, steps, delta)
        assert middle <= spent <= middle * (1 + NEAR), (rate, noise, steps, delta)


def test_pure_mechanisms_agree_with_their_definitions() -> None:
    # Laplace noise of scale b: δ(ε) = 1 − exp((ε − 1/b)/2) for sensitivity 1.
    exact = 0.5 + 2 * math.log(1 - 1e-3)
    assert exact <= epsilon_of([Laplace(noise_multiplier=2)], 1e-3) <= exact * (1 + NEAR)
    # Twice the sensitivity is half the noise.
    assert epsilon_of([DiscreteLaplace(decay=0.1, sensitivity=2)], 1e-9) == pytest.approx(0.2, rel=NEAR)
    assert epsilon_of([Promise(epsilon=0.7)], 1e-9) == pytest.approx(0.7, rel=NEAR)
    assert epsilon_of([Promise(epsilon=0.7, delta=1e-3)], 1e-4) == math.inf
    assert epsilon_of([Promise(epsilon=0.0)], 1e-4) == 0
    # A hundred small ones cost less than their sum (Dwork, Rothblum & Vadhan 2010), and more than one.
    assert 0.1 < epsilon_of([Promise(epsilon=0.1, count=100)], 1e-3) < 5


def test_everybody_in_every_step_is_no_sampling() -> None:
    sampled = SampledGaussian(noise_multiplier=4, sampling_rate=1.0, steps=10)
    assert epsilon_of([sampled], 1e-3) == epsilon_of([Gaussian(noise_multiplier=4, count=10)], 1e-3)


def test_nothing_costs_nothing_and_no_mechanism_costs_everything() -> None:
    assert epsilon_of([], 1e-3) == 0
    assert epsilon_of([Gaussian(noise_multiplier=100), NoGuarantee()], 1e-3) == math.inf
    assert epsilon_of([Gaussian(noise_multiplier=0.01)], 1e-3) == math.inf
    # Far beyond what protects anybody there is still a bound, and it takes no memory.
    many = SampledGaussian(noise_multiplier=0.1, sampling_rate=0.1, steps=10_000)
    assert 100 < epsilon_of([many], 1e-3) < math.inf


@pytest.mark.parametrize(
    ("build", "epsilon", "besides"),
    [
        (lambda noise: Gaussian(noise_multiplier=noise), 1.0, ()),
        (lambda noise: Gaussian(noise_multiplier=noise), 30.0, ()),
        (lambda noise: SampledGaussian(noise_multiplier=noise, sampling_rate=0.1, steps=50), 2.0, ()),
        (lambda noise: Gaussian(noise_multiplier=noise), 3.0, (Laplace(noise_multiplier=1.0),)),
    ],
)
def test_the_noise_that_is_found_keeps_the_budget_and_wastes_little(
    build: object, epsilon: float, besides: tuple[Event, ...]
) -> None:
    assert callable(build)
    noise = find_noise(build, epsilon, 1e-3, besides=besides)
    assert epsilon_of((build(noise), *besides), 1e-3) <= epsilon
    assert epsilon_of((build(noise * 0.99), *besides), 1e-3) > epsilon * 0.999


def test_where_no_noise_is_enough_the_budget_is_exhausted() -> None:
    with pytest.raises(BudgetError, match="no noise keeps ε within 1"):
        find_noise(lambda noise: Gaussian(noise_multiplier=noise), 1.0, 1e-3, besides=(Gaussian(noise_multiplier=1),))


def test_delta_is_a_tenth_of_one_patient_and_never_a_whole_one() -> None:
    assert default_delta(100) == settle_delta(None, 100) == 1e-3
    assert settle_delta(1e-5, 100) == 1e-5
    for delta in (0.01, 0.5, 0.0, -1.0, math.nan):
        with pytest.raises(UsageError, match=r"one whole patient would count as private; leave it out to get 0\.001"):
            settle_delta(delta, 100)
    with pytest.raises(UsageError, match="without patients"):
        default_delta(0)
    for delta in (0.0, 1.0, 1e-12):
        with pytest.raises(UsageError, match="not between"):
            epsilon_of([], delta)


EVENTS = st.one_of(
    st.builds(Gaussian, noise_multiplier=st.floats(1, 50), count=st.integers(1, 20)),
    st.builds(Laplace, noise_multiplier=st.floats(1, 50), count=st.integers(1, 5)),
    st.builds(DiscreteLaplace, decay=st.floats(0.01, 1), sensitivity=st.integers(1, 3)),
    st.builds(Promise, epsilon=st.floats(0, 1), delta=st.floats(0, 1e-5)),
    st.builds(
        SampledGaussian, noise_multiplier=st.floats(2, 20), sampling_rate=st.floats(0.01, 0.5), steps=st.integers(1, 50)
    ),
)


@settings(max_examples=10)
@given(events=st.lists(EVENTS, min_size=1, max_size=4), another=EVENTS, seed=st.randoms(use_true_random=False))
def test_composition_never_falls_and_knows_no_order(events: list[Event], another: Event, seed: object) -> None:
    before = epsilon_of(events, 1e-3)
    after = epsilon_of([*events, another], 1e-3)
    # Grids differ a little with what is composed.
    assert after >= before * (1 - 2e-3)
    shuffled = [*events, another]
    seed.shuffle(shuffled)  # type: ignore[attr-defined]
    assert epsilon_of(shuffled, 1e-3) == after


@given(event=EVENTS)
def test_an_event_survives_json_and_has_words(event: Event) -> None:
    assert from_json(json.loads(json.dumps(as_json(event)))) == event
    assert describe(event)


def test_an_event_is_checked_and_an_unknown_one_is_refused() -> None:
    assert from_json({"kind": "no-guarantee"}) == NoGuarantee()
    for wrong in ({"kind": "magic"}, {"kind": "gaussian"}, {"kind": "gaussian", "noise_multiplier": 0}, {}, 3):
        with pytest.raises(InputError, match="does not know"):
            from_json(wrong)
    for rate in (0.0, 1.1):
        with pytest.raises(ValueError, match="sampling_rate"):
            SampledGaussian(noise_multiplier=1, sampling_rate=rate, steps=1)


DELTA, RUNS = 1e-2, 100_000
NOISE, RATE = 2.0, 0.1


def release(there: bool, rng: np.random.Generator, *, rate: float, times: int, noise: float) -> np.ndarray:
    """One step of a sum over patients, `RUNS` times: does the patient in question, clipped to 1, take part?

    `times` is how often the patient's contribution is added: 1 is right, 2 is a patient who is counted as two.
    """
    drawn = rng.random(RUNS) < rate
    return times * there * drawn + noise * rng.normal(size=RUNS)


def epsilon_at_least(there: np.ndarray, absent: np.ndarray) -> float:
    """A lower bound on ε at 99.9 %: the best of some thresholds as a test of who was there (Kairouz et al. 2015)."""
    best = 0.0
    thresholds = np.quantile(absent, (0.5, 0.9, 0.99, 0.999))
    level = 1e-3 / (2 * len(thresholds))
    for threshold in thresholds:
        hits, alarms = int((there > threshold).sum()), int((absent > threshold).sum())
        power = beta.ppf(level, hits, RUNS - hits + 1)
        false = beta.ppf(1 - level, alarms + 1, RUNS - alarms)
        if power > DELTA:
            best = max(best, math.log((power - DELTA) / false))
    return best


@pytest.mark.parametrize(
    ("broken", "caught"),
    [
        ({}, False),
        ({"times": 2}, True),
        ({"rate": 0.5}, True),
        ({"noise": 1e-3}, True),
    ],
    ids=["as recorded", "patient counted twice", "sampling rate misreported", "noise left out"],
)
def test_a_mechanism_that_is_not_the_recorded_one_is_caught(broken: dict[str, float], caught: bool) -> None:
    recorded = SampledGaussian(noise_multiplier=NOISE, sampling_rate=RATE, steps=1)
    claimed = epsilon_of([recorded], DELTA)
    rng = np.random.default_rng(7)
    ran = {"rate": RATE, "times": 1, "noise": NOISE} | broken
    there, absent = (release(side, rng, **ran) for side in (True, False))  # type: ignore[arg-type]
    assert (epsilon_at_least(there, absent) > claimed) is caught


def test_a_release_that_was_never_recorded_is_caught() -> None:
    rng = np.random.default_rng(8)
    there, absent = (release(side, rng, rate=1.0, times=1, noise=1.0) for side in (True, False))
    assert epsilon_at_least(there, absent) > epsilon_of([], DELTA) == 0


def test_the_accountant_is_imported_only_when_it_counts() -> None:
    code = (
        "import sys, anonsynth.privacy.accountant\n"
        "print([name for name in ('dp_accounting', 'scipy', 'torch', 'numpy') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
