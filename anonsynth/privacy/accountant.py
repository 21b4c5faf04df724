"""What events cost together: (ε, δ) per patient by privacy-loss distributions, never below the truth.

A mechanism is (ε, δ)-differentially private if, for neighbouring cohorts X, X' (one patient more or less) and every
set S of outcomes, P(M(X) ∈ S) ≤ e^ε · P(M(X') ∈ S) + δ. The privacy-loss distribution (Sommer et al. 2019,
doi:10.2478/popets-2019-0029; Koskela et al. 2020, arXiv 1906.03049) of a composition is the convolution of those of its
parts, and ε follows from it for any δ. It is put on a grid by connecting the dots (Doroshenko et al. 2022, arXiv
2207.04380), which can only raise ε; what is cut off at the tails, 10⁻¹⁵ and less, is counted as a loss of ∞. Poisson
sampling is amplified tightly, in both directions (Zhu et al. 2022, arXiv 2106.08567). Computed with Google's
`dp-accounting`.

Composition over everything in a ledger is proven for mechanisms whose parameters do not depend on what earlier ones
released: what may be spent is settled by a plan. Outcomes may depend on earlier outcomes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from anonsynth.errors import BudgetError, InternalError, UsageError
from anonsynth.privacy.events import (
    DiscreteLaplace,
    Event,
    Gaussian,
    Laplace,
    NoGuarantee,
    Promise,
    SampledGaussian,
    is_protected,
)

if TYPE_CHECKING:
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution

__all__ = ["default_delta", "epsilon_of", "find_noise", "settle_delta"]

LEAST_DELTA = 1e-10
"""Below it, rounding in double precision could touch the result."""
LARGEST = 50.0
"""Beyond this ε the Rényi bound is returned as it stands: it is a few per cent too high, and nobody is protected."""
LEAST_NOISE = 0.05
"""Less noise than this, in units of the sensitivity, is counted as none."""
COARSEST, FINEST = 1e-3, 2e-5
"""Widest step of the grid of losses, and its narrowest as a share of a rough ε (which bounds time and memory)."""
STEPS_PER_SPREAD = 10
"""Grid steps within the spread of one release's loss; the relative error of ε is about a tenth of 1/steps²."""
ORDERS = (*range(2, 65), 80, 128, 256, 512, 1024)
"""Rényi orders of the rough bound; whole ones are computed exactly and quickly."""
MOST_NOISE = 1e6
"""The largest noise multiplier that is looked at."""
PRECISION = 1e-3
"""Relative precision of a noise multiplier that was searched for."""


def default_delta(patients: int) -> float:
    """Return 1/(10·patients): one tenth of what would let a mechanism publish one patient in each cohort.

    Raises:
        UsageError: If there is no patient.
    """
    if patients < 1:
        msg = "δ cannot be chosen without patients; name a cohort that has some"
        raise UsageError(msg)
    return 1 / (10 * patients)


def settle_delta(delta: float | None, patients: int) -> float:
    """Return the δ to account with: the one given, or the default.

    At δ = 1/patients a mechanism that publishes the scan of one random patient would pass for private (Dwork & Roth
    2014, §2.3, doi:10.1561/0400000042).

    Args:
        delta: What was asked for, None for the default.
        patients: Patients of the cohort.

    Raises:
        UsageError: If δ is not between 0 and 1/patients.
    """
    if delta is None:
        return default_delta(patients)
    if not 0 < delta < 1 / max(patients, 1):
        msg = (
            f"δ = {delta:g} is not between 0 and 1/patients = {1 / max(patients, 1):.2g}; at 1/patients publishing one "
            f"whole patient would count as private; leave it out to get {default_delta(patients):.2g}"
        )
        raise UsageError(msg)
    return delta


