"""Policies: shipped ones are valid and explained, a site's own are checked with a sentence that helps."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
import yaml
from pydantic import ValidationError

from anonsynth.errors import UsageError
from anonsynth.policies.explain import explain, policy_schema
from anonsynth.policies.model import Policy, load_policy, read_policy_text, shipped_policies

SMALLEST = "id: mine\ntitle: Mine\ndescription: For me.\n"


def write(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text, "utf-8")
    return str(path)


def test_the_written_schema_is_the_models() -> None:
    written = json.loads((files("anonsynth.policies") / "data" / "policy.schema.json").read_text("utf-8"))
    assert written == policy_schema(), "run tools/export_schema.py"
    jsonschema.Draft202012Validator.check_schema(written)


@pytest.mark.parametrize("name", shipped_policies())
def test_a_shipped_policy_is_valid_and_named_after_its_file(name: str) -> None:
    assert load_policy(name).id == name
    jsonschema.validate(yaml.safe_load(read_policy_text(name)), policy_schema())


@pytest.mark.parametrize("name", shipped_policies())
def test_every_rule_is_explained_with_what_it_rests_on(name: str) -> None:
    policy = load_policy(name)
    lines = {line.key: line for line in explain(policy)}
    rules = {
        f"{part}.{rule}"
        for part in ("cohort", "deidentification", "synthesis", "audit", "release")
        for rule in type(getattr(policy, part)).model_fields
    }
    assert set(lines) == rules
    assert all(line.meaning.endswith(".") and line.rests_on.endswith(".") for line in lines.values())
    assert lines["audit.min_holdout_patients"].given
    assert not lines["audit.q"].given


def test_a_rule_left_out_has_its_default(tmp_path: Path) -> None:
    policy = load_policy(write(tmp_path, SMALLEST))
    assert policy.audit.q == 0.05
    assert policy == Policy(id="mine", title="Mine", description="For me.")


def test_a_policy_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_policy("internal").audit.q = 0.5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (SMALLEST + "audits:\n  q: 0.1\n", "unknown key 'audits'; did you mean 'audit'"),
        (SMALLEST + "audit:\n  min_powr: 0.1\n", "unknown key 'audit.min_powr'; did you mean 'min_power'"),
        (SMALLEST + "audit:\n  zzz: 0.1\n", "known are: q, max_copy_rate"),
        (SMALLEST + "audit:\n  q: 2\n", "'audit.q' is wrong: input should be less than 1"),
        (SMALLEST + "cohort:\n  duplicates: drop\n", "'cohort.duplicates' is wrong"),
        ("id: mine\ntitle: Mine\n", "no 'description'"),
        ("id: Mine!\ntitle: Mine\ndescription: x\n", "'id' is wrong"),
        ("audit: [\n", "no readable YAML"),
        ("just words\n", "holds no keys"),
        ("", "holds no keys"),
    ],
)
def test_a_wrong_policy_is_told_in_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_policy(write(tmp_path, text))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'internal'"):
        load_policy("intrnal")
    with pytest.raises(
        UsageError, match="shipped are: dp-standard, dp-strict, gdpr-anonymous, hipaa-expert-determination, internal,"
    ):
        load_policy("zzz")


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UsageError, match="UTF-8"):
        load_policy(str(path))


def test_yaml_cannot_run_anything(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="YAML"):
        load_policy(write(tmp_path, "!!python/object/apply:os.system ['true']\n"))
