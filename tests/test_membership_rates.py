from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from anonsynth.audits.auc import auc, auc_interval, mann_whitney_p
from anonsynth.audits.calibration import exact_interval
from anonsynth.audits.membership_rates import control, membership_rates, smallest_advantage

SCORES = st.lists(st.integers(0, 12).map(float), min_size=1, max_size=25)


def test_rates_by_hand() -> None:
    outside = [float(i) for i in range(1, 40)]  # n = 39: thresholds 38 at 0.05 (k = 2) and 36 at 0.1 (k = 4)
    inside = [0.0, 10.0, 36.0, 37.0, 38.0, 38.5, 50.0, 60.0]
    found = membership_rates(inside, outside)
    assert found.at[0.01] is None
    at = found.at[0.05]
    assert at is not None
    assert (at.threshold, at.found, at.value) == (38.0, 3, 3 / 8)
    at = found.at[0.1]
    assert at is not None
    assert (at.threshold, at.found, at.value) == (36.0, 5, 5 / 8)
    assert at.p == pytest.approx(sum(stats.betabinom.pmf(j, 8, 4, 36) for j in range(5, 9)))
    assert at.hits == exact_interval(5, 8, 0.95)
    assert (at.alarms.low, at.alarms.high) == pytest.approx(tuple(stats.beta.ppf([0.025, 0.975], 4, 36)))
    # Binomial (39, 0.1): below 1 has 1.6 %, above 7 has 2.7 % and above 8 has 0.9 %, so 39 and 31 bracket the quantile.
    at = membership_rates(inside, outside, confidence=0.9).at[0.1]
    assert at is not None
    assert at.low == exact_interval(2, 8, 0.95).low
    assert at.high == exact_interval(6, 8, 0.95).high
    assert found.auc.value == pytest.approx((9.5 + 35.5 + 36.5 + 37.5 + 38 + 39 + 39) / (8 * 39))
    assert (found.members, found.non_members) == (8, 39)


@given(inside=SCORES, outside=SCORES, f=st.sampled_from([0.05, 0.1, 0.25, 0.5, 0.9]))
@settings(max_examples=40)
def test_a_member_is_found_if_its_conformal_p_value_is_small_enough(
    inside: list[float], outside: list[float], f: float
) -> None:
    at = membership_rates(inside, outside, false_positive_rates=(f,)).at[f]
    small = [(1 + sum(y >= x for y in outside)) / (len(outside) + 1) <= f + 1e-12 for x in inside]
    assert (at is None) == (len(outside) < 1 / f - 1 - 1e-9)
    if at is not None:
        assert at.found == sum(small)
        assert 0 <= at.low <= at.value <= at.high <= 1
    else:
        assert not any(small)


def test_thirty_scores_are_not_too_few_by_a_rounding_error() -> None:
    assert membership_rates([1.0], range(29), false_positive_rates=(0.1,)).at[0.1].threshold == 26.0  # type: ignore[union-attr]
    assert membership_rates([1.0], range(99)).at[0.01].threshold == 98.0  # type: ignore[union-attr]
    assert membership_rates([1.0], range(98)).at[0.01] is None


@given(inside=SCORES, outside=SCORES)
@settings(max_examples=40)
def test_the_area_counts_pairs_and_turns_with_the_sides(inside: list[float], outside: list[float]) -> None:
    x, y = np.array(inside), np.array(outside)
    pairs = np.mean([[(a > b) + 0.5 * (a == b) for b in y] for a in x])
    assert auc(x, y) == pytest.approx(pairs)
    there, back = auc_interval(x, y, 0.9), auc_interval(y, x, 0.9)
    if min(x.size, y.size) < 5:
        assert np.isnan([there.low, there.high]).all()
    else:
        assert 0 <= there.low <= there.value + 1e-9
        assert there.value - 1e-9 <= there.high <= 1
        assert there.low < there.high
        assert (there.low, there.high) == pytest.approx((1 - back.high, 1 - back.low), abs=1e-6)


