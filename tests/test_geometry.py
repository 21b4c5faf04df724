"""A grid is a shape and an affine that cannot be impossible."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonsynth.cohort.geometry import Grid

GRIDS = st.builds(
    Grid,
    shape=st.tuples(*[st.integers(1, 300)] * 3),
    spacing=st.tuples(*[st.floats(0.1, 10)] * 3),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
)


@given(GRIDS)
def test_the_affine_maps_the_first_voxel_to_the_origin_and_steps_by_the_spacing(grid: Grid) -> None:
    np.testing.assert_allclose(grid.affine @ [0, 0, 0, 1], [*grid.origin, 1])
    np.testing.assert_allclose(np.linalg.norm(grid.affine[:3, :3], axis=0), grid.spacing)
    assert np.linalg.det(grid.affine[:3, :3]) > 0


@given(GRIDS)
def test_a_centred_grid_has_the_worlds_origin_in_its_middle(grid: Grid) -> None:
    centred = grid.centred()
    middle = (np.array(grid.shape) - 1) / 2
    np.testing.assert_allclose(centred.affine @ [*middle, 1], [0, 0, 0, 1], atol=1e-9)
    assert centred.shape == grid.shape
    assert centred.spacing == grid.spacing
    assert centred.centred() == centred


@given(GRIDS)
def test_volumes_agree(grid: Grid) -> None:
    assert np.prod(grid.extent) == pytest.approx(grid.voxel_volume * np.prod(grid.shape))


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((0, 1, 1), (1, 1, 1)), ((1, 1, 1), (1, -1, 1)), ((1, 1, 1), (1, 0, 1)), ((1, 1, 1), (1, float("nan"), 1))],
)
def test_an_impossible_grid_is_refused(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        Grid(shape, spacing)
