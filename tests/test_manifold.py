from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anonsynth.audits.calibration import exact_interval
from anonsynth.audits.manifold import compare_manifolds, manifold


def _naive(candidates: np.ndarray, train: np.ndarray, k: int) -> tuple[float, float, float, float]:
    def radius(points: np.ndarray, i: int) -> float:
        return sorted(float(np.linalg.norm(points[i] - points[j])) for j in range(len(points)) if j != i)[k - 1]

    def within(centres: np.ndarray, i: int, point: np.ndarray) -> bool:
        return bool(float(np.linalg.norm(centres[i] - point)) <= radius(centres, i))

    m, n = len(candidates), len(train)
    precision = sum(any(within(train, i, y) for i in range(n)) for y in candidates) / m
    recall = sum(any(within(candidates, j, x) for j in range(m)) for x in train) / n
    density = sum(within(train, i, y) for y in candidates for i in range(n)) / (k * m)
    coverage = sum(any(within(train, i, y) for y in candidates) for i in range(n)) / n
    return precision, recall, density, coverage


def test_the_four_measures_by_hand() -> None:
    # Radii of the training scans 0, 1, 3, 7 are 1, 1, 2, 4; those of the candidates 2, 2.5, 20 are 0.5, 0.5, 17.5.
    of = manifold([[2.0], [2.5], [20.0]], [[0.0], [1.0], [3.0], [7.0]], k=1, confidence=0.9)
    assert (of.precision.found, of.precision.of) == (2, 3)
    assert (of.recall.found, of.recall.of) == (2, 4)
    assert of.density.value == pytest.approx(3 / 3)
    assert (of.coverage.found, of.coverage.of) == (2, 4)
    assert of.coverage.interval == exact_interval(2, 4, 0.9)
    assert of.precision.interval == exact_interval(2, 3, 0.9)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_it_agrees_with_a_loop_over_balls(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    candidates, train = rng.normal(0.5, 1, (14, 3)), rng.normal(size=(18, 3))
    of = manifold(candidates, train, k=k)
    values = (of.precision.value, of.recall.value, of.density.value, of.coverage.value)
    assert values == pytest.approx(_naive(candidates, train, k))


def test_without_loss_density_is_one_and_coverage_what_theory_says() -> None:
    rng = np.random.default_rng(3)
    n, m, k = 20, 12, 3
    density, coverage = [], []
    for _ in range(200):
        train, candidates = rng.normal(size=(n, 4)), rng.normal(size=(m, 4))
        of = manifold(candidates, train, k=k)
        density.append(of.density.value)
        coverage.append(of.coverage.value)
    assert np.mean(density) == pytest.approx(1, abs=0.05)
    missed = np.prod([(n - i) / (m + n - i) for i in range(1, k + 1)])
    assert np.mean(coverage) == pytest.approx(1 - missed, abs=0.02)


def test_losses_are_seen_where_they_are() -> None:
    rng = np.random.default_rng(4)
    train, holdout = rng.normal(size=(80, 4)), rng.normal(size=(60, 4))
    collapsed = compare_manifolds(rng.normal(0, 0.1, (60, 4)), holdout, train)
    assert collapsed.generated.precision.value == 1
    assert collapsed.generated.recall.interval.high < collapsed.holdout.recall.interval.low
    assert collapsed.generated.coverage.interval.high < collapsed.holdout.coverage.interval.low
    assert collapsed.generated.density.low > collapsed.holdout.density.high
    unreal = compare_manifolds(rng.normal(0, 3, (60, 4)), holdout, train)
    assert unreal.generated.precision.interval.high < unreal.holdout.precision.interval.low
    assert unreal.generated.density.high < unreal.holdout.density.low
    same = compare_manifolds(rng.normal(size=(200, 4)), holdout, train)
    assert same.generated.precision.interval.low < same.holdout.precision.value < same.generated.precision.interval.high
    assert same.generated.recall.interval.low < same.holdout.recall.value < same.generated.recall.interval.high
    assert same.generated.density.low < same.holdout.density.high
    assert same.holdout.density.low < same.generated.density.high


def test_a_copier_is_perfect() -> None:
    train = np.random.default_rng(5).normal(size=(30, 3))
    of = manifold(train, train, k=2)
    assert (of.precision.value, of.recall.value, of.coverage.value) == (1, 1, 1)
    assert of.density.value >= 1


def test_more_generated_scans_buy_no_coverage_beside_the_holdout() -> None:
    rng = np.random.default_rng(6)
    train, holdout, generated = rng.normal(size=(100, 4)), rng.normal(size=(15, 4)), rng.normal(size=(500, 4))
    comparison = compare_manifolds(generated, holdout, train, seed=1)
    assert comparison.drawn == 15
    assert comparison.generated.precision.of == 500
    assert comparison.generated.coverage.interval.low < comparison.holdout.coverage.value
    assert comparison.generated.coverage.value < 0.9 < manifold(generated, train).coverage.value


def test_the_bootstrap_covers_the_density_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    train = rng.normal(size=(40, 3))
    unlimited = compare_manifolds(rng.normal(size=(20_000, 3)), rng.normal(size=(5, 3)), train, k=3)
    truth = unlimited.generated.density.value
    intervals = [manifold(rng.normal(size=(40, 3)), train, k=3, confidence=0.8, seed=s).density for s in range(40)]
    assert 25 <= sum(i.low <= truth <= i.high for i in intervals) <= 39


def test_too_few_scans_give_no_number() -> None:
    rng = np.random.default_rng(8)
    few, many = rng.normal(size=(3, 2)), rng.normal(size=(20, 2))
    of = manifold(few, many, k=3)
    assert np.isnan([of.recall.value, of.density.low, of.density.high]).all()
    assert (of.recall.interval.low, of.recall.interval.high) == (0, 1)
    assert np.isfinite([of.precision.value, of.density.value, of.coverage.value]).all()
    of = manifold(many, few, k=3)
    assert np.isnan([of.precision.value, of.coverage.value, of.density.value]).all()
    of = manifold(np.zeros((0, 2)), many)
    assert np.isnan([of.precision.value, of.coverage.value, of.density.value, of.recall.value]).all()
    far = manifold(np.full((20, 2), 99.0), many)
    assert far.density.value == 0
    assert np.isnan([far.density.low, far.density.high]).all()


@given(seed=st.integers(0, 10_000), k=st.integers(1, 4), scale=st.sampled_from([0.5, 16.0]))
@settings(max_examples=30)
def test_recall_is_precision_seen_from_the_other_side(seed: int, k: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 8, (9, 2)).astype(float), rng.integers(0, 8, (11, 2)).astype(float)
    there, back = manifold(a, b, k=k), manifold(b, a, k=k)
    assert there.recall == back.precision
    assert there.precision == back.recall
    moved = manifold(scale * a[::-1], scale * b[::-1], k=k)
    assert (moved.precision, moved.recall, moved.coverage) == (there.precision, there.recall, there.coverage)
    assert there.coverage.value <= 1 <= (there.density.value + 1)
    assert (there.precision.found > 0) == (there.density.value > 0) == (there.coverage.found > 0)


def test_what_cannot_be_compared_is_refused() -> None:
    points = np.zeros((3, 2))
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        manifold(points, points, k=0)
    with pytest.raises(ValueError, match="2 features, got 1"):
        manifold(points[:, :1], points)
    with pytest.raises(ValueError, match=r"\(3,\)"):
        compare_manifolds(points, points[:, 0], points)
    with pytest.raises(ValueError, match="confidence must lie between 0 and 1, got 0"):
        compare_manifolds(points, points, points, confidence=0)
