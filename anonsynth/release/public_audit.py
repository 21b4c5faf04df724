"""The public edition of an audit: made from the numbers in `audit.json` alone, so that no picture can get into it.

What stays private: every nearest patient and how similar it is, p-values of single scans, pictures, hashes of the
patients' scans. Where the policy's `count_step` is above 1, numbers of patients are rounded down to its multiples, what
follows from them is computed anew, and what would betray them otherwise is left out.

Zone: shareable, once the gate has let it through.
"""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
from pydantic import BaseModel, ConfigDict, Field

from anonsynth.errors import InputError
from anonsynth.files import UNFINISHED, read_json, sha256_file
from anonsynth.policies.model import AuditRules
from anonsynth.release.numbers import EXACT, NEGATIVE, interval, unseen_rate

__all__ = ["Control", "Generated", "PublicAudit", "PublicFinding", "PublicSample", "Verdict", "publish", "read_audit"]

Verdict = Literal["pass", "fail", "inconclusive"]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Rate = Annotated[float, Field(ge=0, le=1)]
DOCUMENT = "audit.json"
WITHHELD = "not told: under this policy it would say how many patients there were"
_P = re.compile(r"\bp = ([0-9.]+(?:e-?[0-9]+)?)\b")


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Generated(_Frozen):
    """The generated scans that were audited; `sha256` as `dataset.generated_digest` computes it."""

    scans: int = Field(ge=0)
    labelled: int = Field(ge=0)
    skipped: int = Field(ge=0)
    sha256: Digest


class PublicFinding(_Frozen):
    """A finding, with its p-value as a number where the audit says one."""

    id: str
    question: str
    statistic: str
    value: float | None
    ci: tuple[float, float] | None
    threshold: float | None
    p_value: Rate | None
    verdict: Verdict
    limits: str
    criteria: tuple[str, ...]


class PublicSample(_Frozen):
    """A generated scan and whether it was taken for a copy."""

    id: str
    flagged: bool


class Control(_Frozen):
    """How many planted scans were flagged."""

    kind: str
    planted: int = Field(ge=0)
    detected: int = Field(ge=0)


class PublicAudit(_Frozen):
    """`audit/audit.json` of a release.

    Attributes:
        anonsynth: Version that audited.
        rules: Thresholds that the verdicts were given by.
        audit_sha256: Of the private `audit.json` this was made from.
        count_step: Numbers of patients are multiples of it.
    """

    schema_: Literal["anonsynth/public-audit/1"] = Field(default="anonsynth/public-audit/1", alias="schema")
    anonsynth: str
    rules: AuditRules
    audit_sha256: Digest
    count_step: int = Field(ge=1)
    generated: Generated
    train_patients: int = Field(ge=0)
    holdout_patients: int = Field(ge=0)
    findings: tuple[PublicFinding, ...]
    samples: tuple[PublicSample, ...]
    controls: tuple[Control, ...]

    def finding(self, name: str) -> PublicFinding | None:
        """Return the finding called `name`, None if it is not there."""
        return next((finding for finding in self.findings if finding.id == name), None)

    def control(self, kind: str) -> Control:
        """Return the control called `kind`, with nothing planted if it is not there."""
        return next((c for c in self.controls if c.kind == kind), Control(kind=kind, planted=0, detected=0))


def read_audit(folder: Path) -> tuple[dict[str, Any], str]:
    """Return a private `audit.json` that satisfies the schema of audits, and its SHA-256.

    Raises:
        InputError: If there is none, it is unfinished or not what the schema says.
    """
    if (folder / UNFINISHED).exists():
        raise InputError(f"the audit in {folder.name} is unfinished", remedy="run the same `anonsynth audit` again")
    value: dict[str, Any] = read_json(folder / DOCUMENT)
    schema = json.loads((files("anonsynth.audits") / "schema" / DOCUMENT).read_text("utf-8"))
    error = next(iter(jsonschema.Draft202012Validator(schema).iter_errors(value)), None)
    if error is not None:
        place = "/".join(map(str, error.path)) or "the top"
        raise InputError(f"{DOCUMENT} in {folder.name} is none (at {place})", remedy="audit again")
    return value, sha256_file(folder / DOCUMENT)


