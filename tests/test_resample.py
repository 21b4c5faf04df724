"""Geometry: axes never matter, labels are never invented, what needs no interpolation gets none."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from nifti_sources import RAS, head
from scipy.spatial.transform import Rotation

from anonsynth.cohort.foreground import body_mask, bounding_box, find_foreground
from anonsynth.cohort.geometry import Grid
from anonsynth.cohort.grid_inference import Extent, infer_grid
from anonsynth.cohort.normalise import normalise
from anonsynth.cohort.orient import to_ras
from anonsynth.cohort.resample import field_of_view, place_grid, resample_image, resample_label
from anonsynth.cohort.sources import RawVolume
from anonsynth.errors import InputError, UsageError

HERE = Path("scan.nii")
TURNS = [
    np.array([[axis, flip] for axis, flip in zip(order, flips, strict=True)])
    for order in permutations(range(3))
    for flips in product((1, -1), repeat=3)
]


def turned(raw: RawVolume, turn: np.ndarray) -> RawVolume:
    """Store the same volume with other axes."""
    array = nib.orientations.apply_orientation(raw.array, turn)
    return RawVolume(array, raw.affine @ nib.orientations.inv_ornt_aff(turn, raw.array.shape))


def prepared(raw: RawVolume, shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> np.ndarray:
    raw = to_ras(raw)
    body = find_foreground(raw.array)
    middle = (np.array(body.low) + np.array(body.high) - 1) / 2
    centre = (raw.affine @ [*middle, 1])[:3]
    grid = place_grid(shape, spacing, centre, raw)
    return resample_image(normalise(raw.array, body.mask, HERE), raw.affine, grid)


@settings(max_examples=25, deadline=None)
@given(
    turn=st.sampled_from(TURNS),
    seed=st.integers(0, 50),
    sizes=st.tuples(*[st.floats(0.7, 5)] * 3),
    spacing=st.tuples(*[st.floats(0.8, 4)] * 3),
    angle=st.floats(-0.3, 0.3),
)
def test_the_axes_in_which_a_file_is_stored_do_not_matter(
    turn: np.ndarray,
    seed: int,
    sizes: tuple[float, float, float],
    spacing: tuple[float, float, float],
    angle: float,
) -> None:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", [angle, -angle / 2, angle / 3]).as_matrix() @ np.diag(sizes)
    affine[:3, 3] = [seed, -2.5 * seed, 7]
    raw = RawVolume(head(seed, (12, 14, 10))[0], affine)
    shape = (16, 16, 12)
    assert np.allclose(prepared(raw, shape, spacing), prepared(turned(raw, turn), shape, spacing), atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(
    label=hnp.arrays(np.uint8, (7, 6, 5), elements=st.sampled_from([0, 3, 17, 200])),
    spacing=st.tuples(*[st.floats(0.5, 3)] * 3),
    shift=st.tuples(*[st.floats(-3, 3)] * 3),
)
def test_labels_are_never_invented(
    label: np.ndarray, spacing: tuple[float, float, float], shift: tuple[float, float, float]
) -> None:
    out = resample_label(label, np.diag([1.0, 1.2, 1.5, 1.0]), Grid((8, 8, 8), spacing, shift))
    assert set(np.unique(out)) <= set(np.unique(label)) | {0}


def test_a_scan_that_has_the_grids_voxels_is_copied_not_interpolated() -> None:
    image, label = head(3)
    raw = RawVolume(image.astype(np.float32), RAS)
    grid = place_grid((24, 28, 20), (2.0, 2.0, 2.0), np.array([19.3, 23.1, 14.9]), raw)
    first = np.round(np.array(grid.origin) / 2).astype(int)
    held = np.s_[-first[0] : -first[0] + 20, -first[1] : -first[1] + 24, -first[2] : -first[2] + 16]
    assert np.array_equal(resample_image(raw.array, RAS, grid)[held], image)
    assert np.array_equal(resample_label(label, RAS, grid)[held], label)
    assert bounding_box(field_of_view(image.shape, RAS, grid))[0] == tuple(-first)


def test_beyond_the_field_of_view_all_is_zero() -> None:
    image = np.ones((4, 4, 4), np.float32)
    grid = Grid((8, 8, 8), (1.0, 1.0, 1.0), (-2.0, -2.0, -2.0))
    out = resample_image(image, np.eye(4), grid)
    assert out.sum() == 64
    assert np.array_equal(out > 0, field_of_view(image.shape, np.eye(4), grid))


def test_down_sampling_does_not_alias() -> None:
    checks = (np.indices((48, 48, 48)).sum(axis=0) % 2).astype(np.float32)
    out = resample_image(checks, np.eye(4), Grid((8, 8, 8), (4.0, 4.0, 4.0), (10.0, 10.0, 10.0)))
    assert np.abs(out - 0.5).max() < 0.02


def test_a_rotated_ramp_is_resampled_exactly() -> None:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", [0.3, 0.2, -0.4]).as_matrix() @ np.diag([1.1, 0.9, 1.3])
    affine[:3, 3] = [3, -8, 1]
    index = np.indices((30, 30, 30)).reshape(3, -1)
    world = affine[:3, :3] @ index + affine[:3, 3:]
    ramp = (0.01 * world[0] - 0.02 * world[1] + 0.03 * world[2]).reshape(30, 30, 30).astype(np.float32)
    middle = (affine @ [15, 15, 15, 1])[:3]
    grid = Grid((6, 6, 6), (1.3, 1.3, 1.3), tuple(middle - 3))
    points = (grid.affine[:3, :3] @ np.indices((6, 6, 6)).reshape(3, -1) + grid.affine[:3, 3:]).reshape(3, 6, 6, 6)
    expected = 0.01 * points[0] - 0.02 * points[1] + 0.03 * points[2]
    blurred_only = 1.3 / np.linalg.norm(affine[:3, :3], axis=0) > 1.001
    assert blurred_only.any()  # a ramp survives the blur
    assert np.allclose(resample_image(ramp, affine, grid), expected, atol=2e-3)


@pytest.mark.parametrize("kind", ["uint8", "million", "z-scored", "noisy air", "crop"])
def test_normalisation_survives_what_scanners_and_tools_write(kind: str) -> None:
    image = head(5)[0].astype(np.float64)
    inside = image > 0
    rng = np.random.default_rng(0)
    volume = {
        "uint8": (image / image.max() * 255).astype(np.uint8),
        "million": (image / image.max() * 1.7e6).astype(np.float32),
        "z-scored": np.where(inside, (image - image[inside].mean()) / image[inside].std(), 0).astype(np.float32),
        "noisy air": (image + rng.rayleigh(20, image.shape)).astype(np.float32),
        "crop": image[7:13, 8:16, 5:11].astype(np.int16),
    }[kind]
    body = find_foreground(volume)
    out = normalise(volume, body.mask, HERE)
    assert (out.min(), out.max()) == (0.0, 1.0)
    assert out.dtype == np.float32
    if kind == "crop":
        assert body.high == volume.shape
    else:
        assert out[~inside].mean() < 0.02
        assert 0.2 < np.median(out[inside]) < 0.8
        box = bounding_box(inside)
        assert np.abs(np.array([body.low, body.high]) - np.array(box)).max() <= 2


def test_noisy_air_in_eight_bits_is_no_padding() -> None:
    """One of its few values may fill the corners and a fifth of the volume: the body is still the bright part."""
    rng = np.random.default_rng(0)
    volume = rng.integers(0, 6, (24, 24, 24)).astype(np.uint8)
    volume[::23, ::23, ::23] = 2
    volume[0:24:5] = 2
    body = np.zeros(volume.shape, bool)
    body[6:18, 6:18, 6:18] = True
    volume[body] = rng.integers(120, 200, int(body.sum()))
    assert np.array_equal(body_mask(volume), body)
    z_scored = np.where(body, rng.normal(0, 1, body.shape), 0)
    assert np.array_equal(body_mask(z_scored), body & (z_scored != 0))


def test_an_image_without_contrast_in_its_body_is_refused() -> None:
    flat = np.full((6, 6, 6), 5.0)
    with pytest.raises(InputError, match="no contrast"):
        normalise(flat, np.ones((6, 6, 6), bool), HERE)


def extent(size: float, *, spacing: float = 1.0, labelled: float = 0.0, height: float | None = None) -> Extent:
    return Extent((spacing, spacing, 5 * spacing), (size, size, height or size), (labelled,) * 3)


def test_the_grid_holds_bodies_and_labels() -> None:
    shape, spacing = infer_grid([extent(40), extent(42), extent(37, labelled=50)])
    assert spacing == (1.0, 1.0, 5.0)
    assert shape == (52, 52, 12)


def test_a_grid_that_would_be_too_large_is_coarser_along_its_finest_axes() -> None:
    shape, spacing = infer_grid([extent(200)] * 4, max_voxels=2**18)
    assert np.prod(shape) <= 2**18
    assert spacing[2] == 5.0
    assert 1.0 < spacing[0] == spacing[1] < 5.0


def test_a_few_long_bodies_give_way_before_the_spacing_does() -> None:
    heights = [150.0] * 18 + [400.0] * 2
    shape, _ = infer_grid([extent(180, height=height) for height in heights], max_voxels=2**18)
    assert shape[2] == 32


def test_given_shape_and_spacing_are_taken_or_refused() -> None:
    extents = [extent(100)]
    assert infer_grid(extents, shape=(32, 32, 16), spacing=(2, 2, 2)) == ((32, 32, 16), (2, 2, 2))
    assert infer_grid(extents, spacing=(4, 4, 5))[0] == (28, 28, 20)
    assert infer_grid(extents, shape=(40, 40, 20))[1] == (2.5, 2.5, 5.0)
    with pytest.raises(UsageError, match="multiples of 4"):
        infer_grid(extents, shape=(30, 32, 32))
    with pytest.raises(UsageError, match="above 0 mm"):
        infer_grid(extents, spacing=(1, -1, 1))
