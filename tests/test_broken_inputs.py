"""Whatever is wrong with a file gives one sentence in the quarantine, and the others are ingested."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nifti_sources import RAS, head, images_and_labels, save

from anonsynth.cohort.ingest import IngestSettings, ingest
from anonsynth.files import read_tsv
from anonsynth.policies.model import load_policy
from anonsynth.progress import Progress

IMAGE, LABEL = "images/case99.nii.gz", "labels/case99.nii.gz"


def _patched(path: Path, offset: int, layout: str, *values: float) -> None:
    """Overwrite header fields of a .nii.gz."""
    data = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into(layout, data, offset, *values)
    path.write_bytes(gzip.compress(bytes(data)))


def _image(root: Path, array: np.ndarray) -> None:
    save(root / IMAGE, array)


def truncated_gz(root: Path) -> None:
    data = (root / IMAGE).read_bytes()
    (root / IMAGE).write_bytes(data[: len(data) // 2])


def checksum_cut_off(root: Path) -> None:
    (root / IMAGE).write_bytes((root / IMAGE).read_bytes()[:-4])


def empty_file(root: Path) -> None:
    (root / IMAGE).write_bytes(b"")


def text_file(root: Path) -> None:
    (root / IMAGE).write_text("John Doe, born 1 April 1960")


def compressed_text(root: Path) -> None:
    (root / IMAGE).write_bytes(gzip.compress(b"this is no image at all, but it is long enough for a header" * 20))


def gz_name_without_gz(root: Path) -> None:
    (root / IMAGE).write_bytes(gzip.decompress((root / IMAGE).read_bytes()))


def nii_name_with_gz(root: Path) -> None:
    (root / IMAGE).rename(root / "images/case99.nii")


def nan_voxels(root: Path) -> None:
    array = head(99)[0].astype(np.float32)
    array[3, 3, 3] = np.nan
    _image(root, array)


def infinite_voxels(root: Path) -> None:
    array = head(99)[0].astype(np.float32)
    array[3, 3, 3] = np.inf
    _image(root, array)


def negative_spacing(root: Path) -> None:
    _patched(root / IMAGE, 80, "<f", -2.0)


def zero_spacing(root: Path) -> None:
    _patched(root / IMAGE, 84, "<f", 0.0)


def nan_spacing(root: Path) -> None:
    _patched(root / IMAGE, 84, "<f", float("nan"))


def singular_affine(root: Path) -> None:
    _patched(root / IMAGE, 280, "<4f", 0.0, 0.0, 0.0, 0.0)


def no_affine(root: Path) -> None:
    _patched(root / IMAGE, 252, "<2h", 0, 0)


def four_dimensions(root: Path) -> None:
    _image(root, np.stack([head(99)[0]] * 3, axis=-1))


def two_dimensions(root: Path) -> None:
    _image(root, head(99)[0][:, :, 8])


def single_slice(root: Path) -> None:
    _image(root, head(99)[0][:, :, 8:9])


def no_voxels(root: Path) -> None:
    _patched(root / IMAGE, 42, "<h", 0)


def constant_image(root: Path) -> None:
    _image(root, np.full((8, 8, 8), 7, np.int16))


def rgb_image(root: Path) -> None:
    _image(root, np.zeros((8, 8, 8), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])))


def complex_image(root: Path) -> None:
    _image(root, head(99)[0].astype(np.complex64))


def unknown_datatype(root: Path) -> None:
    _patched(root / IMAGE, 70, "<h", 12345)


def header_bomb(root: Path) -> None:
    _patched(root / IMAGE, 42, "<3h", 600, 600, 600)


def header_larger_than_any_scan(root: Path) -> None:
    _patched(root / IMAGE, 42, "<3h", 32767, 32767, 32767)


def header_alone(root: Path) -> None:
    (root / IMAGE).write_bytes(gzip.compress(gzip.decompress((root / IMAGE).read_bytes())[:200]))


def half_of_a_pair(root: Path) -> None:
    _patched(root / IMAGE, 344, "<4s", b"ni1\0")  # type: ignore[arg-type]


def folder_with_a_files_name(root: Path) -> None:
    (root / IMAGE).unlink()
    (root / IMAGE).mkdir()


def link_to_nothing(root: Path) -> None:
    (root / IMAGE).unlink()
    (root / IMAGE).symlink_to(root / "gone.nii.gz")


def foreign_format(root: Path) -> None:
    (root / IMAGE).rename(root / "images/case99.nrrd")


def doubled_name(root: Path) -> None:
    save(root / "images/case99.nii", head(98)[0])


def label_without_image(root: Path) -> None:
    (root / IMAGE).unlink()


def label_on_another_grid(root: Path) -> None:
    save(root / LABEL, head(99)[1][:, :, :10])


def label_elsewhere(root: Path) -> None:
    affine = RAS.copy()
    affine[:3, 3] = 40
    save(root / LABEL, head(99)[1], affine)


def label_with_fractions(root: Path) -> None:
    save(root / LABEL, head(99)[1].astype(np.float32) * 0.5)


def label_above_255(root: Path) -> None:
    save(root / LABEL, head(99)[1].astype(np.int16) * 200)


def negative_label(root: Path) -> None:
    save(root / LABEL, -head(99)[1].astype(np.int16))


def label_with_nan(root: Path) -> None:
    array = head(99)[1].astype(np.float32)
    array[0, 0, 0] = np.nan
    save(root / LABEL, array)


def unknown_label(root: Path) -> None:
    (root / "labels.tsv").write_text("index\tname\n1\tgrey\n2\twhite\n")
    save(root / LABEL, head(99)[1] * 3)


def truncated_label(root: Path) -> None:
    (root / LABEL).write_bytes((root / LABEL).read_bytes()[:60])


LOSES_THE_SCAN: list[tuple[Callable[[Path], None], str]] = [
    (truncated_gz, "cut short"),
    (checksum_cut_off, "cut short"),
    (empty_file, "is empty"),
    (text_file, "not compressed"),
    (compressed_text, "not NIfTI"),
    (gz_name_without_gz, "not compressed"),
    (nii_name_with_gz, "named .nii but"),
    (nan_voxels, "NaN or infinite"),
    (infinite_voxels, "NaN or infinite"),
    (negative_spacing, "voxel size"),
    (zero_spacing, "voxel size"),
    (nan_spacing, "voxel size"),
    (singular_affine, "singular"),
    (no_affine, "sform and qform"),
    (four_dimensions, "4-D with 3 volumes"),
    (two_dimensions, "2-D"),
    (single_slice, "2-D"),
    (no_voxels, "no voxels"),
    (constant_image, "same value"),
    (rgb_image, "RGB"),
    (complex_image, "complex"),
    (unknown_datatype, "data type"),
    (header_bomb, "fewer voxels"),
    (header_larger_than_any_scan, "promises more than"),
    (header_alone, "within its header"),
    (half_of_a_pair, ".hdr/.img"),
    (folder_with_a_files_name, "folder"),
    (link_to_nothing, "link to nothing"),
    (foreign_format, "neither NIfTI nor DICOM"),
    (doubled_name, "more than one"),
    (label_without_image, "no image"),
]
LOSES_THE_LABEL: list[tuple[Callable[[Path], None], str]] = [
    (label_on_another_grid, "field of view"),
    (label_elsewhere, "field of view"),
    (label_with_fractions, "fractional"),
    (label_above_255, "above 255"),
    (negative_label, "negative"),
    (label_with_nan, "NaN or infinite"),
    (unknown_label, "lookup table"),
    (truncated_label, "cut short"),
]


def _ingest(root: Path, out: Path) -> tuple[int, int, list[dict[str, str]]]:
    cohort = ingest(IngestSettings((root,), out), load_policy("internal"), Progress(quiet=True))
    return cohort.info.scans, sum(r.labelled for r in cohort.records), read_tsv(out / "quarantine.tsv")


def _is_one_sentence(row: dict[str, str]) -> bool:
    return bool(row["reason"]) and bool(row["remedy"]) and ". " not in row["reason"] and "/" not in row["reason"][:1]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = images_and_labels(tmp_path / "source", 4)
    return images_and_labels(root, 1, start=99)


@pytest.mark.parametrize(("spoil", "reason"), LOSES_THE_SCAN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_image_is_refused_and_the_others_are_ingested(
    source: Path, tmp_path: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(source)
    scans, _, rows = _ingest(source, tmp_path / "cohort")
    assert scans == 4
    assert any(reason in row["reason"] for row in rows), rows
    assert all(_is_one_sentence(row) for row in rows)
    assert all("99" in row["file"] for row in rows)


@pytest.mark.parametrize(("spoil", "reason"), LOSES_THE_LABEL, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_label_map_is_refused_and_its_image_is_kept_unlabelled(
    source: Path, tmp_path: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(source)
    scans, labelled, rows = _ingest(source, tmp_path / "cohort")
    assert (scans, labelled) == (5, 4)
    assert [reason in row["reason"] for row in rows] == [True]
    assert rows[0]["file"] == LABEL


def test_what_only_looks_odd_is_accepted(source: Path, tmp_path: Path) -> None:
    image, label = head(99)
    save(source / IMAGE, image[..., None])  # 4-D with one volume
    save(source / LABEL, label.astype(np.float64))  # whole numbers as floats
    scans, labelled, rows = _ingest(source, tmp_path / "cohort")
    assert (scans, labelled, rows) == (5, 5, [])


def test_an_empty_label_map_and_a_missing_one_are_accepted(source: Path, tmp_path: Path) -> None:
    save(source / LABEL, np.zeros_like(head(99)[1]))
    (source / "labels/case00.nii.gz").unlink()
    scans, labelled, rows = _ingest(source, tmp_path / "cohort")
    assert (scans, labelled, rows) == (5, 4, [])


def test_a_label_map_of_the_same_field_of_view_in_larger_voxels_is_resampled(source: Path, tmp_path: Path) -> None:
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = 1.0  # the outer faces coincide
    save(source / LABEL, head(99)[1][::2, ::2, ::2], affine)
    scans, labelled, rows = _ingest(source, tmp_path / "cohort")
    assert (scans, labelled, rows) == (5, 5, [])


def test_big_endian_scaled_and_nifti2_files_are_read(source: Path, tmp_path: Path) -> None:
    image, _ = head(99)
    header = nib.Nifti1Header(endianness=">")
    header.set_slope_inter(0.5, 10)
    big = nib.Nifti1Image(image, RAS, header)
    big.set_sform(RAS, 1)
    nib.save(big, source / IMAGE)
    second = nib.Nifti2Image(head(0)[0], RAS)
    second.set_sform(RAS, 1)
    nib.save(second, source / "images/case00.nii.gz")
    assert _ingest(source, tmp_path / "cohort")[0] == 5


def test_a_forged_header_allocates_nothing(source: Path) -> None:
    import tracemalloc

    from anonsynth.cohort.nifti import NiftiVolume
    from anonsynth.errors import InputError

    header_bomb(source)
    tracemalloc.start()
    with pytest.raises(InputError, match="fewer voxels") as caught:
        NiftiVolume(source / IMAGE).read()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10e6
    assert str(source) not in str(caught.value)
    assert caught.value.private_path == source / IMAGE
