"""What is usual for all scans of a kind singles out none of them; what only one of them shows does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from anonsynth.audits.closer import Aspect
from anonsynth.audits.crossed import Beside
from anonsynth.audits.likeness import UNKNOWN, correlations, cosine, joined
from anonsynth.audits.nearest import Match, Matches, restricted
from anonsynth.audits.nearness import NOTHING_USUAL, nearness, region_nearness, strongest_region, usual_of
from anonsynth.audits.regions import RegionNeighbours
from anonsynth.audits.scoring import flagged_alone, make_null, score

PATIENTS = tuple(f"P{number:02d}" for number in range(20))
WINDOWS, KEEP = 5, 9


def _matches(name: str, rng: np.random.Generator, near: dict[str, float] | None = None) -> Matches:
    """A scan at random distances from all patients; `near` says by what factor it is nearer to some."""
    factors = np.array([(near or {}).get(patient, 1.0) for patient in PATIENTS])
    found = {}
    for aspect in Aspect:
        distances = 0.5 * np.exp(rng.normal(0, 0.1, len(PATIENTS))) * factors
        order = np.argsort(distances)[:KEEP]
        found[aspect] = tuple(Match(f"{PATIENTS[i]}-S01", PATIENTS[i], float(distances[i])) for i in order)
    windows = 0.5 * np.exp(rng.normal(0, 0.1, (WINDOWS, len(PATIENTS)))) * factors
    order = np.argsort(windows, axis=1)[:, :KEEP]
    regions = RegionNeighbours(
        np.take_along_axis(windows, order, 1).astype(np.float32), order.astype(np.int32), np.zeros((2, 20), np.float32)
    )
    return Matches(name, name, found, regions, PATIENTS)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_patient_near_to_all_generated_scans_singles_out_none(rng: np.random.Generator) -> None:
    holdout = [_matches(f"h{i}", rng) for i in range(20)]
    training = [_matches(f"t{i}", rng) for i in range(20)]
    null = make_null(holdout, training)
    generated = [_matches(f"g{i}", rng, {"P03": 0.4}) for i in range(20)]
    naive = score(generated, null, null.usual).combined
    fair = score(generated, null, usual_of(generated, beside=null.usual)).combined
    assert np.mean(naive < 0.001) > 0.5, "without what is usual, a hub would look like a leak"
    assert fair.min() > 0.01
    copy = _matches("copy", rng, {"P03": 0.4 * 0.2})
    p = score([copy], null, usual_of(generated, beside=null.usual)).combined
    assert flagged_alone(p, fair, 0.05).all()


def test_many_copies_of_one_patient_do_not_hide_each_other(rng: np.random.Generator) -> None:
    """What is taken off is bounded: when all generated scans copy one patient, all are flagged."""
    null = make_null([_matches(f"h{i}", rng) for i in range(20)], [_matches(f"t{i}", rng) for i in range(20)])
    copies = [_matches(f"g{i}", rng, {"P03": 0.01}) for i in range(20)]
    usual = usual_of(copies, beside=null.usual)
    assert min(usual.hubs[Aspect.EDGES].values()) == pytest.approx(-np.log(4))
    assert (score(copies, null, usual).combined < 1e-4).all()


def test_a_generated_scan_must_stand_out_beside_the_holdout_too(rng: np.random.Generator) -> None:
    """Scans that are near to somebody wherever they are looked up, for want of variety, copy nobody."""
    null = make_null([_matches(f"h{i}", rng) for i in range(20)], [_matches(f"t{i}", rng) for i in range(20)])
    odd = [_matches(f"g{i}", rng, {PATIENTS[i % 20]: 0.35}) for i in range(20)]
    crossed = [_matches(f"c{i}", rng, {PATIENTS[(7 * i) % 20]: 0.35}) for i in range(40)]
    beside = Beside(tuple(crossed), tuple(_matches(f"b{i}", rng) for i in range(20)))
    both = make_null([_matches(f"h{i}", rng) for i in range(20)], [_matches(f"t{i}", rng) for i in range(20)], beside)
    assert (score(odd, null, usual_of(odd, beside=null.usual)).combined < 0.001).mean() > 0.5
    assert (score(odd, both, usual_of(odd, beside=both.usual)).combined < 0.001).sum() == 0


@pytest.mark.parametrize("factor", [1.0, 0.7], ids=["like real ones", "nearer to somebody"])
def test_generated_scans_count_as_odd_only_if_they_stand_out_beside_the_holdout(
    factor: float, rng: np.random.Generator
) -> None:
    """Then the larger of two p-values counts; elsewhere the holdout alone judges."""
    holdout, training = ([_matches(f"{side}{i}", rng) for i in range(20)] for side in "ht")
    generated = tuple(_matches(f"c{i}", rng, {PATIENTS[(7 * i) % 20]: factor}) for i in range(40))
    null = make_null(holdout, training, Beside(generated, tuple(_matches(f"b{i}", rng) for i in range(20))))
    assert null.odd == (factor < 1)
    scans = [_matches(f"g{i}", rng, {PATIENTS[i]: 0.8}) for i in range(20)]
    usual = usual_of(scans, beside=null.usual)
    alone = score(scans, make_null(holdout, training), usual).combined
    if null.odd:
        assert (score(scans, null, usual).combined > alone).any()
    else:
        np.testing.assert_array_equal(score(scans, null, usual).combined, alone)


def test_what_few_holdout_patients_do_to_everybody_is_taken_off(rng: np.random.Generator) -> None:
    """Beside a holdout where everybody stands out three times as much, generated scans are not odd for doing so."""

    def few(name: str) -> Matches:
        own = _matches(name, rng)
        found = {
            a: tuple(replace(m, distance=0.5 * (m.distance / 0.5) ** 3) for m in ms) for a, ms in own.found.items()
        }
        regions = replace(own.regions, distance=(0.5 * (own.regions.distance / 0.5) ** 3).astype(np.float32))
        return replace(own, found=found, regions=regions)

    holdout, training = ([_matches(f"{side}{i}", rng) for i in range(20)] for side in "ht")
    alone = tuple(few(f"b{i}") for i in range(20))
    null = make_null(holdout, training, Beside(tuple(few(f"c{i}") for i in range(40)), alone))
    assert not null.odd
    widths = [np.std(x[Aspect.INTENSITY]) for x in (null.crossed, null.others)]
    assert widths[0] == pytest.approx(widths[1], rel=0.5), "else it is three times as wide"
    assert make_null(holdout, training, Beside(tuple(few(f"c{i}") for i in range(40)), tuple(training))).odd


def test_each_region_is_measured_by_what_is_usual_there(rng: np.random.Generator) -> None:
    training = [_matches(f"t{i}", rng) for i in range(20)]
    usual = usual_of(training)
    values = region_nearness(training[0], usual)
    assert values.shape == usual.mean.shape == (WINDOWS,)
    outside = _matches("outside", rng)
    expected = np.max((region_nearness(outside, usual) - usual.mean) / usual.spread)
    assert strongest_region(outside, usual) == pytest.approx(expected)


def test_a_scan_is_measured_by_the_others_not_by_itself(rng: np.random.Generator) -> None:
    """Ten scans say little of the spread of a region: in its own company the odd one would hide."""
    usual = usual_of([*(_matches(f"t{i}", rng) for i in range(10)), odd := _matches("odd", rng, {"P03": 0.3})])
    inside = np.max((region_nearness(odd, usual) - usual.mean) / usual.spread)
    assert inside < 4, "n values are never farther than the root of n from their mean"
    assert strongest_region(odd, usual) > 2 * inside


def test_own_patients_and_other_patients_can_be_left_out(rng: np.random.Generator) -> None:
    own = _matches("P03", rng, {"P03": 0.01})
    assert nearness(own, Aspect.LABEL, NOTHING_USUAL) > 3
    assert nearness(own, Aspect.LABEL, NOTHING_USUAL, without="P03") < 1
    few = restricted(own, {"P03", "P04"})
    assert np.isnan(nearness(few, Aspect.LABEL, NOTHING_USUAL)), "two patients are no neighbourhood"
    assert np.isnan(region_nearness(few, NOTHING_USUAL)).all()


def test_a_candidate_without_a_modality_is_compared_in_the_others() -> None:
    """Where one modality is easy and one is hard, a patient who only has the easy one is not the nearest."""
    distances = np.array([[0.1, 0.8]] * 5 + [[0.1, 1.0]])
    known = np.array([[True, True]] * 5 + [[True, False]])
    found = joined(distances, known)
    np.testing.assert_allclose(found, found[0])
    assert joined(distances, np.zeros_like(known))[0] == UNKNOWN


def test_only_the_common_ground_counts() -> None:
    query = torch.randn(2, 1000, generator=torch.Generator().manual_seed(0))
    candidate = query.clone()[None]
    candidate[:, :, 500:] = 0  # beyond its field of view
    everywhere, ground = torch.ones(1, 1000), torch.cat([torch.ones(1, 500), torch.zeros(1, 500)], 1)
    assert correlations(query, candidate, ground).min() == pytest.approx(1, abs=1e-6)
    assert correlations(query, candidate, everywhere).max() < 0.9
    assert cosine(query, candidate, ground)[0] == pytest.approx(1, abs=1e-6)
