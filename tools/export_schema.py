"""Write policies/data/policy.schema.json from the model; a test fails when the two differ."""

from __future__ import annotations

from pathlib import Path

from anonsynth.files import write_json
from anonsynth.policies.explain import policy_schema

if __name__ == "__main__":
    target = Path(__file__).resolve().parent.parent / "policies" / "data" / "policy.schema.json"
    write_json(target, policy_schema())
    print(target.name)
