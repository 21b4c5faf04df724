"""The facts of a model that a release tells, read from `model.json` and the cohort's ledger.

The model's own card tells how many patients there were and what a guarantee would have cost, which follows from their
number; a release's card is written anew from what may be told. Zone: private in, shareable out.
"""

from __future__ import annotations

import math
from pathlib import Path

from anonsynth.anatomy.priors import Guarantee
from anonsynth.cohort.store import open_cohort
from anonsynth.errors import InputError
from anonsynth.files import read_json, sha256_file
from anonsynth.policies.model import Policy
from anonsynth.privacy.declare import ledger_of
from anonsynth.release.facts import LedgerFacts, ModelFacts
from anonsynth.synthesis.model import MODEL_FILE, ModelInfo, check_weights, open_model
from anonsynth.synthesis.pairing import pair
from anonsynth.synthesis.private_card import guarantee_paragraph

__all__ = ["model_facts"]

NO_GUARANTEE = (
    "**No guarantee.** The model was trained without differential privacy; nothing in its construction bounds what it "
    "reveals about a training patient. What is known about leaks is what an audit has looked for."
)


def model_facts(model: Path, provenance: Path, cohort: Path | None, policy: Policy) -> ModelFacts:
    """Return the facts of the model that made a substitute cohort.

    Args:
        model: Its folder.
        provenance: The substitute cohort's `code/provenance.json`.
        cohort: The cohort it was trained on, for the ledger; None leaves that out.
        policy: Its δ is the one to count at.

    Raises:
        InputError: If this model did not make the cohort, or was not trained on that cohort.
    """
    info = open_model(model)
    check_weights(model, info)
    sha256 = sha256_file(model / MODEL_FILE)
    made = read_json(provenance)
    if made.get("model_sha256") != sha256:
        reason = "the model is not the one that made these scans (its hash is not in their provenance)"
        raise InputError(reason, remedy="name the right folder with --model")
    bought = info.bought
    return ModelFacts(
        anonsynth=info.anonsynth,
        model_sha256=sha256,
        modalities=info.modalities,
        shape=info.grid.shape,
        spacing=info.grid.spacing,
        labels=tuple((entry.value, entry.name) for entry in info.source.vocabulary.labels),
        prior=info.source.prior.value,
        prior_reason=info.source.reason,
        guarantee=info.guarantee.value,
        epsilon=0.0 if info.guarantee is Guarantee.PUBLIC else bought.epsilon if bought else None,
        delta=bought.delta if bought else None,
        paragraph=NO_GUARANTEE if info.guarantee is Guarantee.NONE and bought is None else guarantee_paragraph(info),
        unprotected=info.unprotected,
        ledger=None if cohort is None else _ledger_facts(info, cohort, policy),
    )


def _ledger_facts(info: ModelInfo, cohort: Path, policy: Policy) -> LedgerFacts:
    pairing = pair(info, open_cohort(cohort))
    history = ledger_of(cohort).read()
    told = history.as_json(policy.synthesis.delta) if history.entries else {}
    epsilon = told.get("epsilon_of_protected_steps")
    exact = policy.release.count_step == 1 or info.bought is not None
    return LedgerFacts(
        paired=pairing.proven,
        # Where nothing was bought, δ is one over ten times the number of patients: it is told only where that is.
        statement=history.statement(policy.synthesis.delta) if exact or history.unprotected else "not told",
        epsilon=None if epsilon is None else math.ceil(epsilon * 1000) / 1000,
        delta=told.get("delta") if exact else None,
        unprotected=history.unprotected,
        head=history.head,
    )
