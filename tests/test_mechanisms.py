"""The Gaussian mechanism on sums over patients: its sensitivity, its noise, its cost, and what breaks it."""

from __future__ import annotations

import math
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from anonsynth.errors import InputError, InternalError, UsageError
from anonsynth.privacy import mechanisms
from anonsynth.privacy.accountant import epsilon_of
from anonsynth.privacy.mechanisms import (
    NoisySum,
    Query,
    average_scans,
    clipped,
    nearest_covariance,
    noisy_sum,
    packed_products,
    sensitivity,
    unpacked_products,
)
from anonsynth.privacy.randomness import PrivateRandomness, keep_secret

SIZE = 3
NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)
VECTORS = arrays(np.float64, (SIZE,), elements=NUMBERS)
COHORTS = st.lists(VECTORS, min_size=1, max_size=6)


def a_draw(number: int = 0) -> PrivateRandomness:
    return PrivateRandomness(number.to_bytes(32, "big"), "test")


def query(bound: float = 1.0, noise: float = 1.0, size: int = SIZE) -> Query:
    return Query("a test", size, bound, noise)


def named(vectors: list[np.ndarray]) -> dict[str, np.ndarray]:
    return {f"P{index:04d}": vector for index, vector in enumerate(vectors)}


def joint(released: NoisySum, bound: float) -> np.ndarray:
    """Return the vector to which the noise was added: the sum, and the count as long as it weighs in it."""
    return np.append(released.total, released.count * mechanisms.COUNT_SHARE * bound)


def largest_change(vectors: list[np.ndarray], bound: float) -> float:
    """Return by how much the release changes, with the same noise, when any one patient is left out."""
    everyone = joint(noisy_sum(query(bound), named(vectors), a_draw()), bound)
    changes = []
    for index in range(len(vectors)):
        rest = {name: v for name, v in named(vectors).items() if name != f"P{index:04d}"}
        changes.append(float(np.linalg.norm(everyone - joint(noisy_sum(query(bound), rest, a_draw()), bound))))
    return max(changes)


@given(COHORTS, st.floats(1e-3, 1e3))
@settings(max_examples=60)
def test_no_patient_changes_the_release_by_more_than_the_sensitivity(vectors: list[np.ndarray], bound: float) -> None:
    assert largest_change(vectors, bound) <= sensitivity(bound) * (1 + 1e-5)


def test_the_sensitivity_is_reached_and_without_clipping_exceeded() -> None:
    vectors = [np.array([30.0, 40.0, 0.0]), np.array([0.0, 0.1, 0.0])]
    assert largest_change(vectors, 1.0) == pytest.approx(sensitivity(1.0), rel=1e-4)
    with patch.object(mechanisms, "clipped", lambda vector, _: vector):
        assert largest_change(vectors, 1.0) > 40 * sensitivity(1.0)


def test_a_patient_given_twice_is_refused_and_would_count_twice() -> None:
    one = np.array([1.0, 0.0, 0.0])
    with pytest.raises(InternalError, match="given twice"):
        noisy_sum(query(), [("P0001", one), ("P0001", one)], a_draw())
    # What the check prevents: the same person under two names moves the sum twice as far as was paid for.
    twice = joint(noisy_sum(query(), [("P0001", one), ("P0001 again", one)], a_draw()), 1.0)
    nobody = joint(noisy_sum(query(), {}, a_draw()), 1.0)
    assert np.linalg.norm(twice - nobody) == pytest.approx(2 * sensitivity(1.0), rel=1e-4)


@given(st.lists(st.tuples(st.sampled_from(["A", "B"]), VECTORS), min_size=1, max_size=8))
@settings(max_examples=30)
def test_scans_are_averaged_so_that_a_person_counts_once(scans: list[tuple[str, np.ndarray]]) -> None:
    averaged = average_scans(scans)
    for patient, vector in averaged.items():
        assert np.allclose(vector, np.mean([v for p, v in scans if p == patient], axis=0))
    assert noisy_sum(query(noise=1e-9), averaged, a_draw()).count == pytest.approx(len(averaged), abs=1e-3)


