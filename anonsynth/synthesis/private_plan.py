"""What a privacy budget buys: which statistics of patients are released, how many, with how much noise.

Everything here follows from public facts: the grid, the numbers of labels, modalities and patients, ε and δ. No scan
is opened. Four sums over patients are released (`private_statistics.py`), each by the Gaussian mechanism. Their noise
multipliers σᵢ share one budget: independent normal noise composes to 1/σ² = Σ 1/σᵢ² (Dong et al. 2022, corollary 3.3,
doi:10.1111/rssb.12454), so the noise that the whole budget asks for is found once and each release gets a fixed share
of 1/σ².

*Signal to noise* is the expected root mean square of what patients hold, beside the public centre, over that of the
noise on its mean. Expected means: by public constants, not by this cohort.

Rungs 2 to 4 take part of the budget for more than these sums (`Extra`); the sums get the rest.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt

from anonsynth.anatomy.cosine_shape import FRAME_CENTRE, FRAME_SCALE, FRAME_SPREAD, spectra_of
from anonsynth.anatomy.cosines import Waves, choose_waves, octaves
from anonsynth.anatomy.shape import lattice_of
from anonsynth.errors import BudgetError
from anonsynth.privacy.accountant import default_delta, epsilon_of, find_noise
from anonsynth.privacy.dp_sgd import DPSGDSettings
from anonsynth.privacy.events import Event, Gaussian, SampledGaussian
from anonsynth.privacy.mechanisms import Query, sensitivity
from anonsynth.synthesis.appearance import AppearanceBlocks, spread_blocks

__all__ = [
    "MARGIN",
    "Extra",
    "Facts",
    "PrivatePlan",
    "Training",
    "choose_training",
    "groups_of",
    "make_plan",
    "patients_needed",
]

SHARES = {"frame": 0.15, "fields": 0.5, "appearance": 0.2, "spread": 0.15}
"""Shares of the budget, in 1/σ², with a label prior of the cohort's own."""
SHARES_ATLAS = {"appearance": 0.7, "spread": 0.3}
"""With a public label prior."""
MARGIN = 1.3
"""Patients are clipped at this many times the length that is expected."""
MOST_WAVES = 1600
MOST_PATIENTS = 1_000_000

Floats64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is public about a cohort.

    Attributes:
        patients: A figure for the number of training patients.
        shape: Of the grid.
        context: Classes of surroundings.
        labels: Labels.
        modalities: Modalities.
        shaped: Whether label maps come from a prior of the cohort's own, or from the public atlas.
    """

    patients: int
    shape: tuple[int, int, int]
    context: int
    labels: int
    modalities: int
    shaped: bool

    @property
    def classes(self) -> int:
        """Number of classes, the outside included."""
        return 1 + self.context + self.labels


@dataclass(frozen=True, slots=True)
class Extra:
    """What a rung takes from patients beside the four sums: votes, or the gradients of a network.

    Attributes:
        share: Of the budget, in 1/σ².
        candidates: For how many candidates a patient may vote; 0 if nobody votes.
        sizes: Numbers of weights that might be trained, ascending; none if nothing is.
        steps: Of the training.
    """

    share: float
    candidates: int = 0
    sizes: tuple[int, ...] = ()
    steps: int = 200


@dataclass(frozen=True, slots=True)
class Training:
    """DP-SGD as far as public facts settle it: everything but the clipping norm, which costs nothing.

    Attributes:
        noise_multiplier: σ.
        sampling_rate: Probability with which each patient takes part in a step.
        steps: How many.
        expected_batch: What the noisy sum is divided by.
        weights: How many are trained.
    """

    noise_multiplier: float
    sampling_rate: float
    steps: int
    expected_batch: float
    weights: int

    @property
    def event(self) -> SampledGaussian:
        """What all steps together do to the patients' data."""
        return self.settings(1.0).event

    def settings(self, clipping_norm: float) -> DPSGDSettings:
        """Return the settings that run."""
        return DPSGDSettings(
            clipping_norm=clipping_norm,
            noise_multiplier=self.noise_multiplier,
            sampling_rate=self.sampling_rate,
            steps=self.steps,
            expected_batch=self.expected_batch,
        )


