"""A policy as a value: what may be kept, what may be spent, what must be shown before release.

It is read from YAML, checked and immutable. The shipped ones are found by name, a site's own by path.

Every rule says what it does (`description`) and what it rests on (`rests_on`), so that `anonsynth policy explain`, the
JSON Schema and the documentation have one source. A rule may be added with a default; its meaning never changes.
"""

from __future__ import annotations

import difflib
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from anonsynth.errors import UsageError
from anonsynth.policies.deidentification import DeidentificationRules

__all__ = [
    "FINDINGS",
    "AuditRules",
    "CohortRules",
    "Duplicates",
    "Policy",
    "ReleaseRules",
    "SynthesisRules",
    "load_policy",
    "read_policy_text",
    "shipped_policies",
]


class Duplicates(StrEnum):
    """What happens when one image is found under two identifiers."""

    MERGE = "merge"
    REFUSE = "refuse"


class _Rules(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CohortRules(_Rules):
    """What ingest does where a choice has to be made."""

    duplicates: Duplicates = Field(
        default=Duplicates.MERGE,
        description="One image under two identifiers: `merge` makes one patient of both, `refuse` quarantines the "
        "scans of both.",
        json_schema_extra={
            "rests_on": "The patient is the unit of privacy: a person counted as two loses what group privacy takes "
            "(Dwork & Roth 2014, §2.3, doi:10.1561/0400000042), and a person on both sides of the split makes results "
            "look better than they are (Yagis et al. 2021, doi:10.1038/s41598-021-01681-w)."
        },
    )
    min_patients: int = Field(
        default=4,
        ge=2,
        description="Fewer usable patients than this and ingest refuses.",
        json_schema_extra={
            "rests_on": "A choice, not a theorem: fewer patients leave no holdout that an audit could compare with, "
            "and generators do copy (37.2 % of patients memorised in Dar et al. 2025, doi:10.1038/s41551-025-01468-8)."
        },
    )


class SynthesisRules(_Rules):
    """What the label prior and the training may use."""

    priors: tuple[str, ...] = Field(
        default=("atlas", "private", "shape"),
        min_length=1,
        description="The label priors that are allowed, in order of preference; `atlas` reads no patient, `private` "
        "carries a differential privacy guarantee, `shape` none.",
        json_schema_extra={
            "rests_on": "A label map is as identifying as the image: skull-stripped brains are linked across databases "
            "by plain similarity (arXiv:2602.10043)."
        },
    )
    guarantee: bool = Field(
        default=False,
        description="Whether every step that reads patients and writes something meant to leave has to carry a "
        "differential privacy guarantee.",
        json_schema_extra={
            "rests_on": "Only a mechanism bounds what an attack nobody has thought of can learn (Dwork & Roth 2014, "
            "doi:10.1561/0400000042); an audit bounds the attacks that were tried."
        },
    )
    epsilon: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="The most that all steps with a mechanism may cost a patient of one cohort together, over all "
        "models and runs in its ledger; without it there is no limit.",
        json_schema_extra={
            "rests_on": "Costs of all releases add up (composition, Dwork & Roth 2014, §3.5, doi:10.1561/0400000042); "
            "how large ε may be is a choice (NIST SP 800-226, doi:10.6028/NIST.SP.800-226)."
        },
    )
    delta: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="The δ at which ε is counted; without it 1/(10·patients), and never 1/patients or more.",
        json_schema_extra={
            "rests_on": "At δ = 1/patients a mechanism that publishes one random patient whole counts as private "
            "(Dwork & Roth 2014, §2.3, doi:10.1561/0400000042)."
        },
    )
    public_patients: bool = Field(
        default=False,
        description="Whether the number of training patients is known outside anyway and may be told: noise and δ "
        "follow from it. Otherwise a guarantee needs a round figure from whoever trains.",
        json_schema_extra={
            "rests_on": "With neighbours that differ by one patient more or less the number itself is private (NIST SP "
            "800-226, doi:10.6028/NIST.SP.800-226)."
        },
    )


