"""The ladder from end to end: a model from public statistics, from statistics that were released with noise, or more.

Rung 0 is the public centres, rung 1 what is released around them. From rung 2 on something else learns from patients
besides (`Addition`): its cost is declared together with the statistics', before the first patient is read.

Nothing here reads a patient except `private_statistics` and the addition, and that after the ledger holds what it
costs. Whatever else depends on patients is public because somebody says so (`GuaranteeSettings`), or is refused by a
policy that asks for a guarantee, or stands on the card as unprotected, and then there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import torch

from anonsynth._version import __version__
from anonsynth.anatomy.cosine_shape import save_cosines
from anonsynth.anatomy.priors import Guarantee, LabelPrior
from anonsynth.anatomy.public_maps import PublicMaps
from anonsynth.cohort.geometry import LabelVolume
from anonsynth.cohort.model import ScanRecord, Split
from anonsynth.cohort.store import Cohort
from anonsynth.errors import BudgetError, UsageError, VerdictError
from anonsynth.files import finish_folder, is_finished, read_json, write_json, write_text
from anonsynth.policies.model import Policy
from anonsynth.privacy.accountant import settle_delta
from anonsynth.privacy.declare import Step, fingerprint, ledger_of
from anonsynth.privacy.private_run import PrivateRun
from anonsynth.privacy.receipt import Receipt
from anonsynth.privacy.releases import Releases, begin_releases, open_noise
from anonsynth.privacy.spending import StepKind
from anonsynth.progress import Progress
from anonsynth.synthesis.anatomy_source import anatomy_source, write_templates
from anonsynth.synthesis.checkpoint import save_weights
from anonsynth.synthesis.data import crop_shape
from anonsynth.synthesis.device import pick_device
from anonsynth.synthesis.label_source import SHAPE_FILE, LabelSource, choose_private_source, open_prior
from anonsynth.synthesis.label_to_mri import LabelToMRI
from anonsynth.synthesis.model import GENERATOR_FILE, MODEL_FILE, Bought, ModelInfo, claim, hash_weights
from anonsynth.synthesis.painter import PaintedTranslator
from anonsynth.synthesis.pairing import key_of
from anonsynth.synthesis.preparation import class_map_maker, plain_class_map, prepare_class_maps, usable_records
from anonsynth.synthesis.private_card import private_card
from anonsynth.synthesis.private_patients import PatientScans
from anonsynth.synthesis.private_plan import (
    Extra,
    Facts,
    PrivatePlan,
    choose_training,
    make_plan,
    patients_needed,
)
from anonsynth.synthesis.private_statistics import Statistics, private_statistics, public_statistics
from anonsynth.synthesis.private_writer import fit_writer, styles_of
from anonsynth.synthesis.settings import GuaranteeSettings, PerformanceSettings, PriorChoice, TrainSettings

__all__ = ["Addition", "Request", "Work", "facts_of", "train_with_guarantee"]

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
        maps: Public label maps, from which new ones are drawn in place of a prior of the cohort's own.
    """

    cohort: Cohort
    settings: TrainSettings
    guarantee: GuaranteeSettings
    policy: Policy
    out: Path
    performance: PerformanceSettings
    progress: Progress
    maps: PublicMaps | None = None


@dataclass
class Work:
    """A model in the making, after rung 1: what an addition goes on with.

    Attributes:
        request: What was asked for.
        source: Where label maps come from.
        plan: What is paid for.
        releases: Releases the plan's queries.
        statistics: What was released.
        generator: Writes like the statistics.
        prior: What label maps are drawn from, as it was released.
        scans: Reads patients.
        stray: How far borders stray, in voxels.
        private: The private run, where there is one, and the receipt of its spend.
    """

    request: Request
    source: LabelSource
    plan: PrivatePlan
    releases: Releases
    statistics: Statistics
    generator: PaintedTranslator
    prior: LabelPrior
    scans: PatientScans
    stray: float
    private: tuple[PrivateRun, Receipt] | None


class Addition(Protocol):
    """What learns from patients beside the four sums."""

    def takes(self, facts: Facts, width: int, steps: int) -> Extra:
        """Return what it takes of the budget; `width` is the translator's, `steps` those of DP-SGD."""
        ...

    def begin(self, request: Request, source: LabelSource, plan: PrivatePlan, run: str) -> PrivateRun | None:
        """Do whatever reads no patient, and put the secret of private training on the disk, if there is any."""
        ...

    def learn(self, work: Work) -> str:
        """Let the work's generator learn from patients; say in words what did."""
        ...


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


