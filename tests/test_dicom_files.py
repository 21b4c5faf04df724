"""Encodings and damage: every lossless transfer syntax gives the same voxels, every broken file one refusal."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_making import Made, rotation
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from anonsynth.cohort.dicom import find_dicom
from anonsynth.cohort.sources import SourceFindings
from anonsynth.errors import InputError

OBLIQUE = rotation((0.3, -0.2, 0.5))


def found_in(folder: Path) -> SourceFindings:
    return find_dicom([folder])


def only_reason(findings: SourceFindings) -> str:
    """No scan, one refusal: return its reason."""
    assert not findings.scans
    [refusal] = findings.refusals
    assert refusal.remedy
    return refusal.reason


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        RLELossless,
        JPEGLSLossless,
        JPEG2000Lossless,
    ],
    ids=lambda syntax: syntax.name,
)
def test_every_lossless_transfer_syntax_gives_the_same_voxels(syntax: str, tmp_path: Path) -> None:
    made = Made(shape=(64, 48, 4), syntax=syntax)
    made.write(tmp_path)
    raw = found_in(tmp_path).scans[0].modalities[0][1].read()
    assert raw.array.dtype.kind == "u"
    assert np.array_equal(raw.array, made.array)


def test_deflated_files_are_read(tmp_path: Path) -> None:
    made = Made()
    for path in made.write(tmp_path):
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
        dataset.save_as(path)
    assert np.array_equal(found_in(tmp_path).scans[0].modalities[0][1].read().array, made.array)


def test_files_without_preamble_are_read(tmp_path: Path) -> None:
    made = Made(syntax=ImplicitVRLittleEndian)
    for path in made.write(tmp_path, suffix=""):
        dataset = pydicom.dcmread(path)
        del dataset.file_meta
        dataset.preamble = None
        pydicom.dcmwrite(path, dataset, implicit_vr=True, little_endian=True)
        assert path.read_bytes()[128:132] != b"DICM"
    assert np.array_equal(found_in(tmp_path).scans[0].modalities[0][1].read().array, made.array)


def test_bits_above_the_stored_ones_are_no_voxels(tmp_path: Path) -> None:
    def overlay(dataset: Dataset, index: int) -> None:  # noqa: ARG001
        dataset.BitsStored, dataset.HighBit = 12, 11
        pixels = np.frombuffer(dataset.PixelData, "<u2") | 0x8000
        dataset.PixelData = pixels.astype("<u2").tobytes()

    made = Made(change=overlay)
    made.write(tmp_path)
    assert np.array_equal(found_in(tmp_path).scans[0].modalities[0][1].read().array, made.array)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.dcm", b"", "the file is empty"),
        ("IM0001", b"", "the file is empty"),
        ("garbage.dcm", bytes(range(256)) * 8, "the file is named like DICOM but holds something else"),
        ("header-only", b"\0" * 128 + b"DICM", "the DICOM header is broken or cut off"),
        (
            "garbage-inside",
            b"\0" * 128 + b"DICM" + bytes(range(255, -1, -1)) * 4,
            "the DICOM header is broken or cut off",
        ),
        ("huge.dcm", b"\0" * 128 + b"DICM\x08\x00\x16\x00UI\xff\xff\x08\x00\x18\x00OB\0\0\xfe\xff\xff\x7f", None),
    ],
)
def test_a_broken_file_is_one_refusal_and_the_others_go_on(
    name: str, content: bytes, reason: str | None, tmp_path: Path
) -> None:
    Made().write(tmp_path)
    (tmp_path / name).write_bytes(content)
    findings = found_in(tmp_path)
    assert len(findings.scans) == 1
    [refusal] = findings.refusals
    assert refusal.path == tmp_path / name
    assert reason is None or refusal.reason == reason


def test_an_enhanced_file_without_frames_is_one_refusal(tmp_path: Path) -> None:
    path = Made().write_enhanced(tmp_path)
    dataset = pydicom.dcmread(path)
    dataset.PerFrameFunctionalGroupsSequence = []
    dataset.save_as(path)
    assert only_reason(found_in(tmp_path)) == "the DICOM header is broken or cut off"


def test_a_cut_off_file_is_found_before_its_voxels_are_wanted(tmp_path: Path) -> None:
    path = Made().write(tmp_path)[3]
    path.write_bytes(path.read_bytes()[:-20])
    reasons = [refusal.reason for refusal in found_in(tmp_path).refusals]
    assert reasons == ["the pixel data is cut off", "a slice is missing"]


def test_compressed_voxels_that_cannot_be_decoded_are_an_input_error(tmp_path: Path) -> None:
    paths = Made(shape=(64, 48, 4), syntax=JPEGLSLossless).write(tmp_path)
    content = paths[1].read_bytes()
    paths[1].write_bytes(content[: len(content) // 2])
    [scan] = found_in(tmp_path).scans
    with pytest.raises(InputError, match="cannot be decoded") as caught:
        scan.modalities[0][1].read()
    assert caught.value.private_path == paths[1]
    assert str(tmp_path) not in str(caught.value)


def test_a_file_that_vanishes_is_an_input_error(tmp_path: Path) -> None:
    paths = Made().write(tmp_path)
    [scan] = found_in(tmp_path).scans
    paths[2].unlink()
    with pytest.raises(InputError):
        scan.modalities[0][1].read()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    enhanced=st.booleans(),
    damage=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6),
    kept=st.floats(0.05, 1) | st.just(1.0),
)
def test_no_damage_to_a_file_is_more_than_a_refusal(
    enhanced: bool, damage: list[tuple[float, int]], kept: float, tmp_path: Path
) -> None:
    folder = tmp_path / "case"
    shutil.rmtree(folder, ignore_errors=True)
    made = Made(shape=(4, 3, 4), study="1.2.3", series="1.2.3.4")
    path = made.write_enhanced(folder) if enhanced else made.write(folder)[1]
    content = bytearray(path.read_bytes())
    for where, value in damage:
        content[132 + int(where * (len(content) - 133))] = value
    path.write_bytes(content[: int(kept * len(content))])
    for scan in found_in(folder).scans:
        for _, volume in scan.modalities:
            with contextlib.suppress(InputError):
                assert volume.read().array.ndim == 3
