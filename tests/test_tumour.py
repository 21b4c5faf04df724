"""Tumours: inside the brain, on one side, of the planned size, with the compartments in their order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from anonsynth.anatomy.diffeomorphism import grid_points, jacobian_determinants
from anonsynth.anatomy.tumour import (
    ENHANCING,
    LEAST_ML,
    MOST_ML,
    NECROSIS,
    OEDEMA,
    TumourPlan,
    TumourSite,
    draw_plan,
    grow_tumour,
    push_aside,
)
from anonsynth.cohort.geometry import Grid

GRID = Grid((48, 56, 48), (3.0, 3.0, 3.0)).centred()
CENTRE = (30.0, 5.0, 10.0)


def _site() -> TumourSite:
    """A ball of white matter in a shell of grey matter; the right half only, with a pond of fluid in it."""
    x, y, z = grid_points(GRID)
    radius = np.sqrt(x**2 + y**2 + z**2)
    fluid = ((x - 12) ** 2 + y**2 + z**2 < 64).astype(np.float32)
    return TumourSite(GRID, (radius < 68) & (x > 2) & (fluid < 0.5), fluid, (radius < 60).astype(np.float32))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_tumour_is_one_piece_inside_the_tissue_and_as_large_as_planned(seed: int) -> None:
    rng = np.random.default_rng(seed)
    plan = draw_plan(CENTRE, rng)
    site = _site()
    label = grow_tumour(plan, site, rng)
    volume = (label > 0).sum() * GRID.voxel_volume / 1000
    assert LEAST_ML <= plan.whole_ml <= MOST_ML
    assert not (label.astype(bool) & ~site.tissue).any()
    assert 0.6 * plan.whole_ml <= volume <= 1.05 * plan.whole_ml + GRID.voxel_volume / 1000
    assert ndimage.label(label > 0)[1] == 1
    assert set(np.unique(label)) <= {0, OEDEMA, ENHANCING, NECROSIS}
    assert plan.enhancing == bool((label == ENHANCING).any())


def test_necrosis_lies_within_the_rim() -> None:
    plan = TumourPlan(CENTRE, 60.0, 0.6, 0.5, enhancing=True, push=4.0, stretch=(1.0, 1.0, 1.0))
    label = grow_tumour(plan, _site(), np.random.default_rng(0))
    touched = ndimage.binary_dilation(label == NECROSIS) & (label != NECROSIS)
    assert (label == NECROSIS).any()
    assert set(np.unique(label[touched])) == {ENHANCING}


def test_oedema_prefers_white_matter() -> None:
    x, _, _ = grid_points(GRID)
    everywhere = np.ones(GRID.shape, bool)
    site = TumourSite(GRID, everywhere, np.zeros(GRID.shape, np.float32), (x > 30).astype(np.float32))
    plan = TumourPlan(CENTRE, 100.0, 0.2, 0.3, enhancing=True, push=0.0, stretch=(1.0, 1.0, 1.0))
    label = grow_tumour(plan, site, np.random.default_rng(1))
    assert ((label == OEDEMA) & (x > 31)).sum() > 1.5 * ((label == OEDEMA) & (x < 29)).sum()


def test_no_room_gives_no_tumour() -> None:
    plan = draw_plan(CENTRE, np.random.default_rng(0))
    nowhere = np.zeros(GRID.shape, bool)
    zeros = np.zeros(GRID.shape, np.float32)
    assert not grow_tumour(plan, TumourSite(GRID, nowhere, zeros, zeros), np.random.default_rng(0)).any()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_anatomy_is_pushed_outwards_without_folding(seed: int) -> None:
    plan = draw_plan(CENTRE, np.random.default_rng(seed))
    points = grid_points(GRID)
    pull = push_aside(points, plan) - points
    assert jacobian_determinants(pull, GRID.spacing).min() > 0
    offset = points - np.asarray(CENTRE, np.float32)[:, None, None, None]
    # The pull is towards the centre: what lay near the centre is seen farther out.
    assert (pull * offset).sum(0).max() <= 1e-3
    assert np.sqrt((pull**2).sum(0)).max() <= plan.push + 1e-3


def test_the_push_is_its_stated_length_at_the_radius() -> None:
    plan = TumourPlan((0.0, 0.0, 0.0), 60.0, 0.5, 0.3, enhancing=True, push=5.0, stretch=(1.0, 1.0, 1.0))
    point = np.zeros((3, 1, 1, 1), np.float32)
    point[0] = plan.radius
    assert plan.radius - push_aside(point, plan)[0, 0, 0, 0] == pytest.approx(5.0, abs=1e-3)