def test_delongs_variance_is_that_of_the_formula() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(0.8, 1, 15), rng.normal(size=9)
    wins = (x[:, None] > y).astype(float)
    variance = wins.mean(1).var(ddof=1) / 15 + wins.mean(0).var(ddof=1) / 9
    found = auc_interval(x, y, 0.95)
    logit = np.log([v / (1 - v) for v in (found.low, found.value, found.high)])
    reach = stats.norm.ppf(0.975) * np.sqrt(variance) / (found.value * (1 - found.value))
    np.testing.assert_allclose(np.diff(logit), reach)


@pytest.mark.parametrize(("m", "n", "shift"), [(40, 20, 0.0), (30, 10, 1.0), (8, 8, 2.5)])
def test_the_interval_of_the_area_covers(m: int, n: int, shift: float) -> None:
    rng = np.random.default_rng(5)
    truth = stats.norm.cdf(shift / np.sqrt(2))
    intervals = [auc_interval(rng.normal(shift, 1, m), rng.normal(size=n), 0.9) for _ in range(200)]
    assert np.mean([i.low <= truth <= i.high for i in intervals]) >= 0.87


def test_p_values_of_few_and_tied_scores_are_exact() -> None:
    x, y = np.array([3.0, 4.0]), np.array([1.0, 2.0, 3.0])
    assert mann_whitney_p(x, y) == pytest.approx(2 / 10)  # two of the ten choices of two give as much
    assert mann_whitney_p(np.ones(4), np.ones(3)) == 1.0
    assert np.isnan(mann_whitney_p(np.ones(4), np.ones(0)))


@given(inside=SCORES, outside=SCORES)
@settings(max_examples=40)
def test_exact_p_values_are_those_of_all_relabellings(inside: list[float], outside: list[float]) -> None:
    x, y = np.array(inside[:5]), np.array(outside[:5])
    together = np.concatenate([x, y])
    areas = [
        auc(together[list(chosen)], np.delete(together, list(chosen)))
        for chosen in itertools.combinations(range(together.size), x.size)
    ]
    assert mann_whitney_p(x, y) == pytest.approx(np.mean(np.array(areas) >= auc(x, y) - 1e-9))


@pytest.mark.parametrize(("m", "n"), [(60, 20), (20, 60)])
def test_exact_p_values_are_scipys_without_ties(m: int, n: int) -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(0.2, 1, m), rng.normal(size=n)
    expected = stats.mannwhitneyu(x, y, alternative="greater", method="exact").pvalue
    assert mann_whitney_p(x, y) == pytest.approx(expected)
    x, y = np.concatenate([x, rng.normal(0.2, 1, 200)]), np.concatenate([y, rng.normal(size=200)])
    expected = stats.mannwhitneyu(x, y, alternative="greater", method="exact").pvalue
    assert mann_whitney_p(x, y) == pytest.approx(expected, rel=0.02)


def test_the_interval_covers_although_the_threshold_is_estimated() -> None:
    """Where scores are steep around the threshold, taking it for the true quantile covers too seldom."""
    rng = np.random.default_rng(7)
    truth = stats.norm.sf(stats.norm.isf(0.1), loc=1.2)
    honest = naive = 0
    for _ in range(60):
        inside, outside = rng.normal(1.2, 1, 200), rng.normal(size=19)
        at = membership_rates(inside, outside, false_positive_rates=(0.1,)).at[0.1]
        assert at is not None
        honest += at.low <= truth <= at.high
        fixed = exact_interval(at.found, 200, 0.95)
        naive += fixed.low <= truth <= fixed.high
    assert honest >= 57
    assert naive < 45


def test_p_values_are_valid_where_nothing_leaks() -> None:
    rng = np.random.default_rng(9)
    rates = (0.1,)
    results = [
        membership_rates(rng.normal(size=30), rng.normal(size=20), false_positive_rates=rates) for _ in range(80)
    ]
    for p in ([r.p for r in results], [r.at[0.1].p for r in results]):  # type: ignore[union-attr]
        for level in (0.05, 0.2):
            found = int((np.array(p) <= level).sum())
            assert stats.binomtest(found, 80, level, alternative="greater").pvalue > 0.005
    assert np.mean([r.at[0.1].value for r in results]) == pytest.approx(2 / 21, abs=0.03)  # type: ignore[union-attr]


