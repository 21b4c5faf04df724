"""The whole way as a list of stages: scans in, a substitute cohort and its audit out; resumes where it was left.

    OUT/run.json      the settings, and which stages are done; private
    OUT/source/       simulated patients as source data (the demo only)
    OUT/cohort/       private
    OUT/model/        private until a release says otherwise
    OUT/synthetic/    the substitute cohort
    OUT/audit/        audit.json and the report; the report shows real scans and is private

Every stage is a library call that can be repeated: called again with the same settings it resumes, or returns at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from anonsynth.errors import InputError, UsageError, VerdictError
from anonsynth.files import is_finished, read_json, sha256_listing
from anonsynth.policies.model import Policy, load_policy
from anonsynth.progress import Progress
from anonsynth.run_record import Done, RunRecord
from anonsynth.synthesis.settings import GuaranteeSettings

__all__ = ["DemoSettings", "RunResult", "RunSettings", "Stage", "StageTime", "demo", "run"]

Announce = Callable[[str], None]
"""Says a sentence to the person at the terminal."""
OpenProgress = Callable[[], AbstractContextManager[Progress]]
"""Opens the progress display of one stage."""
DEVICES = ("auto", "cpu", "cuda")
PRIORS = ("auto", "atlas", "shape", "private")
GRID_MULTIPLE = 4
"""Grids are multiples of this many voxels."""


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RunSettings(_Frozen):
    """What the whole way is told.

    Attributes:
        sources: Folders or tables of scans; private.
        out: Folder of everything that is written.
        policy: Name of a shipped policy, or a YAML file.
        patients: Table that maps volumes to patients; private.
        labels: Folder of label maps; private.
        shape: Voxels of the cohort's grid, inferred if None.
        spacing: Voxel size of the cohort's grid in mm, inferred if None.
        modality: Name of the one modality of files that do not say it.
        group: Column of the patients table over which the holdout is balanced.
        prior: Label prior: `auto`, `atlas`, `shape`, or, with a guarantee, `private`.
        guarantee: What the training may cost a patient, and what is public; None trains without a guarantee.
        anatomy: Folder of public label maps to draw new ones from.
        anatomy_labels: Table of which of their values show which label.
        count: Scans to generate.
        steps: Training steps, the trainer's default if None.
        planted: Copies of each weaker kind that the audit plants.
        seed: The one seed that all randomness flows from.
        device: `auto`, `cpu` or `cuda`; changes the speed, not what is made.
    """

    sources: tuple[Path, ...] = Field(min_length=1)
    out: Path
    policy: str = "internal"
    patients: Path | None = None
    labels: Path | None = None
    shape: tuple[int, int, int] | None = None
    spacing: tuple[float, float, float] | None = None
    modality: str | None = None
    group: str | None = None
    prior: str = "auto"
    guarantee: GuaranteeSettings | None = None
    anatomy: Path | None = None
    anatomy_labels: Path | None = None
    count: int = Field(default=50, ge=1)
    steps: int | None = Field(default=None, ge=1)
    planted: int = Field(default=6, ge=0)
    seed: int = Field(default=0, ge=0)
    device: str = "auto"

    @model_validator(mode="after")
    def _possible(self) -> Self:
        """Refuse at once what a late stage would refuse after an hour."""
        if self.device not in DEVICES:
            msg = f"there is no device '{self.device}'; choose {', '.join(DEVICES)}"
            raise UsageError(msg)
        if self.prior not in PRIORS:
            msg = f"there is no prior '{self.prior}'; choose {', '.join(PRIORS)}"
            raise UsageError(msg)
        if self.spacing is not None and min(self.spacing) <= 0:
            msg = "--spacing needs three sizes above 0 mm, such as 1,1,1"
            raise UsageError(msg)
        if self.shape is not None and (min(self.shape) < 1 or any(n % GRID_MULTIPLE for n in self.shape)):
            msg = f"--shape needs three multiples of {GRID_MULTIPLE}, such as 64,64,48"
            raise UsageError(msg)
        self._check_guarantee()
        return self

    def _check_guarantee(self) -> None:
        if self.anatomy is None and self.anatomy_labels is not None:
            raise UsageError("--anatomy-labels says what the maps of --anatomy show; name their folder too")
        if self.guarantee is None:
            if self.prior == "private":
                raise UsageError("the private prior is bought with --epsilon; give one, or choose another prior")
            return
        if self.shape is None or self.spacing is None:
            # Inferring it would look at every scan before the ledger could say so.
            msg = "a guarantee needs a grid that is public: give --shape and --spacing, such as 64,64,48 and 1,1,1"
            raise UsageError(msg)
        if self.guarantee.rung > 0 and self.guarantee.epsilon is None:
            msg = f"rung {self.guarantee.rung} reads patients and needs --epsilon; --rung 0 does not"
            raise UsageError(msg)
        if self.prior == "shape":
            raise UsageError("the shape prior gives no guarantee; leave --prior out, or choose private or atlas")

    def refuse_unprotected(self, policy: Policy) -> None:
        """Raise VerdictError if the policy asks for a guarantee that these settings cannot give."""
        if not policy.synthesis.guarantee:
            return
        if self.guarantee is None:
            msg = f"policy '{policy.id}' asks for a guarantee; give --epsilon, or --rung 0, or choose another policy"
            raise VerdictError(msg)
        told = self.guarantee.undeclared(public_patients=policy.synthesis.public_patients)
        if told:
            what, remedy = told[0]
            msg = f"policy '{policy.id}' asks for a guarantee, and {what} would be told without one; {remedy}"
            raise VerdictError(msg)


class DemoSettings(_Frozen):
    """What the demo is told; the rest is chosen so that it ends within 12 minutes on two cores.

    Attributes:
        out: Folder of everything that is written.
        patients: Simulated patients; a fifth of them are the audit's holdout.
        spacing: Voxel size of the simulated scans in mm.
        count: Scans to generate.
        steps: Training steps.
        planted: Copies of each weaker kind that the audit plants.
        seed: The one seed that all randomness flows from.
        device: `auto`, `cpu` or `cuda`.
    """

    out: Path
    patients: int = Field(default=40, ge=8)
    spacing: float = Field(default=4.0, gt=0)
    count: int = Field(default=50, ge=1)
    steps: int = Field(default=200, ge=1)
    planted: int = Field(default=2, ge=0)
    seed: int = Field(default=0, ge=0)
    device: str = "auto"


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of the way.

    Attributes:
        name: The command that does the same by itself.
        folder: What it writes.
        document: The file in `folder` that is there when it is finished.
        work: Does it, at once where it was done before; returns what it found in one sentence, or "".
    """

    name: str
    folder: Path
    document: str
    work: Callable[[Progress], str]


