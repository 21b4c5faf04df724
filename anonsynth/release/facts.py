"""What a release tells of the model that made it, and of the ledger: `model_card.json`, types alone.

Zone: shareable, once the gate has let it through.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["LedgerFacts", "ModelFacts"]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class LedgerFacts(_Frozen):
    """How the guarantee stands over everything that was ever made of these patients.

    Attributes:
        paired: Whether the ledger shows that the model was trained on its cohort.
        statement: In one line.
        epsilon: Of all steps with a mechanism; None where there is none, or it is ∞.
        delta: At which it is counted.
        unprotected: Steps without a mechanism.
        head: Hash of the last entry, to compare with the ledger later; "" if nothing was spent.
    """

    paired: bool
    statement: str
    epsilon: float | None
    delta: float | None
    unprotected: int = Field(ge=0)
    head: str


class ModelFacts(_Frozen):
    """`model_card.json` of a release.

    Attributes:
        model_sha256: Of `model.json`; the substitute cohort's provenance names the same.
        guarantee: What holds for the patients: the weakest of all steps.
        epsilon: Of this model alone; None where there is no mechanism.
        paragraph: The guarantee in one paragraph to quote.
        unprotected: What was read or told without a mechanism.
        ledger: None where the cohort was not named at release.
    """

    schema_: Literal["anonsynth/model-card/1"] = Field(default="anonsynth/model-card/1", alias="schema")
    anonsynth: str
    model_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    modalities: tuple[str, ...]
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    labels: tuple[tuple[int, str], ...]
    prior: str
    prior_reason: str
    guarantee: Literal["public", "differentially private", "no guarantee"]
    epsilon: float | None
    delta: float | None
    paragraph: str
    unprotected: tuple[str, ...]
    ledger: LedgerFacts | None
