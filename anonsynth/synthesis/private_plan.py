"""What a privacy budget buys: which statistics of patients are released, how many, with how much noise.

Everything here follows from public facts: the grid, the numbers of labels, modalities and patients, ε and δ. No scan is
opened. Four sums over patients are released (`private_statistics.py`), each by the Gaussian mechanism. Their noise
multipliers σᵢ share one budget: independent normal noise composes to 1/σ² = Σ 1/σᵢ² (Dong et al. 2022, corollary 3.3,
doi:10.1111/rssb.12454), so the noise that the whole budget asks for is found once and each release gets a fixed share
of 1/σ².

*Signal to noise* is the expected root mean square of what patients hold, beside the public centre, over that of the
noise on its mean. Expected means: by public constants, not by this cohort.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from anonsynth.anatomy.cosine_shape import FRAME_CENTRE, FRAME_SCALE, FRAME_SPREAD, spectra_of
from anonsynth.anatomy.cosines import Waves, choose_waves, octaves
from anonsynth.anatomy.shape import lattice_of
from anonsynth.errors import BudgetError
from anonsynth.privacy.accountant import default_delta, epsilon_of, find_noise
from anonsynth.privacy.events import Gaussian
from anonsynth.privacy.mechanisms import Query, sensitivity
from anonsynth.synthesis.appearance import AppearanceBlocks, spread_blocks

__all__ = ["MARGIN", "Facts", "PrivatePlan", "groups_of", "make_plan", "patients_needed"]

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
    """

    facts: Facts
    epsilon: float
    delta: float
    queries: tuple[Query, ...]
    waves: Waves
    deviations: Floats64
    signal_to_noise: dict[str, float]

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
        }


def make_plan(facts: Facts, epsilon: float, delta: float | None = None) -> PrivatePlan:
    """Return the plan for a budget.

    Args:
        facts: Public facts.
        epsilon: What all releases may cost together.
        delta: At which; 1/(10·patients) if left out.

    Raises:
        BudgetError: If no noise is enough.
    """
    delta = default_delta(facts.patients) if delta is None else delta
    noise = find_noise(lambda multiplier: Gaussian(noise_multiplier=multiplier), epsilon, delta)
    return _with_noise(facts, noise, delta)


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


def patients_needed(facts: Facts, epsilon: float, delta: float | None = None) -> int:
    """Return from how many patients on signal exceeds noise in every release at this ε, to about 5 %.

    Raises:
        BudgetError: If even a million would not be enough.
    """

    def enough(patients: int) -> bool:
        there = replace(facts, patients=patients)
        return make_plan(there, epsilon, None if delta is None else min(delta, default_delta(patients))).worth

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