@dataclass(frozen=True, slots=True)
class StageTime:
    """How long a stage took, and whether that was in an earlier call."""

    name: str
    seconds: float
    earlier: bool


@dataclass(frozen=True, slots=True)
class RunResult:
    """How the whole way ended.

    Attributes:
        verdict: `pass`, `fail` or `inconclusive`.
        sentence: The verdict in one sentence.
        report: The audit's page; private.
        times: The stages in order.
    """

    verdict: str
    sentence: str
    report: Path
    times: tuple[StageTime, ...]


def run(settings: RunSettings, progress: OpenProgress, announce: Announce) -> RunResult:
    """Go from scans to an audited substitute cohort.

    Raises:
        UsageError: If `settings.out` holds a run with other settings or sources, or the policy is wrong.
        VerdictError: If the policy asks for a guarantee and the settings cannot give it.
        InputError: If the scans cannot be used.
    """
    policy = load_policy(settings.policy)
    settings.refuse_unprotected(policy)
    given = {"sources": settings.sources, "patients": (settings.patients,), "labels": (settings.labels,)}
    if settings.anatomy is not None:
        given |= {"anatomy": (settings.anatomy, settings.anatomy_labels)}
    hashes = {key: [_hashed(path) for path in paths if path is not None] for key, paths in given.items()}
    record = RunRecord.open(settings.out, _fingerprint(settings, policy) | hashes)
    return _walk(_stages(settings, policy), record, progress, announce)


def demo(settings: DemoSettings, progress: OpenProgress, announce: Announce) -> RunResult:
    """Simulate patients and go the whole way with them, as with anybody's scans."""
    source = settings.out / "source"
    told = settings.model_dump(include={"out", "count", "steps", "planted", "seed", "device"})
    as_run = RunSettings(sources=(source,), policy="internal", **told)
    policy = load_policy(as_run.policy)
    simulated = {"simulated": {"patients": settings.patients, "spacing": settings.spacing}}
    record = RunRecord.open(settings.out, _fingerprint(as_run, policy) | simulated)
    return _walk((_simulating(settings, source), *_stages(as_run, policy)), record, progress, announce)


