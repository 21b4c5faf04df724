from __future__ import annotations

from itertools import combinations
from math import isnan

import numpy as np
import pytest
from scipy import stats

from anonsynth.audits.permutation import attack_tests, isolated_test, owner_test


def test_one_attack_gives_the_exact_rank_sum_p_value() -> None:
    scores = np.array([[0.3, 0.9, 0.4, 0.8, 0.7, 0.1, 0.2, 0.6, 0.5, 0.05, 0.35]])
    found = attack_tests(scores, 5, (), 0, repeats=19_999)
    exact = stats.mannwhitneyu(scores[0, :5], scores[0, 5:], alternative="greater", method="exact").pvalue
    assert found.average == pytest.approx(exact, abs=0.012)
    assert isnan(found.few)


def test_false_alarms_stay_at_the_level_however_many_attacks_are_tried() -> None:
    rng = np.random.default_rng(0)
    p = np.array(
        [
            (lambda found: (found.average, found.few))(
                attack_tests(rng.normal(size=(4, 40)) + rng.normal(size=40), 28, (0.05, 0.1), seed, repeats=199)
            )
            for seed in range(400)
        ]
    )
    for column in p.T:
        assert stats.binomtest(int((column <= 0.05).sum()), 400, 0.05, alternative="greater").pvalue > 1e-3
        assert stats.binomtest(int((column <= 0.25).sum()), 400, 0.25).pvalue > 1e-3


def test_a_few_recognised_members_show_in_few_and_hardly_on_average() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(1, 200))
    scores[0, :25] += 10
    found = attack_tests(scores, 120, (0.01, 0.05, 0.1), 0)
    assert found.few <= 0.001
    assert found.best_few[1] in {0, 1, 2}
    assert found.average > found.few


def test_equal_scores_are_no_evidence() -> None:
    found = attack_tests(np.zeros((2, 60)), 40, (0.1,), 3, repeats=999)
    assert found.average > 0.05
    assert found.few > 0.01


def test_the_owner_test_by_listing_all_choices() -> None:
    weight = np.array([3.0, 2.0, 0.0, 4.0, 2.5, 0.5, 1.0, 0.0, 0.2, 0.1])
    exact = np.mean([weight[list(c)].sum() >= weight[:5].sum() for c in combinations(range(10), 5)])
    too_much, too_little = owner_test(weight, 5, 0)
    assert too_much == pytest.approx(exact, abs=0.01)
    assert too_little > 0.9
    assert all(isnan(p) for p in owner_test(weight, 3, 0))


def test_isolated_members_are_counted_and_compared_in_equal_numbers() -> None:
    rng = np.random.default_rng(2)
    within = np.zeros((40, 60), bool)
    within[np.arange(40), np.arange(40)] = True  # one member each
    inside, outside, p = isolated_test(within, 45, 0)
    assert inside.mean() == pytest.approx(15 * 40 / 45, rel=0.02)
    assert outside == 0
    assert p <= 0.002
    calm = rng.random((40, 60)) < 0.02
    assert isolated_test(calm, 45, 0)[2] > 0.01
    turned = isolated_test(within[:, ::-1], 15, 0)  # more others than members
    assert turned[2] > 0.5