def test_a_few_remembered_patients_show_at_few_false_alarms_and_hardly_in_the_area() -> None:
    rng = np.random.default_rng(11)
    inside, outside = rng.normal(size=200), rng.normal(size=200)
    inside[:20] = 10
    found = membership_rates(inside, outside)
    at = found.at[0.01]
    assert at is not None
    assert at.p < 1e-4
    assert at.hits.low > at.alarms.high  # the threshold separates, whatever false positive rate it really has
    assert at.low == 0
    assert 0.5 < found.auc.value < 0.65


def test_the_smallest_advantage_is_seen_as_often_as_promised() -> None:
    m, n, f = 60, 20, 0.05
    share = smallest_advantage(m, n, f)
    assert share is not None
    rng = np.random.default_rng(13)
    seen = 0
    for _ in range(60):
        inside = np.where(rng.random(m) < share, 99.0, rng.normal(size=m))
        at = membership_rates(inside, rng.normal(size=n), false_positive_rates=(f,)).at[f]
        assert at is not None
        assert at.smallest_advantage == share
        seen += at.p <= 0.05
    assert stats.binomtest(seen, 60, 0.8).pvalue > 0.001


def test_more_patients_see_smaller_advantages() -> None:
    shares = [smallest_advantage(m, 100, 0.05) for m in (10, 30, 100, 300)]
    assert all(s is not None for s in shares)
    assert (np.diff(np.array(shares, float)) < 0).all()
    assert smallest_advantage(1, 9, 0.1) is None
    assert smallest_advantage(0, 99, 0.1) is None
    assert smallest_advantage(80, 18, 0.05) is None


def test_members_against_members_show_what_chance_does() -> None:
    rng = np.random.default_rng(15)
    scores = rng.normal(size=80) + np.repeat([0.0, 5.0], 40)
    played = control(scores, 1, 800, non_members=20)
    assert (played.members, played.non_members) == (60, 20)
    assert played.at[0.01] is None
    assert played.auc.shape == (800,)
    assert played.auc.mean() == pytest.approx(0.5, abs=0.01)
    assert played.auc.std() == pytest.approx(np.sqrt(81 / (12 * 60 * 20)), rel=0.1)
    rates = played.at[0.1]
    assert rates is not None
    np.testing.assert_allclose(
        np.quantile(60 * rates, [0.25, 0.5, 0.9]), stats.betabinom.ppf([0.25, 0.5, 0.9], 60, 2, 19), atol=1.5
    )
    again = control(scores, 1, 800, non_members=20)
    np.testing.assert_array_equal(again.auc, played.auc)
    assert control(scores, 1, 3).non_members == control(scores, 1, 3, non_members=60).non_members == 40


def test_too_few_scores_give_no_number() -> None:
    found = membership_rates([], np.arange(30.0))
    assert np.isnan([found.auc.value, found.auc.low, found.p]).all()
    at = found.at[0.1]
    assert at is not None
    assert np.isnan([at.value, at.p]).all()
    assert (at.low, at.high, at.smallest_advantage) == (0.0, 1.0, None)
    found = membership_rates([1.0, 2.0], [])
    assert np.isnan([found.auc.value, found.p]).all()
    assert list(found.at.values()) == [None, None, None]


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match=r"members must have the shape \(scans,\), got \(1, 2\)"):
        membership_rates([[1.0, 2.0]], [1.0])
    with pytest.raises(ValueError, match="non_members must be finite, got nan"):
        membership_rates([1.0], [np.nan])
    with pytest.raises(ValueError, match="between 0 and 1, got 5"):
        membership_rates([1.0], [1.0], false_positive_rates=(5,))
    with pytest.raises(ValueError, match="between 0 and 1, got 1"):
        membership_rates([1.0], [1.0], confidence=1)
    with pytest.raises(ValueError, match="got 1, 10, None"):
        control([1.0], 0, 10)
    with pytest.raises(ValueError, match="got 2, 10, 0"):
        control([1.0, 2.0], 0, 10, non_members=0)
    with pytest.raises(ValueError, match="power must lie in"):
        smallest_advantage(10, 20, 0.1, power=1)
