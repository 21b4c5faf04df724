"""A policy inherits rule by rule, overrides what it says itself, and can be compared with another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from anonsynth.audits.explain import EXPLANATIONS
from anonsynth.cli.main import app
from anonsynth.errors import UsageError
from anonsynth.policies.explain import differences
from anonsynth.policies.model import FINDINGS, load_policy, read_policy_text, shipped_policies


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(f"id: {path.stem}\ntitle: T\ndescription: D.\n{text}", "utf-8")
    return str(path)


def test_rules_are_inherited_one_by_one_and_lists_replaced(tmp_path: Path) -> None:
    base = load_policy("dp-standard")
    ours = load_policy(
        write(
            tmp_path,
            "ours.yaml",
            "extends: dp-standard\naudit:\n  q: 0.01\nrelease:\n  approvals: [board]\n",
        )
    )
    assert (ours.audit.q, base.audit.q) == (0.01, 0.05)
    assert ours.audit.min_holdout_patients == base.audit.min_holdout_patients == 20
    assert ours.synthesis == base.synthesis
    assert ours.release.approvals == ("board",)
    assert (ours.id, ours.title) == ("ours", "T")
    assert [a.key for a, _ in differences(ours, base)] == ["audit.q", "release.approvals"]


def test_a_file_extends_one_beside_it_and_a_circle_is_told(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", "audit:\n  q: 0.2\n")
    assert load_policy(write(tmp_path, "child.yaml", "extends: base.yaml\n")).audit.q == 0.2
    write(tmp_path, "one.yaml", "extends: two.yaml\n")
    with pytest.raises(UsageError, match="extends itself"):
        load_policy(write(tmp_path, "two.yaml", "extends: one.yaml\n"))
    with pytest.raises(UsageError, match="there is no policy"):
        load_policy(write(tmp_path, "lost.yaml", "extends: nobody\n"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("extends: dp-strict\nsynthesis:\n  epsilom: 2\n", "unknown key 'synthesis.epsilom'; did you mean 'epsilon'"),
        ("extends: dp-strict\nsynthesis:\n  epsilon: 0\n", "'synthesis.epsilon' is wrong"),
        ("release:\n  findings: [membershp]\n", "there is no finding 'membershp'; did you mean 'membership'?"),
        ("release:\n  findings: []\n", "'release.findings' is wrong"),
        ("audit: 3\nextends: internal\n", "'audit' is wrong"),
    ],
)
def test_a_typo_or_an_impossible_budget_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_policy(write(tmp_path, "mine.yaml", text))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_policies_of_the_issue_are_there_and_claim_no_compliance() -> None:
    assert set(shipped_policies()) == {
        "hipaa-expert-determination",
        "gdpr-anonymous",
        "dp-strict",
        "dp-standard",
        "research-exchange",
        "internal",
    }
    assert [load_policy(name).synthesis.epsilon for name in ("dp-strict", "dp-standard")] == [1, 8]
    for name in shipped_policies():
        text = read_policy_text(name).lower()
        assert "compliant" not in text
        assert "complies" not in text
        if name.startswith(("hipaa", "gdpr", "dp-")):
            assert "no compliance" in " ".join(text.split()) or "no legal compliance" in " ".join(text.split())


def test_every_finding_of_an_audit_can_be_required_and_no_other() -> None:
    assert set(FINDINGS) == set(EXPLANATIONS)


def test_the_command_says_what_differs() -> None:
    ended = CliRunner().invoke(app, ["policy", "diff", "dp-strict", "dp-standard", "--json"])
    assert [rule["key"] for rule in json.loads(ended.stdout)["rules"]] == ["synthesis.epsilon"]
    assert "synthesis.epsilon" in CliRunner().invoke(app, ["policy", "diff", "dp-strict", "dp-standard"]).stdout
