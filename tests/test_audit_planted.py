"""Planted copies are what their names say, and take from the background what they do not copy."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import make_tiny_cohort

from anonsynth.audits.likeness import dependences
from anonsynth.audits.planted import EXACT, KINDS, kind_named
from anonsynth.audits.views import body
from anonsynth.cohort.model import Split
from anonsynth.cohort.store import Cohort, Scan


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return make_tiny_cohort(tmp_path_factory.mktemp("planted") / "cohort")


@pytest.fixture(scope="module")
def pair(cohort: Cohort) -> tuple[Scan, Scan]:
    train = cohort.of(Split.TRAIN)
    return cohort.load(train[0]), cohort.load(train[3])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.titled())
def test_a_copy_copies_its_own_domain_and_nothing_else(kind, cohort: Cohort, pair: tuple[Scan, Scan]) -> None:
    scan, background = pair
    before = scan.image.copy(), scan.label.copy()
    planted = kind.make(scan, background, cohort.grid, kind.strength, np.random.default_rng(1))
    again = kind.make(scan, background, cohort.grid, kind.strength, np.random.default_rng(1))
    np.testing.assert_array_equal(planted.image, again.image)
    assert planted.image.shape == scan.image.shape
    assert planted.image.dtype == np.float32
    assert np.isfinite(planted.image).all()
    if kind.domain == "image":
        np.testing.assert_array_equal(planted.label, background.label)
        assert not np.array_equal(planted.image, background.image)
    if kind.domain == "label":
        np.testing.assert_array_equal(planted.image, background.image)
        assert set(np.unique(planted.label)) <= set(np.unique(scan.label))
    np.testing.assert_array_equal(scan.image, before[0])
    np.testing.assert_array_equal(scan.label, before[1])


@pytest.mark.parametrize("decibel", [15.0, 5.0])
def test_noise_has_the_power_it_is_named_for(decibel: float, cohort: Cohort, pair: tuple[Scan, Scan]) -> None:
    scan, background = pair
    noisy = kind_named("noise at {} dB").make(scan, background, cohort.grid, decibel, np.random.default_rng(0))
    inside = scan.image[0] != 0
    ratio = scan.image[0][inside].std() / (noisy.image[0] - scan.image[0])[inside].std()
    assert 20 * np.log10(ratio) == pytest.approx(decibel, abs=0.3)


@pytest.mark.parametrize("fraction", [0.3, 0.15, 0.04])
def test_a_region_has_the_size_it_is_named_for(fraction: float, cohort: Cohort, pair: tuple[Scan, Scan]) -> None:
    scan, background = pair
    ones = Scan(scan.record, np.ones_like(scan.image), scan.present, scan.label)
    zeros = Scan(background.record, np.full_like(scan.image, 2.0), background.present, background.label)
    zeros.image[:, ::2] = 1.0  # brought to mean 1 they differ from ones everywhere
    sizes = []
    for seed in range(10):
        made = kind_named("region of {} of the volume").make(
            ones, zeros, cohort.grid, fraction, np.random.default_rng(seed)
        )
        sizes.append(np.mean(np.abs(made.image[0] - 1) < 0.05))
    assert np.mean(sizes) == pytest.approx(fraction, rel=0.2)


def test_another_contrast_is_a_function_of_the_first(cohort: Cohort, pair: tuple[Scan, Scan]) -> None:
    scan, background = pair
    inside, first = body(scan.image).ravel(), np.array([True, False])
    for name in ("contrast inverted", "contrast of another modality"):
        made = kind_named(name).make(scan, background, cohort.grid, 0, np.random.default_rng(2))
        values = [image.reshape(2, -1) for image in (made.image, scan.image)]
        found = dependences(values[0][:, inside], values[1][:, inside], np.ones(inside.sum(), bool), first)
        assert found[0] > 0.8
        assert found[1] == -1
        assert abs(np.corrcoef(values[0][0], values[1][0])[0, 1]) < 0.999


def test_kinds_are_found_by_name() -> None:
    assert kind_named(EXACT).domain == "both"
    assert kind_named("noise at 15 dB").strength == 15
    with pytest.raises(KeyError):
        kind_named("stolen")
    names = [kind.titled(strength) for kind in KINDS for strength in {kind.strength, *kind.curve}]
    assert len(names) == len(set(names))
