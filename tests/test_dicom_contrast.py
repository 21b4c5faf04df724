"""Contrasts from what people write into descriptions, and from timing where they write nothing."""

from __future__ import annotations

import pytest

from anonsynth.cohort.dicom.contrast import recognise_contrast
from anonsynth.cohort.dicom.csa import csa_numbers
from anonsynth.cohort.dicom.header import SeriesInfo


def info(description: str = "", *, agent: bool = False, sequence: str = "", tr: float = 0, ti: float = 0) -> SeriesInfo:
    return SeriesInfo(
        study="1",
        series="2",
        number=1,
        patient="p",
        sop_class="",
        modality="MR",
        manufacturer="",
        description=description.lower(),
        contrast_agent=agent,
        sequence=frozenset(sequence.split()),
        acquisition="",
        tr=tr,
        ti=ti,
        flip=0,
    )


@pytest.mark.parametrize(
    ("description", "contrast"),
    [
        ("t1_mprage_sag_p2_iso", "T1w"),
        ("SAG MPRAGE 220 FOV", "T1w"),
        ("anat-T1w_acq-tfl", "T1w"),
        ("AX T1 PRE", "T1w"),
        ("Sag 3D BRAVO", "T1w"),
        ("Ax T1 FLAIR", "T1w"),
        ("AX T1 POST GD FLAIR", "T1gd"),
        ("AX T1 +C", "T1gd"),
        ("T1_KM_tra", "T1gd"),
        ("t1_vibe_fs_post", "T1gd"),
        ("t1ce", "T1gd"),
        ("sub-1_ce-gadolinium_T1w", "T1gd"),
        ("T1 w/o contrast", "T1w"),
        ("t1 c-spine post", "T1gd"),
        ("t2_tse_tra", "T2w"),
        ("AxT2 propeller", "T2w"),
        ("AX T2 FLAIR", "FLAIR"),
        ("t2_tirm_tra_dark-fluid", "FLAIR"),
        ("t2_space_dark_fluid_sag", "FLAIR"),
        ("3D FLAIR CUBE", "FLAIR"),
        ("AX T2* GRE", "T2starw"),
        ("t2star_tra", "T2starw"),
        ("SWI_Images", "T2starw"),
        ("PD TSE axial", "PDw"),
        ("TOF 3D multi-slab", "angio"),
        ("gre_field_mapping", "fieldmap"),
        ("part1 of 2", "MR"),
        ("Mr Posterior Startone", "MR"),
    ],
)
def test_descriptions(description: str, contrast: str) -> None:
    assert recognise_contrast(info(description)) == contrast


@pytest.mark.parametrize(
    ("sequence", "tr", "ti", "echo", "contrast"),
    [
        ("SE", 500, 0, 12, "T1w"),
        ("SE", 4000, 0, 100, "T2w"),
        ("SE", 3000, 0, 15, "PDw"),
        ("SE IR", 9000, 2500, 120, "FLAIR"),
        ("GR IR", 2000, 900, 3, "T1w"),
        ("GR", 600, 0, 20, "T2starw"),
        ("EP GR", 3000, 0, 30, "epi"),
        ("SE", 0, 0, 0, "MR"),
    ],
)
def test_timing_tells_where_the_description_does_not(
    sequence: str, tr: float, ti: float, echo: float, contrast: str
) -> None:
    assert recognise_contrast(info("axial", sequence=sequence, tr=tr, ti=ti), echo) == contrast


def test_an_agent_makes_t1_post_contrast_unless_the_description_says_pre() -> None:
    assert recognise_contrast(info("ax t1", agent=True)) == "T1gd"
    assert recognise_contrast(info("ax t1 pre", agent=True)) == "T1w"
    assert recognise_contrast(info("ax t2", agent=True)) == "T2w"


def test_the_two_echoes_of_a_double_echo_are_pd_and_t2() -> None:
    assert recognise_contrast(info("pd_t2_tse"), 15) == "PDw"
    assert recognise_contrast(info("pd_t2_tse"), 95) == "T2w"


@pytest.mark.parametrize("header", [b"", b"SV10", b"SV10" + b"\xff" * 300, b"nothing"])
def test_a_broken_private_header_says_nothing(header: bytes) -> None:
    assert csa_numbers(header, "SliceNormalVector") == ()