@dataclass(frozen=True, slots=True)
class PrivatePlan:
    """What is going to be released.

    Attributes:
        facts: What it was made from.
        epsilon: What all of it costs together, at `delta`; at most what was asked for.
        delta: At which.
        queries: The releases, in order.
        waves: (R, 4) coefficients of the label prior.
        deviations: (R,) what is expected of each.
        signal_to_noise: Of each release.
        training: What is trained with DP-SGD afterwards; None if nothing is.
    """

    facts: Facts
    epsilon: float
    delta: float
    queries: tuple[Query, ...]
    waves: Waves
    deviations: Floats64
    signal_to_noise: dict[str, float]
    training: Training | None = None

    @property
    def events(self) -> tuple[Event, ...]:
        """Everything that is done to the patients' data."""
        released: tuple[Event, ...] = tuple(query.event for query in self.queries)
        return released if self.training is None else (*released, self.training.event)

    @property
    def worth(self) -> bool:
        """Whether signal exceeds noise in every release: otherwise the simulator is no worse."""
        return min(self.signal_to_noise.values()) >= 1

    def query(self, name: str) -> Query:
        """Return a release by its name."""
        return next(query for query in self.queries if query.name == name)

    @property
    def wave_weights(self) -> Floats64:
        """By what coefficients are multiplied before they are summed, (R,): see `choose_waves`."""
        spectra = spectra_of(self.facts.context, self.facts.labels)
        weight = np.sqrt([spectra[index].weight for index in self.waves[:, 0]])
        weights: Floats64 = np.sqrt(weight / self.deviations)
        return weights

    @property
    def between(self) -> Floats64:
        """How much people are expected to differ in each coefficient, as a standard deviation, (R,)."""
        spectra = spectra_of(self.facts.context, self.facts.labels)
        share = np.array([spectrum.between for spectrum in spectra])[self.waves[:, 0], octaves(self.waves)]
        between: Floats64 = self.deviations * np.sqrt(share)
        return between

    def excess(self) -> tuple[Floats64, Floats64]:
        """Return by how much noise in the released means is expected to raise the squares around them.

        Of the frame, (10,), and of each group of coefficients: in units of the square of how much people differ.
        """
        noise = self.query("frame").deviation / self.facts.patients
        frame = np.square(noise * FRAME_SCALE / FRAME_SPREAD)
        common = np.square(self.deviations) - np.square(self.between)
        variance = np.square(self.query("fields").deviation / self.facts.patients / self.wave_weights)
        # What is left of an error when a mean is drawn to 0 as far as its noise asks for.
        error = variance * common / (variance + common) / np.square(self.between)
        groups = groups_of(self.waves)
        return frame, np.bincount(groups, error) / np.bincount(groups)

    def costs(self) -> dict[str, float]:
        """Return the ε of each release alone."""
        return {query.name: epsilon_of((query.event,), self.delta) for query in self.queries}

    def as_json(self) -> dict[str, object]:
        """Return the plan for people and programs."""
        costs = self.costs()
        return {
            "epsilon": self.epsilon,
            "delta": self.delta,
            "patients": self.facts.patients,
            "coefficients": len(self.waves),
            "worth": self.worth,
            "releases": [
                {
                    "name": query.name,
                    "numbers": query.size,
                    "clipped_at": query.bound,
                    "noise_multiplier": query.noise_multiplier,
                    "epsilon_alone": costs[query.name],
                    "signal_to_noise": self.signal_to_noise[query.name],
                }
                for query in self.queries
            ],
            "training": None if self.training is None else self._training(self.training),
        }

    def _training(self, training: Training) -> dict[str, float | int]:
        return asdict(training) | {
            "epsilon_alone": epsilon_of((training.event,), self.delta),
            "signal_to_noise": self.signal_to_noise["training"],
        }


def make_plan(facts: Facts, epsilon: float, delta: float | None = None, extra: Extra | None = None) -> PrivatePlan:
    """Return the plan for a budget.

    Args:
        facts: Public facts.
        epsilon: What all releases may cost together.
        delta: At which; 1/(10·patients) if left out.
        extra: What is taken from patients beside the four sums. The training's own settings are left to
            `choose_training`; its signal to noise is in the plan.

    Raises:
        BudgetError: If no noise is enough.
    """
    delta = default_delta(facts.patients) if delta is None else delta
    noise = find_noise(lambda multiplier: Gaussian(noise_multiplier=multiplier), epsilon, delta)
    if extra is None:
        return _with_noise(facts, noise, delta)
    plan = _with_noise(facts, noise / math.sqrt(1 - extra.share), delta)
    rest = noise / math.sqrt(extra.share)
    if extra.candidates:
        # Patients a candidate, over the noise on the number of its votes: a patient votes once.
        votes = Query("votes", extra.candidates, 1.0, rest)
        ratios = {**plan.signal_to_noise, "votes": facts.patients / (extra.candidates * votes.deviation)}
        cost = epsilon_of([*plan.events, votes.event], delta)
        return replace(plan, epsilon=cost, queries=(*plan.queries, votes), signal_to_noise=ratios)
    ratio = facts.patients / (rest * math.sqrt(_affordable(facts, extra, rest)))
    return replace(plan, signal_to_noise={**plan.signal_to_noise, "training": ratio})


def _affordable(facts: Facts, extra: Extra, noise: float) -> int:
    """Return the largest number of weights whose gradients would still exceed their noise, or the smallest there is.

    Gradients of n patients, each clipped to C and at best all of one direction, against noise of σC on each of w
    weights: n/(σ√w), whatever the number of steps, if everybody takes part in each.
    """
    afforded = [size for size in extra.sizes if facts.patients >= noise * math.sqrt(size)]
    return afforded[-1] if afforded else extra.sizes[0]


LEAST_BATCH, MOST_BATCH, RATE = 16, 64, 0.2
"""How many patients take part in a step: a fifth of them, but not fewer than the first nor more than the second."""


