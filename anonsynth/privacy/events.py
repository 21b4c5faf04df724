"""What was done to the patients' data, as values: never what it costs, which `accountant` says.

An event is built from the parameters that ran, is written to the ledger as JSON, and is read again years later by
another version. Hence a contract: an event is never removed, its meaning never changes, and a new parameter is optional
and its default is what was meant before.

The unit is the patient: all scans, visits, crops and modalities of a person. Two cohorts are neighbours if one has one
patient more (add or remove one). *Sensitivity* is the most that one patient can change what is released before noise is
added, in the norm that is named.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from anonsynth.errors import InputError

__all__ = [
    "DiscreteLaplace",
    "Event",
    "Gaussian",
    "Laplace",
    "NoGuarantee",
    "Promise",
    "SampledGaussian",
    "as_json",
    "describe",
    "from_json",
    "is_protected",
]

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class _Event(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Gaussian(_Event):
    """Normal noise on a vector, `count` times.

    Attributes:
        noise_multiplier: Standard deviation of the noise over the L2 sensitivity of one patient.
        count: How often.
    """

    kind: Literal["gaussian"] = "gaussian"
    noise_multiplier: Positive
    count: Count = 1


class SampledGaussian(_Event):
    """Normal noise on a sum over patients who were each drawn independently (Poisson): a step of DP-SGD, repeated.

    Attributes:
        noise_multiplier: Standard deviation of the noise over the L2 sensitivity of one patient (the clipping norm).
        sampling_rate: Probability with which each patient takes part in a step, independently of all others.
        steps: How many steps.
    """

    kind: Literal["sampled-gaussian"] = "sampled-gaussian"
    noise_multiplier: Positive
    sampling_rate: float = Field(gt=0, le=1)
    steps: Count


class Laplace(_Event):
    """Laplace noise on one number, or on all bins of a histogram that has each patient in one bin; `count` times.

    Attributes:
        noise_multiplier: Scale of the noise over the sensitivity of one patient.
        count: How often.
    """

    kind: Literal["laplace"] = "laplace"
    noise_multiplier: Positive
    count: Count = 1


class DiscreteLaplace(_Event):
    """Whole-numbered noise k with probability ∝ exp(−decay·|k|) on one count, or on all bins as above; `count` times.

    Attributes:
        decay: How fast the noise falls.
        sensitivity: The most that one patient can change the count.
        count: How often.
    """

    kind: Literal["discrete-laplace"] = "discrete-laplace"
    decay: Positive
    sensitivity: Count = 1
    count: Count = 1


class Promise(_Event):
    """Some mechanism that is proven to be (ε, δ)-differentially private and of which nothing else is known.

    Attributes:
        epsilon: Its ε per patient.
        delta: Its δ.
        count: How often.
    """

    kind: Literal["promise"] = "promise"
    epsilon: float = Field(ge=0, allow_inf_nan=False)
    delta: float = Field(default=0.0, ge=0, lt=1)
    count: Count = 1


class NoGuarantee(_Event):
    """Private values were read without a mechanism: nothing bounds what it reveals about a patient."""

    kind: Literal["no-guarantee"] = "no-guarantee"


Event = Gaussian | SampledGaussian | Laplace | DiscreteLaplace | Promise | NoGuarantee
_READ: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="kind")])


def as_json(event: Event) -> dict[str, Any]:
    """Return the event as JSON, with all of its parameters."""
    return event.model_dump(mode="json")


def from_json(value: object) -> Event:
    """Read an event.

    Raises:
        InputError: If it is none, or one of a newer version.

    Example:
        >>> from_json({"kind": "gaussian", "noise_multiplier": 2.0})
        Gaussian(kind='gaussian', noise_multiplier=2.0, count=1)
    """
    try:
        return _READ.validate_python(value)
    except ValidationError:
        raise InputError(
            "the ledger holds an event that this version does not know", remedy="update anonsynth"
        ) from None


def is_protected(events: Iterable[Event]) -> bool:
    """Tell whether a mechanism bounds every one of the events."""
    return not any(isinstance(event, NoGuarantee) for event in events)


def describe(event: Event) -> str:
    """Return an event in words for tables.

    Example:
        >>> describe(SampledGaussian(noise_multiplier=1.1, sampling_rate=0.02, steps=500))
        '500 steps of normal noise 1.1, each patient in a step with probability 0.02'
    """
    match event:
        case Gaussian():
            return f"{_times(event.count)}normal noise {event.noise_multiplier:g}"
        case SampledGaussian():
            return (
                f"{event.steps} steps of normal noise {event.noise_multiplier:g}, "
                f"each patient in a step with probability {event.sampling_rate:g}"
            )
        case Laplace():
            return f"{_times(event.count)}Laplace noise {event.noise_multiplier:g}"
        case DiscreteLaplace():
            return f"{_times(event.count)}discrete Laplace noise {event.decay:g}, sensitivity {event.sensitivity}"
        case Promise():
            return f"{_times(event.count)}a mechanism of ε = {event.epsilon:g}, δ = {event.delta:g}"
        case NoGuarantee():
            return "no guarantee"


def _times(count: int) -> str:
    return "" if count == 1 else f"{count} × "
