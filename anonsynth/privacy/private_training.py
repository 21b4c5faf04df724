"""Private training from the first step to the last: no step without a receipt, none twice, all of them looked at.

open_run ─▶ declare ─▶ train_privately ─▶ weights that may leave        forget
secret      ledger     draw, clip, add noise, step
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anonsynth.errors import InternalError
from anonsynth.privacy.dp_sgd import private_gradient
from anonsynth.privacy.layers import check_network
from anonsynth.privacy.per_patient import Contribution, Items, Loss, patient_gradients, trainable
from anonsynth.privacy.private_run import PrivateRun
from anonsynth.privacy.receipt import Receipt
from anonsynth.privacy.sampling import check_participation, draw_patients

__all__ = ["PRIVATE", "PrivateTask", "train_privately"]

PRIVATE = "private"
"""The name of the network and of the optimiser that learn from patients."""


@dataclass(frozen=True, slots=True)
class PrivateTask:
    """What is learnt from patients.

    Attributes:
        read: A patient's items for a step, from her pseudonym and a generator for crops and augmentations. It reads
            this one patient and nothing of anybody else: no mean over the cohort, no draw among patients.
        loss: The loss (K,) of each of her items by itself.
        composed: Classes of the network's modules that are vouched for; see `check_network`.
        afterwards: What is done after a step without reading patients, such as a generator's own step; it gets the
            step's number, and all of its randomness follows from it.
    """

    read: Callable[[str, torch.Generator], Items]
    loss: Loss
    composed: Collection[type[nn.Module]] = ()
    afterwards: Callable[[int], None] | None = None


def train_privately(
    task: PrivateTask,
    run: PrivateRun,
    receipt: Receipt,
    *,
    at_once: int = 1,
    save_every: int = 10,
    tell: Callable[[int], None] | None = None,
) -> None:
    """Train the run's private network to its last step, going on where it was left.

    What comes out is (ε, δ)-differentially private per patient for the receipt's event, one patient more or less: all
    weights, after every step, and whatever is made of them without looking at patients again.

    Args:
        task: What is learnt.
        run: The opened run; its networks and optimisers are trained in place.
        receipt: What `declare` returned for it.
        at_once: Patients held in memory together; changes speed and memory only.
        save_every: Steps between two writes of the state.
        tell: Is told the number of finished steps.

    Raises:
        UsageError: If the network cannot be trained with a guarantee.
        InternalError: If the run is not in the ledger, or a part of the mechanism does not do what the proof needs.
    """
    network, optimiser = run.networks[PRIVATE], run.optimisers[PRIVATE]
    check_network(network, task.composed)
    _check_optimiser(network, optimiser)
    receipt.confirm(run.name, run.settings.event, patients=len(run.patients))
    constants = [(buffer, buffer.clone()) for buffer in network.buffers()]
    parameters = trainable(network)
    while not run.done:
        step = run.step
        drawn = draw_patients(run.patients, run.settings.sampling_rate, run.randomness, step)
        contributions = (_contribution(task, run, patient) for patient in drawn)
        gradients = patient_gradients(network, task.loss, contributions, at_once=at_once)
        released = private_gradient(gradients, parameters, run.settings, run.randomness, step)
        for name, parameter in parameters.items():
            parameter.grad = released[name]
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        _check_constants(constants)
        if task.afterwards is not None:
            task.afterwards(step)
        run.took_part(drawn)
        if run.step % save_every == 0 or run.done:
            run.save()
        if tell is not None:
            tell(run.step)
    check_participation(run.participation)


def _contribution(task: PrivateTask, run: PrivateRun, patient: str) -> Contribution:
    return Contribution(patient, task.read(patient, run.randomness.generator("items", run.step, patient)))


def _check_optimiser(network: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """See that the optimiser moves what is trained, and nothing whose gradient has no noise."""
    held = {id(parameter) for group in optimiser.param_groups for parameter in group["params"]}
    if held != {id(parameter) for parameter in trainable(network).values()}:
        msg = "the private optimiser has to hold the private network's trainable parameters, all of them and no others"
        raise InternalError(msg)


def _check_constants(constants: Sequence[tuple[Tensor, Tensor]]) -> None:
    """See that no buffer has learnt from patients: it would be released without noise."""
    if not all(torch.equal(now, before) for now, before in constants):
        msg = "a buffer of the private network changed in training; nothing of this run may be released"
        raise InternalError(msg)
