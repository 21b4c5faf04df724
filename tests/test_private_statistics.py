"""What is released: without noise the patients' own statistics, with too much of it the public centre."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anonsynth.anatomy.cosine_shape import (
    FRAME_CENTRE,
    FRAME_SCALE,
    FRAME_SPREAD,
    CosineShapeModel,
    frame_of,
    shares_from,
    shares_of,
)
from anonsynth.anatomy.shape_prior import ShapePrior
from anonsynth.cohort.geometry import Grid
from anonsynth.cohort.model import LabelEntry, Split
from anonsynth.cohort.store import Cohort
from anonsynth.policies.model import load_policy
from anonsynth.privacy.mechanisms import Query, average_scans, noisy_sum
from anonsynth.privacy.randomness import PrivateRandomness
from anonsynth.privacy.releases import Releases
from anonsynth.progress import Progress
from anonsynth.synthesis import private_statistics as statistics
from anonsynth.synthesis import private_writer
from anonsynth.synthesis.appearance import AppearanceBlocks, Block, Blocks, spread_blocks
from anonsynth.synthesis.label_source import choose_private_source
from anonsynth.synthesis.label_to_mri import LabelToMRI
from anonsynth.synthesis.preparation import plain_class_map
from anonsynth.synthesis.private_plan import Facts, PrivatePlan, groups_of, make_plan
from anonsynth.synthesis.private_train import facts_of
from anonsynth.synthesis.settings import PriorChoice, TrainSettings
from anonsynth.synthesis.vocabulary import Vocabulary

BLOCKS = Blocks((Block("a", np.full((2, 3), 0.5), 0.1), Block("b", np.zeros(4), 2.0)))


def test_a_vector_of_blocks_has_a_known_length_and_comes_back() -> None:
    rng = np.random.default_rng(0)
    values = {"a": 0.5 + 0.1 * rng.normal(size=(2, 3)), "b": 2 * rng.normal(size=4)}
    vector = BLOCKS.pack(values)
    assert vector.shape == (BLOCKS.size,)
    lengths = [
        np.linalg.norm(BLOCKS.pack({"a": 0.5 + 0.1 * rng.normal(size=(2, 3)), "b": 2 * rng.normal(size=4)}))
        for _ in range(200)
    ]
    assert np.sqrt(np.mean(np.square(lengths))) == pytest.approx(BLOCKS.expected_length, rel=0.1)
    back = BLOCKS.unpack(vector)
    assert all(np.allclose(back[name], values[name]) for name in values)


def test_a_block_of_nothing_but_noise_becomes_its_centre_and_shrinking_helps() -> None:
    rng = np.random.default_rng(0)
    far = Blocks((Block("a", np.zeros(40), 1.0),))
    assert np.abs(far.unpack(0.01 * rng.normal(size=40), deviation=1.0)["a"]).max() == 0
    truth = rng.normal(size=40) / math.sqrt(40)
    plain = shrunk = 0.0
    for _ in range(200):
        noisy = truth + 0.2 * rng.normal(size=40)
        plain += float(np.square(noisy - truth).sum())
        shrunk += float(np.square(far.unpack(noisy, deviation=0.2)["a"] / math.sqrt(40) - truth).sum())
    assert shrunk < 0.9 * plain


def quiet_plan(cohort: Cohort) -> PrivatePlan:
    """Return a plan whose noise is next to nothing and whose bounds nobody reaches: for seeing what is summed."""
    source = choose_private_source(cohort, PriorChoice.AUTO, load_policy("internal"))
    plan = make_plan(facts_of(cohort, source, None), 20.0)
    return replace(plan, queries=tuple(Query(q.name, q.size, 100.0, 1e-6) for q in plan.queries))


def test_without_noise_the_statistics_are_those_of_the_patients(
    tiny_cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "DRAWN", 2)
    plan, records = quiet_plan(tiny_cohort), tiny_cohort.of(Split.TRAIN)
    source = choose_private_source(tiny_cohort, PriorChoice.AUTO, load_policy("internal"))
    releases = Releases(tmp_path, PrivateRandomness(bytes(32), "quiet"), plan.queries)
    with Progress(quiet=True) as progress:
        found = statistics.private_statistics(tiny_cohort, records, source, None, plan, releases, 2, progress)
    assert found.model is not None
    maps = [plain_class_map(tiny_cohort, record, source) for record in records]
    frames = np.array([frame_of(m, 6, r.fov_low, r.fov_high) for m, r in zip(maps, records, strict=True)])
    assert np.allclose(found.model.frame, frames.mean(0), atol=1e-2)
    shares = shares_from(np.mean([shares_of(m, 6, 2) for m in maps], axis=0))
    assert np.allclose(found.model.shares, shares, atol=1e-3)
    assert shares[1] < 0.1, "the second label is a small one"
    spreads = np.clip(frames.std(0), math.sqrt(0.1) * FRAME_SPREAD, 2 * FRAME_SPREAD)
    assert np.allclose(found.model.frame_deviation, spreads, rtol=0.05)
    # Medians of the labels, in the modality that everybody has: class 7 is the body, class 8 the tumour.
    medians = [
        [np.median(tiny_cohort.load(r).image[0][m == k]) for k in (7, 8)] for m, r in zip(maps, records, strict=True)
    ]
    assert np.allclose(found.appearance["colours"][0, -2:], np.mean(medians, axis=0), atol=0.01)
    variance = np.square(found.axes).sum(0)[0, -2:]
    assert (variance > 0).all()
    assert np.sqrt(variance).max() < 3 * np.std(medians, axis=0).max()
    # Every patient has told the number of patients: eight of them, whatever the number of scans or modalities.
    counts = [releases.take(q.name, dict).count for q in plan.queries]
    assert np.allclose(counts, 8, atol=1e-2)


def test_the_noise_of_the_means_is_not_taken_for_differences_between_patients() -> None:
    """Squares around a noisy mean are larger by its error; how much is expected follows from the plan."""
    rng = np.random.default_rng(0)
    plan = make_plan(Facts(100, (40, 56, 44), 6, 2, 1, shaped=True), 1.0)
    common = np.sqrt(np.square(plan.deviations) - np.square(plan.between))
    noise = plan.query("fields").deviation / 100 / plan.wave_weights
    kept = np.square(common) / (np.square(common) + np.square(noise))
    groups, squares = groups_of(plan.waves), []
    for _ in range(60):
        truth = common * rng.normal(size=len(common))
        released = kept * (truth + noise * rng.normal(size=len(common)))
        patient = truth + plan.between * rng.normal(size=len(common))
        squares.append(np.bincount(groups, np.square((patient - released) / plan.between)) / np.bincount(groups))
    expected = 1 + plan.excess()[1]
    assert np.abs(np.mean(squares, axis=0) / expected - 1).max() < 0.25
    assert expected.max() > 1.5, "the test could not tell the excess from none"


def test_no_patient_moves_a_release_by_more_than_its_bound(tiny_cohort: Cohort) -> None:
    """The whole way from scans to a sum, with one patient more or less and with a patient gone wild."""
    source = choose_private_source(tiny_cohort, PriorChoice.AUTO, load_policy("internal"))
    plan = make_plan(facts_of(tiny_cohort, source, None), 20.0)
    blocks = AppearanceBlocks.of(2, 6, 2)
    query = plan.query("appearance")
    vectors = []
    for record in tiny_cohort.of(Split.TRAIN)[:3]:
        scan, classes = tiny_cohort.load(record), plain_class_map(tiny_cohort, record, source)
        for times in (1.0, 1e6):  # intensities that no ingest would let pass
            wild = replace(scan, image=scan.image * np.float32(times))
            values = blocks.measure(wild, classes, classes, tiny_cohort.grid.spacing)
            vectors.append((f"{record.patient} {times}", blocks.blocks.pack(values)))
    averaged = average_scans(vectors)
    draw = PrivateRandomness(bytes(32), "x")
    everyone = noisy_sum(query, averaged, draw).total
    for patient in averaged:
        rest = {name: vector for name, vector in averaged.items() if name != patient}
        assert np.linalg.norm(everyone - noisy_sum(query, rest, draw).total) <= query.bound * (1 + 1e-5)
    assert max(np.linalg.norm(vector) for vector in averaged.values()) > 100 * query.bound


def test_many_intensities_have_variances_and_few_have_covariances() -> None:
    assert spread_blocks(1, 9, 5, shaped=True).blocks[0].size == 36
    assert spread_blocks(3, 9, 5, shaped=False).blocks[0].size == 24


@pytest.mark.parametrize("seed", range(3))
def test_whatever_the_noise_a_model_draws_and_writes(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values as wild as noise can make them end no training: what was paid for is not lost."""
    monkeypatch.setattr(private_writer, "DRAWN", 2)
    monkeypatch.setattr(private_writer, "DISTANCES", (0.0, 0.8))
    monkeypatch.setattr(statistics, "DRAWN", 2)
    rng = np.random.default_rng(seed)
    facts = Facts(8, (24, 28, 20), 6, 2, 1, shaped=True)
    plan = make_plan(facts, 20.0)
    public = statistics.public_statistics(facts, plan, 2)
    model = CosineShapeModel.new(
        facts.shape,
        6,
        2,
        plan.waves,
        frame=FRAME_CENTRE + FRAME_SCALE * np.clip(3 * rng.normal(size=10), -3, 3),
        frame_deviation=2 * FRAME_SPREAD,
        mean=3 * plan.deviations * rng.normal(size=len(plan.waves)),
        deviation=plan.deviations,
    )
    wild = {name: value + rng.normal(0, 0.3, value.shape) for name, value in public.appearance.items()}
    labels = (LabelEntry(value=1, name="front"), LabelEntry(value=2, name="back"))
    vocabulary = Vocabulary(context=6, labels=labels)
    networks = LabelToMRI.new(vocabulary, 1, TrainSettings(width=8, style=2))
    prior = ShapePrior(model, Grid(facts.shape, (2.0, 2.0, 2.0)), labels)
    found = replace(public, model=model, appearance=wild)
    with Progress(quiet=True) as progress:
        private_writer.fit_writer(networks.mean, found, vocabulary, prior, 0, progress)
    assert all(bool(value.isfinite().all()) for value in networks.mean.state_dict().values())
    drawn = prior.draw(rng).label
    assert set(np.unique(drawn)) <= set(range(9))
    assert (drawn > 6).any()
