"""What a guarantee would have cost: the noise that differential privacy asks of a training like the one that ran.

Informative: it spends nothing and guarantees nothing. It stands on the model card, so that an officer who reads "no
guarantee" also reads what one would have meant for a cohort of this size.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

__all__ = ["EPSILONS", "Price", "price_of_guarantee"]

EPSILONS = (1.0, 3.0, 8.0)


@dataclass(frozen=True, slots=True)
class Price:
    """DP-SGD at one ε, add-or-remove-one-patient neighbours, the patient as the unit.

    Attributes:
        epsilon: The ε asked for.
        delta: The δ asked for.
        noise_multiplier: Standard deviation of the noise over the clipping norm of one patient's gradient.
        signal_to_noise: Largest possible ratio of the gradient's norm to the noise's norm in one step.
    """

    epsilon: float
    delta: float
    noise_multiplier: float
    signal_to_noise: float


def price_of_guarantee(patients: int, batch: int, steps: int, weights: int) -> tuple[Price, ...]:
    """Return the price at each of `EPSILONS`, with δ = 1/(10·patients).

    DP-SGD (Abadi et al. 2016, arXiv 1607.00133) draws each patient with probability batch/patients in each step
    (Poisson), clips every patient's gradient to norm C and adds noise of standard deviation σC to each of `weights`
    coordinates. The sum of the clipped gradients of `batch` patients has a norm of at most batch·C, the noise one of
    about σC·√weights; their ratio is the best signal to noise there can be. σ is found with Opacus' numerical
    composition of privacy-loss random variables (Gopi et al. 2021, arXiv 2106.02848).

    Args:
        patients: Training patients, at least `batch`.
        batch: Patients expected in a step.
        steps: Steps.
        weights: Trained coordinates of the private network.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Opacus warns of torch's deprecations on import
        from opacus.accountants.utils import get_noise_multiplier

        rate = min(1.0, batch / patients)
        delta = 1 / (10 * patients)
        prices = []
        for epsilon in EPSILONS:
            noise = float(
                get_noise_multiplier(
                    target_epsilon=epsilon,
                    target_delta=delta,
                    sample_rate=rate,
                    steps=steps,
                    accountant="prv",
                    epsilon_tolerance=0.01 * epsilon,
                )
            )
            prices.append(Price(epsilon, delta, noise, batch / (noise * math.sqrt(weights))))
    return tuple(prices)
