"""The gate: every shipped policy lets good evidence through, and nothing that is missing, failed or unsure."""

from __future__ import annotations

from dataclasses import replace

import pytest
from release_making import DIGEST, audit_document, evidence, exact, model_facts, published

from anonsynth.audits.calibration import exact_interval, upper_bound
from anonsynth.audits.verdict import FURTHER as QUESTIONS
from anonsynth.policies.model import NEEDS_MODEL, AuditRules, Policy, load_policy, shipped_policies
from anonsynth.release.facts import LedgerFacts
from anonsynth.release.gate import judge, verdict_of
from anonsynth.release.numbers import FURTHER, interval, unfounded, unseen_rate
from anonsynth.release.public_audit import PublicAudit, PublicFinding, publish

GDPR = load_policy("gdpr-anonymous")


def refused(policy: Policy, *audits: PublicAudit, **changed: object) -> dict[str, str]:
    checks = judge(evidence(policy, *audits, **changed), policy)
    return {check.id: check.says for check in checks if check.verdict != "pass"}


def change(audit: PublicAudit, name: str, **update: object) -> PublicAudit:
    findings = tuple(f.model_copy(update=update) if f.id == name else f for f in audit.findings)
    return audit.model_copy(update={"findings": findings})


@pytest.mark.parametrize("name", shipped_policies())
def test_a_shipped_policy_passes_good_evidence_and_fails_bad(name: str) -> None:
    policy = load_policy(name)
    assert refused(policy) == {}
    assert verdict_of(judge(evidence(policy), policy)) == "pass"
    copied = published(policy, flagged=3)
    assert "'copies' is fail, which is no pass" in refused(policy, copied)["finding:copies"]
    assert "finding:membership" in refused(policy, published(policy, p=1e-5)), "a leak that was seen, required or not"
    few = refused(policy, published(policy, holdout=4, train=8))
    assert {"finding:power", "finding:holdout"} <= set(few)
    assert ("patients" in few) == (policy.cohort.min_patients > 12)


@pytest.mark.parametrize("name", ["dp-strict", "dp-standard"])
def test_a_budget_is_held_against_the_model_and_the_whole_ledger(name: str) -> None:
    policy = load_policy(name)
    allowed = policy.synthesis.epsilon or 0.0
    dear = model_facts().ledger
    assert dear is not None
    assert set(refused(policy, epsilon=allowed + 0.01)) == {"epsilon"}
    assert set(refused(policy, ledger=dear.model_copy(update={"epsilon": allowed + 0.01}))) == {"ledger"}
    assert set(refused(policy, ledger=dear.model_copy(update={"unprotected": 1}))) == {"ledger"}
    assert set(refused(policy, ledger=dear.model_copy(update={"paired": False}))) == {"ledger"}
    assert "name the cohort with --cohort" in refused(policy, ledger=None)["ledger"]
    bare = refused(policy, guarantee="no guarantee", epsilon=None, unprotected=("weights",), prior="shape")
    assert {"guarantee", "prior"} <= set(bare)
    assert "anonsynth train COHORT" in bare["guarantee"]
    assert refused(policy, guarantee="public", epsilon=0.0, prior="atlas", ledger=None) == {}


@pytest.mark.parametrize("name", GDPR.release.findings)
def test_each_required_finding_has_to_be_there_and_to_pass(name: str) -> None:
    whole = published(GDPR)
    missing = whole.model_copy(update={"findings": tuple(f for f in whole.findings if f.id != name)})
    said = refused(GDPR, missing)
    assert f"the policy requires the finding '{name}' and no audit holds it; run `anonsynth audit" in str(said)
    for verdict in ("fail", "inconclusive"):
        assert f"finding:{name}" in refused(GDPR, change(whole, name, verdict=verdict)), verdict
    # The worst of several audits counts, in either order.
    worse = change(whole, name, verdict="inconclusive")
    assert f"finding:{name}" in refused(GDPR, whole, worse)
    assert f"finding:{name}" in refused(GDPR, worse, whole)


def test_an_audit_of_other_files_or_by_other_thresholds_is_none() -> None:
    whole = published(GDPR)
    other = whole.model_copy(update={"generated": whole.generated.model_copy(update={"sha256": "0" * 64})})
    assert list(refused(GDPR, other)) == ["audit-1-files"]
    lax = published(GDPR.model_copy(update={"audit": AuditRules(max_copy_rate=0.5, min_holdout_patients=2)}))
    assert "audit-1-thresholds" in refused(GDPR, lax)
    found = evidence(GDPR)
    assert [c.id for c in judge(replace(found, audits=()), GDPR) if c.id == "audit"] == ["audit"]
    blind = judge(replace(found, unaudited=("sub-synth0001/anat/x.nii.gz",)), GDPR)
    assert verdict_of(blind) == "fail"
    assert verdict_of(()) == "inconclusive", "nothing asked is nothing shown"