class AuditRules(_Rules):
    """What the audit has to show."""

    q: float = Field(
        default=0.05,
        gt=0,
        lt=1,
        description="The false-discovery rate at which a generated scan is flagged as too near to a patient's.",
        json_schema_extra={
            "rests_on": "Benjamini & Hochberg 1995, doi:10.1111/j.2517-6161.1995.tb02031.x; valid for p-values that "
            "share one holdout (Bates et al. 2023, arXiv:2104.08279)."
        },
    )
    max_copy_rate: float = Field(
        default=0.10,
        gt=0,
        lt=1,
        description="The largest rate of copied scans that the policy tolerates not having seen; the upper end of the "
        "interval has to lie below it.",
        json_schema_extra={
            "rests_on": "No copy among n scans still allows a rate of 1 − (1 − confidence)^(1/n) (Clopper & Pearson "
            "1934, doi:10.1093/biomet/26.4.404); how often copies really occur: Dar et al. 2025, "
            "doi:10.1038/s41551-025-01468-8."
        },
    )
    confidence: float = Field(
        default=0.95,
        gt=0.5,
        lt=1,
        description="The level of every interval.",
        json_schema_extra={
            "rests_on": "Intervals are exact, never normal approximations: counts are small (Clopper & Pearson 1934, "
            "doi:10.1093/biomet/26.4.404)."
        },
    )
    min_power: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="The least share of planted exact copies that has to be found (lower end of the interval).",
        json_schema_extra={
            "rests_on": "An audit that cannot see a planted leak proves nothing; distances that look safe pass data "
            "that membership inference breaks (The DCR Delusion, ESORICS 2025)."
        },
    )
    min_holdout_patients: int = Field(
        default=10,
        ge=2,
        description="Fewer holdout patients than this and the verdict is `inconclusive`.",
        json_schema_extra={
            "rests_on": "A p-value counted against n holdout scans is never below 1/(n + 1) (Phipson & Smyth 2010, "
            "doi:10.2202/1544-6115.1585): a short holdout cannot raise an alarm."
        },
    )
    max_false_fail: float = Field(
        default=0.01,
        gt=0,
        lt=0.5,
        description="The chance that a cohort which leaks nothing fails because of any of the questions about the "
        "whole cohort, about membership, the generator or linkage; they share it in equal parts.",
        json_schema_extra={
            "rests_on": "The union bound (Bonferroni) over the questions; within one, the smallest p-value of its "
            "attacks under permuted labels (Westfall & Young 1993). Copies of single scans have their own `q`."
        },
    )


FINDINGS = (
    "copies",
    "copies-image",
    "copies-label",
    "unseen-copies",
    "power",
    "false-alarms",
    "holdout",
    "split",
    "coverage",
    "data-copying",
    "authenticity",
    "variety",
    "membership",
    "membership-few",
    "reconstruction",
    "reconstruction-few",
    "linkage",
    "inference",
    "singling-out",
)
"""Every finding that an audit may hold; a test compares them with what the audits explain."""
DESCRIBED = ("authenticity", "variety")
"""They describe and are never a verdict, so that a policy does not need them."""
NEEDS_MODEL = ("reconstruction", "reconstruction-few")
"""They are there only where the weights were attacked too."""


class ReleaseRules(_Rules):
    """What has to be shown before a release, and how much of it is told outside."""

    findings: tuple[str, ...] = Field(
        default=tuple(name for name in FINDINGS if name not in (*DESCRIBED, *NEEDS_MODEL)),
        min_length=1,
        description="The findings of the audit that have to be there, made on exactly the files to be released, and "
        "to pass; `inconclusive` is no pass. `reconstruction` asks for an audit with --model.",
        json_schema_extra={
            "rests_on": "Singling out, linkability and inference are asked apart (WP216, Opinion 05/2014); a portfolio "
            "of evidence, not one score (UK ICO PETs guidance 2023); models too (EDPB Opinion 28/2024)."
        },
    )
    count_step: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="Numbers of patients are told outside in whole multiples of this, rounded down, and whatever would "
        "tell them more exactly is left out or computed anew from the rounded ones, so that rounding is never in the "
        "cohort's favour; 1 tells them as they are.",
        json_schema_extra={
            "rests_on": "A choice. Small cells are not published: 11 is the cell size behind the threshold of 0.09 of "
            "EMA policy 0070 and Health Canada's PRCI. Rounding is no mechanism in the sense of NIST SP 800-226."
        },
    )
    approvals: tuple[str, ...] = Field(
        default=(),
        description="Who has to approve, by role; each is named at release with --approve 'ROLE=NAME' and is printed.",
        json_schema_extra={
            "rests_on": "A choice of the site; disclosure review boards: NIST SP 800-188; expert's name and method: "
            "HIPAA 45 CFR 164.514(b)(1)."
        },
    )
    licence: str = Field(
        default="as agreed with the recipient",
        min_length=1,
        description="Under which terms the release may be used; printed in it.",
        json_schema_extra={"rests_on": "A choice of the site; terms belong to a datasheet (Gebru et al. 2021, §3.6)."},
    )
    intended_use: str = Field(
        default="writing and testing methods; no diagnosis, no statement about any person",
        min_length=1,
        description="What the release is for; printed in it.",
        json_schema_extra={
            "rests_on": "A choice of the site; intended use belongs to a datasheet (Gebru et al. 2021, "
            "arXiv:1803.09010)."
        },
    )

    @field_validator("findings")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in FINDINGS:
                near = difflib.get_close_matches(name, FINDINGS, 1)
                hint = f"did you mean '{near[0]}'?" if near else f"known are: {', '.join(FINDINGS)}"
                msg = f"there is no finding '{name}'; {hint}"
                raise ValueError(msg)
        return names


