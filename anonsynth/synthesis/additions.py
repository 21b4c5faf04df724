"""Rungs 2 to 4 as additions to rung 1: what each takes from patients, and what becomes of it.

| rung | from patients | share of the budget, in 1/σ² |
|---|---|---|
| 2 selection | votes (`selection.py`) | 0.1 |
| 3 adapter | gradients of a few hundred weights (`adapter.py`) | 0.5 |
| 4 full | gradients of a discriminator (`private_gan.py`) | 0.5 |

The rest of the budget releases rung 1's statistics, the label prior among them.

Zone: spending.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from anonsynth.anatomy.borders import stray
from anonsynth.errors import UsageError
from anonsynth.files import read_json, write_json
from anonsynth.privacy.per_patient import Items, trainable
from anonsynth.privacy.private_run import STATE_FILE, PrivateRun, open_run
from anonsynth.privacy.private_training import PRIVATE, PrivateTask, train_privately
from anonsynth.privacy.releases import RELEASES
from anonsynth.seeds import stream_seed
from anonsynth.synthesis import adapter, private_gan
from anonsynth.synthesis.adapter import (
    adapter_items,
    adapter_loss,
    adapter_sizes,
    freeze_but,
    running_mean,
    typical_norm,
)
from anonsynth.synthesis.data import crop_shape
from anonsynth.synthesis.label_source import LabelSource, open_prior, private_prior
from anonsynth.synthesis.label_to_mri import LabelToMRI
from anonsynth.synthesis.networks import Translator
from anonsynth.synthesis.painter import DARKEST, PaintedTranslator
from anonsynth.synthesis.preparation import usable_records
from anonsynth.synthesis.private_gan import GeneratorStep, PrivateCritic, critic_loss, critic_weights, with_fakes
from anonsynth.synthesis.private_plan import Extra, Facts, PrivatePlan
from anonsynth.synthesis.private_statistics import public_statistics
from anonsynth.synthesis.private_train import Request, Work
from anonsynth.synthesis.private_writer import fit_rims, in_manner, styles_of
from anonsynth.synthesis.scanners import Drawing, SimulatedScanner, pretrain, quieten
from anonsynth.synthesis.selection import CANDIDATES, Booth
from anonsynth.synthesis.vocabulary import condition_tensor, without_seams

__all__ = ["Adapter", "FullGAN", "Selection"]

VOTES_SHARE, TRAINING_SHARE = 0.1, 0.5
SIMULATED = 12
"""People who are simulated to see how long gradients are."""
UNSEEN = 1000
"""Their scanners are others than those that were trained on."""
ADAPTER_RATE, CRITIC_RATE, GENERATOR_RATE = 5e-3, 1e-3, 3e-4
MEAN, GENERATOR = "mean", "generator"


class Selection:
    """Rung 2."""

    def takes(self, facts: Facts, width: int, steps: int) -> Extra:  # noqa: ARG002 - the interface
        """Return what votes take."""
        return Extra(VOTES_SHARE, candidates=len(CANDIDATES))

    def begin(self, request: Request, source: LabelSource, plan: PrivatePlan, run: str) -> None:
        """Do nothing: candidates are made of what rung 1 releases."""

    def learn(self, work: Work) -> str:
        """Count the votes with noise, and write in the manner of the winner."""
        vocabulary, seed = work.source.vocabulary, work.request.settings.seed
        booth = Booth.of(work.scans, work.generator, vocabulary, seed)
        counted = work.releases.take("votes", booth.votes)
        chosen = int(np.argmax(counted.total))
        work.generator = in_manner(work.generator, CANDIDATES[chosen])
        fit_rims(work.generator, work.statistics, vocabulary, work.prior, seed, work.stray)
        softness, texture = CANDIDATES[chosen].softness, CANDIDATES[chosen].texture
        return f"patients chose softness {softness:g} and {texture:g} of the texture among {len(CANDIDATES)} candidates"


class Adapter:
    """Rung 3."""

    def takes(self, facts: Facts, width: int, steps: int) -> Extra:
        """Return what the adapter takes."""
        return Extra(TRAINING_SHARE, sizes=adapter_sizes(facts.modalities, width), steps=steps)

    def begin(self, request: Request, source: LabelSource, plan: PrivatePlan, run: str) -> PrivateRun:
        """Pretrain on simulated scanners, and open the private run."""
        begun = _Begun(request, source, plan, run)
        translator = begun.translator()
        freeze_but(translator, plan.training.weights if plan.training else 0)
        networks = {PRIVATE: translator, MEAN: copy.deepcopy(translator)}
        optimisers = {PRIVATE: torch.optim.Adam(trainable(translator).values(), lr=ADAPTER_RATE)}
        return begun.open(networks, optimisers, lambda: typical_norm(translator, adapter_loss, begun.reconstructed()))

    def learn(self, work: Work) -> str:
        """Train the adapter, and let the generator correct with it."""
        networks, vocabulary = _run(work).networks, work.source.vocabulary

        def read(patient: str, source: torch.Generator) -> Items:
            return adapter_items(work.scans.items(patient, source), work.generator.painter, vocabulary)

        def follow(step: int) -> None:
            running_mean(networks[PRIVATE], step, networks[MEAN])

        _train(work, PrivateTask(read=read, loss=adapter_loss, composed=adapter.COMPOSED, afterwards=follow))
        _take_mean(work)
        return "an adapter of a generator that was pretrained on simulated scans, on the loss of reconstruction"


class FullGAN:
    """Rung 4."""

    def takes(self, facts: Facts, width: int, steps: int) -> Extra:  # noqa: ARG002 - the interface
        """Return what the discriminator takes."""
        return Extra(TRAINING_SHARE, sizes=(critic_weights(facts.classes + 3, facts.modalities),), steps=steps)

    def begin(self, request: Request, source: LabelSource, plan: PrivatePlan, run: str) -> PrivateRun:
        """Pretrain the generator on simulated scanners, and open the private run."""
        begun = _Begun(request, source, plan, run)
        translator = begun.translator()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(request.settings.seed, "private critic"))
            critic = PrivateCritic(source.vocabulary.channels, plan.facts.modalities)
        networks = {PRIVATE: critic, GENERATOR: translator, MEAN: copy.deepcopy(translator)}
        optimisers = {
            PRIVATE: torch.optim.Adam(critic.parameters(), lr=CRITIC_RATE, betas=(0.0, 0.99)),
            GENERATOR: torch.optim.Adam(trainable(translator).values(), lr=GENERATOR_RATE, betas=(0.0, 0.99)),
        }
        return begun.open(networks, optimisers, lambda: typical_norm(critic, critic_loss, begun.judged()))

    def learn(self, work: Work) -> str:
        """Train the discriminator on patients and the generator on the discriminator."""
        run, vocabulary, settings = _run(work), work.source.vocabulary, work.request.settings
        translator, mean = run.networks[GENERATOR], run.networks[MEAN]
        work.generator.translator = _as_translator(translator)

        def bend(label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
            return stray(label, 1 + vocabulary.context, work.stray, rng)

        drawing = Drawing.of(work.prior, vocabulary, work.scans.crop, settings.style, settings.seed, bend)
        step = GeneratorStep(
            work.generator, _as_translator(mean), run.networks[PRIVATE], run.optimisers[GENERATOR], drawing
        )

        def read(patient: str, source: torch.Generator) -> Items:
            return with_fakes(work.scans, patient, work.generator, vocabulary, source)

        _train(work, PrivateTask(read=read, loss=critic_loss, composed=private_gan.COMPOSED, afterwards=step))
        _take_mean(work)
        return "the discriminator of a conditional GAN; the generator learnt from the discriminator alone"


class _Begun:
    """What is done before anything is spent: it reads public facts, the seed, and the names of patients.

    What it makes of them is kept: a resumed run takes its first weights and its clipping norm from the disk.
    """

    def __init__(self, request: Request, source: LabelSource, plan: PrivatePlan, run: str) -> None:
        self.request, self.source, self.plan, self.run = request, source, plan, run
        settings, cohort = request.settings, request.cohort
        self.statistics = public_statistics(plan.facts, plan, settings.style)
        model = self.statistics.model
        self.prior = (
            private_prior(model, source, cohort.grid) if model else open_prior(source, cohort.grid, request.out)
        )
        self.generator: PaintedTranslator = LabelToMRI.new(source.vocabulary, plan.facts.modalities, settings).generator
        self.generator.painter.take(styles_of(self.statistics, source.vocabulary))
        quieten(self.generator.translator)
        crop = crop_shape(cohort.info.grid.shape, settings.crop_voxels)
        self.drawing = Drawing.of(self.prior, source.vocabulary, crop, settings.style, settings.seed)
        self.folder = cohort.folder / RELEASES / f"{run}-{request.policy.id}.run"

    @property
    def norm_file(self) -> Path:
        """Where the clipping norm is kept; public, but no other file says it before the model does."""
        return self.folder.with_suffix(".norm.json")

    def translator(self) -> Translator:
        """Return the generator's translator, pretrained unless a state on the disk will take its place."""
        if not (self.folder / STATE_FILE).exists():
            pretrain(self.generator.translator, self.generator.painter, self.drawing, self.request.progress)
        return self.generator.translator

    def open(
        self,
        networks: Mapping[str, nn.Module],
        optimisers: Mapping[str, torch.optim.Optimizer],
        norm: Callable[[], float],
    ) -> PrivateRun:
        """Open the private run, and keep its clipping norm."""
        patients = tuple(sorted({record.patient for record in usable_records(self.request.cohort, self.source)}))
        figure, training = self.plan.facts.patients, self.plan.training
        if training is None or len(patients) > figure:
            msg = f"the cohort has more than {figure} training patients; give a figure with --patients that holds all"
            raise UsageError(msg)
        if not self.norm_file.exists():
            write_json(self.norm_file, {"clipping_norm": norm()})
        settings = training.settings(read_json(self.norm_file)["clipping_norm"])
        return open_run(self.folder, self.run, settings, patients, networks, optimisers)

    def people(self) -> Iterator[Items]:
        """Yield simulated people, as `PatientScans.items` returns patients: a scan each."""
        vocabulary = self.source.vocabulary
        for index in range(SIMULATED):
            classes, place, style, noise = self.drawing.draw(index, "simulated people")
            condition = condition_tensor(classes, place, vocabulary)
            one_hot = condition[:, : vocabulary.classes]
            with torch.no_grad():
                painted = self.generator.painter(one_hot, style)
                scanner = SimulatedScanner.new(vocabulary.classes, self.drawing.seed, UNSEEN + index)
                wanted = scanner.correction(one_hot, place, painted, vocabulary.context)
                image = (painted.clamp(DARKEST, 1 - DARKEST).logit() + wanted).sigmoid()
                image = (image + self.generator.grain(one_hot, noise)).clamp(0, 1)
            known = (classes > 0)[:, None].expand(image.shape).float()
            yield {"image": image * known, "known": known, "classes": classes, "place": place, "style": style}

    def reconstructed(self) -> list[Items]:
        """Return simulated people as an adapter sees them."""
        return [adapter_items(items, self.generator.painter, self.source.vocabulary) for items in self.people()]

    def judged(self) -> list[Items]:
        """Return simulated people as the discriminator sees them."""
        return list(self._judged())

    def _judged(self) -> Iterator[Items]:
        vocabulary = self.source.vocabulary
        for items in self.people():
            condition = condition_tensor(items["classes"], items["place"], vocabulary)
            with torch.no_grad():
                fake = self.generator.painter(condition[:, : vocabulary.classes], items["style"]) * items["known"]
            yield {"condition": without_seams(condition, vocabulary), "image": items["image"], "fake": fake}


def _run(work: Work) -> PrivateRun:
    assert work.private is not None  # noqa: S101 - `begin` opened it
    return work.private[0]


def _as_translator(network: nn.Module) -> Translator:
    assert isinstance(network, Translator)  # noqa: S101 - `begin` made it
    return network


def _train(work: Work, task: PrivateTask) -> None:
    """Train to the last step; how far it has come is all that is shown."""
    assert work.private is not None  # noqa: S101 - `begin` opened it
    run, receipt = work.private
    progress, steps = work.request.progress, run.settings.steps
    tell = partial(_tell, progress.step, steps)
    train_privately(task, run, receipt, tell=tell)


def _tell(show: Callable[[str, int, int], None], steps: int, step: int) -> None:
    show("training with differential privacy", step, steps)


def _take_mean(work: Work) -> None:
    """Let the generator write with the mean of the last weights, and measure its rims again."""
    work.generator.translator = _as_translator(_run(work).networks[MEAN]).requires_grad_(False)
    fit_rims(
        work.generator,
        work.statistics,
        work.source.vocabulary,
        work.prior,
        work.request.settings.seed,
        work.stray,
    )
