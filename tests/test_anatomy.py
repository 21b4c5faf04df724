"""Label maps from the public template, and what they look like in each sequence."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from anonsynth.anatomy.atlas import AtlasPrior
from anonsynth.anatomy.contrast import random_contrast
from anonsynth.anatomy.mri import SimulatedScan, draw_scan
from anonsynth.anatomy.physics import draw_acquisitions, draw_tissues, signal
from anonsynth.anatomy.priors import DrawnLabel, Guarantee
from anonsynth.anatomy.subject import SubjectSettings, draw_subject
from anonsynth.anatomy.templates import CHANNELS, brain_template
from anonsynth.anatomy.voxels import label_map, pooled, refined
from anonsynth.cohort.geometry import Grid

GRID = Grid((40, 48, 40), (4.0, 4.0, 4.0)).centred()
THICK = Grid((64, 64, 24), (3.76, 3.76, 5.0)).centred()


def _draw(seed: int, grid: Grid = GRID, **options: object) -> DrawnLabel:
    return AtlasPrior(grid, **options).draw(np.random.default_rng(seed))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def scans() -> list[SimulatedScan]:
    return [draw_scan(GRID, SubjectSettings(), np.random.default_rng(seed)) for seed in range(4)]


def test_the_template_is_an_upright_brain_about_the_origin() -> None:
    template = brain_template()
    assert template.volumes.shape == (len(CHANNELS), *template.grid.shape)
    outside, ventricle = template.volumes[3], template.volumes[4]
    volume = (outside < 0).sum() * template.grid.voxel_volume / 1e6
    assert 1.6 < volume < 2.2  # litres: the ICBM template is larger than life
    centre = np.argwhere(ventricle > 0.5).mean(0) * template.grid.spacing + template.grid.origin
    assert abs(centre[0]) < 2
    assert brain_template() is template


def test_a_brain_has_the_volumes_of_a_brain() -> None:
    label = _draw(0, tumour=False).label
    csf, grey, white = ((label == value).sum() * GRID.voxel_volume / 1000 for value in (1, 2, 3))
    assert set(np.unique(label)) == {0, 1, 2, 3}
    assert 60 < csf < 500
    assert 450 < grey < 950
    assert 330 < white < 700
    parts, count = ndimage.label(label > 0)
    assert np.bincount(parts.ravel())[1:].max() > 0.99 * (label > 0).sum()
    assert count < 20


def test_the_same_state_gives_the_same_map_and_another_state_another() -> None:
    first, again, other = _draw(1), _draw(1), _draw(2)
    np.testing.assert_array_equal(first.label, again.label)
    assert first.recipe == again.recipe
    assert (first.label != other.label).mean() > 0.05
    assert first.recipe != other.recipe


def test_the_prior_costs_nothing_and_names_its_labels() -> None:
    plain, full = AtlasPrior(GRID, tumour=False), AtlasPrior(GRID, head=True)
    merged = AtlasPrior(GRID, merge_tumour=True)
    assert plain.guarantee is Guarantee.PUBLIC
    assert [entry.value for entry in plain.labels] == [1, 2, 3]
    assert [entry.value for entry in full.labels] == list(range(1, 9))
    assert [(entry.value, entry.name) for entry in merged.labels][3:] == [(4, "tumour")]


@pytest.mark.parametrize("seed", range(5))
def test_a_tumour_is_in_the_brain_on_one_side_and_in_the_recipe(seed: int) -> None:
    drawn = _draw(seed)
    tumour = (drawn.label >= 4) & (drawn.label <= 6)
    volume = tumour.sum() * GRID.voxel_volume / 1000
    assert volume == pytest.approx(float(drawn.recipe["tumour_ml"]), rel=0.15, abs=0.5)
    assert 3 < volume < 125
    assert float(drawn.recipe["least_jacobian"]) > 0
    filled = ndimage.binary_fill_holes(drawn.label > 0)
    assert tumour[~ndimage.binary_erosion(filled)].mean() < 0.02
    x = np.argwhere(tumour)[:, 0] - (GRID.shape[0] - 1) / 2
    assert max((x > -2).mean(), (x < 2).mean()) > 0.97


def test_compartments_merge_into_one_label() -> None:
    assert set(np.unique(_draw(3, merge_tumour=True).label)) == {0, 1, 2, 3, 4}


def test_thick_slices_heads_and_fields_of_view() -> None:
    seen = set()
    for seed in range(3):
        drawn = _draw(seed, THICK, head=True, fov_slices=(14, 20))
        low, high = drawn.fov_low[2], drawn.fov_high[2]
        seen.add(high - low)
        assert drawn.label.shape == THICK.shape
        assert 14 <= high - low <= 20
        assert not drawn.label[:, :, :low].any()
        assert not drawn.label[:, :, high:].any()
        middle = drawn.label[:, :, (low + high) // 2]
        assert {0, 1, 2, 3, 7, 8} <= set(np.unique(middle))
        # From outside in: air, scalp, skull, and only then fluid and brain.
        row = middle[:, middle.shape[1] // 2]
        order = [int(value) for value in row[np.flatnonzero(np.diff(row, prepend=-1))]]
        assert order[:3] == [0, 8, 7]
        assert order[-3:] == [7, 8, 0]
    assert len(seen) > 1


def test_a_field_of_view_beyond_the_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="fov_slices"):
        AtlasPrior(THICK, fov_slices=(10, 25))


def test_tissue_fractions_add_up_to_one() -> None:
    for head in (False, True):
        subject = draw_subject(GRID, SubjectSettings(head=head), np.random.default_rng(4))
        np.testing.assert_allclose(subject.tissue.sum(0), 1, atol=1e-4)
        assert subject.tissue.min() >= 0


def test_ageing_enlarges_the_ventricles() -> None:
    pairs = []
    for seed in range(12):
        subject = draw_subject(GRID, SubjectSettings(tumour=False), np.random.default_rng(seed))
        pairs.append((float(subject.recipe["ageing"]), float(subject.ventricle.sum())))
    ageing, size = np.array(pairs).T
    assert np.corrcoef(ageing, size)[0, 1] > 0.5


@pytest.mark.parametrize("seed", range(20))
def test_brightness_is_ordered_as_in_the_textbook(seed: int) -> None:
    rng = np.random.default_rng(seed)
    acquisitions = draw_acquisitions(rng)
    tissues = draw_tissues(acquisitions[0].field, rng)
    _, fluid, grey, white, oedema, rim, necrosis, skull, _ = range(9)
    by_name = {acquisition.modality: signal(acquisition, tissues) for acquisition in acquisitions}
    t1, t1gd, t2, flair = (by_name[name] for name in ("T1w", "T1gd", "T2w", "FLAIR"))
    assert t1[white] > t1[grey] > t1[fluid]
    assert t1[grey] > t1[necrosis]
    assert t1gd[rim] == t1gd[1:7].max()
    assert t2[fluid] == t2[1:].max()
    assert t2[grey] > t2[white]
    assert flair[fluid] == pytest.approx(0, abs=0.18 * flair[white])
    assert flair[oedema] > 1.2 * flair[white]
    assert t2[skull] < t2[white]


def test_images_show_the_same_order(scans: list[SimulatedScan]) -> None:
    for scan in scans:
        images = dict(scan.images)
        assert tuple(images) == ("T1w", "T1gd", "T2w", "FLAIR")
        medians = {
            name: {value: float(np.median(image[scan.label == value])) for value in np.unique(scan.label)}
            for name, image in images.items()
        }
        assert medians["T1w"][3] > medians["T1w"][2] > medians["T1w"][1]
        assert medians["T2w"][1] > medians["T2w"][2]
        assert medians["FLAIR"][1] < medians["FLAIR"][3] < medians["FLAIR"][4]
        if 5 in medians["T1gd"] and (scan.label == 5).sum() > 30:
            assert medians["T1gd"][5] > medians["T1gd"][3]
        for image in images.values():
            assert image.dtype == np.float32
            assert image.min() >= 0
            assert image.max() <= 1
            assert not image[scan.label == 0].any() or (image[scan.label == 0] > 0).mean() < 0.02


def test_the_same_anatomy_is_in_all_modalities(scans: list[SimulatedScan]) -> None:
    images = dict(scans[0].images)
    inside = scans[0].label > 0
    correlation = np.corrcoef(images["T1w"][inside], images["T2w"][inside])[0, 1]
    assert correlation < -0.3


def test_refined_voxels_lie_within_their_coarse_voxel() -> None:
    fine, factors = refined(THICK)
    assert factors == (2, 2, 3)
    assert fine.extent == pytest.approx(THICK.extent)
    assert np.mean([fine.origin[2] + k * fine.spacing[2] for k in range(3)]) == pytest.approx(THICK.origin[2])
    ramp = np.broadcast_to(np.arange(6, dtype=np.float32), (2, 2, 6))
    np.testing.assert_array_equal(pooled(ramp, (2, 1, 3)), [[[1, 4], [1, 4]]])


def test_the_commonest_tissue_names_the_voxel() -> None:
    tissue = np.zeros((3, 1, 1, 4), np.float32)
    tissue[1, ..., :3], tissue[2, ..., 3] = 1, 1
    assert label_map(tissue, (1, 1, 4)).tolist() == [[[1]]]


def test_random_contrasts_fill_the_range_and_differ() -> None:
    label = _draw(5).label
    images = [random_contrast(label, GRID, np.random.default_rng(seed)) for seed in range(6)]
    again = random_contrast(label, GRID, np.random.default_rng(0))
    np.testing.assert_array_equal(images[0], again)
    for image in images:
        assert image.shape == label.shape
        assert image.dtype == np.float32
        assert image.min() == 0
        assert image.max() == 1
    signs = [np.sign(image[label == 3].mean() - image[label == 2].mean()) for image in images]
    assert len(set(signs)) == 2  # white matter is sometimes brighter and sometimes darker than grey matter