class Policy(_Rules):
    """What may be kept, what may be spent, what must be shown before release. It claims no legal compliance."""

    extends: str | None = Field(
        default=None,
        description="A shipped policy, or a file beside this one, whose rules hold wherever this one says nothing.",
    )

    id: str = Field(
        pattern=r"^[a-z0-9][a-z0-9-]*$", description="Its name: small letters, digits and hyphens; printed everywhere."
    )
    version: int = Field(default=1, ge=1, description="Raised whenever a rule of the file changes.")
    title: str = Field(min_length=1, description="One line for tables and reports.")
    description: str = Field(min_length=1, description="Who it is for, and what it does not promise.")
    cohort: CohortRules = Field(default=CohortRules(), description="What ingest does where it has to choose.")
    deidentification: DeidentificationRules = Field(
        default=DeidentificationRules(), description="What of a DICOM header may leave."
    )
    synthesis: SynthesisRules = Field(default=SynthesisRules(), description="What may be used and spent.")
    audit: AuditRules = Field(default=AuditRules(), description="What the audit has to show.")
    release: ReleaseRules = Field(
        default=ReleaseRules(), description="What a release needs, and what it tells outside."
    )


def shipped_policies() -> tuple[str, ...]:
    """Return the identifiers of the policies in the package, sorted."""
    folder = files("anonsynth.policies") / "data"
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")))


def read_policy_text(name_or_path: str) -> str:
    """Return the YAML of a shipped policy or of a file.

    Raises:
        UsageError: If there is none of that name; the nearest known one is named.
    """
    if name_or_path in shipped_policies():
        return (files("anonsynth.policies") / "data" / f"{name_or_path}.yaml").read_text("utf-8")
    if Path(name_or_path).is_file():
        try:
            return Path(name_or_path).read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            msg = "the policy file cannot be read as UTF-8 text; check its permissions and its encoding"
            raise UsageError(msg) from None
    near = difflib.get_close_matches(name_or_path, shipped_policies(), 1)
    hint = f"; did you mean '{near[0]}'?" if near else f"; shipped are: {', '.join(shipped_policies())}"
    msg = f"there is no policy '{name_or_path}'{hint}"
    raise UsageError(msg)


def load_policy(name_or_path: str) -> Policy:
    """Load a shipped policy by its identifier, or a YAML file.

    Raises:
        UsageError: If there is none of that name, or a key or value is wrong; the nearest known one is named.

    Example:
        >>> load_policy("internal").title
        'Stays in the building'
    """
    try:
        return Policy.model_validate(_resolved(name_or_path, ()))
    except ValidationError as error:
        raise UsageError(_sentence(error)) from None


def _resolved(name_or_path: str, below: tuple[str, ...]) -> dict[str, Any]:
    """Return a policy's keys with those that it inherits; `below` are the policies that led here."""
    if name_or_path in below:
        msg = f"the policy '{name_or_path}' extends itself; take one `extends` out"
        raise UsageError(msg)
    text = read_policy_text(name_or_path)
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        msg = "the policy is no readable YAML; check its indentation"
        raise UsageError(msg) from None
    if not isinstance(value, dict):
        msg = "the policy holds no keys; start from `anonsynth policy show internal`"
        raise UsageError(msg)
    base = value.get("extends")
    if not isinstance(base, str):
        return value
    if base not in shipped_policies() and Path(name_or_path).is_file():
        base = str(Path(name_or_path).parent / base)
    inherited = _resolved(base, (*below, name_or_path))
    rules = {key: rule for key, rule in inherited.items() if isinstance(rule, dict)}
    return value | {key: _merged(rule, value.get(key, {})) for key, rule in rules.items()}


def _merged(base: dict[str, Any], own: object) -> object:
    """Return `own` over `base`, rule by rule; a list is replaced, not lengthened."""
    return {**base, **own} if isinstance(own, dict) else own


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    name = ".".join(place)
    if first["type"] == "extra_forbidden":
        known = tuple(_model_at(place[:-1]).model_fields)
        near = difflib.get_close_matches(place[-1], known, 1)
        hint = f"; did you mean '{near[0]}'?" if near else f"; known are: {', '.join(known)}"
        return f"the policy has an unknown key '{name}'{hint}"
    if first["type"] == "missing":
        return f"the policy has no '{name}'; add it (`anonsynth policy show internal` has one)"
    return f"the policy's '{name}' is wrong: {first['msg'][0].lower()}{first['msg'][1:]}"


def _model_at(place: list[str]) -> type[BaseModel]:
    model: type[BaseModel] = Policy
    for part in place:
        annotation = model.model_fields[part].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
    return model
