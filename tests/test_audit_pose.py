"""Alignment: a scan that was rotated, moved and enlarged finds its way back, whatever its contrast."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.transform import Rotation

from anonsynth.audits.canonical import between, mirror_pose
from anonsynth.audits.pose import IDENTITY, Pose, Resampler, _plausible, refined, smoothed

SHAPE, SPACING = (22, 26, 20), (2.0, 2.0, 2.5)


@pytest.fixture(scope="module")
def resampler() -> Resampler:
    return Resampler(SHAPE, SPACING)


def _scan(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(2, *SHAPE))
    smooth = np.stack([ndimage.gaussian_filter(channel, 1.6) for channel in noise])
    return (smooth / np.linalg.norm(smooth)).astype(np.float32)


def _apply(volume: np.ndarray, pose: Pose, resampler: Resampler) -> np.ndarray:
    matrix = torch.tensor(pose.matrix[None], dtype=torch.float32)
    offset = torch.tensor(pose.offset[None], dtype=torch.float32)
    return resampler(torch.from_numpy(volume)[None], matrix, offset)[0].numpy()


@given(
    axis=st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1),
    degrees=st.floats(0, 8),
    shift=st.tuples(*[st.floats(-3, 3)] * 3),
    scale=st.floats(0.94, 1.06),
    seed=st.integers(0, 50),
)
@settings(max_examples=20)
def test_a_moved_scan_finds_its_way_back(
    axis: tuple[float, float, float], degrees: float, shift: tuple[float, float, float], scale: float, seed: int
) -> None:
    resampler = Resampler(SHAPE, SPACING)
    scan = _scan(seed)
    turn = Rotation.from_rotvec(np.deg2rad(degrees) * np.array(axis) / np.linalg.norm(axis)).as_matrix()
    true = Pose(scale * turn, np.array(shift))
    query = _apply(scan, true, resampler)
    (found,) = refined(query, scan[None], [IDENTITY], resampler)
    corners = np.array([[x, y, z] for x in (-15, 15) for y in (-18, 18) for z in (-18, 18)], float).T
    apart = (found.matrix - true.matrix) @ corners + (found.offset - true.offset)[:, None]
    assert np.linalg.norm(apart, axis=0).max() < 1.0, "mm at the corners"


def _moved_out(scan: np.ndarray, way: Pose, resampler: Resampler) -> tuple[np.ndarray, np.ndarray]:
    """Move a scan so that part of it leaves the grid; scaled to norm 1 as every view is. Return it and its ground."""
    ground = _apply(np.ones((1, *SHAPE), np.float32), way, resampler)[0] > 0.99
    moved = _apply(scan, way, resampler) * ground
    return (moved / np.linalg.norm(moved)).astype(np.float32), ground.astype(np.float32)


@pytest.mark.parametrize("seed", range(6))
def test_a_scan_of_which_a_part_left_the_grid_stays_where_it_lies(seed: int, resampler: Resampler) -> None:
    """What is left of it is stronger than the same part of the original: that is no reason to enlarge the original."""
    shift = np.array([10.0, -12.0, 10.0]) * np.random.default_rng(seed).choice([-1, 1], 3)
    true = Pose(Rotation.from_rotvec(np.deg2rad([0, 0, 8])).as_matrix(), shift)
    scan = _scan(seed)
    query, ground = _moved_out(scan, true, resampler)
    assert np.linalg.norm(_apply(scan, true, resampler) * ground) < 0.9, "a part has left"
    (found,) = refined(query, scan[None], [true], resampler, ground)
    assert found.scale == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(found.offset, true.offset, atol=0.3)


def test_implausible_ways_are_not_gone(resampler: Resampler) -> None:
    fine = np.eye(3)
    ways = np.stack([fine, 1.5 * fine, -fine, np.full((3, 3), np.nan), Rotation.from_rotvec([0, 0, 0.6]).as_matrix()])
    shifts = np.zeros((5, 3))
    np.testing.assert_array_equal(_plausible(ways, shifts, resampler), [True, False, False, False, False])
    far = np.array([[0, 0, 18.0], [0, np.inf, 0]])
    np.testing.assert_array_equal(_plausible(ways[[0, 0]], far, resampler), [False, False])


def test_a_search_that_runs_away_returns_its_start(resampler: Resampler) -> None:
    first, second = _scan(1), np.zeros_like(_scan(2))
    (found,) = refined(first, second[None], [IDENTITY], resampler)
    assert np.isfinite(found.matrix).all()
    assert found.degrees <= 25


def test_poses_compose() -> None:
    """A query's pose on a candidate, from the template's pose on both."""
    first = Pose(Rotation.from_rotvec([0.1, 0, 0.05]).as_matrix() * 1.05, np.array([1.0, -2, 0.5]))
    second = Pose(Rotation.from_rotvec([0, 0.1, -0.1]).as_matrix(), np.array([0.0, 1, 2]))
    point = np.array([3.0, 4, 5])
    there = between(first, second)
    seen_by_first = np.linalg.inv(first.matrix) @ (point - first.offset)
    np.testing.assert_allclose(there.matrix @ point + there.offset, second.matrix @ seen_by_first + second.offset)
    flip = np.diag([-1.0, 1, 1])
    mirrored = mirror_pose(there)
    np.testing.assert_allclose(
        mirrored.matrix @ (flip @ point) + mirrored.offset, flip @ (there.matrix @ point + there.offset)
    )


def test_smoothing_keeps_constants_and_spreads_evenly() -> None:
    ones = torch.ones(1, 1, 8, 9, 10)
    torch.testing.assert_close(smoothed(ones, (1.3, 0.5, 2.0)), ones)
    inner = torch.zeros(1, 1, 15, 15, 15)
    inner[0, 0, 7, 7, 7] = 1
    expected = ndimage.gaussian_filter(inner[0, 0].numpy(), 1.0, truncate=8)
    np.testing.assert_allclose(smoothed(inner, (1.0, 1.0, 1.0))[0, 0].numpy(), expected, atol=1e-5)
