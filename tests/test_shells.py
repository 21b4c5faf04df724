"""Surroundings by their distance from the labels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from anonsynth.anatomy.context import normal_scores, score_limits
from anonsynth.anatomy.shape import fit_shape_model
from anonsynth.anatomy.shells import SHELLS, classes_in_shells, distance_from, limits_in_shells, usual_limits
from anonsynth.cohort.geometry import FloatVolume, LabelVolume

SHAPE = (24, 24, 24)


def in_a_rind(seed: int) -> LabelVolume:
    """A box in a bright rind of two voxels, and surroundings of every class beyond."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(1, 7, SHAPE).astype(np.uint8)
    low = 9 + rng.integers(-1, 2, 3)
    x, y, z = (slice(n - 2, n + 8) for n in low)
    classes[x, y, z] = 6
    x, y, z = (slice(n, n + 6) for n in low)
    classes[x, y, z] = 7
    return classes


def scores_of(classes: LabelVolume) -> FloatVolume:
    """Scores that are smoother than the classes: half as far from the middle."""
    scores: FloatVolume = 0.5 * normal_scores(6)[np.clip(classes.astype(int) - 1, 0, 5)]
    return scores


def shares(classes: LabelVolume, distance: float) -> npt.NDArray[np.float64]:
    around = (classes < 7) & (np.abs(distance_from(classes > 6) - distance) < 0.5)
    return np.bincount(classes[around], minlength=7)[1:7] / around.sum()


def test_flat_scores_get_their_classes_back() -> None:
    maps = [in_a_rind(seed) for seed in range(6)]
    limits = limits_in_shells(((m, scores_of(m)) for m in maps), 6)
    assert limits.shape == (len(SHELLS), 5)
    assert np.all(np.diff(limits, axis=1) >= 0)
    for classes in maps:
        again = 1 + classes_in_shells(scores_of(classes), classes > 6, limits)
        for distance in (4, 7):
            assert np.allclose(shares(np.where(classes > 6, 7, again), distance), shares(classes, distance), atol=0.12)
        # By the limits of normal scores the darkest and the brightest are missing.
        usual = 1 + classes_in_shells(scores_of(classes), classes > 6, usual_limits(6))
        assert shares(np.where(classes > 6, 7, usual), 7)[[0, 5]].sum() < 0.02


def test_without_labels_every_voxel_is_far() -> None:
    nothing = np.zeros(SHAPE, bool)
    assert np.all(distance_from(nothing) == SHELLS[-1])
    scores = np.full(SHAPE, 0.1, np.float32)
    assert np.all(classes_in_shells(scores, nothing, usual_limits(6)) == np.digitize(0.1, score_limits(6)))


def test_distances_without_a_voxel_keep_the_usual_limits() -> None:
    classes = np.full((6, 6, 6), 3, np.uint8)
    classes[2:4, 2:4, 2:4] = 7
    limits = limits_in_shells([(classes, scores_of(classes))], 6)
    assert np.array_equal(limits[-1], score_limits(6))
    assert not np.array_equal(limits[0], score_limits(6))


def test_a_rind_is_drawn_around_the_labels() -> None:
    maps = [in_a_rind(seed) for seed in range(24)]
    model = fit_shape_model(((m, (0, 0, 0), SHAPE) for m in maps), context=6, labels=1)
    drawn = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        drawn.append(model.decode(model.draw_coefficients(rng), model.draw_frame(rng)[1]))
    near = np.mean([shares(classes, 1.0) for classes in drawn], axis=0)
    far = np.mean([shares(classes, 7.0) for classes in drawn], axis=0)
    assert near[5] > 0.8
    assert far == pytest.approx(np.full(6, 1 / 6), abs=0.1)
