"""Rungs 0 and 1 of the ladder: a model from public statistics, or from statistics that were released with noise.

Nothing here reads a patient except `private_statistics`, and that after the ledger holds what it costs. Whatever else
depends on patients is public because somebody says so (`GuaranteeSettings`), or is refused by a policy that asks for a
guarantee, or stands on the card as unprotected, and then there is none.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch

from anonsynth._version import __version__
from anonsynth.anatomy.cosine_shape import save_cosines
from anonsynth.anatomy.priors import Guarantee
from anonsynth.cohort.model import Split
from anonsynth.cohort.store import Cohort
from anonsynth.errors import BudgetError, UsageError, VerdictError
from anonsynth.files import finish_folder, is_finished, read_json, write_json, write_text
from anonsynth.policies.model import Policy
from anonsynth.privacy.accountant import settle_delta
from anonsynth.privacy.declare import fingerprint, ledger_of
from anonsynth.privacy.releases import begin_releases, open_noise
from anonsynth.progress import Progress
from anonsynth.synthesis.checkpoint import save_weights
from anonsynth.synthesis.device import pick_device
from anonsynth.synthesis.label_source import SHAPE_FILE, LabelSource, choose_private_source, open_prior
from anonsynth.synthesis.label_to_mri import LabelToMRI
from anonsynth.synthesis.model import GENERATOR_FILE, MODEL_FILE, Bought, ModelInfo, claim, hash_weights
from anonsynth.synthesis.preparation import prepare_class_maps, usable_records
from anonsynth.synthesis.private_card import private_card
from anonsynth.synthesis.private_plan import Facts, PrivatePlan, make_plan, patients_needed
from anonsynth.synthesis.private_statistics import Statistics, private_statistics, public_statistics
from anonsynth.synthesis.private_writer import fit_writer
from anonsynth.synthesis.settings import GuaranteeSettings, PerformanceSettings, PriorChoice, TrainSettings

__all__ = ["Request", "facts_of", "train_with_guarantee"]

ASSUMED_EPSILON = 8.0
"""Rung 0 has as many coefficients as this would buy; they say nothing of any patient."""


@dataclass(frozen=True)
class Request:
    """A training with a guarantee.

    Attributes:
        cohort: Whose training patients may be read.
        settings: Of the training.
        guarantee: What is asked for.
        policy: Under which.
        out: Folder of the model.
        performance: How fast.
        progress: Shows it.
    """

    cohort: Cohort
    settings: TrainSettings
    guarantee: GuaranteeSettings
    policy: Policy
    out: Path
    performance: PerformanceSettings
    progress: Progress


def facts_of(cohort: Cohort, source: LabelSource, patients: int | None) -> Facts:
    """Return what a plan rests on; the number of training patients is counted if no public figure is given."""
    vocabulary = source.vocabulary
    return Facts(
        patients or len(cohort.patients(Split.TRAIN)),
        cohort.info.grid.shape,
        vocabulary.context,
        len(vocabulary.labels),
        len(cohort.info.modalities),
        shaped=source.prior is PriorChoice.PRIVATE,
    )


def train_with_guarantee(request: Request) -> Path:
    """Write the model of rung 0 (without an ε) or 1 (with one) to `request.out`; return it.

    Called again with the same settings it resumes, or returns at once.

    Raises:
        BudgetError: If the cohort is too small for the ε, or the policy's budget does not hold it.
        VerdictError: If the policy asks for a guarantee and something that would be told is not public.
        UsageError: If `out` holds something else, or what is said to be public is not what the cohort holds.
    """
    cohort, settings, asked, out = request.cohort, request.settings, request.guarantee, request.out
    told = _told_unprotected(request)
    source = choose_private_source(cohort, settings.prior, request.policy)
    facts = facts_of(cohort, source, asked.patients)
    spends = asked.rung > 0
    delta = settle_delta(request.policy.synthesis.delta if asked.delta is None else asked.delta, facts.patients)
    plan = make_plan(facts, asked.epsilon or ASSUMED_EPSILON, delta)
    if spends:
        _refuse_too_small(plan, asked)
    # The run's own name has the scans in it and stays in the cohort; the model's has not. Where a later version plans
    # differently, it is another run, and another spend.
    run = _digest(settings, asked, f"{fingerprint(cohort.folder)} {plan.queries}")[:16]
    draw = open_noise(cohort, request.policy, run).name if spends else "public"
    key = _digest(settings, asked, draw)
    if is_finished(out, MODEL_FILE) and read_json(out / MODEL_FILE)["settings_sha256"] == key:
        return out
    claim(out, key)
    statistics = _released(request, source, plan, run) if spends else public_statistics(facts, plan, settings.style)
    networks = LabelToMRI.new(source.vocabulary, facts.modalities, settings)
    if statistics.model is not None:
        save_cosines(statistics.model, out / SHAPE_FILE)
    prior = open_prior(source, cohort.grid, out)
    strays = fit_writer(networks.mean, statistics, source.vocabulary, prior, settings.seed, request.progress)
    save_weights(out / GENERATOR_FILE, networks.mean)
    info = ModelInfo(
        anonsynth=__version__,
        settings=settings,
        settings_sha256=key,
        policy=request.policy.id,
        modalities=cohort.info.modalities,
        grid=cohort.info.grid,
        source=source,
        guarantee=_guarantee(told, spends=spends),
        border_stray=strays,
        unprotected=told,
        patients=facts.patients,
        scans=facts.patients,
        prices=(),
        cohort_sha256="",
        weights_sha256=hash_weights(out),
        seconds=0.0,
        machine=f"torch {torch.__version__}",
        ledger=ledger_of(cohort.folder).read().statement(plan.delta) if spends else "",
        bought=_bought(plan, asked, cohort) if spends else None,
    )
    write_text(out / "model_card.md", private_card(info))
    write_json(out / MODEL_FILE, info.model_dump(mode="json", by_alias=True))
    finish_folder(out)
    return out


def _released(request: Request, source: LabelSource, plan: PrivatePlan, run: str) -> Statistics:
    """Pay for the plan, then read the patients."""
    cohort = request.cohort
    what = "label maps and intensities: sums over patients with normal noise"
    releases = begin_releases(cohort, request.policy, run, plan.queries, what, plan.facts.patients)
    records = usable_records(cohort, source)
    class_maps = None
    if source.prior is PriorChoice.ATLAS:
        device = pick_device(request.performance.device)
        class_maps = prepare_class_maps(
            cohort, records, source, request.out, run, request.settings, request.performance, device, request.progress
        )
    return private_statistics(
        cohort, records, source, class_maps, plan, releases, request.settings.style, request.progress
    )


def _told_unprotected(request: Request) -> tuple[str, ...]:
    """List what the model would tell of the patients without a mechanism; check what is said to be public.

    Raises:
        VerdictError: If there is something and the policy asks for a guarantee.
        UsageError: If the names that are said to be public are not the cohort's.
    """
    info, asked = request.cohort.info, request.guarantee
    values = tuple(entry.value for entry in info.labels)
    for option, given, found in (
        ("--modalities", asked.modalities, info.modalities),
        ("--labels", asked.labels, values),
    ):
        if given is not None and sorted(map(str, given)) != sorted(map(str, found)):
            msg = f"{option} names others than the cohort holds; name all of them, or ingest what you named"
            raise UsageError(msg)
    told: list[tuple[str, str]] = []
    if not info.grid_given:
        told.append(("the grid was inferred from the scans", "ingest again with --shape and --spacing"))
    if asked.modalities is None:
        told.append(("which modalities occur", "give --modalities, if that is public"))
    if asked.labels is None:
        told.append(("which labels occur", "give --labels, if that is public"))
    if asked.rung > 0 and asked.patients is None and not request.policy.synthesis.public_patients:
        told.append(("the number of patients", "give a round figure with --patients"))
    if told and request.policy.synthesis.guarantee:
        what, remedy = told[0]
        msg = f"policy '{request.policy.id}' asks for a guarantee, and {what} would be told without one; {remedy}"
        raise VerdictError(msg)
    return tuple(what for what, _ in told)


def _refuse_too_small(plan: PrivatePlan, asked: GuaranteeSettings) -> None:
    if asked.epsilon is None:
        msg = "rung 1 reads patients and needs --epsilon; rung 0 does not"
        raise UsageError(msg)
    if not plan.worth:
        needed = patients_needed(plan.facts, asked.epsilon, asked.delta)
        msg = (
            f"{plan.facts.patients} patients are too few for ε = {asked.epsilon:g}: noise would exceed what they tell, "
            f"and about {needed} would make sense; take --rung 0, which reads nobody, or a larger ε"
        )
        raise BudgetError(msg)


def _guarantee(told: tuple[str, ...], *, spends: bool) -> Guarantee:
    if told:
        return Guarantee.NONE
    return Guarantee.PRIVATE if spends else Guarantee.PUBLIC


def _bought(plan: PrivatePlan, asked: GuaranteeSettings, cohort: Cohort) -> Bought:
    told = plan.as_json()
    public = [
        f"the grid: {'×'.join(map(str, cohort.info.grid.shape))} voxels",
        f"modalities: {', '.join(cohort.info.modalities)}",
        f"labels: {', '.join(str(entry.value) for entry in cohort.info.labels)}",
        f"a figure of {plan.facts.patients} training patients",
    ]
    return Bought(
        rung=asked.rung,
        epsilon=plan.epsilon,
        delta=plan.delta,
        patients=plan.facts.patients,
        releases=told["releases"],  # type: ignore[arg-type]
        coefficients=len(plan.waves),
        public=tuple(public),
    )


def _digest(settings: TrainSettings, asked: GuaranteeSettings, other: str) -> str:
    parts = {"settings": settings.model_dump(mode="json"), "guarantee": asked.model_dump(mode="json"), "other": other}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