def test_what_no_scan_tells_counts_as_the_public_centre() -> None:
    averaged = average_scans([("A", np.array([np.nan, 2.0])), ("A", np.array([np.nan, 4.0]))])
    assert averaged["A"].tolist() == [0.0, 3.0]


def noises(number: int, bound: float, noise: float) -> np.ndarray:
    """Return the noise of many releases of nobody, in units of what it should be."""
    found = [joint(noisy_sum(query(bound, noise), {}, a_draw(seed)), bound) for seed in range(number)]
    return np.array(found) / (noise * sensitivity(bound))


def test_noise_is_normal_and_as_strong_as_declared_on_every_coordinate_and_the_count() -> None:
    found = noises(1500, 2.5, 1.7)
    # The chi-square interval of the variance of 1500 normal numbers at 1 − 10⁻⁶.
    low, high = (stats.chi2.ppf(p, len(found)) / len(found) for p in (5e-7, 1 - 5e-7))
    for column in found.T:
        assert low < np.mean(column**2) < high
        assert stats.kstest(column, "norm").pvalue > 1e-6
    assert np.abs(np.corrcoef(found.T) - np.eye(SIZE + 1)).max() < 0.13
    assert noisy_sum(query(2.5, 1.7), {}, a_draw()).deviation == pytest.approx(1.7 * sensitivity(2.5))


def test_left_out_noise_is_seen() -> None:
    with patch.object(PrivateRandomness, "normal", lambda _self, size, *_: torch.zeros(size, dtype=torch.float64)):
        assert np.mean(noises(50, 1.0, 1.0) ** 2) == 0  # outside every interval of the test above


def test_the_cost_is_that_of_an_independent_accountant_and_of_the_exact_formula() -> None:
    queries = [query(noise=2.0), query(noise=3.0), query(noise=8.0)]
    ours = epsilon_of([q.event for q in queries], 1e-3)
    accountant = PLDAccountant()
    for q in queries:
        accountant.compose(dp_event.GaussianDpEvent(q.noise_multiplier))
    theirs = accountant.get_epsilon(1e-3)
    assert theirs * (1 - 1e-3) <= ours <= theirs * 1.01
    # Balle & Wang 2018: δ(ε) = Φ(1/2s − εs) − e^ε Φ(−1/2s − εs) for normal noise of s sensitivities.
    s = sum(q.noise_multiplier**-2 for q in queries) ** -0.5
    exact = stats.norm.cdf(0.5 / s - ours * s) - math.exp(ours) * stats.norm.cdf(-0.5 / s - ours * s)
    assert exact == pytest.approx(1e-3, rel=0.01)
    assert exact <= 1e-3


def test_likelihoods_of_neighbours_stay_within_the_claim() -> None:
    """The claim seen from outside: the best test between a cohort and its neighbour is no better than (ε, δ) allows."""
    noise, patient = 1.2, np.array([50.0, 0.0, 0.0])
    delta = 1e-2
    epsilon = epsilon_of([query(noise=noise).event], delta)
    direction = joint(noisy_sum(query(noise=1e-9), {"A": patient}, a_draw()), 1.0)
    outcomes = [
        np.array([joint(noisy_sum(query(noise=noise), who, a_draw(seed)), 1.0) @ direction for seed in range(2000)])
        for who in ({}, {"A": patient})
    ]
    for threshold in np.linspace(-2, 3, 11):
        without, with_patient = (float((o > threshold).mean()) for o in outcomes)
        slack = 4 * math.sqrt(0.25 / 2000) * (1 + math.exp(epsilon))
        assert with_patient <= math.exp(epsilon) * without + delta + slack
        assert 1 - without <= math.exp(epsilon) * (1 - with_patient) + delta + slack
    # Not vacuous: the same outcomes break a claim of a twentieth of ε.
    gaps = [float((outcomes[1] > t).mean() - math.exp(epsilon / 20) * (outcomes[0] > t).mean()) for t in (0.0, 0.5)]
    assert max(gaps) > delta + 4 * math.sqrt(0.25 / 2000) * 2


