"""Every finding that an audit can make is explained."""

from __future__ import annotations

import pytest
from test_audit_verdict import CLEAN, RULES
from typer.testing import CliRunner

from anonsynth.audits.explain import EXPLANATIONS, explain
from anonsynth.audits.verdict import FURTHER, findings
from anonsynth.cli.main import app
from anonsynth.errors import UsageError


def test_every_finding_is_explained_and_nothing_else() -> None:
    described = {"authenticity", "variety"}
    assert {finding.id for finding in findings(CLEAN, RULES)} | set(FURTHER) | described == set(EXPLANATIONS)


def test_the_command_explains_without_an_audit() -> None:
    result = CliRunner().invoke(app, ["audit", "--explain", "power"])
    assert result.exit_code == 0
    for title in ("means: ", "computed: ", "source: "):
        assert title in result.stdout


def test_an_unknown_finding_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="unseen-copies"):
        explain("luck")