def _walk(stages: Sequence[Stage], record: RunRecord, progress: OpenProgress, announce: Announce) -> RunResult:
    record.save()
    times: list[StageTime] = []
    for number, stage in enumerate(stages, start=1):
        title = f"[{number}/{len(stages)}] {stage.name}"
        earlier = stage.name in record.done and is_finished(stage.folder, stage.document)
        announce(f"{title}: done" if earlier else title)
        if not earlier:
            started = time.monotonic()
            with progress() as shown:
                said = stage.work(shown)
            record.done[stage.name] = Done(seconds=round(time.monotonic() - started, 1), said=said)
            record.save()
        if record.done[stage.name].said and stage is not stages[-1]:
            announce(f"    {record.done[stage.name].said}")
        times.append(StageTime(stage.name, record.done[stage.name].seconds, earlier))
    last = stages[-1]
    verdict = read_json(last.folder / last.document)["verdict"]
    return RunResult(verdict, record.done[last.name].said, last.folder / "report.html", tuple(times))


def _fingerprint(settings: RunSettings, policy: Policy) -> dict[str, Any]:
    """Return what makes two runs on the same scans the same."""
    left_out = {"sources", "patients", "labels", "anatomy", "anatomy_labels", "out", "policy", "device"}
    plain = settings.model_dump(mode="json", exclude=left_out)
    # What a release needs changes nothing that is made before it.
    return plain | {"policy": policy.model_dump(mode="json", exclude={"release"})}


def _hashed(path: Path) -> str:
    """Return a hash of a source's files; its path is private and is not kept."""
    if not path.exists():
        raise InputError("a source does not exist", remedy="check the paths that were named", private_path=path)
    return sha256_listing(path)


def _simulating(settings: DemoSettings, source: Path) -> Stage:
    def work(progress: Progress) -> str:
        from anonsynth.anatomy.simulate import SimulateSettings, simulate

        simulate(
            SimulateSettings(out=source, patients=settings.patients, seed=settings.seed, spacing=settings.spacing),
            progress,
        )
        return ""

    return Stage("simulate", source, "simulation.json", work)


def _stages(settings: RunSettings, policy: Policy) -> tuple[Stage, ...]:
    cohort, model = settings.out / "cohort", settings.out / "model"
    synthetic, audited = settings.out / "synthetic", settings.out / "audit"

    def ingesting(progress: Progress) -> str:
        from anonsynth.cohort.ingest import IngestSettings, ingest

        told = settings.model_dump(
            include={"sources", "patients", "labels", "shape", "spacing", "modality", "group", "seed"}
        )
        # The record refuses other settings once this stage is done; until then the cohort's folder may begin anew.
        info = ingest(IngestSettings(out=cohort, force=True, **told), policy, progress).info
        return f"{info.layout}: {info.scans} scans of {info.patients} patients, {info.quarantined} files left out"

    def training(progress: Progress) -> str:
        from anonsynth.cohort.store import open_cohort
        from anonsynth.synthesis.settings import PerformanceSettings, TrainSettings
        from anonsynth.synthesis.train import train

        given = settings.model_dump(include={"steps", "seed", "prior"}, exclude_none=True)
        chosen, performance = TrainSettings.model_validate(given), PerformanceSettings(device=settings.device)
        maps = None
        if settings.anatomy is not None:
            from anonsynth.anatomy.public_maps import open_maps

            maps = open_maps(settings.anatomy, settings.anatomy_labels)
        if settings.guarantee is None:
            train(open_cohort(cohort), chosen, policy, model, performance, progress, maps=maps)
            return ""
        from anonsynth.synthesis.model import open_model
        from anonsynth.synthesis.private_card import guarantee_line
        from anonsynth.synthesis.private_train import Request
        from anonsynth.synthesis.rungs import open_rung

        asked = settings.guarantee
        request = Request(open_cohort(cohort), chosen, asked, policy, model, performance, progress, maps)
        return guarantee_line(open_model(open_rung(asked.rung).train(request)))

    def generating(progress: Progress) -> str:
        from anonsynth.release.substitute import generate
        from anonsynth.synthesis.settings import GenerateSettings

        chosen = GenerateSettings(model=model, out=synthetic, count=settings.count, seed=settings.seed)
        generate(chosen, progress, device=settings.device)
        return ""

    def auditing(progress: Progress) -> str:
        from anonsynth.audits.audit import AuditSettings, audit
        from anonsynth.audits.loading import curve_copies_for

        chosen = AuditSettings(
            synthetic=synthetic,
            cohort=cohort,
            out=audited,
            seed=settings.seed,
            weaker_copies=settings.planted,
            curve_copies=curve_copies_for(settings.planted),
        )
        return audit(chosen, policy, progress).sentence

    return (
        Stage("ingest", cohort, "cohort.json", ingesting),
        Stage("train", model, "model.json", training),
        Stage("generate", synthetic, "participants.tsv", generating),
        Stage("audit", audited, "audit.json", auditing),
    )
