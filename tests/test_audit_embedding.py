"""The learned embedding: a scan in disguise is known again, and nothing else is learned than who is who."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_tiny_cohort
from scipy import ndimage

from anonsynth.audits import embedding
from anonsynth.audits.canonical import Template
from anonsynth.audits.closer import Aspect
from anonsynth.audits.disguises import Disguises, standardised
from anonsynth.audits.embedding import Embedding, learn, nt_xent, seen_alike, train_embedding
from anonsynth.audits.index import Index, IndexGrid, build_index
from anonsynth.audits.nearest import cohort_queries, compare
from anonsynth.audits.pose import Resampler
from anonsynth.audits.scoring import make_null
from anonsynth.audits.views import View, ViewGrid
from anonsynth.cohort.model import ScanRecord, Split
from anonsynth.progress import Progress

QUIET = Progress(quiet=True)
SHAPE = (10, 12, 8)


def _scans(count: int, shape: tuple[int, int, int] = SHAPE, modalities: int = 1) -> np.ndarray:
    """Smooth noise about a common shape, each modality of mean 0 and norm 1."""
    rng = np.random.default_rng(0)
    common = ndimage.gaussian_filter(rng.normal(size=(1, 1, *shape)), (0, 0, 3, 3, 3))
    own = ndimage.gaussian_filter(rng.normal(size=(count, modalities, *shape)), (0, 0, 1.5, 1.5, 1.5))
    return _unit(8 * own + 2 * common / max(common.std(), 1e-9))


def _unit(volumes: np.ndarray) -> np.ndarray:
    centred = volumes - volumes.mean((2, 3, 4), keepdims=True)
    return (centred / np.maximum(np.sqrt(np.square(centred).sum((2, 3, 4), keepdims=True)), 1e-9)).astype(np.float32)


def _index(folder: Path, scans: np.ndarray, patients: list[int]) -> Index:
    """An index of nothing but views."""
    (folder / "views").mkdir(parents=True)
    count, modalities, *shape = scans.shape
    for number, scan in enumerate(scans):
        rest = np.zeros((7, *shape), np.float16)
        np.save(folder / "views" / f"{number}.npy", np.concatenate([scan.astype(np.float16), rest]))
    grid = IndexGrid(ViewGrid(tuple(shape), (2.0, 2.0, 2.0), (1,)), modalities)
    records = tuple(
        ScanRecord(
            scan=f"P{patient}-S{number}",
            patient=f"P{patient}",
            split=Split.TRAIN,
            modalities=("T1w",),
            labelled=False,
            fov_low=(0, 0, 0),
            fov_high=tuple(shape),
            sha256="0" * 64,
        )
        for number, patient in enumerate(patients)
    )
    nobody = Template(np.zeros((6, *grid.shape), np.float32), grid.resampler)
    present = {view: np.ones((count, modalities if view is View.INTENSITY else 1), bool) for view in View}
    return Index(folder, None, records, grid, nobody, nobody, (), (), present)  # type: ignore[arg-type]


def _learned(index: Index, seed: int) -> Embedding:
    """Learn from all patients."""
    return train_embedding(index, {record.patient for record in index.records}, seed, QUIET)


def test_half_of_the_patients_are_learned_from_and_calibrate_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = make_tiny_cohort(tmp_path / "cohort", patients=16, holdout=6)
    grid = ViewGrid(cohort.grid.shape, cohort.grid.spacing, (1, 2))
    plain = build_index(cohort, cohort.of(Split.TRAIN), grid, tmp_path / "index", QUIET)
    assert learn(plain, 0, QUIET).learned is None, "ten patients are too few"
    monkeypatch.setattr(embedding, "FEWEST_PATIENTS", 8)
    monkeypatch.setattr(embedding, "STEPS", 2)
    index = learn(plain, 0, QUIET)
    assert index.learned is not None
    assert len(index.students) == 5
    assert index.learned.own.shape == (10, 64)
    training = compare(cohort_queries(cohort, index.records), index, QUIET, "training")
    for matches in training:
        nearest = matches.found[Aspect.LEARNED][0]
        assert nearest.patient == matches.patient
        assert nearest.distance < 1e-3
    holdout = compare(cohort_queries(cohort, cohort.of(Split.HOLDOUT)), index, QUIET, "holdout")
    null = make_null(holdout, training, students=index.students)
    known = np.isfinite(null.others[Aspect.LEARNED])
    np.testing.assert_array_equal(known, [matches.patient not in index.students for matches in training])
    assert np.isfinite(null.values[Aspect.LEARNED]).all()
    hidden = seen_alike(
        build_index(cohort, cohort.of(Split.HOLDOUT), grid, tmp_path / "hidden", QUIET, like=index), index
    )
    assert hidden.learned is not None
    assert hidden.learned.own.shape == (6, 64)
    assert hidden.learned.points is index.learned.points
    assert seen_alike(plain, plain).learned is None


def _found(learned: Embedding, copies: np.ndarray, scans: np.ndarray) -> float:
    alike = learned.points(copies) @ learned.points(scans).T
    return float(np.mean(alike.argmax(1) == np.arange(len(copies))))


def test_learning_finds_copies_that_were_mirrored_remapped_and_blurred(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = _scans(20)
    index = _index(tmp_path, scans, list(range(20)))
    hidden = ndimage.gaussian_filter(scans[:, :, ::-1], (0, 0, 0.7, 0.7, 0.7))
    copies = _unit(-np.sign(hidden) * np.abs(hidden) ** 0.6)
    monkeypatch.setattr(embedding, "STEPS", 80)
    learned = _found(_learned(index, 0), copies, scans)
    monkeypatch.setattr(embedding, "_train", lambda *_: None)
    unlearned = _found(_learned(index, 0), copies, scans)
    assert learned >= 0.3  # by chance 0.05
    assert learned > unlearned


def test_the_same_seed_gives_the_same_weights_and_torch_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "STEPS", 3)
    index = _index(tmp_path, _scans(6), list(range(6)))
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    first = _learned(index, 1).network.state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    torch.rand(7)
    again = _learned(index, 1).network.state_dict()
    other = _learned(index, 2).network.state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_scans_of_one_patient_are_not_told_apart() -> None:
    points = torch.eye(4)[[0, 0, 1]]
    apart = nt_xent(points, points, torch.tensor([0, 1, 2]))
    together = nt_xent(points, points, torch.tensor([0, 0, 2]))
    # With a temperature of 0.1: scans 0 and 1 are the same point, and push each other away unless one patient's.
    near, far = np.exp(10.0), 1.0
    assert apart.item() == pytest.approx(
        np.mean([np.log((near + 2 * near + 2 * far) / near)] * 2 + [np.log((near + 4 * far) / near)]), abs=1e-5
    )
    assert together.item() == pytest.approx(
        np.mean([np.log((near + 2 * far) / near)] * 2 + [np.log((near + 4 * far) / near)]), abs=1e-5
    )


def test_points_have_length_one_and_facing_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "STEPS", 2)
    scans = _scans(5, (17, 15, 12))
    learned = _learned(_index(tmp_path, scans, list(range(5))), 0)
    points = learned.points(scans)
    assert points.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(learned.points(scans[:, :, ::-1]), points, atol=1e-5)
    np.testing.assert_allclose(learned.points(7 * scans[:1]), points[:1], atol=1e-4)
    assert learned.points(scans[:0]).shape == (0, points.shape[1])


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 17, 32), (32, 1, 5), (3, 2, 31)])
def test_any_shape_will_do(shape: tuple[int, int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "STEPS", 2)
    scans = _scans(4, shape, modalities=3)
    scans[1, 2] = 0
    scans[2] = 0
    learned = _learned(_index(tmp_path, scans, [0, 1, 2, 2]), 0)
    assert np.isfinite(learned.points(scans)).all()


@pytest.mark.parametrize("patients", [[], [0], [0, 1, 1]])
def test_with_too_few_patients_nothing_is_learned(
    patients: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "_train", lambda *_: pytest.fail("learned"))
    learned = _learned(_index(tmp_path, _scans(len(patients)), patients), 0)
    assert np.isfinite(learned.points(_scans(2))).all()


def test_memory_holds_some_scans_and_all_get_their_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("HELD", 6), ("FRESH", 1), ("BATCH", 9)):
        monkeypatch.setattr(embedding, name, value)
    scans = _scans(15, (4, 4, 4))
    batches = list(
        embedding._batches(_index(tmp_path, scans, list(range(15))), range(15), np.random.default_rng(0), 40)
    )
    assert len(batches) == 40
    assert {len(numbers) for _, numbers in batches} == {6}
    assert {int(n) for _, numbers in batches for n in numbers} == set(range(15))
    for volumes, numbers in batches[::9]:
        assert len(set(numbers.tolist())) == len(numbers)
        torch.testing.assert_close(volumes, embedding._halved(scans[numbers.numpy()]), atol=2e-2, rtol=2e-2)


def test_disguises_change_a_scan_and_stay_in_range() -> None:
    shape = (10, 12, 8)
    volumes = torch.from_numpy(_scans(4, shape, modalities=2))
    volumes[:, :, :, :3] = 0
    volumes[1, 1] = 0
    volumes = standardised(volumes, (volumes != 0).any(1, keepdim=True).float())
    here = torch.eye(3).expand(4, 3, 3), torch.zeros(4, 3)

    def disguised() -> torch.Tensor:
        return Disguises(Resampler(shape, (2.0, 2.0, 2.0)), torch.Generator().manual_seed(3))(volumes, *here)

    first = disguised()
    assert torch.equal(first, disguised())
    assert torch.isfinite(first).all()
    square = first.square().mean((2, 3, 4))
    assert ((square < 1e-6) | ((square - 1).abs() < 1e-3)).all()
    assert ((first - volumes).square().mean((1, 2, 3, 4)) > 0.05).all()