def publish(audit: dict[str, Any], sha256: str, step: int) -> PublicAudit:
    """Return the public edition of an audit.

    Args:
        audit: A valid `audit.json`.
        sha256: Of its file.
        step: The policy's `count_step`.
    """
    inputs = audit["inputs"]
    generated = {key: inputs["synthetic"][key] for key in ("scans", "labelled", "skipped", "sha256")}
    plain = PublicAudit(
        anonsynth=inputs["anonsynth"],
        rules=AuditRules.model_validate(audit["policy"]["audit"]),
        audit_sha256=sha256,
        count_step=step,
        generated=Generated.model_validate(generated),
        train_patients=_down(inputs["train"]["patients"], step),
        holdout_patients=_down(inputs["holdout"]["patients"], step),
        findings=tuple(_plain(finding) for finding in audit["findings"]),
        samples=tuple(PublicSample(id=s["id"], flagged=s["flagged"]) for s in audit["samples"]),
        controls=tuple(
            Control(kind=c["kind"], planted=c["planted"], detected=c["detected"]) for c in audit["controls"]
        ),
    )
    return plain if step == 1 else _coarse(plain)


def _plain(finding: dict[str, Any]) -> PublicFinding:
    # The audit says p in words; the last one is that of the question itself, others before it belong to controls.
    said = [float(p) for p in _P.findall(finding["limits"])]
    if finding["id"] == "data-copying":  # C_T has a p-value too, and a fail needs both
        said = [max(said)] if said else []
    return PublicFinding(**finding, p_value=said[-1] if said else None)


def _coarse(audit: PublicAudit) -> PublicAudit:
    """Round numbers of patients down, and compute what follows from them anew; leave out what betrays them."""
    step, rules = audit.count_step, audit.rules
    controls = tuple(_rounded(control, step) for control in audit.controls if control.kind in (EXACT, NEGATIVE))
    exact = next((c for c in controls if c.kind == EXACT), Control(kind=EXACT, planted=0, detected=0))
    alarms = next((c for c in controls if c.kind == NEGATIVE), Control(kind=NEGATIVE, planted=0, detected=0))
    power = interval(exact.detected, exact.planted, rules.confidence)
    flagged = sum(sample.flagged for sample in audit.samples)
    unseen = unseen_rate(flagged, len(audit.samples), power[0], rules.confidence)
    computed: dict[str, dict[str, Any]] = {
        "power": {"value": _share(exact), "ci": power, "passes": power[0] >= rules.min_power},
        "unseen-copies": {"value": unseen, "ci": None, "passes": unseen <= rules.max_copy_rate},
        "false-alarms": {
            "value": _share(alarms),
            "ci": (low_high := interval(alarms.detected, alarms.planted, rules.confidence)),
            "passes": low_high[0] <= rules.q,
        },
    }
    held = audit.finding("holdout")
    count = _down(int(held.value or 0), step) if held else 0
    computed["holdout"] = {"value": float(count), "ci": None, "passes": count >= rules.min_holdout_patients}
    findings = tuple(_told(finding, computed.get(finding.id)) for finding in audit.findings)
    return audit.model_copy(update={"controls": controls, "findings": findings})


def _told(finding: PublicFinding, computed: dict[str, Any] | None) -> PublicFinding:
    if finding.id in ("copies", "copies-image", "copies-label", "coverage"):
        return finding  # of generated scans alone
    if finding.id == "split":
        return finding.model_copy(update={"limits": WITHHELD})
    if computed is None:
        hidden = {"value": None, "ci": None, "threshold": None, "statistic": WITHHELD, "limits": WITHHELD}
        return finding.model_copy(update=hidden)
    verdict = finding.verdict
    if verdict == "pass" and not computed["passes"]:
        verdict = "inconclusive"
    update = {"value": computed["value"], "ci": computed["ci"], "limits": WITHHELD, "verdict": verdict}
    return finding.model_copy(update=update)


def _rounded(control: Control, step: int) -> Control:
    """Round down what was planted; those that went unseen, or the false alarms, stay as many as they were."""
    planted = _down(control.planted, step)
    lost = control.planted - control.detected
    detected = min(control.detected, planted) if control.kind == NEGATIVE else max(planted - lost, 0)
    return Control(kind=control.kind, planted=planted, detected=detected)


def _share(control: Control) -> float | None:
    return control.detected / control.planted if control.planted else None


def _down(count: int, step: int) -> int:
    return count // step * step
