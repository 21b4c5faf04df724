"""`audit.json`: what an audit found, as frozen types and as a JSON Schema.

The contract of DESIGN §5. Keys are never removed and never change their meaning within `anonsynth/audit/1`.
"""

from __future__ import annotations

import json
from enum import StrEnum
from importlib.resources import files
from typing import Any, Literal

import jsonschema
from pydantic import BaseModel, ConfigDict, Field

from anonsynth.errors import InternalError
from anonsynth.policies.model import AuditRules

__all__ = [
    "AuditDocument",
    "ControlResult",
    "Finding",
    "Inputs",
    "PolicyUsed",
    "SampleResult",
    "Side",
    "Verdict",
    "audit_schema",
    "validated",
]

Sha256 = Field(pattern="^[0-9a-f]{64}$")
Rate = Field(ge=0, le=1)


class Verdict(StrEnum):
    """What an audit says; `inconclusive` means that a leak of the size the policy cares about could have hidden."""

    PASS = "pass"  # noqa: S105 - a verdict, no password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class PolicyUsed(_Frozen):
    """The policy whose thresholds were used."""

    id: str
    version: int
    audit: AuditRules


class Side(_Frozen):
    """One side of the comparison.

    Attributes:
        patients: Patients; for generated scans, each counts as one.
        scans: Scans.
        labelled: Scans with a label map.
        skipped: Scans that could not be compared; they are not covered by the verdict.
        sha256: Hash over the hashes of the side's files.
    """

    patients: int = Field(ge=0)
    scans: int = Field(ge=0)
    labelled: int = Field(ge=0)
    skipped: int = Field(default=0, ge=0)
    sha256: str = Sha256


class Inputs(_Frozen):
    """What was compared, and with what."""

    anonsynth: str
    seed: int
    grid_shape: tuple[int, int, int]
    grid_spacing: tuple[float, float, float]
    modalities: tuple[str, ...]
    synthetic: Side
    train: Side
    holdout: Side
    sha256: str = Sha256


class Finding(_Frozen):
    """One question put to the substitute cohort and its answer.

    Attributes:
        id: Stable name.
        question: In words.
        statistic: What `value` is.
        value: The answer; None where it could not be computed.
        ci: Exact interval at the policy's confidence, or None.
        threshold: What `value` is held against, or None for a description.
        verdict: Of this question alone.
        limits: What could not have been seen, in words.
        criteria: Which of the WP216 criteria the question bears on.
    """

    id: str
    question: str
    statistic: str
    value: float | None
    ci: tuple[float, float] | None = None
    threshold: float | None = None
    verdict: Verdict
    limits: str
    criteria: tuple[str, ...] = ()


class SampleResult(_Frozen):
    """A generated scan.

    Attributes:
        id: Its name in the substitute cohort.
        nearest: Pseudonym of the nearest training scan; private.
        similarity: Correlation with it after alignment at full resolution; the Dice of the label maps if those are
            the closer; None if nothing could be compared.
        p_value: Calibrated, of all views together.
        q_value: After Benjamini-Hochberg over all generated scans.
        flagged: Whether it is taken for a copy.
        reasons: Why, or what is worth knowing.
    """

    id: str
    nearest: str | None
    similarity: float | None = Field(ge=-1, le=1)
    p_value: float = Rate
    q_value: float = Rate
    flagged: bool
    reasons: tuple[str, ...] = ()


class ControlResult(_Frozen):
    """A control: how many of the planted scans were flagged.

    Attributes:
        kind: `exact copy`, a weaker copy, or `negative` (training patients looked up among the others).
        planted: Scans planted among the generated ones, one at a time.
        detected: How many of them were flagged.
        false_positive_rate: Share of flagged left-out training patients; None for planted copies.
    """

    kind: str
    planted: int = Field(ge=0)
    detected: int = Field(ge=0)
    false_positive_rate: float | None = Field(default=None, ge=0, le=1)


class AuditDocument(_Frozen):
    """`AUDIT/audit.json`."""

    schema_: Literal["anonsynth/audit/1"] = Field(default="anonsynth/audit/1", alias="schema")
    verdict: Verdict
    policy: PolicyUsed
    inputs: Inputs
    findings: tuple[Finding, ...]
    samples: tuple[SampleResult, ...]
    controls: tuple[ControlResult, ...]

    def finding(self, name: str) -> Finding:
        """Return the finding called `name`."""
        return next(finding for finding in self.findings if finding.id == name)


def audit_schema() -> dict[str, Any]:
    """Return the JSON Schema of `audit.json`, made from the types; the package ships it as `schema/audit.json`."""
    schema = AuditDocument.model_json_schema(by_alias=True, mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def validated(document: AuditDocument) -> dict[str, Any]:
    """Return the document as JSON values, checked against the schema in the package.

    Raises:
        InternalError: If it does not fit, naming the place.
    """
    value: dict[str, Any] = json.loads(document.model_dump_json(by_alias=True))
    schema = json.loads((files("anonsynth.audits") / "schema" / "audit.json").read_text("utf-8"))
    errors = sorted(jsonschema.Draft202012Validator(schema).iter_errors(value), key=lambda error: list(error.path))
    if errors:
        place = "/".join(map(str, errors[0].path))
        raise InternalError(f"audit.json does not fit its schema at '{place}'")
    return value
