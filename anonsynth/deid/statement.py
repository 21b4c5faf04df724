"""What a de-identified file says of itself: PS3.15 E.1.1 asks for the method and for the options that were taken."""

from __future__ import annotations

from functools import lru_cache

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from anonsynth.deid.codes import coded
from anonsynth.policies.deidentification import Dates, DeidentificationRules
from anonsynth.policies.model import Policy

__all__ = ["profile_codes", "profile_statement"]

_TEMPORAL = {Dates.SHIFT: "MODIFIED", Dates.KEEP: "UNMODIFIED", Dates.REMOVE: "REMOVED"}


def profile_codes(rules: DeidentificationRules) -> tuple[tuple[str, str], ...]:
    """Return the codes of CID 7050 for what was done; nothing about pixels is claimed."""
    codes = [("113100", "Basic Application Confidentiality Profile")]
    options = (
        (rules.descriptors, "113105", "Clean Descriptors Option"),
        (rules.dates is Dates.KEEP, "113106", "Retain Longitudinal Temporal Information Full Dates Option"),
        (rules.dates is Dates.SHIFT, "113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
        (rules.characteristics, "113108", "Retain Patient Characteristics Option"),
        (rules.device, "113109", "Retain Device Identity Option"),
        (rules.uids, "113110", "Retain UIDs Option"),
        (rules.safe_private, "113111", "Retain Safe Private Option"),
        (rules.institution, "113112", "Retain Institution Identity Option"),
    )
    return (*codes, *((code, meaning) for taken, code, meaning in options if taken))


@lru_cache(maxsize=4)
def profile_statement(policy: Policy, version: str) -> Dataset:
    """Return the attributes that every file gets; the same for all files of a study, as dcentvfy asks."""
    rules = policy.deidentification
    out = Dataset()
    out.PatientIdentityRemoved = "YES"
    out.DeidentificationMethod = [f"anonsynth {version}"[:64], f"policy {policy.id} version {policy.version}"[:64]]
    items = [coded(code, "DCM", meaning[:64]) for code, meaning in profile_codes(rules)]
    out.DeidentificationMethodCodeSequence = Sequence(items)
    out.LongitudinalTemporalInformationModified = _TEMPORAL[rules.dates]
    return out
