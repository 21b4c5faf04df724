"""The gate: everything that a policy asks for is there, was made on exactly these files, and passes; or it stays shut.

It looks at nothing but what will be published, so that `anonsynth verify` asks the same questions of the same documents
and has to come to the same answers. Reading: `judge` puts every question; `Check` is an answer. Anything but `pass` is
a refusal, `inconclusive` too; only `--override-reason` opens the gate then, and the answers stay what they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from anonsynth.policies.model import NEEDS_MODEL, Policy
from anonsynth.release.facts import ModelFacts
from anonsynth.release.numbers import unfounded
from anonsynth.release.public_audit import PublicAudit, PublicFinding, Verdict

__all__ = ["Check", "Evidence", "judge", "verdict_of"]

ROUNDED = 5e-4
"""ε is told with three decimals, rounded up."""


class Check(BaseModel):
    """One question of the gate and its answer.

    Attributes:
        id: Stable name; `finding:copies` for a finding.
        verdict: As of a finding.
        says: One sentence without a full stop: what is there, or what is missing and the command that makes it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    verdict: Verdict
    says: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a release is judged by; all of it is published.

    Attributes:
        audits: Public editions of the audits.
        model: Facts of the model.
        generated_sha256: Hash over the scans to be released, as audits compute it.
        unaudited: NIfTI files to be released that no audit would look at.
        approvals: Names by role.
    """

    audits: tuple[PublicAudit, ...]
    model: ModelFacts
    generated_sha256: str
    unaudited: tuple[str, ...]
    approvals: Mapping[str, str]


def judge(evidence: Evidence, policy: Policy) -> tuple[Check, ...]:
    """Put every question that the policy asks; the answers in a fixed order."""
    return (
        *_audits(evidence, policy),
        *(_finding(name, evidence.audits, policy) for name in policy.release.findings),
        *_worse(evidence.audits, policy),
        _patients(evidence.audits, policy),
        _prior(evidence.model, policy),
        *_guarantee(evidence.model, policy),
        *(_approval(role, evidence.approvals) for role in policy.release.approvals),
    )


def verdict_of(checks: Sequence[Check]) -> Verdict:
    """Return the worst verdict; `fail` is worse than `inconclusive`, and nothing asked is no pass."""
    verdicts = {check.verdict for check in checks}
    if "fail" in verdicts:
        return "fail"
    return "pass" if verdicts == {"pass"} else "inconclusive"


def _command(policy: Policy, name: str = "") -> str:
    model = " --model MODEL" if name in NEEDS_MODEL else ""
    return f"anonsynth audit SYNTHETIC --cohort COHORT{model} --policy {policy.id} --out AUDIT"


def _audits(evidence: Evidence, policy: Policy) -> Iterator[Check]:
    make = _command(policy)
    if not evidence.audits:
        yield Check(id="audit", verdict="fail", says=f"there is no audit; run `{make}`")
    for number, audit in enumerate(evidence.audits, start=1):
        same = audit.generated.sha256 == evidence.generated_sha256
        yield Check(
            id=f"audit-{number}-files",
            verdict="pass" if same else "fail",
            says="the audit was made on exactly these scans and label maps"
            if same
            else f"the audit was made on other files than those to be released; run `{make}`",
        )
        same = audit.rules == policy.audit
        yield Check(
            id=f"audit-{number}-thresholds",
            verdict="pass" if same else "fail",
            says="the audit was judged by this policy's thresholds"
            if same
            else f"the audit was judged by other thresholds than this policy's; run `{make}`",
        )
    if evidence.unaudited:
        first, more = evidence.unaudited[0], len(evidence.unaudited) - 1
        also = f" and {more} more" if more else ""
        says = f"{first}{also} would be released and no audit looks at it; take it out, or generate again"
        yield Check(id="audit-covers", verdict="fail", says=says)


def _finding(name: str, audits: Sequence[PublicAudit], policy: Policy) -> Check:
    """Answer for one required finding: the worst of all audits that hold it counts, never the best of several."""
    found = [(audit, finding) for audit in audits for finding in audit.findings if finding.id == name]
    if not found:
        says = f"the policy requires the finding '{name}' and no audit holds it; run `{_command(policy, name)}`"
        return Check(id=f"finding:{name}", verdict="fail", says=says)
    for audit, finding in found:
        why = unfounded(finding, audit)
        if why is not None:
            says = f"'{name}' says {finding.verdict}, which does not follow from its numbers: {why}"
            return Check(id=f"finding:{name}", verdict="fail", says=says)
    worst = max((finding for _, finding in found), key=_badness)
    if worst.verdict == "pass":
        return Check(id=f"finding:{name}", verdict="pass", says=f"'{name}' passes")
    remedy = (
        "train or generate anew: what leaked cannot be taken back"
        if worst.verdict == "fail"
        else f"more patients or more scans, then `{_command(policy, name)}`"
    )
    says = f"'{name}' is {worst.verdict}, which is no pass ({worst.limits}); {remedy}"
    return Check(id=f"finding:{name}", verdict=worst.verdict, says=says)


def _worse(audits: Sequence[PublicAudit], policy: Policy) -> Iterator[Check]:
    """Refuse what failed even where the policy does not require it: a leak that was seen is one."""
    required = set(policy.release.findings)
    for audit in audits:
        for finding in audit.findings:
            if finding.verdict == "fail" and finding.id not in required:
                says = f"'{finding.id}' failed; the policy does not require it, but a leak that was seen is one"
                yield Check(id=f"finding:{finding.id}", verdict="fail", says=says)


def _badness(finding: PublicFinding) -> int:
    return ("pass", "inconclusive", "fail").index(finding.verdict)


def _patients(audits: Sequence[PublicAudit], policy: Policy) -> Check:
    # Rounded numbers may fall below the least that the policy asks for; ingest has asked for the exact one.
    least, step = policy.cohort.min_patients, policy.release.count_step
    there = min((audit.train_patients + audit.holdout_patients for audit in audits), default=0)
    enough = there >= least - (2 * (step - 1))
    says = f"{there} patients were compared" + ("" if step == 1 else " at least, in rounded numbers")
    if not enough:
        says += f", and the policy asks for {least}; ingest more patients"
    return Check(id="patients", verdict="pass" if enough else "fail", says=says)


def _prior(model: ModelFacts, policy: Policy) -> Check:
    allowed = model.prior in policy.synthesis.priors
    says = f"label maps were drawn from the {model.prior} prior"
    if not allowed:
        names = ", ".join(policy.synthesis.priors)
        says += f", and the policy allows {names}; run `anonsynth train COHORT --policy {policy.id} --out MODEL`"
    return Check(id="prior", verdict="pass" if allowed else "fail", says=says)


def _guarantee(model: ModelFacts, policy: Policy) -> Iterator[Check]:
    rules = policy.synthesis
    train = f"anonsynth train COHORT --policy {policy.id} --epsilon E --out MODEL"
    if rules.guarantee:
        held = model.guarantee != "no guarantee" and not model.unprotected
        says = (
            f"the model is {model.guarantee}, and tells nothing else"
            if held
            else f"the policy asks for a guarantee and the model has none as a whole; run `{train}`"
        )
        yield Check(id="guarantee", verdict="pass" if held else "fail", says=says)
    if rules.epsilon is None or (model.guarantee == "public" and model.epsilon == 0):
        return
    if model.guarantee == "differentially private":
        yield _epsilon("epsilon", model.epsilon, rules.epsilon, "this model", train)
    if not (rules.guarantee or model.guarantee == "differentially private"):
        return
    ledger = model.ledger
    if ledger is None:
        says = "the policy limits what all models of a cohort cost together; name the cohort with --cohort COHORT"
        yield Check(id="ledger", verdict="fail", says=says)
        return
    if not ledger.paired or (rules.guarantee and ledger.unprotected):
        says = (
            f"the cohort's ledger holds {ledger.unprotected} steps without a mechanism, which nothing makes good"
            if ledger.paired
            else "the cohort's ledger does not show that this model was trained there; name the right --cohort"
        )
        yield Check(id="ledger", verdict="fail", says=says)
        return
    yield _epsilon("ledger", ledger.epsilon, rules.epsilon, "everything in the cohort's ledger together", train)


def _epsilon(name: str, spent: float | None, allowed: float, what: str, train: str) -> Check:
    held = spent is not None and spent <= allowed + ROUNDED
    told = "an unbounded ε" if spent is None else f"ε = {spent:g}"
    says = f"{what} costs {told}, and the policy allows {allowed:g}"
    return Check(id=name, verdict="pass" if held else "fail", says=says if held else f"{says}; run `{train}`")


def _approval(role: str, approvals: Mapping[str, str]) -> Check:
    name = approvals.get(role, "").strip()
    says = f"approved by {name}, {role}" if name else f"the {role} has to approve; add --approve '{role}=NAME'"
    return Check(id=f"approval:{role}", verdict="pass" if name else "fail", says=says)
