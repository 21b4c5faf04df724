"""Edits of tumours: volumes, places and sides as asked, anatomy possible, everything else refused in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nifti_sources import save
from typer.testing import CliRunner

from anonsynth.anatomy.atlas import AtlasPrior
from anonsynth.anatomy.edit_apply import apply_edits
from anonsynth.anatomy.edit_checks import LOST, EditRules
from anonsynth.anatomy.edit_plan import EditPlan
from anonsynth.anatomy.edits import mirror_tumour, move_tumour, remove_tumour, scale_tumour, transplant
from anonsynth.anatomy.scene import FALX_MM, ImpossibleEditError, Scene
from anonsynth.cli.main import app
from anonsynth.cohort.geometry import Grid
from anonsynth.cohort.model import BRAIN_LABELS
from anonsynth.errors import UsageError
from anonsynth.seeds import stream
from anonsynth.synthesis.edited import edit_classes
from anonsynth.synthesis.vocabulary import Vocabulary

GRID = Grid((32, 40, 32), (5.0, 5.0, 5.0)).centred()
FREE = EditRules(across_midline=True, into_ventricle=True)
T = TypeVar("T")
SEEDS = st.integers(0, 7)


@lru_cache(maxsize=16)
def scene(seed: int) -> Scene:
    """Return a simulated brain with a tumour."""
    return Scene(AtlasPrior(GRID).draw(stream(5, "edited", seed)).label, GRID.spacing)


def centre(found: Scene) -> np.ndarray:
    return np.argwhere(found.tumour).mean(0)


def or_none(edit: Callable[[], T]) -> T | None:
    """Return what an edit gives; None if it cannot be, which has to be said in one sentence."""
    try:
        return edit()
    except ImpossibleEditError as refused:
        said = str(refused)
    assert said.count(";") == 1
    assert not said.endswith(".")
    return None


def test_most_of_what_is_asked_can_be_done() -> None:
    """The properties below say nothing of what is refused: most is not."""
    moved = [or_none(lambda n=n: move_tumour(scene(n), (0.0, 5.0, 0.0))) for n in range(8)]  # type: ignore[misc]
    given = [or_none(lambda n=n: transplant(a_host(), scene(n))) for n in range(8)]  # type: ignore[misc]
    grown = [or_none(lambda n=n: scale_tumour(scene(n), 1.5)) for n in range(8)]  # type: ignore[misc]
    assert min(sum(edit is not None for edit in edits) for edits in (moved, given, grown)) >= 5


def a_host() -> Scene:
    return remove_tumour(scene(0)).scene


def check_possible(before: Scene, after: Scene) -> None:
    """See that the tumour lies in the brain that was, on one side of its falx, and in no ventricle."""
    held = after.tumour & ~before.tumour
    assert before.brain[held].all()
    assert not before.ventricles[held].any()
    side = before.side[held]
    assert side.size == 0 or min((side > FALX_MM).sum(), (side < -FALX_MM).sum()) == 0
    assert np.array_equal(before.brain, after.brain), "the skull holds the brain"


@settings(max_examples=12)
@given(SEEDS, st.floats(0.15, 2.5))
def test_volume_is_what_was_asked(seed: int, factor: float) -> None:
    before = scene(seed)
    after = or_none(lambda: scale_tumour(before, factor).scene)
    if after is None:
        assert factor > 1 or factor * before.tumour.sum() < 9, "a tumour can always be shrunk"
        return
    assert after.tumour.sum() == pytest.approx(factor * before.tumour.sum(), rel=0.05, abs=0.5)
    check_possible(before, after)
    assert set(np.unique(after.label[after.tumour])) <= set(np.unique(before.label[before.tumour]))


@settings(max_examples=15)
@given(SEEDS, st.tuples(*[st.integers(-6, 6)] * 3))
def test_the_centre_is_where_it_was_asked_to_be(seed: int, voxels: tuple[int, int, int]) -> None:
    before = scene(seed)
    asked = tuple(5.0 * n for n in voxels)
    moved = or_none(lambda: move_tumour(before, (asked[0], asked[1], asked[2])))
    if moved is None:
        return
    assert np.abs(centre(moved.scene) - centre(before) - voxels).max() <= 1
    assert moved.scene.tumour.sum() >= (1 - LOST) * before.tumour.sum()
    assert moved.record["kept"] >= 1 - LOST  # type: ignore[operator]
    check_possible(remove_tumour(before).scene, moved.scene)


@settings(max_examples=25)
@given(SEEDS, st.tuples(*[st.integers(-8, 8)] * 3))
def test_what_is_refused_could_not_be_done(seed: int, voxels: tuple[int, int, int]) -> None:
    """A refusal is counted again, voxel by voxel: too much of the tumour would lie where none may."""
    before = scene(seed)
    moved = or_none(lambda: move_tumour(before, (5.0 * voxels[0], 5.0 * voxels[1], 5.0 * voxels[2])))
    host = remove_tumour(before).scene
    there = np.argwhere(before.tumour) + voxels
    middle = np.clip(np.rint(there.mean(0)).astype(int), 0, np.array(GRID.shape) - 1)
    side = np.sign(host.side[tuple(middle)])
    may = np.array(
        [
            all(0 <= v < n for v, n in zip(place, GRID.shape, strict=True))
            and bool(host.brain[tuple(place)])
            and not host.ventricles[tuple(place)]
            and float(side * host.side[tuple(place)]) > FALX_MM
            for place in there
        ]
    )
    drifts = may.any() and np.abs(there[may].mean(0) - there.mean(0)).max() > 1
    assert (moved is None) == bool((~may).sum() > LOST * len(there) or drifts)


@settings(max_examples=12)
@given(SEEDS)
def test_mirror_of_mirror_is_the_original(seed: int) -> None:
    before = scene(seed)
    once = or_none(lambda: mirror_tumour(before, FREE))
    if once is None:
        return
    plane = int(once.record["plane"])
    twice = mirror_tumour(once.scene, FREE, plane=plane).scene
    assert np.array_equal(twice.label, before.label)
    assert not np.array_equal(once.scene.label, before.label)
    assert once.scene.tumour.sum() == before.tumour.sum()
    there, here = centre(once.scene), centre(before)
    assert there[0] == pytest.approx(plane - here[0])
    assert there[1:] == pytest.approx(here[1:])


def test_most_tumours_can_be_mirrored_and_mirrored_back_by_the_rules() -> None:
    possible = 0
    for seed in range(8):
        mirrored = or_none(lambda seed=seed: mirror_tumour(scene(seed)))  # type: ignore[misc]
        if mirrored is None:
            continue
        once, possible = mirrored.scene, possible + 1
        assert np.sign(once.side[once.tumour].mean()) == -np.sign(scene(seed).side[scene(seed).tumour].mean())
        assert np.array_equal(mirror_tumour(once).scene.label, scene(seed).label)
    assert possible >= 3


@settings(max_examples=10)
@given(SEEDS, SEEDS)
def test_a_transplant_leaves_the_host_as_it_is_beyond_the_mass_effect(donor: int, host: int) -> None:
    healthy = remove_tumour(scene(host)).scene
    assert not healthy.tumour.any()
    made = or_none(lambda: transplant(healthy, scene(donor)))
    if made is None:
        return
    after = made.scene
    assert after.tumour.sum() >= (1 - LOST) * scene(donor).tumour.sum()
    check_possible(healthy, after)
    # The push of 9 mm at most falls to less than half a voxel within three radii of the tumour's middle.
    radius = (after.tumour.sum() * after.voxel_ml * 1000 * 3 / (4 * np.pi)) ** (1 / 3)
    places = np.moveaxis(np.indices(after.label.shape), 0, -1) - centre(after)
    beyond = (np.linalg.norm(places * np.array(after.spacing), axis=-1) > 3 * radius + 2.5) & ~after.tumour
    assert np.array_equal(after.label[beyond], healthy.label[beyond])
    unpushed = transplant(healthy, scene(donor), EditRules(push=0)).scene
    assert np.array_equal(unpushed.label[~unpushed.tumour], healthy.label[~unpushed.tumour])
    assert not np.array_equal(unpushed.label, after.label), "anatomy was painted over, not pushed"


def test_several_tumours_stand_beside_each_other_and_are_told_apart() -> None:
    small = [scale_tumour(scene(seed), 0.15).scene for seed in range(8)]
    host = remove_tumour(scene(0)).scene
    for donor in small:
        made = or_none(lambda donor=donor, host=host: transplant(host, donor))  # type: ignore[misc]
        host = made.scene if made else host
    found = host.tumours()
    assert len(found) >= 3
    one = remove_tumour(host, EditRules(tumour=1)).scene
    assert one.tumour.sum() == host.tumour.sum() - found[0].sum()
    with pytest.raises(ImpossibleEditError, match=f"holds {len(found)} tumours; choose"):
        remove_tumour(host, EditRules(tumour=99))


def test_removing_leaves_anatomy_and_only_there() -> None:
    before = scene(1)
    after = remove_tumour(before).scene
    assert np.array_equal(after.label[~before.tumour], before.label[~before.tumour])
    assert np.isin(after.label[before.tumour], (1, 2, 3)).all()
    with pytest.raises(ImpossibleEditError, match="holds no tumour; choose"):
        remove_tumour(after)


@pytest.mark.parametrize(
    ("to", "told"),
    [
        ((400.0, 0.0, 0.0), "outside the scan"),
        ((0.0, 0.0, 60.0), "outside the (brain|scan)"),
        ("left ear", "no place 'left ear'"),
    ],
)
def test_what_cannot_be_is_said(to: tuple[float, float, float] | str, told: str) -> None:
    with pytest.raises(ImpossibleEditError, match=told):
        move_tumour(scene(1), to)


def test_the_falx_and_the_ventricles_hold_unless_they_are_asked_not_to() -> None:
    before = scale_tumour(scene(1), 0.3).scene
    across = -2 * float(before.side[before.tumour].mean())
    middle = (across / 2, 0.0, 0.0)
    with pytest.raises(ImpossibleEditError, match=r"across the falx|in a ventricle"):
        move_tumour(before, middle)
    forced = move_tumour(before, middle, FREE).scene
    assert min((forced.side[forced.tumour] > 0).sum(), (forced.side[forced.tumour] < 0).sum()) > 0
    ventricle = np.argwhere(before.ventricles & (np.abs(before.side) > 8)).mean(0)
    shift = (ventricle - centre(before)) * 5
    there = (float(shift[0]), float(shift[1]), float(shift[2]))
    assert before.ventricles[move_tumour(before, there, FREE).scene.tumour].sum() > 0


def test_a_label_map_without_anatomy_is_refused_and_places_are_found_by_name() -> None:
    bare = Scene(np.where(scene(1).tumour, 4, 0).astype(np.uint8), GRID.spacing)
    with pytest.raises(ImpossibleEditError, match="holds no anatomy"):
        scale_tumour(bare, 2)
    small = scale_tumour(scene(1), 0.3).scene
    left, right = (move_tumour(small, f"{side} frontal").scene for side in ("left", "right"))
    assert left.side[left.tumour].mean() < 0 < right.side[right.tumour].mean()
    first, again = (move_tumour(small, "random", seed=3).scene.label for _ in range(2))
    assert np.array_equal(first, again)


def test_a_plan_records_what_was_done_and_what_was_refused() -> None:
    plan = EditPlan(scale=(0.5, 2.0), move="400,0,0")
    after, records = apply_edits(scene(1), plan, number=0)
    assert [record["edit"] for record in records] == ["scale", "move"]
    assert after.tumour.sum() == pytest.approx(0.5 * scene(1).tumour.sum(), rel=0.05)
    assert "outside the scan" in str(records[1]["refused"])
    with pytest.raises(ImpossibleEditError):
        apply_edits(scene(1), plan, strict=True)
    for wrong in ({"scale": (0.0,)}, {"move": "1,2"}):
        with pytest.raises(UsageError):
            EditPlan(**wrong)


def test_drawn_class_maps_are_edited_before_they_are_painted() -> None:
    vocabulary = Vocabulary(context=1, labels=tuple(entry for entry in BRAIN_LABELS if entry.value < 7))
    prior = AtlasPrior(GRID)
    drawn = vocabulary.class_map(scene(2).label, np.zeros(GRID.shape, np.uint8), np.ones(GRID.shape, bool))
    same, nothing = edit_classes(drawn, prior, vocabulary, EditPlan(move="400,0,0"), 0, 1)
    assert np.array_equal(same, drawn)
    assert "refused" in nothing[0]
    gone, _ = edit_classes(drawn, prior, vocabulary, EditPlan(remove=True), 0, 1)
    assert not np.isin(vocabulary.label_map(gone), (4, 5, 6)).any()
    assert (gone > 0).all()


def test_the_command_edits_a_file_and_says_what_it_did(tmp_path: Path) -> None:
    turned = nib.Nifti1Image(scene(1).label[::-1].copy(), np.diag([-5.0, 5.0, 5.0, 1.0]))
    folder = tmp_path / "Doe_Jane"
    folder.mkdir()
    turned.set_sform(turned.affine, 1)
    nib.save(turned, folder / "map.nii.gz")
    out = tmp_path / "edited.nii.gz"
    command = ["edit", str(folder / "map.nii.gz"), "--out", str(out), "--tumour-scale", "0.5", "--json"]
    ended = CliRunner().invoke(app, command)
    assert ended.exit_code == 0, ended.exception
    sidecar = (tmp_path / "edited.json").read_text("utf-8")
    assert json.loads(ended.stdout)["Edits"] == json.loads(sidecar)["Edits"]
    assert "Doe" not in sidecar
    expected = scale_tumour(scene(1), 0.5).scene.label
    assert np.array_equal(np.asarray(nib.load(out).dataobj), expected)

    refused = CliRunner().invoke(app, [*command[:3], str(tmp_path / "no.nii.gz"), "--tumour-move", "400,0,0"])
    assert isinstance(refused.exception, ImpossibleEditError)
    assert not (tmp_path / "no.nii.gz").exists()
    assert isinstance(CliRunner().invoke(app, command[:4]).exception, UsageError)
    save(tmp_path / "host.nii.gz", remove_tumour(scene(0)).scene.label)
    donor = scale_tumour(scene(1), 0.2).scene.label
    save(tmp_path / "donor.nii.gz", donor, np.diag([2.0, 2, 2, 1]))
    ended = CliRunner().invoke(
        app,
        ["edit", str(tmp_path / "host.nii.gz"), "--out", str(out), "--transplant", str(tmp_path / "donor.nii.gz")],
    )
    assert ended.exit_code == 0, ended.exception
    assert np.isin(np.asarray(nib.load(out).dataobj), (4, 5, 6)).any()