def epsilon_of(events: Iterable[Event], delta: float) -> float:
    """Return the least ε for which all events together are (ε, δ)-differentially private, or slightly more.

    ∞ if one of them carries no guarantee. The order of the events does not matter, to the last bit.

    Args:
        events: Everything that was done.
        delta: From 10⁻¹⁰ to below 1.

    Raises:
        UsageError: If δ is none of these.
    """
    if not LEAST_DELTA <= delta < 1:
        msg = f"δ = {delta:g} is not between {LEAST_DELTA:g} and 1; choose about a tenth of 1/patients"
        raise UsageError(msg)
    listed = tuple(events)
    if not is_protected(listed):
        return math.inf
    merged = _merged(listed)
    if not merged:
        return 0.0
    rough = _rough(merged, delta)
    if rough == 0 or rough > LARGEST:
        return rough
    spread = min(_spread(event) for event in merged)
    interval = max(min(COARSEST, spread / STEPS_PER_SPREAD), FINEST * rough)
    # Both are proven, so the lower one holds; on all but strange events it is the first.
    epsilon: float = min(_by_distribution(merged, delta, interval), rough)
    return epsilon


def find_noise(
    build: Callable[[float], Event], epsilon: float, delta: float, *, besides: Sequence[Event] = ()
) -> float:
    """Return the smallest noise multiplier with which the budget holds, to a thousandth; never one that breaks it.

    Args:
        build: The event at a noise multiplier; its ε falls as the noise grows.
        epsilon: What may be spent in all.
        delta: In (0, 1).
        besides: What has been or will be spent besides.

    Raises:
        BudgetError: If no noise is enough.
    """

    def spent(noise: float) -> float:
        return epsilon_of((*besides, build(noise)), delta)

    low, high = LEAST_NOISE, 1.0
    # ∞ below, as less noise counts as none.
    below, above = math.inf, spent(high)
    while above > epsilon:
        # ε falls about as 1/noise, unless most of it is spent besides.
        low, below = high, above
        high *= min(max(1.1 * above / epsilon, 1.5), 16.0)
        if epsilon_of(besides, delta) >= epsilon or high > MOST_NOISE:
            msg = (
                f"no noise keeps ε within {epsilon:g} at δ = {delta:.2g} here; spend less besides, take fewer steps, "
                "or ask for a policy that allows more"
            )
            raise BudgetError(msg)
        above = spent(high)
    while high > low * (1 + PRECISION) and above < epsilon * (1 - PRECISION):
        middle = _between(low, below, high, above, epsilon)
        reached = spent(middle)
        if reached <= epsilon:
            high, above = middle, reached
        else:
            low, below = middle, reached
    # `high` is the only end that was seen to hold.
    return high


def _between(low: float, below: float, high: float, above: float, epsilon: float) -> float:
    """Return where to look next: where a straight line in logarithms meets ε, but well inside the two ends."""
    if math.isinf(below) or above == 0:
        return math.sqrt(low * high)
    share = math.log(below / epsilon) / math.log(below / above)
    # A little to the side that holds: from there the search may end at once.
    share = min(max(share * 1.01, 0.1), 0.97)
    middle: float = low * (high / low) ** share
    return middle


def _merged(events: Iterable[Event]) -> tuple[Event, ...]:
    """Join what composes exactly and sort the rest, so that neither order nor grouping changes the result.

    Normal noise composes into normal noise: independent releases with multipliers σᵢ are as good as one with
    1/σ² = Σ 1/σᵢ² (Dong et al. 2022, corollary 3.3, doi:10.1111/rssb.12454).
    """
    precision: list[float] = []
    counted: Counter[Event] = Counter()
    for event in events:
        match event:
            case Gaussian():
                precision.append(event.count / event.noise_multiplier**2)
            case SampledGaussian(sampling_rate=1.0):  # everybody takes part: no sampling
                precision.append(event.steps / event.noise_multiplier**2)
            case SampledGaussian():
                counted[event.model_copy(update={"steps": 1})] += event.steps
            case Laplace() | DiscreteLaplace() | Promise():
                counted[event.model_copy(update={"count": 1})] += event.count
    joined = [
        event.model_copy(update={"steps" if isinstance(event, SampledGaussian) else "count": number})
        for event, number in counted.items()
    ]
    if precision:
        joined.append(Gaussian(noise_multiplier=1 / math.sqrt(math.fsum(precision))))
    return tuple(sorted(joined, key=lambda event: event.model_dump_json()))


