"""What is signed: an in-toto Statement v1 whose subjects are the files and whose predicate is the gate's answer.

    RELEASE/README.md, datasheet.md, model_card.md     for people
    RELEASE/audit/report.html, audit.json              the public edition of the audit; audit-2/ for a second one
    RELEASE/model_card.json, policy.json               what the verdicts are computed from again
    RELEASE/sbom.cdx.json                              the software
    RELEASE/dataset/                                   the substitute cohort, BIDS
    RELEASE/manifest.sha256                            SHA-256 of every file above
    RELEASE/statement.dsse.json                        subjects: every file above and the manifest; signed

Zone: shareable.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from anonsynth.release.gate import Check
from anonsynth.release.public_audit import Verdict

__all__ = [
    "AUDIT_FILE",
    "CARD_FILE",
    "DATASET",
    "ENVELOPE",
    "MANIFEST",
    "POLICY_FILE",
    "SBOM_FILE",
    "PolicyNamed",
    "Predicate",
    "Statement",
    "Subject",
    "audit_folder",
    "is_expected",
]

DATASET, MANIFEST, ENVELOPE = "dataset", "manifest.sha256", "statement.dsse.json"
POLICY_FILE, CARD_FILE, SBOM_FILE, AUDIT_FILE = "policy.json", "model_card.json", "sbom.cdx.json", "audit.json"
STATEMENT_TYPE: Literal["https://in-toto.io/Statement/v1"] = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Literal["urn:anonsynth:release:v1"] = "urn:anonsynth:release:v1"
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Sha256(_Frozen):
    """in-toto's DigestSet with one member."""

    sha256: Digest


class Subject(_Frozen):
    """A file of the release."""

    name: str
    digest: Sha256


class PolicyNamed(_Frozen):
    """The policy; `sha256` is that of `policy.json`."""

    id: str
    version: int
    sha256: Digest


class Predicate(_Frozen):
    """What the gate said.

    Attributes:
        anonsynth: Version that released.
        released: Day, UTC, `2026-11-24`.
        verdict: The worst of `checks`.
        checks: Every question that the policy asked, and its answer.
        override: Why it was released although the gate refused; None where it did not.
        approvals: Names by role.
        generated_sha256: Hash over the generated scans, as the audits computed it.
        audits: Folders of the audits.
    """

    schema_: Literal["anonsynth/release/1"] = Field(default="anonsynth/release/1", alias="schema")
    anonsynth: str
    released: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
    policy: PolicyNamed
    verdict: Verdict
    checks: tuple[Check, ...]
    override: str | None
    approvals: dict[str, str]
    generated_sha256: Digest
    audits: tuple[str, ...]


class Statement(_Frozen):
    """in-toto Statement v1."""

    type_: Literal["https://in-toto.io/Statement/v1"] = Field(default=STATEMENT_TYPE, alias="_type")
    subject: tuple[Subject, ...]
    predicate_type: Literal["urn:anonsynth:release:v1"] = Field(default=PREDICATE_TYPE, alias="predicateType")
    predicate: Predicate


def audit_folder(number: int) -> str:
    """Return the folder of the audit of that number, from 1.

    Example:
        >>> audit_folder(1), audit_folder(2)
        ('audit', 'audit-2')
    """
    return "audit" if number == 1 else f"audit-{number}"


def is_expected(name: str, audits: tuple[str, ...]) -> bool:
    """Tell whether a file outside `dataset/` belongs to a release with these audits."""
    pages = {"README.md", "datasheet.md", "model_card.md", POLICY_FILE, CARD_FILE, SBOM_FILE, MANIFEST, ENVELOPE}
    return name in pages | {f"{folder}/{file}" for folder in audits for file in (AUDIT_FILE, "report.html")}
