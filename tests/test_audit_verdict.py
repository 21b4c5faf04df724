from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files

import pytest

from anonsynth.audits.controls import EXACT, NEGATIVE
from anonsynth.audits.finding import (
    AuditDocument,
    ControlResult,
    Inputs,
    PolicyUsed,
    SampleResult,
    Side,
    Verdict,
    audit_schema,
    validated,
)
from anonsynth.audits.verdict import Domain, Evidence, conclude, findings, sentence
from anonsynth.errors import InternalError
from anonsynth.policies.model import AuditRules

RULES = AuditRules()
FINDING_KEYS = ("id", "question", "statistic", "value", "ci", "threshold", "verdict", "limits", "criteria")
IMAGES = Domain("image", 50, 0, calibrated=True)


def _controls(detected: int = 40, planted: int = 40, alarms: int = 0) -> tuple[ControlResult, ...]:
    return (
        ControlResult(kind=EXACT, planted=planted, detected=detected),
        ControlResult(kind=NEGATIVE, planted=40, detected=alarms, false_positive_rate=alarms / 40),
    )


CLEAN = Evidence(
    generated=50,
    skipped=0,
    flagged=0,
    domains=(IMAGES, Domain("label", 50, 0, calibrated=True)),
    controls=_controls(),
    train_patients=40,
    holdout_patients=12,
    shared=0,
)


@pytest.mark.parametrize(
    ("change", "verdict", "reason"),
    [
        ({}, Verdict.PASS, None),
        ({"flagged": 1}, Verdict.FAIL, "copies"),
        ({"flagged": 1, "holdout_patients": 3}, Verdict.FAIL, "copies"),
        ({"generated": 20}, Verdict.INCONCLUSIVE, "unseen-copies"),
        ({"controls": _controls(30, 40)}, Verdict.INCONCLUSIVE, "power"),
        ({"controls": _controls(12, 12)}, Verdict.INCONCLUSIVE, "power"),
        ({"controls": _controls(0, 40)}, Verdict.INCONCLUSIVE, "power"),
        ({"controls": _controls(alarms=12)}, Verdict.INCONCLUSIVE, "false-alarms"),
        ({"holdout_patients": 9}, Verdict.INCONCLUSIVE, "holdout"),
        ({"shared": 1}, Verdict.INCONCLUSIVE, "split"),
        ({"skipped": 2}, Verdict.INCONCLUSIVE, "coverage"),
        ({"domains": (Domain("label", 50, 0, calibrated=False),)}, Verdict.INCONCLUSIVE, "copies-label"),
        (
            {"domains": (IMAGES, Domain("label", 0, 0, calibrated=False))},
            Verdict.PASS,
            None,
        ),
    ],
)
def test_the_verdict_follows_from_the_evidence(change: dict, verdict: Verdict, reason: str | None) -> None:
    answers = findings(replace(CLEAN, **change), RULES)
    assert conclude(answers) is verdict
    if reason is not None:
        assert next(answer for answer in answers if answer.id == reason).verdict is verdict


def test_limits_say_what_could_have_gone_unseen_and_what_it_takes() -> None:
    def limits(change: dict, name: str) -> str:
        return next(answer for answer in findings(replace(CLEAN, **change), RULES) if answer.id == name).limits

    assert "6.4%" in limits({}, "unseen-copies")
    assert "needs 32 scans" in limits({"generated": 20}, "unseen-copies")
    assert "17 training patients" in limits({"controls": _controls(12, 12)}, "power")


@pytest.mark.parametrize(
    ("train", "holdout", "words"),
    [
        (9, 3, "takes 40 patients in place of 12, or 27 patients, 10 of them held out"),
        (6, 6, "takes 34 patients in place of 12, or 27 patients"),  # here the training side is the shorter one
        (100, 5, "takes 210 patients in place of 105, or 27 patients"),
        (12, 0, "the policy asks for 10; 27 patients, 10 of them held out would do"),
    ],
)
def test_too_few_patients_are_told_how_many_are_needed(train: int, holdout: int, words: str) -> None:
    answers = findings(replace(CLEAN, train_patients=train, holdout_patients=holdout), RULES)
    answer = next(answer for answer in answers if answer.id == "holdout")
    assert answer.verdict is Verdict.INCONCLUSIVE
    assert words in answer.limits


def _document(**change: object) -> AuditDocument:
    answers = findings(CLEAN, RULES)
    side = Side(patients=40, scans=40, labelled=40, sha256="0" * 64)
    values: dict[str, object] = {
        "verdict": conclude(answers),
        "policy": PolicyUsed(id="internal", version=1, audit=RULES),
        "inputs": Inputs(
            anonsynth="0",
            seed=0,
            grid_shape=(4, 4, 4),
            grid_spacing=(1, 1, 1),
            modalities=("T1w",),
            synthetic=side,
            train=side,
            holdout=side,
            sha256="0" * 64,
        ),
        "findings": answers,
        "samples": (SampleResult(id="a", nearest=None, similarity=None, p_value=1, q_value=1, flagged=False),),
        "controls": CLEAN.controls,
    }
    return AuditDocument.model_validate(values | change)


def test_the_shipped_schema_is_made_from_the_types() -> None:
    shipped = json.loads((files("anonsynth.audits") / "schema" / "audit.json").read_text("utf-8"))
    assert shipped == audit_schema()


def test_what_is_written_validates_and_is_the_contract() -> None:
    value = validated(_document())
    assert list(value) == ["schema", "verdict", "policy", "inputs", "findings", "samples", "controls"]
    assert value["schema"] == "anonsynth/audit/1"
    assert set(value["findings"][0]) == set(FINDING_KEYS)
    assert set(value["samples"][0]) == {"id", "nearest", "similarity", "p_value", "q_value", "flagged", "reasons"}
    assert set(value["controls"][0]) == {"kind", "planted", "detected", "false_positive_rate"}
    assert AuditDocument.model_validate(value) == _document()


def test_a_document_outside_the_schema_is_refused() -> None:
    broken = _document().model_copy(update={"verdict": "perhaps"})
    with pytest.warns(UserWarning, match="serializ"), pytest.raises(InternalError, match="verdict"):
        validated(broken)


def test_the_sentence_names_the_verdict_first() -> None:
    assert sentence(_document()).startswith("PASS: none of 1 generated scans")
    flagged = SampleResult(id="a", nearest="b", similarity=1, p_value=0, q_value=0, flagged=True)
    assert sentence(_document(verdict=Verdict.FAIL, samples=(flagged,))).startswith("FAIL: 1 of 1 generated scans")
    betrayed = _document().finding("copies").model_copy(update={"id": "linkage", "verdict": Verdict.FAIL})
    text = sentence(_document(verdict=Verdict.FAIL, findings=(*findings(CLEAN, RULES), betrayed)))
    assert text.startswith("FAIL: no generated scan was flagged, but")
    assert "(linkage)" in text
    few = findings(replace(CLEAN, holdout_patients=3), RULES)
    text = sentence(_document(verdict=Verdict.INCONCLUSIVE, findings=few))
    assert text.startswith("INCONCLUSIVE")
    assert "3 holdout patients" in text