def _rough(events: Sequence[Event], delta: float) -> float:
    """Return a proven bound on ε that takes no time: Rényi for normal noise, plain sums for everything else.

    Mironov 2017, arXiv 1702.07476; sampled: Mironov et al. 2019, arXiv 1908.10530.
    """
    from dp_accounting import NeighboringRelation, dp_event
    from dp_accounting.rdp import RdpAccountant

    pure, left = 0.0, delta
    accountant = RdpAccountant(ORDERS, NeighboringRelation.ADD_OR_REMOVE_ONE)
    normal = False
    for event in events:
        match event:
            case Gaussian() | SampledGaussian():
                if event.noise_multiplier < LEAST_NOISE:
                    return math.inf
                normal = True
                step = dp_event.GaussianDpEvent(event.noise_multiplier)
                if isinstance(event, SampledGaussian):
                    accountant.compose(dp_event.PoissonSampledDpEvent(event.sampling_rate, step), event.steps)
                else:
                    accountant.compose(step)
            case Laplace():
                pure += event.count / event.noise_multiplier
            case DiscreteLaplace():
                pure += event.count * event.decay * event.sensitivity
            case Promise():
                pure += event.count * event.epsilon
                left -= event.count * event.delta
    if not normal:
        return pure if left >= 0 else math.inf
    return pure + float(accountant.get_epsilon(left)) if left > 0 else math.inf


def _spread(event: Event) -> float:
    """Return about how far the loss of one release of the event strays, at most."""
    match event:
        case Gaussian():
            return 1 / event.noise_multiplier
        case SampledGaussian():
            # The likelihood ratio of one step is 1 + rate·(r − 1), and r has the variance exp(1/σ²) − 1.
            return event.sampling_rate * math.sqrt(math.expm1(event.noise_multiplier**-2))
        case Laplace():
            return 1 / event.noise_multiplier
        case DiscreteLaplace():
            return event.decay * event.sensitivity
        case Promise(epsilon=epsilon) if epsilon > 0:
            return epsilon / 50  # ε is rounded up to the grid, so the grid is finer: by 0.2 % at most
        case _:
            return math.inf


def _by_distribution(events: Sequence[Event], delta: float, interval: float) -> float:
    from dp_accounting.pld import privacy_loss_distribution as losses

    total: PrivacyLossDistribution = losses.identity(interval)
    for event in events:
        total = total.compose(_distribution(event, interval))
    return max(0.0, float(total.get_epsilon_for_delta(delta)))


def _distribution(event: Event, interval: float) -> PrivacyLossDistribution:
    """Return the privacy-loss distribution of an event on a grid, rounded so that ε can only grow.

    In units of the sensitivity, which is part of the noise multiplier, a patient moves what is released by at most 1.
    """
    from dp_accounting import NeighboringRelation
    from dp_accounting.pld import common
    from dp_accounting.pld import privacy_loss_distribution as losses

    either_way = NeighboringRelation.ADD_OR_REMOVE_ONE
    match event:
        case Gaussian(noise_multiplier=noise, count=count):
            one = losses.from_gaussian_mechanism(
                noise,
                pessimistic_estimate=True,
                value_discretization_interval=interval,
                neighboring_relation=either_way,
            )
        case SampledGaussian(noise_multiplier=noise, sampling_rate=rate, steps=count):
            one = losses.from_gaussian_mechanism(
                noise,
                pessimistic_estimate=True,
                value_discretization_interval=interval,
                sampling_prob=rate,
                neighboring_relation=either_way,
            )
        case Laplace(noise_multiplier=noise, count=count):
            one = losses.from_laplace_mechanism(
                noise, pessimistic_estimate=True, value_discretization_interval=interval
            )
        case DiscreteLaplace(decay=decay, sensitivity=sensitivity, count=count):
            one = losses.from_discrete_laplace_mechanism(
                decay, sensitivity, pessimistic_estimate=True, value_discretization_interval=interval
            )
        case Promise(epsilon=epsilon, delta=delta, count=count):
            promised = common.DifferentialPrivacyParameters(epsilon, delta)
            one = losses.from_privacy_parameters(promised, value_discretization_interval=interval)
        case NoGuarantee():
            msg = "a step without a mechanism has no privacy-loss distribution"
            raise InternalError(msg)
    return one if count == 1 else one.self_compose(count)
