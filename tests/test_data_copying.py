from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from anonsynth.audits.data_copying import data_copying


def _naive(generated: np.ndarray, train: np.ndarray, holdout: np.ndarray, centres: np.ndarray, fewest: int) -> float:
    def cell(point: np.ndarray) -> int:
        return min(range(len(centres)), key=lambda c: float(np.linalg.norm(point - centres[c])))

    total = weight = 0.0
    for c in range(len(centres)):
        own = [x for x in train if cell(x) == c]
        g = [min(float(np.linalg.norm(x - t)) for t in own) for x in generated if cell(x) == c]
        h = [min(float(np.linalg.norm(x - t)) for t in own) for x in holdout if cell(x) == c]
        if min(len(g), len(h)) < fewest:
            continue
        wins = sum((a > b) + 0.5 * (a == b) for a in g for b in h)
        z = (wins - len(g) * len(h) / 2) / np.sqrt(len(g) * len(h) * (len(g) + len(h) + 1) / 12)
        total, weight = total + len(h) * z, weight + len(h)
    return total / weight


def _clusters(rng: np.random.Generator, counts: tuple[int, ...]) -> np.ndarray:
    return np.concatenate([rng.normal(100 * c, 1, (count, 3)) for c, count in enumerate(counts)])


def test_the_statistic_and_its_p_value_by_hand() -> None:
    answer = data_copying([[1.0], [2.0]], [[0.0]], [[3.0], [4.0]], cells=1, seed=0, fewest=2)
    assert answer.value == pytest.approx(-2 / np.sqrt(4 * 5 / 12))
    assert answer.z.tolist() == [answer.value]
    assert (answer.generated.tolist(), answer.holdout.tolist(), answer.share) == ([2], [2], 1.0)
    assert answer.p == pytest.approx(1 / 6, abs=0.015)


def test_only_training_scans_of_the_cell_are_neighbours() -> None:
    # Cells around 1 and 8.325. The generated scan is 2.6 from its own cell's 2 but 1.7 from 6.3 beyond the border.
    train = [[x] for x in (0.0, 0.0, 2.0, 2.0, 6.3, 9.0, 9.0, 9.0)]
    answer = data_copying([[4.6]], train, [[4.2]], cells=2, seed=0, fewest=1)
    assert (answer.counted.sum(), answer.value) == (1, pytest.approx(1.0))


def test_distances_all_equal_are_no_evidence() -> None:
    answer = data_copying([[1.0]] * 6, [[0.0]], [[-1.0]] * 6, cells=1, seed=0)
    assert (answer.value, answer.p) == (0.0, 1.0)


@pytest.mark.parametrize("seed", range(5))
def test_it_agrees_with_a_loop_over_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    train = _clusters(rng, (30, 20, 10))
    generated, holdout = _clusters(rng, (9, 12, 3)), _clusters(rng, (5, 15, 9))
    centres = np.array([train[:30].mean(0), train[30:50].mean(0), train[50:].mean(0)])
    answer = data_copying(generated, train, holdout, cells=3, seed=seed, permutations=9)
    assert answer.value == pytest.approx(_naive(generated, train, holdout, centres, 5))
    assert sorted(answer.generated.tolist()) == [3, 9, 12]
    assert np.isnan(answer.z[~answer.counted]).all()
    assert answer.counted.sum() == 2
    assert answer.share == pytest.approx(20 / 29)


def test_it_agrees_with_the_mann_whitney_test_of_scipy() -> None:
    rng = np.random.default_rng(5)
    train, generated, holdout = rng.normal(size=(60, 4)), rng.normal(0, 0.9, (50, 4)), rng.normal(size=(40, 4))
    answer = data_copying(generated, train, holdout, cells=1, seed=0, permutations=1999)
    near = [np.sqrt(((points[:, None] - train) ** 2).sum(-1)).min(1) for points in (generated, holdout)]
    test = stats.mannwhitneyu(*near, alternative="less", method="asymptotic", use_continuity=False)
    assert stats.norm.cdf(answer.value) == pytest.approx(test.pvalue)
    assert answer.p == pytest.approx(test.pvalue, abs=0.04)


def test_p_values_are_uniform_where_nobody_was_copied() -> None:
    rng = np.random.default_rng(11)
    p = []
    for seed in range(400):
        train, generated, holdout = (_clusters(rng, counts) for counts in ((20, 20), (12, 7), (6, 10)))
        p.append(data_copying(generated, train, holdout, cells=2, seed=seed, permutations=99).p)
    for level in (0.05, 0.2, 0.5, 0.8):
        assert stats.binomtest(int((np.array(p) <= level).sum()), 400, level).pvalue > 0.001


