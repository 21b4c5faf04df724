"""The shape prior: draws are plausible, new, and reproducible; its file holds it whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anonsynth.anatomy.context import context_map
from anonsynth.anatomy.priors import Guarantee
from anonsynth.anatomy.shape import (
    ShapeModel,
    _principal_components,
    class_vector,
    fit_shape_model,
    from_reference,
    load_shape_model,
    pose_of,
    save_shape_model,
    to_reference,
)
from anonsynth.anatomy.shape_prior import ShapePrior
from anonsynth.cohort.geometry import Grid, LabelVolume
from anonsynth.cohort.model import LabelEntry
from anonsynth.errors import InputError

SHAPE = (24, 20, 16)
BOX = ((1, 1, 1), (23, 19, 15))
SPACING = (1.0, 1.0, 1.0)


def ball(rng: np.random.Generator) -> LabelVolume:
    """A class map: 1 around, 2 a ball of random radius and place, 0 outside the field of view."""
    axes = np.indices(SHAPE).astype(float)
    centre = np.array(SHAPE)[:, None, None, None] / 2 + rng.normal(0, 0.7, (3, 1, 1, 1))
    inside = ((axes - centre) ** 2).sum(0) < rng.uniform(4, 6) ** 2
    classes = np.zeros(SHAPE, np.uint8)
    box = tuple(slice(a, b) for a, b in zip(*BOX, strict=True))
    classes[box] = 1 + inside[box]
    return classes


@pytest.fixture(scope="module")
def maps() -> list[LabelVolume]:
    return [ball(np.random.default_rng(seed)) for seed in range(20)]


@pytest.fixture(scope="module")
def model(maps: list[LabelVolume]) -> ShapeModel:
    return fit_shape_model(((m, *BOX) for m in maps), context=1, labels=1)


@pytest.fixture
def prior(model: ShapeModel) -> ShapePrior:
    return ShapePrior(model, Grid(SHAPE, SPACING), (LabelEntry(value=7, name="ball"),))


def test_it_says_that_it_guarantees_nothing(prior: ShapePrior) -> None:
    assert prior.guarantee is Guarantee.NONE


def test_draws_have_volumes_like_the_training_maps(prior: ShapePrior, maps: list[LabelVolume]) -> None:
    trained = [int((m == 2).sum()) for m in maps]
    drawn = [int((prior.draw(np.random.default_rng(seed)).label == 2).sum()) for seed in range(40)]
    assert abs(np.mean(drawn) - np.mean(trained)) < 2 * np.std(trained)
    assert 0.4 * min(trained) < min(drawn)
    assert max(drawn) < 1.8 * max(trained)
    assert 0.5 * np.std(trained) < np.std(drawn) < 1.5 * np.std(trained)


def test_no_draw_is_a_training_map_and_no_two_are_alike(prior: ShapePrior, maps: list[LabelVolume]) -> None:
    drawn = [prior.draw(np.random.default_rng(seed)).label for seed in range(20)]
    assert not any(np.array_equal(d, m) for d in drawn for m in maps)
    assert len({d.tobytes() for d in drawn}) == len(drawn)


def test_the_same_generator_gives_the_same_map(prior: ShapePrior) -> None:
    a, b = (prior.draw(np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(a.label, b.label)
    assert (a.fov_low, a.fov_high) == (b.fov_low, b.fov_high)


def test_labels_lie_in_the_field_of_view_and_nothing_lies_outside(prior: ShapePrior) -> None:
    for seed in range(10):
        drawn = prior.draw(np.random.default_rng(seed))
        inside = np.zeros(SHAPE, bool)
        inside[tuple(slice(a, b) for a, b in zip(drawn.fov_low, drawn.fov_high, strict=True))] = True
        assert np.array_equal(drawn.label > 0, inside)


def test_projection_of_a_training_map_is_close_to_it(model: ShapeModel, maps: list[LabelVolume]) -> None:
    reference = model.frame_mean[6:]
    pose = pose_of(maps[0] == 2, reference)
    coefficients = (class_vector(maps[0], 1, 1, pose, reference) - model.mean) @ model.modes.T
    projected = model.decode(coefficients, pose) == 2
    truth = maps[0] == 2
    assert 2 * (projected & truth).sum() / (projected.sum() + truth.sum()) > 0.85


def test_the_gram_route_equals_a_plain_decomposition(maps: list[LabelVolume]) -> None:
    pose = pose_of(maps[0] == 2, np.zeros(6, np.float32))
    vectors = np.stack([class_vector(m, 1, 1, pose, pose) for m in maps])
    mean, modes, deviation = _principal_components(vectors)
    _, singular, axes = np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    rank = len(deviation)
    assert np.allclose(mean, vectors.mean(0), atol=1e-5)
    assert np.allclose(deviation, singular[:rank] / np.sqrt(len(maps) - 1), rtol=1e-3)
    assert np.allclose(np.abs((modes * axes[:rank]).sum(1)), 1, atol=1e-3)


def test_it_survives_its_file(model: ShapeModel, prior: ShapePrior, tmp_path: Path) -> None:
    save_shape_model(model, tmp_path / "shape.safetensors")
    loaded = ShapePrior(load_shape_model(tmp_path / "shape.safetensors"), prior.grid, prior.labels)
    drawn = [p.draw(np.random.default_rng(1)).label for p in (prior, loaded)]
    assert np.array_equal(*drawn)


def test_one_map_is_too_few(maps: list[LabelVolume]) -> None:
    with pytest.raises(InputError, match="at least two"):
        fit_shape_model([(maps[0], *BOX)], context=1, labels=1)


def surrounded(seed: int) -> LabelVolume:
    """Two labels side by side, moved a little, in surroundings that brighten towards one side or the other."""
    rng = np.random.default_rng(seed)
    slope = np.indices(SHAPE)[0] * np.float32(rng.normal(1, 0.3)) + rng.normal(0, 1, SHAPE).astype(np.float32)
    classes = 1 + context_map(slope, np.ones(SHAPE, bool), 6)
    x, y, z = (int(n) for n in rng.integers(-1, 2, 3))
    classes[9 + x : 12 + x, 6 + y : 14 + y, 5 + z : 11 + z] = 7
    classes[12 + x : 15 + x, 6 + y : 14 + y, 5 + z : 11 + z] = 8
    return np.asarray(classes, np.uint8)


def test_labels_are_drawn_in_surroundings_of_every_class() -> None:
    maps = [surrounded(seed) for seed in range(24)]
    model = fit_shape_model(((m, (0, 0, 0), SHAPE) for m in maps), context=6, labels=2)
    labels = (LabelEntry(value=1, name="left"), LabelEntry(value=2, name="right"))
    prior = ShapePrior(model, Grid(SHAPE, SPACING), labels)
    drawn = [prior.draw(np.random.default_rng(seed)).label for seed in range(24)]
    shares = np.mean([np.bincount(d.ravel(), minlength=9)[1:] / d.size for d in drawn], axis=0)
    assert shares[:6].min() > 0.08
    for value in (7, 8):
        assert np.mean([(d == value).sum() for d in drawn]) == pytest.approx(144, rel=0.25)
    # Dark is where it was dark, and the labels lie side by side as they did.
    assert np.mean([d[:4][d[:4] < 7].mean() for d in drawn]) < 2.5
    assert np.mean([d[-4:][d[-4:] < 7].mean() for d in drawn]) > 4.5
    for d in drawn:
        assert np.argwhere(d == 7)[:, 0].mean() < np.argwhere(d == 8)[:, 0].mean()


def test_surroundings_are_those_that_the_model_can_express() -> None:
    maps = [surrounded(seed) for seed in range(24)]
    model = fit_shape_model(((m, (0, 0, 0), SHAPE) for m in maps), context=6, labels=2)
    for classes in maps[:4]:
        around = classes < 7
        smooth = model.surroundings(classes)
        assert smooth.max() <= 5
        assert np.abs(smooth[around] + 1.0 - classes[around]).mean() < 1
        assert np.abs(np.diff(smooth.astype(int), axis=1)).mean() < np.abs(np.diff(classes.astype(int), axis=1)).mean()


def test_the_pose_is_taken_out_and_given_back() -> None:
    """A moved and stretched ball lies on the other in the reference pose; given its pose back, it lies where it lay."""
    axes = np.indices((32, 32, 32)).astype(float)
    first = np.square(axes - 15.5).sum(0) < 7**2
    places = (axes - np.array([13, 17, 16])[:, None, None, None]) / np.array([1.2, 0.9, 1.0])[:, None, None, None]
    second = np.square(places).sum(0) < 7**2
    nothing = np.zeros(6, np.float32)
    poses = [pose_of(mask, nothing) for mask in (first, second)]
    assert np.allclose(poses[1][:3], [13, 17, 16], atol=0.1)
    assert np.allclose(np.exp(poses[1][3:] - poses[0][3:]), [1.2, 0.9, 1.0], atol=0.05)
    fields = [
        to_reference(mask.astype(np.float32), pose, poses[0]) for mask, pose in zip((first, second), poses, strict=True)
    ]
    assert np.mean((fields[0] > 0.5) == (fields[1] > 0.5)) > 0.97
    back = from_reference(fields[1], second.shape, poses[1], poses[0]) > 0.5
    assert 2 * (back & second).sum() / (back.sum() + second.sum()) > 0.95
    assert np.array_equal(pose_of(np.zeros((4, 4, 4), bool), nothing), nothing)


def test_a_map_without_labels_does_not_disturb_the_others(maps: list[LabelVolume]) -> None:
    empty = np.minimum(maps[0], 1)
    model = fit_shape_model(((m, *BOX) for m in [*maps, empty]), context=1, labels=1)
    assert np.isfinite(model.frame_mean).all()
    assert np.isfinite(model.mean).all()
    assert (model.decode(model.deviation * 0, model.frame_mean[6:]) == 2).any()
