"""What a prepared cohort is: its labels, its scans, its settings; the words of DESIGN's table as types."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from anonsynth.cohort.geometry import Grid

__all__ = [
    "BRAIN_LABELS",
    "CohortInfo",
    "GridInfo",
    "LabelEntry",
    "LabelKind",
    "ScanRecord",
    "Split",
]


class Split(StrEnum):
    """Which side of the split a patient is on."""

    TRAIN = "train"
    HOLDOUT = "holdout"


class LabelKind(StrEnum):
    """Anatomy and tumour stay separate labels, so that a tumour can be moved."""

    ANATOMY = "anatomy"
    TUMOUR = "tumour"


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LabelEntry(_Frozen):
    """One value of the label maps."""

    value: int = Field(ge=1, le=255)
    name: str
    kind: LabelKind = LabelKind.ANATOMY


BRAIN_LABELS: tuple[LabelEntry, ...] = (
    LabelEntry(value=1, name="CSF"),
    LabelEntry(value=2, name="grey matter"),
    LabelEntry(value=3, name="white matter"),
    LabelEntry(value=4, name="oedema", kind=LabelKind.TUMOUR),
    LabelEntry(value=5, name="enhancing tumour", kind=LabelKind.TUMOUR),
    LabelEntry(value=6, name="necrosis", kind=LabelKind.TUMOUR),
    LabelEntry(value=7, name="skull"),
    LabelEntry(value=8, name="scalp"),
)
"""The label values of the simulator and of the atlas prior."""


class GridInfo(_Frozen):
    """A grid as JSON."""

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]

    @property
    def grid(self) -> Grid:
        """The grid, centred on the world's origin."""
        return Grid(self.shape, self.spacing).centred()


class ScanRecord(_Frozen):
    """One acquisition session of a patient on the cohort's grid; a row of `scans.tsv`.

    Attributes:
        scan: Pseudonym of the scan, `P0001-S01`.
        patient: Pseudonym of the patient, `P0001`.
        split: `train` or `holdout`; the same for all scans of a patient.
        modalities: Modalities that were acquired; an absent one is zero on disk and masked from every loss.
        labelled: Whether a label map came with the scan.
        fov_low: First grid voxel of the scan's field of view (X, Y, Z).
        fov_high: One past the last voxel of the field of view; outside it images and labels are 0 and unknown.
        group: Value of the site or group column, or "n/a".
        sha256: Hash of the scan's prepared files.
    """

    scan: str
    patient: str
    split: Split
    modalities: tuple[str, ...]
    labelled: bool
    fov_low: tuple[int, int, int]
    fov_high: tuple[int, int, int]
    group: str = "n/a"
    sha256: str


class CohortInfo(_Frozen):
    """`cohort.json`: everything about a cohort that is not a voxel or a row."""

    schema_: str = Field(default="anonsynth/cohort/1", alias="schema")
    anonsynth: str
    layout: str
    policy: str
    seed: int
    holdout_fraction: float
    modalities: tuple[str, ...]
    labels: tuple[LabelEntry, ...]
    grid: GridInfo
    grid_given: bool
    interpolation: str
    patients: int
    scans: int
    quarantined: int
    merged_duplicates: int
    settings_sha256: str

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
