from __future__ import annotations

from math import isnan, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from anonsynth.audits.residual_risk import Risk, Successes, residual_risk, success_rate


@st.composite
def successes(draw: st.DrawFn, fewest: int = 1) -> Successes:
    of = draw(st.integers(fewest, 200))
    return Successes(draw(st.integers(0, of)), of)


def _naive(attack: Successes, control: Successes, z: float) -> tuple[float, float]:
    """Propagate the error by derivatives taken numerically."""

    def rate(s: Successes) -> tuple[float, float]:
        p = s.found / s.of
        centre = (p + z**2 / (2 * s.of)) / (1 + z**2 / s.of)
        return centre, z / (1 + z**2 / s.of) * sqrt(p * (1 - p) / s.of + z**2 / (4 * s.of**2))

    def risk(a: float, c: float) -> float:
        return (a - c) / (1 - c)

    (a, da), (c, dc) = rate(attack), rate(control)
    h = 1e-6 * (1 - c)
    by_attack = (risk(a + h, c) - risk(a - h, c)) / (2 * h)
    by_control = (risk(a, c + h) - risk(a, c - h)) / (2 * h)
    return risk(a, c), sqrt((by_attack * da) ** 2 + (by_control * dc) ** 2)


def test_the_risk_by_hand() -> None:
    z = stats.norm.ppf(0.975)
    rate = success_rate(Successes(8, 10), 0.95)
    assert rate.value == pytest.approx((8 + z**2 / 2) / (10 + z**2))
    assert (rate.low, rate.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)  # as tabulated
    many = residual_risk(Successes(600_000, 10**6), Successes(200_000, 10**6), Successes(100_000, 10**6), 0.95)
    assert many.value == pytest.approx((0.6 - 0.2) / 0.8, abs=1e-5)
    error = z * sqrt(0.24 / 0.64 + 0.16 * 0.4**2 / 0.8**4) / 1000
    assert (many.low, many.high) == pytest.approx((0.5 - error, 0.5 + error), abs=1e-5)
    assert many.trusted
    assert many.why == "the attack (600000 of 1000000) beat guessing (100000 of 1000000)"


@given(successes(), st.sampled_from([0.8, 0.95, 0.99]))
def test_the_rate_is_wilsons(tried: Successes, confidence: float) -> None:
    rate = success_rate(tried, confidence)
    interval = stats.binomtest(tried.found, tried.of).proportion_ci(confidence, method="wilson")
    assert (rate.low, rate.high) == pytest.approx((interval.low, interval.high), abs=1e-9)
    assert 0 <= rate.low < rate.value < rate.high <= 1


@given(successes(), successes(), successes())
def test_it_agrees_with_derivatives_taken_numerically(
    attack: Successes, control: Successes, baseline: Successes
) -> None:
    risk = residual_risk(attack, control, baseline, 0.95)
    if control.found == control.of:
        assert isnan(risk.value)
        assert not risk.trusted
        return
    value, error = _naive(attack, control, float(stats.norm.ppf(0.975)))
    expected = np.clip([value, value - error, value + error], 0, 1)
    assert (risk.value, risk.low, risk.high) == pytest.approx(tuple(expected), abs=1e-4)
    assert 0 <= risk.low <= risk.value <= risk.high <= 1


@given(successes(), successes(), st.data())
def test_more_successes_are_never_less_risk(attack: Successes, control: Successes, data: st.DataObject) -> None:
    more = Successes(data.draw(st.integers(attack.found, attack.of)), attack.of)
    guesses = Successes(0, 10)
    one, other = (residual_risk(a, control, guesses, 0.95) for a in (attack, more))
    assert isnan(one.value) or one.value <= other.value


def test_a_planted_leak_is_seen_and_knowledge_of_the_population_is_not_one() -> None:
    rng = np.random.default_rng(1)
    covered = false = 0
    for _ in range(500):
        leak = residual_risk(
            Successes(int(rng.binomial(100, 0.3 + 0.7 * 0.4)), 100),
            Successes(int(rng.binomial(100, 0.3)), 100),
            Successes(int(rng.binomial(100, 0.05)), 100),
            0.95,
        )
        covered += leak.low <= 0.4 <= leak.high
        assert leak.trusted
        none = residual_risk(
            Successes(int(rng.binomial(100, 0.3)), 100),
            Successes(int(rng.binomial(100, 0.3)), 100),
            Successes(int(rng.binomial(100, 0.05)), 100),
            0.95,
        )
        false += none.low > 0
    assert covered >= 0.93 * 500
    assert false <= 0.05 * 500


def test_an_attack_no_better_than_guessing_is_hardly_ever_trusted() -> None:
    rng = np.random.default_rng(2)
    draws = [[Successes(int(rng.binomial(30, 0.2)), 30) for _ in range(3)] for _ in range(500)]
    assert sum(residual_risk(*three, 0.95).trusted for three in draws) <= 0.05 * 500
    larger = sum(attack.found > baseline.found for attack, _, baseline in draws)
    assert larger > 0.3 * 500  # what would be trusted if the larger of two rates were enough


def test_what_cannot_be_measured_gives_no_number() -> None:
    some, none, always = Successes(5, 10), Successes(0, 0), Successes(10, 10)
    for attack, control, baseline in ((none, some, some), (some, none, some), (always, always, none)):
        risk = residual_risk(attack, control, baseline, 0.95)
        assert isnan(risk.value)
        assert (risk.low, risk.high, risk.trusted) == (0.0, 1.0, False)
    assert residual_risk(none, some, some, 0.95).why == "the attack was never tried"
    assert "always succeeded" in residual_risk(always, always, none, 0.95).why
    unknown = success_rate(none, 0.95)
    assert isnan(unknown.value)
    assert (unknown.low, unknown.high) == (0.0, 1.0)


def test_it_says_why_it_is_not_to_be_trusted() -> None:
    def judge(attack: int, control: int, baseline: int, guesses: int = 50) -> Risk:
        return residual_risk(Successes(attack, 50), Successes(control, 50), Successes(baseline, guesses), 0.95)

    assert judge(20, 20, 2).trusted
    assert "not compared with guessing" in judge(20, 20, 0, guesses=0).why
    assert "not seen to beat guessing (20 of 50)" in judge(22, 20, 20).why
    reversed_roles = judge(5, 40, 0)
    assert not reversed_roles.trusted
    assert reversed_roles.value == 0
    assert "the two groups differ" in reversed_roles.why


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="got 3 of 2"):
        Successes(3, 2)
    with pytest.raises(ValueError, match="got -1 of 2"):
        Successes(-1, 2)
    with pytest.raises(ValueError, match="between 0 and 1, got 1"):
        residual_risk(Successes(1, 2), Successes(1, 2), Successes(1, 2), 1.0)
