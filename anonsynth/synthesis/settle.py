"""What a plan rests on: public facts from a cohort's tables or from bare numbers, and the budget."""

from __future__ import annotations

from pathlib import Path

from anonsynth.anatomy.context import CONTEXT_CLASSES
from anonsynth.anatomy.public_maps import PublicMaps
from anonsynth.cohort.store import open_cohort
from anonsynth.errors import UsageError
from anonsynth.policies.model import Policy
from anonsynth.privacy.accountant import settle_delta
from anonsynth.synthesis.anatomy_source import anatomy_source
from anonsynth.synthesis.label_source import choose_private_source
from anonsynth.synthesis.private_plan import Facts
from anonsynth.synthesis.private_train import facts_of
from anonsynth.synthesis.settings import PriorChoice

__all__ = ["settle_budget", "settle_facts"]


def settle_facts(
    cohort: Path | None,
    policy: Policy,
    patients: int | None,
    shape: tuple[int, int, int] | None,
    labels: int,
    modalities: int,
    maps: PublicMaps | None = None,
) -> tuple[Facts, bool]:
    """Return the facts, and whether the patients were counted in a cohort whose policy does not call that public.

    With public label maps there is no label prior to pay for.

    Raises:
        UsageError: If there is neither a cohort nor the numbers, or the maps cannot stand for its label maps.
        InputError: If the folder holds no cohort.
    """
    if cohort is not None:
        opened = open_cohort(cohort)
        if maps is None:
            source = choose_private_source(opened, PriorChoice.AUTO, policy)
        else:
            source = anatomy_source(opened.info, maps, PriorChoice.AUTO, policy)
        return facts_of(opened, source, patients), patients is None and not policy.synthesis.public_patients
    if patients is None or shape is None:
        msg = "a plan needs a cohort, or --patients and --shape"
        raise UsageError(msg)
    return Facts(patients, shape, CONTEXT_CLASSES, labels, modalities, shaped=maps is None), False


def settle_budget(policy: Policy, epsilon: float | None, delta: float | None, patients: int) -> tuple[float, float]:
    """Return ε and δ: those given, else the policy's, else δ = 1/(10·patients).

    Raises:
        UsageError: If there is no ε, or δ is 1/patients or more.
    """
    chosen = policy.synthesis.epsilon if epsilon is None else epsilon
    if not chosen:
        msg = f"policy '{policy.id}' sets no ε; give one with --epsilon"
        raise UsageError(msg)
    return chosen, settle_delta(policy.synthesis.delta if delta is None else delta, patients)
