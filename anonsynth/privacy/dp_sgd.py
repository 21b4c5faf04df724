"""One private step: the sum of clipped per-patient gradients, with normal noise, over a number that is public.

    g̃ = ( Σ_{patients drawn} clip(g_patient, C)  +  N(0, (σC)² I) ) / expected batch

Abadi et al. 2016, arXiv 1607.00133, with the patient as the unit. **Sensitivity**: with one patient more or less, one
term of the sum comes or goes, and its norm over *all* parameters together is at most C. So the noise multiplier of the
event is σ, whatever the network. **The divisor is a setting**, never the number of patients who were drawn: that
number is private, and a sum divided by it is not the sum that the noise was meant for. A step in which nobody was drawn
is a step like any other: noise is drawn and released, since leaving it out would tell that nobody was there.

What could make the proof void is looked at in every step, by the code that runs: no patient twice, no contribution
above C, noise of the strength that was promised. These checks depend on the noise and on the program, never on a
patient's values; an alarm of the noise check that should not be has a probability below 10⁻¹², which adds as much to δ.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from anonsynth.errors import InternalError
from anonsynth.privacy.events import SampledGaussian
from anonsynth.privacy.per_patient import Gradient
from anonsynth.privacy.randomness import PrivateRandomness

__all__ = ["DPSGDSettings", "check_noise", "clipped", "private_gradient"]

ROUNDING = 1e-6
"""What single precision may add to a norm; clipping aims that much below C."""
LOG_ALARM = math.log(1e-12)


class DPSGDSettings(BaseModel):
    """Everything that the price of private training depends on, and nothing else; the event is built from it.

    Attributes:
        clipping_norm: C, the largest norm of one patient's gradient over all parameters together.
        noise_multiplier: σ, the standard deviation of the noise over C.
        sampling_rate: Probability with which each patient takes part in a step.
        steps: How many steps.
        expected_batch: What the noisy sum is divided by: about rate times patients, written down beforehand. If it is
            computed from the cohort, the cohort's size is published by it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    clipping_norm: float = Field(gt=0, allow_inf_nan=False)
    noise_multiplier: float = Field(gt=0, allow_inf_nan=False)
    sampling_rate: float = Field(gt=0, le=1)
    steps: int = Field(ge=1)
    expected_batch: float = Field(gt=0, allow_inf_nan=False)

    @property
    def event(self) -> SampledGaussian:
        """What all steps together do to the patients' data."""
        return SampledGaussian(
            noise_multiplier=self.noise_multiplier, sampling_rate=self.sampling_rate, steps=self.steps
        )


def private_gradient(
    gradients: Iterable[tuple[str, Gradient]],
    shapes: Mapping[str, Tensor],
    settings: DPSGDSettings,
    randomness: PrivateRandomness,
    step: int,
) -> Gradient:
    """Return the gradient of one step, safe to release: it may go to any optimiser, into any file, to anybody.

    Args:
        gradients: Each drawn patient once, with her gradient; nobody if nobody was drawn. They are read one by one.
        shapes: For every trainable parameter a tensor of its shape, type and device.
        settings: Norm, noise and divisor.
        randomness: The run's; the same step draws the same noise.
        step: From 0.

    Raises:
        InternalError: If a patient comes twice, or a part of the mechanism does not do what the proof needs.
    """
    # Double precision: the sum is the same, to the last digits that count, in whichever order patients come.
    total = {name: torch.zeros(like.shape, dtype=torch.float64, device=like.device) for name, like in shapes.items()}
    seen: set[str] = set()
    for patient, gradient in gradients:
        if patient in seen:
            msg = "a patient came twice in one private step; all of her items have to be one contribution"
            raise InternalError(msg)
        seen.add(patient)
        bounded = clipped(gradient, settings.clipping_norm)
        if not norm(bounded) <= settings.clipping_norm:
            msg = "a patient's clipped gradient is longer than the clipping norm; nothing of this run may be released"
            raise InternalError(msg)
        for name, value in bounded.items():
            total[name] += value
    strength = settings.noise_multiplier * settings.clipping_norm
    noise = {name: noise_like(like, strength, randomness, step, name) for name, like in shapes.items()}
    check_noise(noise, strength)
    return {
        name: ((total[name] + noise[name]) / settings.expected_batch).to(like.dtype) for name, like in shapes.items()
    }


def clipped(gradient: Gradient, bound: float) -> Gradient:
    """Return the gradient, made shorter if its norm over all parameters is above `bound`.

    A gradient that is not finite becomes zero. Scaled by C/norm it would stay no number, and one patient's overflow
    would turn everybody's sum into one, which tells that she was there.
    """
    length = norm(gradient)
    if not math.isfinite(length):
        return {name: torch.zeros_like(value) for name, value in gradient.items()}
    factor = min(1.0, bound * (1 - ROUNDING) / length) if length > 0 else 1.0
    return {name: value * factor for name, value in gradient.items()}


def norm(gradient: Gradient) -> float:
    """Return the Euclidean norm over all parameters together, computed in double precision."""
    parts = [torch.linalg.vector_norm(value, dtype=torch.float64) for value in gradient.values()]
    return float(torch.linalg.vector_norm(torch.stack(parts)))


def noise_like(like: Tensor, strength: float, randomness: PrivateRandomness, step: int, name: str) -> Tensor:
    """Return independent normal noise of the standard deviation `strength`, shaped as `like`, in double precision."""
    drawn = randomness.normal(like.numel(), "noise", step, name).mul_(strength)
    return drawn.reshape(like.shape).to(like.device)


def check_noise(noise: Gradient, strength: float) -> None:
    """See that noise is there and as strong as promised: its sum of squares is χ² with a degree for each number.

    Both tails are bounded by Chernoff's bound; a promise that is off by a tenth is seen from about 3,000 numbers on,
    noise ten times too weak from 16 on, and noise that is left out always.

    Raises:
        InternalError: If such noise would be drawn with a probability below 10⁻¹².
    """
    count = sum(value.numel() for value in noise.values())
    ratio = sum(float((value**2).sum()) for value in noise.values()) / (strength**2 * count)
    # P(χ²_k/k beyond r) ≤ (r·e^(1−r))^(k/2), on either side.
    log_chance = count / 2 * (math.log(ratio) + 1 - ratio) if ratio > 0 and math.isfinite(ratio) else -math.inf
    if log_chance + math.log(2) < LOG_ALARM:
        msg = "the noise of a private step is not as strong as promised; nothing of this run may be released"
        raise InternalError(msg)
