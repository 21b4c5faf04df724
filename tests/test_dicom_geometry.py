"""Where voxels are: by construction, by property, and by what dcm2niix says."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from conftest import ROOT
from dicom_making import Made, rotation
from hypothesis import given, settings
from hypothesis import strategies as st

from anonsynth.cohort.dicom.discovery import headers
from anonsynth.cohort.dicom.geometry import place
from anonsynth.cohort.dicom.header import Component, Frame, Scaling
from anonsynth.cohort.dicom.series import iter_series
from anonsynth.cohort.dicom.stacks import group_series
from anonsynth.errors import InputError

RAS = np.diag([-1.0, -1.0, 1.0])
OBLIQUE = rotation((0.3, -0.2, 0.5))

angle = st.floats(-3.1, 3.1)
length = st.floats(0.3, 6.0)


def load_benchmark() -> ModuleType:
    """The benchmark is a script, not a module of the package."""
    specification = importlib.util.spec_from_file_location("dicom_geometry", ROOT / "benchmarks" / "dicom_geometry.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["dicom_geometry"] = module
    specification.loader.exec_module(module)
    return module


benchmark = load_benchmark()


def frames_of(folder: Path) -> tuple[Frame, ...]:
    [series], refusals = group_series(headers([folder]))
    assert not refusals
    return series.frames


def check_against_truth(made: Made, folder: Path) -> None:
    """Every voxel that was written at a place in the world is found there."""
    [series] = iter_series([folder])
    [volume] = series.volumes
    raw = volume.read()
    index = np.stack(np.meshgrid(*map(range, raw.array.shape), indexing="ij"), -1).reshape(-1, 3)
    world = index @ raw.affine[:3, :3].T + raw.affine[:3, 3]
    local = (world @ RAS - np.asarray(made.origin)) @ made.turn / np.asarray(made.spacing)
    there = np.rint(local).astype(int)
    assert np.abs(local - there).max() < 1e-4
    assert np.array_equal(raw.array[tuple(index.T)], made.array[tuple(there.T)])


@settings(max_examples=20, deadline=None)
@given(
    angles=st.tuples(angle, angle, angle),
    spacing=st.tuples(length, length, length),
    origin=st.tuples(*[st.floats(-300, 300)] * 3),
    order=st.permutations(range(5)),
    enhanced=st.booleans(),
)
def test_any_orientation_spacing_and_order_of_files_maps_voxels_to_their_place(
    angles: tuple[float, float, float],
    spacing: tuple[float, float, float],
    origin: tuple[float, float, float],
    order: list[int],
    enhanced: bool,
) -> None:
    made = Made(shape=(4, 3, 5), turn=rotation(angles), spacing=spacing, origin=origin, order=order)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if enhanced:
            made.write_enhanced(folder)
        else:
            made.write(folder)
        check_against_truth(made, folder)


@settings(max_examples=50, deadline=None)
@given(missing=st.sets(st.integers(1, 8), min_size=1, max_size=3), data=st.data())
def test_a_gap_is_counted_wherever_it_is(missing: set[int], data: st.DataObject) -> None:
    kept = [_frame(index) for index in range(10) if index not in missing]
    shuffled = data.draw(st.permutations(kept))
    words = "a slice is missing" if len(missing) == 1 else f"{len(missing)} slices are missing"
    with pytest.raises(InputError, match=words):
        place(shuffled)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda f, n: replace(f, position=(0.0, 0.0, 2.0 * n + 0.4 * (n == 4))), "not constant: 1.60 to 2.40 mm"),
        (lambda f, n: replace(f, position=(0.0, 0.3 * n, 2.0 * n)), "shifted against each other"),
        (lambda f, n: replace(f, position=(0.0, 0.0, 2.0 * min(n, 8))), "there twice"),
        (lambda f, n: replace(f, position=None if n == 3 else f.position), "does not say where it is"),
        (lambda f, _: replace(f, row=None, column=None), "how they are oriented"),
        (lambda f, _: replace(f, column=(0.7, 0.7, 0.0)), "not at right angles"),
        (lambda f, _: replace(f, spacing=None), "how large a pixel is"),
    ],
)
def test_what_is_no_regular_stack_is_refused_with_its_reason(change, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        place([change(_frame(number), number) for number in range(10)])
    assert caught.value.remedy


def test_rounding_of_positions_is_no_irregularity(tmp_path: Path) -> None:
    made = Made(shape=(4, 3, 40), spacing=(1, 1, 1.2), turn=OBLIQUE, decimals=2)
    made.write(tmp_path)
    placement = place(frames_of(tmp_path))
    assert [frame.number for frame in placement.frames] == list(range(1, 41))
    far = placement.affine @ [0, 0, 39, 1]
    assert np.abs(far[:3] @ RAS - made.world((0, 0, 39))).max() < 0.5


@pytest.mark.shared_data
def test_every_real_series_has_the_voxels_and_the_affine_of_dcm2niix(shared_data: Path, capsys) -> None:
    assert benchmark.main([str(shared_data / "dicom")]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[-1].startswith("14 series, ")
    assert ", 0 out of tolerance" in table[-1]
    # Two of the compressed syntaxes need codecs that a small dcm2niix lacks; the next test covers those.
    assert sum(" equal" in line for line in table) >= 10


@pytest.mark.shared_data
def test_one_image_in_nine_transfer_syntaxes_is_one_image(shared_data: Path) -> None:
    """All nine files hold the identical image, so the uncompressed one stands in where dcm2niix lacks a codec."""
    found = [series.volumes[0].read() for series in iter_series([shared_data / "dicom" / "transfer_syntaxes"])]
    assert len(found) == 9
    [plain] = iter_series([shared_data / "dicom" / "transfer_syntaxes" / "In" / "1.dcm"])
    program = benchmark.find_dcm2niix()
    [theirs] = benchmark.convert(program, plain.files)
    for raw in found:
        match = benchmark.measure(benchmark.canonical(raw), theirs)
        assert match.good
        assert match.voxels == 0


@pytest.mark.parametrize(
    "made",
    [
        Made(turn=OBLIQUE),
        Made(turn=OBLIQUE, order=[3, 0, 7, 1, 6, 2, 5, 4]),
        Made(turn=OBLIQUE, order=range(7, -1, -1)),
        Made(turn=OBLIQUE, shape=(6, 5, 50), spacing=(1, 1, 1.2), decimals=3),
        Made(turn=OBLIQUE, shape=(6, 5, 50), spacing=(1, 1, 1.2), decimals=3, order=range(49, -1, -1)),
        Made(turn=rotation((np.pi / 2, 0, np.pi / 2))),
        Made(turn=OBLIQUE, tags={"RescaleSlope": 1.2345678, "RescaleIntercept": -10.5}),
        Made(shape=(12, 10, 1), turn=OBLIQUE),
    ],
    ids=["oblique", "shuffled", "descending", "rounded", "rounded descending", "sagittal", "scaled", "one slice"],
)
@pytest.mark.parametrize("enhanced", [False, True])
def test_made_series_have_the_voxels_and_the_affine_of_dcm2niix(made: Made, enhanced: bool, tmp_path: Path) -> None:
    if enhanced:
        made.write_enhanced(tmp_path)
    else:
        made.write(tmp_path)
    program = benchmark.find_dcm2niix()
    assert program is not None, "dcm2niix is one of the dev dependencies"
    [result] = benchmark.compare_folders(program, [tmp_path])
    assert result.good
    assert len(result.matches) == 1


def test_philips_values_are_those_before_display_scaling(tmp_path: Path) -> None:
    def scale(dataset, index: int) -> None:  # noqa: ARG001
        dataset.RescaleSlope, dataset.RescaleIntercept = 1.7, 4.0
        dataset.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(0x0E, "FL", 0.0123)

    made = Made(turn=OBLIQUE, change=scale, tags={"Manufacturer": "Philips Medical Systems"})
    made.write(tmp_path)
    [result] = benchmark.compare_folders(benchmark.find_dcm2niix(), [tmp_path])
    assert result.matches[0].good
    [series] = iter_series([tmp_path])
    expected = (made.array * 1.7 + 4.0) / (1.7 * 0.0123)
    assert np.allclose(series.volumes[0].read().array, expected, rtol=1e-5)


def test_the_benchmark_sees_a_wrong_affine_and_names_no_patient(
    tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    Made(turn=OBLIQUE).write(tmp_path)
    assert benchmark.main([str(tmp_path)]) == 0
    right = benchmark.canonical
    shift = np.eye(4)
    shift[0, 3] = 0.002
    monkeypatch.setattr(benchmark, "canonical", lambda raw: right(replace(raw, affine=shift @ raw.affine)))
    assert benchmark.main([str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "OUT OF TOLERANCE" in out
    assert "Secret" not in out
    assert "somebody" not in out
    assert "mprage" not in out


def test_the_volumes_of_a_4d_series_are_matched_one_by_one(tmp_path: Path) -> None:
    made = Made(turn=OBLIQUE)

    def later(dataset, index: int) -> None:  # noqa: ARG001
        dataset.AcquisitionNumber = dataset.TemporalPositionIdentifier = 2
        dataset.InstanceNumber += 8

    made.write(tmp_path, prefix="a")
    replace(made, change=later, seed=1).write(tmp_path, prefix="b")
    [result] = benchmark.compare_folders(benchmark.find_dcm2niix(), [tmp_path])
    assert result.good
    assert len(result.matches) == 2


def _frame(number: int) -> Frame:
    """Return slice `number` of an axial stack, 2 mm apart."""
    return Frame(
        path=Path(f"{number}.dcm"),
        index=0,
        frames=1,
        instance=str(number),
        number=number + 1,
        rows=2,
        columns=2,
        samples=1,
        position=(0.0, 0.0, 2.0 * number),
        row=(1.0, 0.0, 0.0),
        column=(0.0, 1.0, 0.0),
        spacing=(1.0, 1.0),
        thickness=2.0,
        gap=0.0,
        component=Component.MAGNITUDE,
        kind=("ORIGINAL", "PRIMARY", "M"),
        echo=3.0,
        moment=(),
        scaling=Scaling(),
    )
