"""What a policy says about de-identification: the options of DICOM PS3.15 Annex E, and doubtful files."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Dates", "DeidentificationRules"]

_TABLE = "DICOM PS3.15 Annex E, Table E.1-1"


class Dates(StrEnum):
    """What becomes of dates."""

    SHIFT = "shift"
    KEEP = "keep"
    REMOVE = "remove"


class DeidentificationRules(BaseModel):
    """Which options of the Basic Application Level Confidentiality Profile are taken; without any, all is removed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dates: Dates = Field(
        default=Dates.SHIFT,
        description="Dates: `shift` moves each patient's by a secret number of days so that intervals stay and "
        "lets every study begin at noon, `keep` leaves them, `remove` takes them out.",
        json_schema_extra={"rests_on": f"{_TABLE}: Retain Longitudinal Temporal Information, modified or full dates."},
    )
    uids: bool = Field(
        default=False,
        description="Whether UIDs stay; otherwise each is replaced by a keyed one, the same in every file.",
        json_schema_extra={"rests_on": f"{_TABLE}: Retain UIDs; vendors write dates and serial numbers into UIDs."},
    )
    device: bool = Field(
        default=False,
        description="Whether the scanner's serial number, station name and the like stay.",
        json_schema_extra={"rests_on": f"{_TABLE}: Retain Device Identity."},
    )
    institution: bool = Field(
        default=False,
        description="Whether name and address of the institution stay.",
        json_schema_extra={"rests_on": f"{_TABLE}: Retain Institution Identity."},
    )
    characteristics: bool = Field(
        default=False,
        description="Whether sex, age (90 and above as one), height (to 5 cm) and weight (to 5 kg) stay.",
        json_schema_extra={
            "rests_on": f"{_TABLE}: Retain Patient Characteristics; ages above 89 are pooled (45 CFR 164.514(b)(2))."
        },
    )
    descriptors: bool = Field(
        default=True,
        description="Whether descriptions of series and studies stay as far as their words are on the public "
        "list; otherwise they are removed.",
        json_schema_extra={"rests_on": f"{_TABLE}: Clean Descriptors, by a list of what may stay."},
    )
    safe_private: bool = Field(
        default=False,
        description="Whether the vendors' private numbers that are known to be safe stay: b-values, gradient "
        "directions, scale slopes, tiles of a mosaic.",
        json_schema_extra={"rests_on": f"{_TABLE}: Retain Safe Private; each value is verified to be such a number."},
    )
    secondary_capture: bool = Field(
        default=False,
        description="Whether secondary captures that say of themselves that no text is burned in may pass; "
        "otherwise they are quarantined. Their pixels are not looked at.",
        json_schema_extra={
            "rests_on": "A choice: a flag in the header is no proof, and captures are where names are burned in."
        },
    )