def choose_training(facts: Facts, epsilon: float, plan: PrivatePlan, extra: Extra) -> PrivatePlan:
    """Return the plan with DP-SGD that takes the rest of the budget, to the last bit; from public facts only.

    Signal to noise of all steps together is q·n·√T/(σ·√w), for a sampling rate q and T steps. With everybody in every
    step σ grows as √T, and the number of steps is indifferent; sampling saves time and loses a little, as the smaller
    noise of a step is less than in proportion. At T = 200 and q = 0.2, a hundred patients lose 1 % at ε = 1 and 6 % at
    ε = 8 beside q = 1; q = 0.05 would lose 5 % and 39 %. So a fifth of the patients take part in a step.
    The number of steps was tuned on nobody.

    Raises:
        BudgetError: If no noise is enough.
    """
    noise = find_noise(lambda multiplier: Gaussian(noise_multiplier=multiplier), epsilon, plan.delta)
    batch = min(facts.patients, max(LEAST_BATCH, min(MOST_BATCH, round(RATE * facts.patients))))
    rate = batch / facts.patients

    def event(multiplier: float) -> SampledGaussian:
        return SampledGaussian(noise_multiplier=multiplier, sampling_rate=rate, steps=extra.steps)

    multiplier = find_noise(event, epsilon, plan.delta, besides=plan.events)
    weights = _affordable(facts, extra, noise / math.sqrt(extra.share))
    training = Training(multiplier, rate, extra.steps, float(batch), weights)
    cost = epsilon_of((*plan.events, training.event), plan.delta)
    return replace(plan, training=training, epsilon=cost)


def _with_noise(facts: Facts, noise: float, delta: float) -> PrivatePlan:
    shares = SHARES if facts.shaped else SHARES_ATLAS
    multipliers = {name: noise / math.sqrt(share) for name, share in shares.items()}
    queries, ratios = [], {}
    waves, deviations = np.zeros((0, 4), np.int64), np.zeros(0)
    if facts.shaped:
        numbers = len(FRAME_CENTRE) + (facts.labels if facts.labels > 1 else 0)  # and the labels' shares
        frame = Query("frame", numbers, MARGIN * math.sqrt(numbers), multipliers["frame"])
        queries.append(frame)
        ratios["frame"] = facts.patients / frame.deviation
        waves, deviations, fields, ratios["fields"] = _fields(facts, multipliers["fields"])
        queries.append(fields)
    blocks = AppearanceBlocks.of(facts.modalities, facts.context, facts.labels)
    spread = spread_blocks(facts.modalities, facts.classes, groups_of(waves).max(initial=-1) + 1, shaped=facts.shaped)
    for name, packed in (("appearance", blocks.blocks), ("spread", spread)):
        query = Query(name, packed.size, MARGIN * packed.expected_length, multipliers[name])
        queries.append(query)
        # Root mean square over the numbers of the release; blocks are drawn to their centres one by one.
        ratios[name] = facts.patients * packed.expected_length / (query.deviation * math.sqrt(packed.leading))
    cost = epsilon_of([query.event for query in queries], delta)
    return PrivatePlan(facts, cost, delta, tuple(queries), waves, deviations, ratios)


def _fields(facts: Facts, multiplier: float) -> tuple[Waves, Floats64, Query, float]:
    spectra = spectra_of(facts.context, facts.labels)
    lattice = lattice_of(facts.shape)
    loss = multiplier * sensitivity(1.0) * MARGIN / facts.patients
    waves, deviations = choose_waves(spectra, lattice, loss, MOST_WAVES)
    weight = np.array([spectra[index].weight for index in waves[:, 0]])
    length = float(np.sum(np.sqrt(weight) * deviations))
    query = Query("fields", len(waves), MARGIN * math.sqrt(length), multiplier)
    everything = sum(spectrum.weight * spectrum.deviation**2 for spectrum in spectra)
    held = float(np.sum(weight * deviations**2))
    # weight × variance of the noise = √weight · s · (loss² · Σ √weight · s).
    noise = loss**2 * length * float(np.sum(np.sqrt(weight) * deviations))
    return waves, deviations, query, math.sqrt(held / (everything - held + noise))


def groups_of(waves: Waves) -> npt.NDArray[np.int64]:
    """Return the group (R,) of each coefficient: its field and octave of frequency, numbered from 0."""
    keys = waves[:, 0] * 4 + octaves(waves)
    groups: npt.NDArray[np.int64] = np.unique(keys, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return groups


def patients_needed(facts: Facts, epsilon: float, delta: float | None = None, extra: Extra | None = None) -> int:
    """Return from how many patients on signal exceeds noise in every release at this ε, to about 5 %.

    Raises:
        BudgetError: If even a million would not be enough.
    """

    def enough(patients: int) -> bool:
        there = replace(facts, patients=patients)
        return make_plan(there, epsilon, None if delta is None else min(delta, default_delta(patients)), extra).worth

    high = 16
    while not enough(high):
        high *= 2
        if high > MOST_PATIENTS:
            msg = f"no cohort is large enough for ε = {epsilon:g}; choose a larger ε"
            raise BudgetError(msg)
    low = high // 2
    while high - low > max(1, high // 20):
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