def test_everybody_who_has_to_approves() -> None:
    policy = load_policy("hipaa-expert-determination")
    found = replace(evidence(policy), approvals={"expert": "J. Doe", "privacy officer": " "})
    assert [c.id for c in judge(found, policy) if c.verdict != "pass"] == ["approval:privacy officer"]


def test_weights_that_were_not_attacked_are_asked_for_with_the_model() -> None:
    wanted = GDPR.release.model_copy(update={"findings": (*GDPR.release.findings, *NEEDS_MODEL)})
    policy = GDPR.model_copy(update={"release": wanted})
    assert "--cohort COHORT --model MODEL" in refused(policy)["finding:reconstruction"]


@pytest.mark.parametrize(
    ("name", "update"),
    [
        ("copies", {"value": 0.1}),
        ("unseen-copies", {"value": 0.001}),
        ("unseen-copies", {"threshold": 0.9}),
        ("power", {"ci": (0.99, 1.0)}),
        ("false-alarms", {"ci": (0.0, 0.01)}),
        ("holdout", {"value": 400.0}),
        ("holdout", {"threshold": 2.0}),
        ("split", {"value": 1.0}),
        ("coverage", {"value": 0.9}),
        ("membership", {"p_value": 1e-6}),
        ("membership", {"p_value": None}),
        ("authenticity", {"verdict": "fail"}),
    ],
)
def test_numbers_that_do_not_carry_their_verdict_are_seen(name: str, update: dict[str, object]) -> None:
    policy = load_policy("research-exchange")
    whole = published(policy)
    assert all(unfounded(finding, whole) is None for finding in whole.findings)
    edited = change(whole, name, **update)
    finding = edited.finding(name)
    assert finding is not None
    assert unfounded(finding, edited) is not None


def test_every_verdict_of_three_is_recomputed_from_counts() -> None:
    policy = load_policy("research-exchange")
    for numbers in ({}, {"flagged": 2}, {"holdout": 5}, {"train": 8}, {"p": 1e-6}):
        audit = published(policy, **numbers)
        assert [f.id for f in audit.findings if unfounded(f, audit)] == [], numbers
        for finding in audit.findings:
            if finding.id in ("copies", "power", "unseen-copies", "holdout"):
                for lie in {"pass", "fail", "inconclusive"} - {finding.verdict}:
                    false: PublicFinding = finding.model_copy(update={"verdict": lie})
                    assert unfounded(false, audit) is not None, (numbers, finding.id, lie)


def test_the_arithmetic_is_that_of_two_others() -> None:
    assert set(FURTHER) == set(QUESTIONS)
    for found, of in ((0, 20), (3, 20), (20, 20), (1, 1), (0, 0)):
        theirs = exact_interval(found, of, 0.95)
        assert interval(found, of, 0.95) == pytest.approx((theirs.low, theirs.high))
        if of:
            assert interval(found, of, 0.95) == pytest.approx(exact(found, of, 0.95))
    assert unseen_rate(1, 50, 0.5, 0.95) == pytest.approx(upper_bound(1, 50, 0.95) / 0.5)
    assert unseen_rate(0, 50, 0.0, 0.95) == unseen_rate(0, 0, 1.0, 0.95) == 1


def test_coarse_numbers_tell_no_count_and_never_help() -> None:
    rules = AuditRules(max_copy_rate=0.1)
    document = audit_document(rules, train=87, holdout=31)
    document["findings"][-1]["limits"] = "p = 0.4; 87 training and 31 holdout patients"
    coarse = publish(document, DIGEST, 20)
    assert (coarse.train_patients, coarse.holdout_patients) == (80, 20)
    told = coarse.model_dump_json(exclude={"generated", "samples", "rules", "audit_sha256"})
    low, _ = exact(87, 87, 0.95)
    for private in ("87", "31", f"{low:.6f}"):
        assert private not in told
    power = coarse.finding("power")
    assert power is not None
    assert power.ci == pytest.approx(exact(80, 80, 0.95))
    assert all(unfounded(finding, coarse) is None for finding in coarse.findings)
    # 25 holdout patients are enough for 22, but 20 of them are not: the public verdict follows the public number.
    strict = audit_document(AuditRules(min_holdout_patients=22), holdout=25)
    held = publish(strict, DIGEST, 20).finding("holdout")
    assert held is not None
    assert (held.value, held.verdict) == (20.0, "inconclusive")


def test_a_ledger_that_tells_no_bound_is_no_bound() -> None:
    policy = load_policy("dp-standard")
    unknown = LedgerFacts(paired=True, statement="∞", epsilon=None, delta=None, unprotected=0, head="")
    assert "unbounded" in refused(policy, ledger=unknown)["ledger"]
