from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from anonsynth.audits.calibration import (
    calibrate,
    exact_interval,
    q_values,
    samples_needed,
    upper_bound,
)


@pytest.mark.parametrize("holdout", [6, 13, 26])
def test_p_values_are_uniform_where_nobody_was_copied(holdout: int) -> None:
    rng = np.random.default_rng(7)
    p = np.concatenate([calibrate(rng.exponential(size=10), rng.exponential(size=holdout)).p for _ in range(20_000)])
    for level in (1e-4, 1e-3, 1e-2):
        assert np.mean(p <= level) == pytest.approx(level, rel=0.35)
    for rank in range(2, holdout):
        assert np.mean(p <= rank / (holdout + 1) + 1e-9) == pytest.approx(rank / (holdout + 1), abs=0.01)


@pytest.mark.parametrize("tail", ["normal", "uniform", "gumbel"])
def test_tails_no_heavier_than_exponential_give_no_false_alarms(tail: str) -> None:
    rng = np.random.default_rng(3)
    draw = getattr(rng, tail)
    p = np.concatenate([calibrate(draw(size=10), draw(size=20)).p for _ in range(10_000)])
    for level in (1e-4, 1e-3, 1e-2, 0.05):
        assert np.mean(p <= level) <= 1.25 * level + 1e-4


@given(
    null=st.lists(st.floats(0, 5), min_size=2, max_size=30),
    values=st.lists(st.floats(-1, 50), min_size=2, max_size=10),
)
def test_stronger_evidence_never_has_a_larger_p(null: list[float], values: list[float]) -> None:
    result = calibrate(sorted(values), null)
    assert (np.diff(result.p) <= 1e-12).all()
    assert ((result.p > 0) & (result.p <= 1)).all()
    assert (result.extrapolated == (np.sort(values) > max(null))).all()


def test_missing_views_and_empty_nulls_accuse_nobody() -> None:
    assert calibrate([3.0, np.nan], []).p.tolist()[0] == 1.0
    assert np.isnan(calibrate([np.nan], [1.0, 2.0]).p[0])


@pytest.mark.parametrize("holdout", [5, 12])
def test_a_companion_with_the_same_tail_sharpens_and_stays_valid(holdout: int) -> None:
    """The companion's place does not count, only how fast it falls."""
    rng = np.random.default_rng(11)
    p = np.concatenate(
        [
            calibrate(rng.exponential(size=10), rng.exponential(size=holdout), 3 + rng.exponential(size=60)).p
            for _ in range(8_000)
        ]
    )
    for level in (0.05, 0.01, 0.001):
        assert np.mean(p <= level) <= 1.1 * level + 2e-4
    null = np.random.default_rng(3).exponential(size=holdout)
    others = np.random.default_rng(4).exponential(size=60)
    assert calibrate([12.0], null, others).p[0] < calibrate([12.0], null).p[0] / 3


@given(st.lists(st.floats(1e-12, 1), min_size=1, max_size=40))
@settings(max_examples=50)
def test_q_values_are_benjamini_hochbergs(p: list[float]) -> None:
    np.testing.assert_allclose(q_values(p), stats.false_discovery_control(p, method="bh"))
    order = np.argsort(p)
    by_hand = np.minimum.accumulate((np.array(p)[order] * len(p) / np.arange(1, len(p) + 1))[::-1])[::-1]
    np.testing.assert_allclose(q_values(p)[order], np.minimum(by_hand, 1))


def test_bounds_are_those_of_the_tables() -> None:
    assert [round(100 * upper_bound(0, n, 0.95), 1) for n in (20, 100, 500)] == [13.9, 3.0, 0.6]
    assert upper_bound(0, samples_needed(0.1, 0.95), 0.95) <= 0.1 < upper_bound(0, samples_needed(0.1, 0.95) - 1, 0.95)
    interval = exact_interval(10, 10, 0.95)
    assert (round(interval.low, 3), interval.high) == (0.692, 1.0)
    assert (exact_interval(0, 0, 0.95).low, exact_interval(0, 0, 0.95).high) == (0.0, 1.0)