def test_sums_do_not_depend_on_the_order_of_the_patients() -> None:
    rng = np.random.default_rng(0)
    vectors = named(list(rng.normal(0, 1e3, (50, SIZE))))
    backwards = dict(reversed(vectors.items()))
    assert np.array_equal(noisy_sum(query(), vectors, a_draw()).total, noisy_sum(query(), backwards, a_draw()).total)


def test_a_mean_of_a_lost_count_is_drawn_to_nothing() -> None:
    lost = NoisySum(np.array([5.0]), -30.0, 1.0, 40.0)
    assert lost.mean() == pytest.approx([5 / 40])
    assert lost.mean_deviation() == pytest.approx(1 / 40)
    assert lost.mean(10) == pytest.approx([0.5])


@given(VECTORS)
@settings(max_examples=30)
def test_packed_products_have_the_norm_of_the_matrix_and_come_back(vector: np.ndarray) -> None:
    packed = packed_products(vector)
    assert np.linalg.norm(packed) == pytest.approx(float(vector @ vector))
    assert np.allclose(unpacked_products(packed), np.outer(vector, vector))


def test_a_noisy_covariance_becomes_one() -> None:
    rng = np.random.default_rng(0)
    noisy = rng.normal(size=(6, 6))
    noisy = noisy + noisy.T
    nearest = nearest_covariance(noisy)
    assert np.linalg.eigvalsh(nearest).min() > -1e-9
    others = [nearest + 0.01 * np.outer(v, v) for v in rng.normal(size=(20, 6))]
    assert all(np.linalg.norm(nearest - noisy) <= np.linalg.norm(other - noisy) for other in others)
    fine = nearest + np.eye(6)
    assert np.allclose(nearest_covariance(fine), fine)


def test_clipping_keeps_the_direction() -> None:
    assert clipped(np.array([3.0, 4.0]), 1.0) == pytest.approx([0.6, 0.8])
    assert clipped(np.array([0.3, 0.4]), 1.0) == pytest.approx([0.3, 0.4])


@pytest.mark.parametrize("wrong", [np.zeros(2), np.full(SIZE, np.nan), np.full(SIZE, np.inf)])
def test_vectors_that_were_not_declared_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(InternalError, match="not what was declared"):
        noisy_sum(query(), {"A": wrong}, a_draw())


def test_no_noise_or_no_bound_is_no_query() -> None:
    for bound, noise in ((0.0, 1.0), (1.0, 0.0), (math.inf, 1.0), (1.0, math.nan)):
        with pytest.raises(UsageError, match="above 0"):
            query(bound, noise)


def test_a_draw_is_kept_and_another_one_has_another_name(tmp_path: Path) -> None:
    first, again, other = (
        PrivateRandomness(keep_secret(tmp_path / "noise" / f"{name}.seed"), "test") for name in ("a", "a", "b")
    )
    assert first == again
    assert np.array_equal(first.normal(5, "x"), again.normal(5, "x"))
    assert not np.array_equal(first.normal(5, "x"), first.normal(5, "y"))
    assert other.name != first.name
    assert not np.array_equal(first.normal(5, "x"), other.normal(5, "x"))
    assert (tmp_path / "noise" / "a.seed").stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in (tmp_path / "noise").iterdir()) == ["a.seed", "b.seed"]
    assert first.secret.hex() not in repr(first)
    assert str(first.secret) not in repr(first)
    (tmp_path / "noise" / "b.seed").write_bytes(b"short")
    with pytest.raises(InputError, match="broken"):
        keep_secret(tmp_path / "noise" / "b.seed")
