"""Rims: what was put in by side and depth is found again, and added where it was lacking."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anonsynth.anatomy.rim import KNOTS, SIDES, RimFit, rim_volume
from anonsynth.synthesis.rim import Rim

SHAPE = (32, 30, 28)
EVERYWHERE = np.ones(SHAPE, bool)


def ball(radius: float = 8) -> npt.NDArray[np.bool_]:
    axes = np.indices(SHAPE) - np.array(SHAPE)[:, None, None, None] / 2
    inside: npt.NDArray[np.bool_] = np.square(axes).sum(0) < radius**2
    return inside


def rim(seed: int = 0) -> npt.NDArray[np.float64]:
    return np.random.default_rng(seed).uniform(-0.1, 0.1, (SIDES, len(KNOTS) - 1))


def fitted(image: npt.NDArray[np.float32], labelled: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    fit = RimFit()
    fit.add(image, labelled, EVERYWHERE)
    return fit.solve()


def test_a_rim_that_was_put_in_is_found() -> None:
    put_in = rim()
    image = 0.5 + rim_volume(ball(), put_in[None])[0]
    # It counts from the labels' median, so a constant stays between the two.
    found = fitted(image, ball()) + np.median(image[ball()]) - 0.5
    assert found[:, 2:8] == pytest.approx(put_in[:, 2:8], abs=0.02)


def test_sides_are_told_apart() -> None:
    put_in = np.zeros((SIDES, len(KNOTS) - 1))
    put_in[5, 5] = 0.1  # half a voxel inside, on top
    volume = rim_volume(ball(), put_in[None])[0]
    top, bottom = volume[16, 15, 14:], volume[16, 15, :14]
    assert top.max() > 0.05
    assert bottom.max() < 0.01
    assert volume[0].max() == volume[:, 0].max() == 0  # far from the label nothing is added


@settings(max_examples=15, deadline=None)
@given(lift=st.floats(-0.3, 0.3), gain=st.floats(0.2, 2))
def test_brightness_does_not_matter_and_contrast_scales(lift: float, gain: float) -> None:
    image = rim_volume(ball(), rim()[None])[0]
    assert fitted(np.float32(gain) * image + np.float32(lift), ball()) == pytest.approx(
        gain * fitted(image, ball()), abs=2e-3
    )


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    image = 0.5 + rim_volume(ball(), rim()[None])[0]
    whole = fitted(image, ball())
    monkeypatch.setattr("anonsynth.anatomy.rim._AT_ONCE", 1000)
    assert fitted(image, ball()) == pytest.approx(whole)


def test_without_labels_there_is_no_rim() -> None:
    fit = RimFit()
    fit.add(np.zeros(SHAPE, np.float32), ~EVERYWHERE, EVERYWHERE)
    assert fit.scans == 0
    assert np.all(fit.solve() == 0)
    assert np.all(rim_volume(~EVERYWHERE, rim()[None]) == 0)


def test_the_generator_completes_scans_inside_the_field_of_view() -> None:
    module = Rim(2)
    image = np.full((2, *SHAPE), 0.98, np.float32)
    assert module.complete(image, ball(), EVERYWHERE) is image
    module.take(np.stack([np.full((SIDES, len(KNOTS) - 1), 0.05), np.zeros((SIDES, len(KNOTS) - 1))]))
    fov = np.indices(SHAPE)[0] < 16
    completed = module.complete(image, ball(), fov)
    assert completed.dtype == np.float32
    assert np.array_equal(completed[:, ~fov], image[:, ~fov])
    assert completed[0].max() == 1
    assert np.array_equal(completed[1], image[1])
    again = Rim(2)
    again.load_state_dict(module.state_dict())
    assert torch.equal(again.lacking, module.lacking)
