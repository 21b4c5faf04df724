from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from anonsynth.audits.authenticity import authentic, authenticity
from anonsynth.audits.calibration import exact_interval


def _naive(candidates: np.ndarray, train: np.ndarray, patients: list[str]) -> list[bool]:
    answers = []
    for candidate in candidates:
        to_train = [float(np.linalg.norm(candidate - record)) for record in train]
        i = to_train.index(min(to_train))
        others = [train[j] for j in range(len(train)) if patients[j] != patients[i]]
        answers.append(to_train[i] > min(float(np.linalg.norm(train[i] - other)) for other in others))
    return answers


def test_authenticity_by_hand() -> None:
    train = [[0.0], [1.0], [5.0]]  # nearest others: 1, 1 and 4 away
    assert authentic([[0.0], [-0.9], [-1.1], [3.1], [8.9], [9.1]], train).tolist() == [
        False,
        False,
        True,
        False,
        False,
        True,
    ]
    answer = authenticity([[0.0], [-1.1]], [[9.1], [-3.0], [0.5]], train, confidence=0.9)
    assert (answer.generated.found, answer.generated.of, answer.generated.value) == (1, 2, 0.5)
    assert (answer.holdout.found, answer.holdout.of) == (2, 3)
    assert answer.generated.interval == exact_interval(1, 2, 0.9)
    assert answer.holdout.interval == exact_interval(2, 3, 0.9)


def test_another_scan_of_the_same_patient_is_no_other_record() -> None:
    train = [[0.0], [0.2], [5.0], [5.2]]
    candidate = [[1.0]]
    assert authentic(candidate, train).tolist() == [True]
    assert authentic(candidate, train, ["a", "a", "b", "b"]).tolist() == [False]


def test_a_copy_of_a_patient_with_two_scans_is_seen_only_by_those_who_know_the_patients() -> None:
    rng = np.random.default_rng(2)
    visits = np.repeat(rng.normal(size=(40, 8)), 2, axis=0) + rng.normal(0, 0.05, (80, 8))
    patients = [str(i // 2) for i in range(80)]
    copies = visits[::2] + rng.normal(0, 0.1, (40, 8))
    holdout = rng.normal(size=(40, 8))
    knowing = authenticity(copies, holdout, visits, patients)
    assert knowing.generated.interval.high < knowing.holdout.interval.low
    assert knowing.generated.value == 0
    assert authenticity(copies, holdout, visits).generated.value > 0.7


@pytest.mark.parametrize("seed", range(5))
def test_it_agrees_with_a_loop_over_records(seed: int) -> None:
    rng = np.random.default_rng(seed)
    train, candidates = rng.normal(size=(30, 3)), rng.normal(size=(50, 3))
    patients = [str(p) for p in rng.integers(0, 12, 30)]
    assert authentic(candidates, train, patients).tolist() == _naive(candidates, train, patients)
    assert authentic(candidates, train).tolist() == _naive(candidates, train, [str(i) for i in range(30)])


def test_candidates_that_copy_nobody_are_as_authentic_as_the_holdout() -> None:
    rng = np.random.default_rng(1)
    p = []
    for _ in range(200):
        train, generated, holdout = (rng.normal(size=(n, 5)) for n in (30, 40, 20))
        answer = authenticity(generated, holdout, train)
        made, unseen = answer.generated, answer.holdout
        table = [[made.of - made.found, made.found], [unseen.of - unseen.found, unseen.found]]
        p.append(stats.fisher_exact(table, alternative="greater").pvalue)
    assert stats.binomtest(int((np.array(p) <= 0.05).sum()), 200, 0.05, alternative="greater").pvalue > 0.01
    assert 0.2 < answer.holdout.value < 0.8


def test_a_smooth_generator_is_not_authentic_either() -> None:
    rng = np.random.default_rng(9)
    answer = authenticity(rng.normal(0, 0.3, (60, 12)), rng.normal(size=(60, 12)), rng.normal(size=(60, 12)))
    assert answer.generated.interval.high < answer.holdout.interval.low


def test_one_patient_or_no_candidate_gives_no_number() -> None:
    for train, patients in (([[0.0]], None), ([[0.0], [1.0]], ["a", "a"]), (np.zeros((0, 1)), None)):
        answer = authenticity([[0.5]], [[0.7]], train, patients)
        assert (answer.generated.of, answer.holdout.of) == (0, 0)
        assert np.isnan(answer.generated.value)
        assert (answer.generated.interval.low, answer.generated.interval.high) == (0.0, 1.0)
    empty = authenticity(np.zeros((0, 1)), [[0.7]], [[0.0], [1.0]])
    assert np.isnan(empty.generated.value)
    assert empty.holdout.of == 1


@given(seed=st.integers(0, 10_000), scale=st.sampled_from([0.25, 2.0, 64.0]), copies=st.integers(0, 5))
@settings(max_examples=50)
def test_neither_order_nor_unit_matters_and_a_copy_is_never_authentic(seed: int, scale: float, copies: int) -> None:
    rng = np.random.default_rng(seed)
    train = rng.integers(0, 5, (12, 2)).astype(float)  # a grid, so that many distances are equal
    candidates = np.concatenate([train[:copies], rng.integers(0, 9, (8, 2))])
    patients = np.array([str(p) for p in rng.integers(0, 6, 12)] + ["other"])
    train = np.concatenate([train, [[20.0, 20.0]]])
    before = authentic(candidates, train, patients.tolist())
    order = rng.permutation(13)
    np.testing.assert_array_equal(authentic(scale * candidates, scale * train[order], patients[order].tolist()), before)
    assert not before[:copies].any()


def test_what_cannot_be_compared_is_refused() -> None:
    points = np.zeros((3, 2))
    with pytest.raises(ValueError, match="each of 3 training scans, got 2"):
        authenticity(points, points, points, ["a", "b"])
    with pytest.raises(ValueError, match="2 features, got 1"):
        authenticity(points[:, :1], points, points)
    with pytest.raises(ValueError, match=r"\(3,\)"):
        authenticity(points, points[:, 0], points)
    with pytest.raises(ValueError, match="confidence must lie between 0 and 1, got 95"):
        authenticity(points, points, points, confidence=95)
    with pytest.raises(ValueError, match="at least two patients, got 1"):
        authentic(points, points, ["a", "a", "a"])
    with pytest.raises(ValueError, match="finite, got inf"):
        authenticity(points, np.full((1, 2), np.inf), points)
