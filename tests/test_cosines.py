"""The public basis of the private label prior: what it keeps, what it costs, and what is drawn from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from anonsynth.anatomy.cosine_shape import (
    FRAME_CENTRE,
    FRAME_SCALE,
    CosineShapeModel,
    encode,
    frame_of,
    load_cosines,
    save_cosines,
    shares_from,
    shares_of,
    spectra_of,
)
from anonsynth.anatomy.cosines import DISTANCE, PARTS, SCORE, choose_waves, expanded, projected
from anonsynth.anatomy.shape import lattice_of, pose_of
from anonsynth.anatomy.shape_prior import ShapePrior
from anonsynth.cohort.geometry import Grid, LabelVolume
from anonsynth.cohort.model import LabelEntry

SHAPE = (32, 40, 28)
LABELS = (LabelEntry(value=1, name="front"), LabelEntry(value=2, name="back"))


def bent(seed: int) -> LabelVolume:
    """Return a bent rod of two labels in surroundings that brighten from left to right, classes 1 to 6."""
    rng = np.random.default_rng(seed)
    x, y, z = np.indices(SHAPE).astype(float)
    along = (y - 20) / (11 + rng.normal(0, 0.5))
    bend = 14 + 4 * along**2 + rng.normal(0, 0.7)
    inside = (np.square((z - bend) / 5) + np.square((x - 16) / 5) + along**2) < 1
    around = 1 + np.clip(x / SHAPE[0] * 6, 0, 5).astype(int)
    return np.where(inside, np.where(along > 0.2, 7, 8), around).astype(np.uint8)


def model_of(maps: list[LabelVolume], loss: float = 0.003) -> CosineShapeModel:
    """Return what rung 1 would make of maps without noise."""
    waves, _ = choose_waves(spectra_of(6, 2), lattice_of(SHAPE), loss, 800)
    frames = np.array([frame_of(m, 6, (2, 2, 2), (30, 38, 26)) for m in maps])
    model = CosineShapeModel.new(SHAPE, 6, 2, waves, frame=frames.mean(0), frame_deviation=frames.std(0))
    shares = shares_from(np.mean([shares_of(m, 6, 2) for m in maps], axis=0))
    found = np.array([encode(m, model) for m in maps])
    return CosineShapeModel.new(
        SHAPE,
        6,
        2,
        waves,
        frame=frames.mean(0),
        frame_deviation=frames.std(0),
        shares=shares,
        mean=found.mean(0),
        deviation=found.std(0),
    )


@pytest.fixture(scope="module")
def maps() -> list[LabelVolume]:
    return [bent(seed) for seed in range(8)]


@pytest.fixture(scope="module")
def model(maps: list[LabelVolume]) -> CosineShapeModel:
    return model_of(maps)


def test_fields_come_back_from_all_of_their_coefficients() -> None:
    rng = np.random.default_rng(0)
    fields = rng.normal(size=(2, 6, 7, 5))
    waves = np.array(list(np.ndindex(fields.shape)))
    coefficients = projected(fields, waves)
    assert np.allclose(expanded(coefficients, waves, 2, (6, 7, 5)), fields, atol=1e-5)
    assert np.square(coefficients).sum() == pytest.approx(np.square(fields).mean((1, 2, 3)).sum())


@pytest.mark.parametrize("spectrum", [DISTANCE, PARTS, SCORE])
def test_a_spectrum_falls_and_adds_up(spectrum: object) -> None:
    expected = spectrum.deviations((20, 28, 22))  # type: ignore[attr-defined]
    assert np.square(expected).sum() == pytest.approx(spectrum.deviation**2)  # type: ignore[attr-defined]
    assert expected[0, 0, 0] == expected.max()
    assert expected[0, 0, 12] < 0.05 * expected[0, 0, 0]


def test_the_more_noise_the_fewer_coefficients_and_each_is_worth_its_noise() -> None:
    spectra, lattice = spectra_of(6, 2), (16, 20, 14)
    sizes = []
    for loss in (0.5, 0.05, 0.01):
        waves, deviations = choose_waves(spectra, lattice, loss, 10_000)
        sizes.append(len(waves))
        weight = np.sqrt([spectra[index].weight for index in waves[:, 0]])
        scale = np.sqrt(weight / deviations)
        length = np.sum(np.square(scale * deviations))
        noise = loss * np.sqrt(length) / scale
        assert (deviations >= noise * (1 - 1e-9)).all()
        assert len(np.unique(waves, axis=0)) == len(waves)
    assert sizes[0] < sizes[1] < sizes[2]


def test_no_other_scaling_has_less_noise() -> None:
    """The scaling of `choose_waves` is the best of its kind: any other makes the weighted noise stronger."""
    rng = np.random.default_rng(0)
    deviations, weight = rng.uniform(0.01, 1, 30), rng.uniform(0.1, 1, 30)

    def noise(scale: np.ndarray) -> float:
        return float(np.square(scale * deviations).sum() * (weight / scale**2).sum())

    best = noise(np.sqrt(np.sqrt(weight) / deviations))
    assert all(noise(np.exp(rng.normal(0, 0.5, 30)) * np.sqrt(np.sqrt(weight) / deviations)) > best for _ in range(50))
    assert best < 0.9 * noise(np.ones(30))


def dice(a: LabelVolume, b: LabelVolume, value: int) -> float:
    return float(2 * ((a == value) & (b == value)).sum() / ((a == value).sum() + (b == value).sum()))


def test_a_map_that_is_encoded_and_decoded_is_nearly_itself(maps: list[LabelVolume], model: CosineShapeModel) -> None:
    own = encode(maps[0], model)
    decoded = model.decode((own - model.mean).astype(np.float32), pose_of(maps[0] > 6, model.reference))
    assert min(dice(decoded, maps[0], value) for value in (7, 8)) > 0.85


def test_without_statistics_an_ellipsoid_is_drawn_its_parts_in_a_row() -> None:
    model = CosineShapeModel.new(SHAPE, 6, 2, np.zeros((1, 4), np.int64))
    drawn = ShapePrior(model, Grid(SHAPE, (1.0, 1.0, 1.0)), LABELS).draw(np.random.default_rng(0)).label
    assert np.argwhere(drawn == 7)[:, 1].mean() > np.argwhere(drawn == 8)[:, 1].mean() + 5
    assert 0.7 < (drawn == 7).sum() / (drawn == 8).sum() < 1.4


def test_drawn_maps_are_whole_and_sized_like_the_training_maps(
    maps: list[LabelVolume], model: CosineShapeModel, tmp_path: Path
) -> None:
    prior = ShapePrior(model, Grid(SHAPE, (1.0, 1.0, 1.0)), LABELS)
    drawn = [prior.draw(np.random.default_rng(seed)).label for seed in range(12)]
    sizes = np.array([[(m == value).sum() for value in (7, 8)] for m in maps])
    for found in drawn:
        for column, value in enumerate((7, 8)):
            assert ndimage.label(found == value)[1] == 1
            assert 0.5 * sizes[:, column].min() < (found == value).sum() < 1.8 * sizes[:, column].max()
        assert (found[:2] == 0).all()  # outside the field of view
        assert np.argwhere(found == 7)[:, 1].mean() > np.argwhere(found == 8)[:, 1].mean()
    assert len({found.tobytes() for found in drawn}) == len(drawn)
    # Dark is where it was dark.
    assert np.mean([f[4:8][(f[4:8] > 0) & (f[4:8] < 7)].mean() for f in drawn]) < 3
    save_cosines(model, tmp_path / "prior.safetensors")
    loaded = ShapePrior(load_cosines(tmp_path / "prior.safetensors"), prior.grid, LABELS)
    assert np.array_equal(loaded.draw(np.random.default_rng(3)).label, drawn[3])


def test_frames_are_near_the_public_centre_and_unknown_without_a_label(maps: list[LabelVolume]) -> None:
    offset = (frame_of(maps[0], 6, (2, 2, 2), (30, 38, 26)) - FRAME_CENTRE) / FRAME_SCALE
    assert np.linalg.norm(offset) < 4.5
    nothing = frame_of(np.ones(SHAPE, np.uint8), 6, (2, 2, 2), (30, 38, 26))
    assert np.isnan(nothing[3:]).all()
    assert np.isfinite(nothing[:3]).all()


def test_a_small_label_that_lies_elsewhere_in_everybody_keeps_its_share() -> None:
    """Its mean field nowhere exceeds that of the label around it: without the released share it vanishes."""
    rng = np.random.default_rng(5)
    x, y, z = np.indices(SHAPE)
    maps = []
    for _ in range(20):
        ellipsoid = np.square((x - 16) / 11) + np.square((y - 20) / 14) + np.square((z - 14) / 9) < 1
        centre = np.array([16, 20, 14]) + rng.uniform(-5, 5, 3)
        ball = np.square(x - centre[0]) + np.square(y - centre[1]) + np.square(z - centre[2]) < 9
        maps.append(np.where(ellipsoid, np.where(ball, 8, 7), 1).astype(np.uint8))
    model = model_of(maps)
    real = np.mean([(m == 8).sum() / (m > 6).sum() for m in maps])

    def drawn_share(model: CosineShapeModel) -> float:
        prior = ShapePrior(model, Grid(SHAPE, (1.0, 1.0, 1.0)), LABELS)
        drawn = [prior.draw(np.random.default_rng(seed)).label for seed in range(6)]
        return float(np.mean([(d == 8).sum() / max((d > 6).sum(), 1) for d in drawn]))

    assert real < 0.05
    assert drawn_share(model) == pytest.approx(real, rel=0.5)
    assert drawn_share(replace(model, shares=np.array([1 - 1e-9, 1e-9]))) < real / 4
    assert np.isnan(shares_of(np.ones(SHAPE, np.uint8), 6, 2)).all()
    assert shares_from(shares_of(maps[0], 6, 1)).tolist() == [1.0]
