"""A tiny release from a real run: a model of two steps, four scans, their audit; and the evidence of larger ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from conftest import make_tiny_cohort
from scipy import stats

from anonsynth.audits.audit import AuditSettings, audit
from anonsynth.policies.model import AuditRules, Policy, load_policy
from anonsynth.progress import Progress
from anonsynth.release.build import ReleaseSettings
from anonsynth.release.facts import LedgerFacts, ModelFacts
from anonsynth.release.gate import Evidence
from anonsynth.release.public_audit import PublicAudit, publish
from anonsynth.release.substitute import generate
from anonsynth.synthesis.settings import GenerateSettings, PerformanceSettings, TrainSettings
from anonsynth.synthesis.train import train

QUIET = Progress(quiet=True)
ASKED = (
    "copies",
    "copies-image",
    "copies-label",
    "unseen-copies",
    "power",
    "false-alarms",
    "holdout",
    "split",
    "coverage",
)
TINY: dict[str, Any] = {
    "id": "tiny",
    "title": "For the tests",
    "description": "Thresholds that a dozen patients can meet.",
    "audit": {"max_copy_rate": 0.9, "min_power": 0.3, "min_holdout_patients": 3},
    "release": {"findings": ASKED, "approvals": ["officer"]},
}
DIGEST = "a" * 64


@dataclass(frozen=True)
class Run:
    """Folders of a run that ended with an audit."""

    root: Path

    @property
    def policy_file(self) -> Path:
        return self.root / "tiny.yaml"

    @property
    def policy(self) -> Policy:
        return load_policy(str(self.policy_file))

    def settings(self, out: Path, **changed: object) -> ReleaseSettings:
        given: dict[str, Any] = {
            "synthetic": self.root / "synthetic",
            "audits": (self.root / "audit",),
            "model": self.root / "model",
            "out": out,
            "cohort": None,
            "override": None,
            "approvals": {"officer": "J. Doe"},
        }
        return ReleaseSettings(**(given | changed))


def make_run(root: Path) -> Run:
    """Train, generate and audit on twelve made-up patients; about twenty seconds of one core."""
    cohort = make_tiny_cohort(root / "Doe_Jane_1970" / "cohort")
    run = Run(root)
    run.policy_file.write_text(yaml.safe_dump(TINY), "utf-8")
    small, slow = TrainSettings(steps=2, batch=1, width=8, style=2), PerformanceSettings(device="cpu")
    train(cohort, small, run.policy, root / "model", slow, QUIET)
    generate(GenerateSettings(model=root / "model", out=root / "synthetic", count=4, seed=1), QUIET, device="cpu")
    settings = AuditSettings(root / "synthetic", root / "audit", cohort=cohort.folder, weaker_copies=0, curve_copies=0)
    audit(settings, run.policy, QUIET)
    return run


def exact(found: int, of: int, confidence: float) -> tuple[float, float]:
    """Clopper-Pearson by another way than the code under test."""
    bounds = stats.binomtest(found, of).proportion_ci(confidence, method="exact")
    return float(bounds.low), float(bounds.high)


def audit_document(
    rules: AuditRules, *, scans: int = 200, train: int = 80, holdout: int = 40, flagged: int = 0, p: float = 0.4
) -> dict[str, Any]:
    """An `audit.json` whose numbers and verdicts are computed here, apart from both audits and release."""
    low, high = exact(train, train, rules.confidence)
    unseen = min(1.0, float(stats.beta.ppf(rules.confidence, flagged + 1, scans - flagged)) / low)
    leaks = p <= rules.max_false_fail / 8
    copied = "fail" if flagged else "pass"
    calm = exact(0, train, rules.confidence)

    def finding(name: str, value: float | None, verdict: str, **more: object) -> dict[str, Any]:
        plain = {"question": "?", "statistic": "s", "ci": None, "threshold": 0.0, "limits": "none", "criteria": []}
        return {"id": name, "value": value, "verdict": verdict, **plain, **more}

    def enough(held: bool) -> str:
        return "pass" if held else "inconclusive"

    share = flagged / scans
    found = [
        finding("copies", share, copied, ci=exact(flagged, scans, rules.confidence)),
        finding("copies-image", share, copied),
        finding("copies-label", 0.0, "pass"),
        finding("unseen-copies", unseen, enough(unseen <= rules.max_copy_rate), threshold=rules.max_copy_rate),
        finding("power", 1.0, enough(low >= rules.min_power), ci=(low, high), threshold=rules.min_power),
        finding("false-alarms", 0.0, "pass", ci=calm, threshold=rules.q),
        finding(
            "holdout",
            float(holdout),
            enough(holdout >= rules.min_holdout_patients),
            threshold=float(rules.min_holdout_patients),
        ),
        finding("split", 0.0, "pass"),
        finding("coverage", 1.0, "pass", threshold=1.0),
        finding("authenticity", 0.5, "pass", threshold=None),
    ]
    for name in ("data-copying", "membership", "membership-few", "linkage", "inference", "singling-out"):
        verdict = "fail" if leaks else enough(holdout >= rules.min_holdout_patients)
        found.append(finding(name, 0.6, verdict, ci=(0.55, 0.7), threshold=0.5, limits=f"p = {p:.2g} for 4 attacks"))
    side = {"patients": scans, "scans": scans, "labelled": scans, "skipped": 0, "sha256": DIGEST}
    verdicts = {entry["verdict"] for entry in found}
    return {
        "schema": "anonsynth/audit/1",
        "verdict": next(word for word in ("fail", "inconclusive", "pass") if word in verdicts),
        "policy": {"id": "made", "version": 1, "audit": rules.model_dump(mode="json")},
        "inputs": {
            "anonsynth": "0.1.0",
            "seed": 0,
            "grid_shape": [8, 8, 8],
            "grid_spacing": [1, 1, 1],
            "modalities": ["T1w"],
            "synthetic": side,
            "train": side | {"patients": train},
            "holdout": side | {"patients": holdout},
            "sha256": DIGEST,
        },
        "findings": found,
        "samples": [
            {
                "id": f"synth{number:04d}",
                "nearest": "P0001-S01",
                "similarity": 0.5,
                "p_value": 0.5,
                "q_value": 0.5,
                "flagged": number < flagged,
                "reasons": [],
            }
            for number in range(scans)
        ],
        "controls": [
            {"kind": "exact copy", "planted": train, "detected": train, "false_positive_rate": None},
            {"kind": "negative", "planted": train, "detected": 0, "false_positive_rate": 0.0},
        ],
    }


def model_facts(**changed: object) -> ModelFacts:
    """Facts of a model with ε = 0.9 from the shape of a private prior."""
    ledger = LedgerFacts(paired=True, statement="ε = 0.9", epsilon=0.9, delta=1e-3, unprotected=0, head="b" * 64)
    given: dict[str, Any] = {
        "anonsynth": "0.1.0",
        "model_sha256": DIGEST,
        "modalities": ("T1w",),
        "shape": (8, 8, 8),
        "spacing": (1.0, 1.0, 1.0),
        "labels": ((1, "body"),),
        "prior": "private",
        "prior_reason": "asked for",
        "guarantee": "differentially private",
        "epsilon": 0.9,
        "delta": 1e-3,
        "paragraph": "Differential privacy.",
        "unprotected": (),
        "ledger": ledger,
    }
    return ModelFacts(**(given | changed))


def published(policy: Policy, **numbers: Any) -> PublicAudit:
    return publish(audit_document(policy.audit, **numbers), DIGEST, policy.release.count_step)


def evidence(policy: Policy, *audits: PublicAudit, **changed: object) -> Evidence:
    """What a release that passes is judged by; `changed` breaks it."""
    model = model_facts(**changed)
    approvals = dict.fromkeys(policy.release.approvals, "J. Doe")
    return Evidence(audits or (published(policy),), model, DIGEST, (), approvals)