def train_with_guarantee(request: Request, addition: Addition | None = None) -> Path:
    """Write the model of rung 0 (without an ε) or 1 (with one) to `request.out`, with an addition from rung 2 on.

    Called again with the same settings it resumes, or returns at once.

    Raises:
        BudgetError: If the cohort is too small for the ε, or the policy's budget does not hold it.
        VerdictError: If the policy asks for a guarantee and something that would be told is not public.
        UsageError: If `out` holds something else, or what is said to be public is not what the cohort holds.
    """
    cohort, settings, asked, out = request.cohort, request.settings, request.guarantee, request.out
    told = _told_unprotected(request)
    if request.maps is None:
        source = choose_private_source(cohort, settings.prior, request.policy)
    else:
        settings = settings.model_copy(update={"anatomy": request.maps.sha256})
        source = anatomy_source(cohort.info, request.maps, settings.prior, request.policy)
    facts = facts_of(cohort, source, asked.patients)
    spends = asked.rung > 0
    delta = settle_delta(request.policy.synthesis.delta if asked.delta is None else asked.delta, facts.patients)
    extra = addition.takes(facts, settings.width, asked.private_steps) if addition else None
    plan = make_plan(facts, asked.epsilon or ASSUMED_EPSILON, delta, extra)
    if spends:
        _refuse_too_small(plan, asked, extra)
    if extra and extra.sizes:
        plan = choose_training(facts, asked.epsilon or ASSUMED_EPSILON, plan, extra)
    # The run's own name has the scans in it and stays in the cohort; the model's has not. Where a later version plans
    # differently, it is another run, and another spend.
    run = key_of(settings, asked, f"{fingerprint(cohort.folder)} {plan.queries} {plan.training}")[:16]
    draw = open_noise(cohort, request.policy, run).name if spends else "public"
    key = key_of(settings, asked, draw)
    if is_finished(out, MODEL_FILE) and read_json(out / MODEL_FILE)["settings_sha256"] == key:
        return out
    claim(out, key)
    if request.maps is not None:
        write_templates(cohort.info, request.maps, source, out)
    private = addition.begin(request, source, plan, run) if addition else None
    releases = _paid(request, plan, run, private) if spends else None
    statistics = public_statistics(facts, plan, settings.style)
    if releases is not None:
        statistics = _released(request, source, plan, run, releases)
    generator = LabelToMRI.new(source.vocabulary, facts.modalities, settings).mean
    if statistics.model is not None:
        save_cosines(statistics.model, out / SHAPE_FILE)
    prior = open_prior(source, cohort.grid, out)
    strays = fit_writer(generator, statistics, source.vocabulary, prior, settings.seed, request.progress)
    learnt = ""
    if addition is not None and releases is not None:
        paid = (private, releases.receipts[0]) if private else None
        scans = _patients(request, source, statistics, run, releases)
        work = Work(request, source, plan, releases, statistics, generator, prior, scans, strays, paid)
        learnt = addition.learn(work)
        generator = work.generator
    save_weights(out / GENERATOR_FILE, generator)
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
        bought=_bought(plan, asked, cohort, private, learnt) if spends else None,
        asked=asked,
    )
    write_text(out / "model_card.md", private_card(info))
    write_json(out / MODEL_FILE, info.model_dump(mode="json", by_alias=True))
    finish_folder(out)
    return out


def _paid(request: Request, plan: PrivatePlan, run: str, private: PrivateRun | None) -> Releases:
    """Pay for the whole plan, before anything is read."""
    what = "label maps and intensities: sums over patients with normal noise"
    further = []
    if private is not None:
        told = "scans and their label maps: clipped gradients of patients with normal noise, DP-SGD"
        further.append(Step("training", StepKind.TRAINING, told, (private.settings.event,), draw=private.name))
    return begin_releases(request.cohort, request.policy, run, plan.queries, what, plan.facts.patients, *further)


def _patients(
    request: Request, source: LabelSource, statistics: Statistics, run: str, releases: Releases
) -> PatientScans:
    """Return what reads patients for an addition; nothing is read yet."""
    cohort, settings, folder = request.cohort, request.settings, request.cohort.folder / "derived"
    class_map: Callable[[ScanRecord], LabelVolume]
    if source.prior is PriorChoice.ATLAS:  # rung 1 has written all class maps
        folder, class_map = folder / run, partial(plain_class_map, cohort, source=source)
    else:  # they are made with the prior that was released, so they belong to its noise
        folder = folder / releases.randomness.name
        class_map = class_map_maker(cohort, source, request.out, settings, pick_device(request.performance.device))
    styles, crop = styles_of(statistics, source.vocabulary), crop_shape(cohort.info.grid.shape, settings.crop_voxels)
    return PatientScans(cohort, usable_records(cohort, source), class_map, folder, styles, crop)


def _released(request: Request, source: LabelSource, plan: PrivatePlan, run: str, releases: Releases) -> Statistics:
    """Read the patients through the plan's releases."""
    cohort = request.cohort
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
    told += asked.undeclared(public_patients=request.policy.synthesis.public_patients)
    if told and request.policy.synthesis.guarantee:
        what, remedy = told[0]
        msg = f"policy '{request.policy.id}' asks for a guarantee, and {what} would be told without one; {remedy}"
        raise VerdictError(msg)
    return tuple(what for what, _ in told)


def _refuse_too_small(plan: PrivatePlan, asked: GuaranteeSettings, extra: Extra | None) -> None:
    if asked.epsilon is None:
        msg = f"rung {asked.rung} reads patients and needs --epsilon; rung 0 does not"
        raise UsageError(msg)
    if not plan.worth:
        needed = patients_needed(plan.facts, asked.epsilon, asked.delta, extra)
        lower = "a lower rung" if extra else "--rung 0, which reads nobody"
        msg = (
            f"{plan.facts.patients} patients are too few for ε = {asked.epsilon:g}: noise would exceed what they tell, "
            f"and about {needed} would make sense; take {lower}, or a larger ε"
        )
        raise BudgetError(msg)


def _guarantee(told: tuple[str, ...], *, spends: bool) -> Guarantee:
    if told:
        return Guarantee.NONE
    return Guarantee.PRIVATE if spends else Guarantee.PUBLIC


def _bought(
    plan: PrivatePlan, asked: GuaranteeSettings, cohort: Cohort, private: PrivateRun | None, learnt: str
) -> Bought:
    told = plan.as_json()
    training = None
    if private is not None:
        training = {**told["training"], "clipping_norm": private.settings.clipping_norm}  # type: ignore[dict-item]
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
        training=training,
        learnt=learnt,
    )
