"""A policy in words: every rule, its value, what it does and what it rests on; and the schema of all policies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pydantic import BaseModel

from anonsynth.policies.model import Policy

__all__ = ["Line", "differences", "explain", "policy_schema"]


@dataclass(frozen=True, slots=True)
class Line:
    """One rule of a policy.

    Attributes:
        key: Its place in the YAML, `audit.q`.
        value: Its value in this policy, or the default of a rule that the file leaves out.
        given: Whether the file writes it.
        meaning: What it does.
        rests_on: The finding, method or choice behind it.
    """

    key: str
    value: str
    given: bool
    meaning: str
    rests_on: str


def explain(policy: Policy) -> tuple[Line, ...]:
    """Return every rule of `policy`, in the order of the YAML.

    Example:
        >>> explain(Policy(id="mine", title="Mine", description="For me.")) [2].key
        'deidentification.dates'
    """
    return tuple(_lines(policy, ""))


def differences(one: Policy, other: Policy) -> tuple[tuple[Line, Line], ...]:
    """Return the rules in which two policies differ, each as it stands in either.

    Example:
        >>> mine = Policy(id="mine", title="Mine", description="For me.")
        >>> yours = mine.model_copy(update={"audit": mine.audit.model_copy(update={"q": 0.1})})
        >>> [(a.key, a.value, b.value) for a, b in differences(mine, yours)]
        [('audit.q', '0.05', '0.1')]
    """
    pairs = zip(explain(one), explain(other), strict=True)
    return tuple((a, b) for a, b in pairs if a.value != b.value)


def policy_schema() -> dict[str, Any]:
    """Return the JSON Schema that every policy file satisfies; `policies/data/policy.schema.json` holds the same."""
    schema = Policy.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _lines(rules: BaseModel, prefix: str) -> Iterator[Line]:
    for name, field in type(rules).model_fields.items():
        value = getattr(rules, name)
        if isinstance(value, BaseModel):
            yield from _lines(value, f"{name}.")
            continue
        extra = field.json_schema_extra
        if isinstance(extra, dict) and "rests_on" in extra:
            given = name in rules.model_fields_set
            yield Line(f"{prefix}{name}", _words(value), given, field.description or "", str(extra["rests_on"]))


def _words(value: object) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Enum):
        return str(value.value)
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