def test_a_copier_is_seen_and_told_from_a_smooth_generator() -> None:
    rng = np.random.default_rng(3)
    train, holdout = rng.normal(size=(60, 10)), rng.normal(size=(60, 10))
    copier = train + rng.normal(0, 0.3, train.shape)
    smooth = rng.normal(0, 0.6, train.shape)
    for generated in (copier, smooth):
        answer = data_copying(generated, train, holdout, cells=2, seed=0, permutations=999)
        assert answer.value < -3
        assert answer.p == 0.001
    assert data_copying(smooth, holdout, train, cells=2, seed=0, permutations=999).p == 0.001
    assert data_copying(copier, holdout, train, cells=2, seed=0, permutations=999).p > 0.05


def test_underfitting_is_above_zero_and_no_copying() -> None:
    rng = np.random.default_rng(4)
    train, holdout, far = rng.normal(size=(40, 3)), rng.normal(size=(30, 3)), rng.normal(0, 4, (30, 3))
    answer = data_copying(far, train, holdout, cells=1, seed=0, permutations=199)
    assert answer.value > 3
    assert answer.p > 0.99


def test_copying_in_one_region_is_seen_although_another_underfits() -> None:
    rng = np.random.default_rng(6)
    train, holdout = _clusters(rng, (40, 40)), _clusters(rng, (30, 15))
    generated = np.concatenate([train[:30] + 0.05, 100 + rng.normal(0, 8, (30, 3))])
    cells = data_copying(generated, train, holdout, cells=2, seed=0, permutations=999)
    assert (np.sort(cells.z) < [-4, np.inf]).all()
    assert np.sort(cells.z)[1] > 4
    # Weighted by the holdout, of which two thirds lie where copies were made.
    assert cells.value == pytest.approx((2 * min(cells.z) + max(cells.z)) / 3)


def test_too_few_points_give_no_number() -> None:
    rng = np.random.default_rng(7)
    for g, h in ((0, 9), (9, 0), (4, 9), (9, 4)):
        answer = data_copying(
            rng.normal(size=(g, 2)), rng.normal(size=(9, 2)), rng.normal(size=(h, 2)), cells=1, seed=0
        )
        assert np.isnan([answer.value, answer.p, *answer.z]).all()
        assert not answer.counted.any()


def test_one_seed_gives_one_answer() -> None:
    rng = np.random.default_rng(8)
    train, generated, holdout = (rng.normal(size=(40, 3)) for _ in range(3))
    first, again = (data_copying(generated, train, holdout, cells=3, seed=2, permutations=99) for _ in range(2))
    assert (first.value, first.p, first.z.tolist()) == (again.value, again.p, again.z.tolist())


@given(seed=st.integers(0, 10_000), g=st.integers(5, 15), h=st.integers(5, 15))
@settings(max_examples=40)
def test_generated_and_holdout_in_each_others_place_turn_the_sign(seed: int, g: int, h: int) -> None:
    rng = np.random.default_rng(seed)
    train, generated, holdout = (rng.integers(0, 6, (n, 2)).astype(float) for n in (10, g, h))
    one = data_copying(generated, train, holdout, cells=1, seed=0, permutations=19)
    other = data_copying(holdout, train, generated, cells=1, seed=0, permutations=19)
    assert one.value == pytest.approx(-other.value, abs=1e-9)
    assert 0.05 <= one.p <= 1


def test_what_cannot_be_compared_is_refused() -> None:
    points = np.zeros((6, 2))
    with pytest.raises(ValueError, match=r"\(6,\)"):
        data_copying(points, points[:, 0], points, cells=1, seed=0)
    with pytest.raises(ValueError, match="2 features, got 3"):
        data_copying(np.zeros((6, 3)), points, points, cells=1, seed=0)
    with pytest.raises(ValueError, match="finite, got nan"):
        data_copying(np.full((6, 2), np.nan), points, points, cells=1, seed=0)
    with pytest.raises(ValueError, match="6 training scans, got 7"):
        data_copying(points, points, points, cells=7, seed=0)
    with pytest.raises(ValueError, match="permutations must be at least 1, got 0"):
        data_copying(points, points, points, cells=1, seed=0, permutations=0)
