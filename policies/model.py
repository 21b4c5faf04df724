"""A policy as a value: read from YAML, checked, immutable."""

from __future__ import annotations

import difflib
from enum import StrEnum
from importlib.resources import files
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from anonsynth.errors import UsageError

__all__ = ["AuditRules", "CohortRules", "Duplicates", "Policy", "SynthesisRules", "load_policy", "shipped_policies"]


class Duplicates(StrEnum):
    """What happens when one image is found under two identifiers."""

    MERGE = "merge"
    REFUSE = "refuse"


class _Rules(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CohortRules(_Rules):
    """What ingest does where a choice has to be made.

    Attributes:
        duplicates: `merge` makes one patient of both identifiers; `refuse` quarantines every scan of both.
        min_patients: Fewer usable patients than this and ingest refuses.
    """

    duplicates: Duplicates = Duplicates.MERGE
    min_patients: int = Field(default=4, ge=2)


class SynthesisRules(_Rules):
    """What the label prior and the training may use.

    Attributes:
        priors: Label priors that are allowed, in order of preference.
        guarantee: Whether every spending step has to carry a differential privacy guarantee.
    """

    priors: tuple[str, ...] = ("atlas", "shape")
    guarantee: bool = False


class AuditRules(_Rules):
    """What the audit has to show.

    Attributes:
        q: False-discovery rate at which a generated scan is flagged.
        max_copy_rate: Largest rate of copied scans that the policy tolerates not having seen.
        confidence: Level of every interval.
        min_power: Least detection rate of the planted exact copies (lower end of the interval).
        min_holdout_patients: Fewer holdout patients than this and the verdict is `inconclusive`.
    """

    q: float = Field(default=0.05, gt=0, lt=1)
    max_copy_rate: float = Field(default=0.10, gt=0, lt=1)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    min_power: float = Field(default=0.8, gt=0, le=1)
    min_holdout_patients: int = Field(default=10, ge=2)


class Policy(_Rules):
    """What may be kept, what may be spent, what must be shown before release. It claims no legal compliance."""

    id: str
    version: int = 1
    title: str
    description: str
    cohort: CohortRules = CohortRules()
    synthesis: SynthesisRules = SynthesisRules()
    audit: AuditRules = AuditRules()


def shipped_policies() -> tuple[str, ...]:
    """Return the identifiers of the policies in the package, sorted."""
    folder = files("anonsynth.policies") / "data"
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")))


def load_policy(name_or_path: str) -> Policy:
    """Load a shipped policy by its identifier, or a YAML file.

    Raises:
        UsageError: If there is none of that name, or a key or value is wrong; the nearest known one is named.
    """
    if name_or_path in shipped_policies():
        text = (files("anonsynth.policies") / "data" / f"{name_or_path}.yaml").read_text("utf-8")
    elif Path(name_or_path).is_file():
        text = Path(name_or_path).read_text("utf-8")
    else:
        near = difflib.get_close_matches(name_or_path, shipped_policies(), 1)
        hint = f"; did you mean '{near[0]}'?" if near else f"; shipped are: {', '.join(shipped_policies())}"
        msg = f"there is no policy '{name_or_path}'{hint}"
        raise UsageError(msg)
    try:
        return Policy.model_validate(yaml.safe_load(text))
    except yaml.YAMLError:
        msg = "the policy is no readable YAML; check its indentation"
        raise UsageError(msg) from None
    except ValidationError as error:
        raise UsageError(_sentence(error)) from None


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        model: type[BaseModel] = Policy
        for part in place[:-1]:
            annotation = model.model_fields[part].annotation
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                model = annotation
        near = difflib.get_close_matches(place[-1], model.model_fields, 1)
        hint = f"; did you mean '{near[0]}'?" if near else f"; known are: {', '.join(model.model_fields)}"
        return f"the policy has an unknown key '{'.'.join(place)}'{hint}"
    return f"the policy's '{'.'.join(place)}' is wrong: {first['msg'].lower()}"
