"""Which cohort a model was trained on: what the model itself says, or, where it must not say it, the cohort's ledger.

A model with a guarantee holds no hash of its cohort: whoever holds all patients but one could try that one out. But its
key is a hash over its settings, what was asked for, and the name of the draw of noise; and that name stands in the
ledger beside the cohort, in the id of the spend (`privacy/releases.py`). So whoever may read the ledger can tell that
this model was paid for there, and nobody else can.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from anonsynth.cohort.store import Cohort
from anonsynth.errors import InputError
from anonsynth.privacy.declare import fingerprint, ledger_of
from anonsynth.privacy.spending import Entry
from anonsynth.synthesis.model import ModelInfo
from anonsynth.synthesis.settings import GuaranteeSettings, TrainSettings

__all__ = ["Pairing", "key_of", "pair"]

ANOTHER = "the model named with --model was trained on another cohort, or on this one before it was ingested again"
NAME_IT = "name the cohort that it was trained on with --cohort"


@dataclass(frozen=True, slots=True)
class Pairing:
    """How it is known that a model was trained on a cohort.

    Attributes:
        proven: Whether it is.
        sentence: By what, or why it cannot be; for whoever reads the result.
    """

    proven: bool
    sentence: str


def key_of(settings: TrainSettings, asked: GuaranteeSettings, other: str) -> str:
    """Return the SHA-256 that names a training with a guarantee; `other` is the name of its draw of noise."""
    parts = {"settings": settings.told(), "guarantee": asked.model_dump(mode="json"), "other": other}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def pair(info: ModelInfo, cohort: Cohort) -> Pairing:
    """Say how sure it is that a model was trained on a cohort.

    Raises:
        InputError: If it was trained on another one, or the cohort's ledger is broken.
    """
    if (info.grid, info.modalities) != (cohort.info.grid, cohort.info.modalities):
        raise InputError(ANOTHER, remedy=NAME_IT)
    here = fingerprint(cohort.folder)
    if info.cohort_sha256:
        if info.cohort_sha256 != here:
            raise InputError(ANOTHER, remedy=NAME_IT)
        return Pairing(proven=True, sentence="The model names the scans of this cohort as those it was trained on.")
    if info.bought is None:
        if info.source.filled:
            reason = "a model that read no patient cannot fill in this cohort's anatomy, so that it cannot be attacked"
            raise InputError(reason, remedy="leave --model out")
        sentence = "The model read no patient (rung 0), so that no cohort is the one it was trained on."
        return Pairing(proven=False, sentence=sentence)
    entries = ledger_of(cohort.folder).read().entries
    if info.asked is None or not entries:
        why = "the cohort has no ledger" if info.asked else "an earlier version wrote it"
        sentence = f"Whether the model was trained on this cohort could not be checked: it must not say so, and {why}."
        return Pairing(proven=False, sentence=sentence)
    entry = next((entry for entry in entries if _paid_for(info, info.asked, entry)), None)
    if entry is None:
        reason = "the cohort's ledger does not hold what the model named with --model has cost"
        raise InputError(reason, remedy=NAME_IT)
    if entry.cohort != here:
        raise InputError(ANOTHER, remedy=NAME_IT)
    return Pairing(proven=True, sentence="The cohort's ledger holds the noise that the model was made with.")


def _paid_for(info: ModelInfo, asked: GuaranteeSettings, entry: Entry) -> bool:
    return any(key_of(info.settings, asked, word) == info.settings_sha256 for word in entry.id.split())
