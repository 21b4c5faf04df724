"""The gradient of every patient's own loss, exactly.

The unit is the patient. All her scans, visits, crops, augmentations and modalities are the *items* of one contribution;
her loss is the mean over her items, and its gradient is what is clipped as one. So a patient with four scans moves the
weights no further than one with a single scan.

Two ways lead to the same gradients. One patient after the other: her items are the batch, autograd does the rest, and
nothing of anybody else is in memory. It is exact for every layer by construction. Or several patients at once:
`torch.func.vmap` over `grad`, with the ragged numbers of items filled up by items of weight zero. On processors the
first is the cheaper one as soon as a patient brings two items; a batch of one small volume is convolved by torch in
another, slower way (`slow_conv3d`), so patients with one crop each are better computed together
(`benchmarks/dp_cost.py --items 1` and `--items 2`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from anonsynth.errors import UsageError

__all__ = ["Contribution", "Gradient", "Items", "Loss", "patient_gradients", "trainable"]

Items = Mapping[str, Tensor]
"""What one patient brings to a step: tensors (K, …) over her K items, by name."""
Gradient = dict[str, Tensor]
"""A value for every trainable parameter, by its name."""
Loss = Callable[[nn.Module, Items], Tensor]
"""The loss (K,) of every item by itself: no item's loss may depend on another's, and nothing may be drawn at random."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """Everything that one patient brings to one step.

    Attributes:
        patient: Her pseudonym.
        items: Tensors (K, …), K ≥ 1 the same for all of them.
    """

    patient: str
    items: Items

    def __post_init__(self) -> None:
        counts = {tensor.shape[:1] for tensor in self.items.values()}
        if len(counts) != 1 or counts & {torch.Size([]), torch.Size([0])}:
            msg = "a patient's contribution needs tensors over the same items, one item at least"
            raise UsageError(msg)

    @property
    def count(self) -> int:
        """How many items there are."""
        return len(next(iter(self.items.values())))


def trainable(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that are trained, by name; shared ones once."""
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}


def patient_gradients(
    network: nn.Module, loss: Loss, contributions: Iterable[Contribution], *, at_once: int = 1
) -> Iterator[tuple[str, Gradient]]:
    """Yield every patient with the gradient of the mean of her items' losses, in the order in which they come.

    Contributions are asked for as they are needed, so memory holds `at_once` of them.

    Args:
        network: One that `check_network` allows.
        loss: Loss of every item; the network that it is given stands in for `network`.
        contributions: Patients with their items.
        at_once: Patients computed together. 1 takes one after the other; more use `vmap`, with the same result.

    Raises:
        UsageError: If the loss does not return one number per item.
    """
    source = iter(contributions)
    if at_once == 1:
        for contribution in source:
            yield contribution.patient, _one_by_one(network, loss, contribution)
        return
    while chunk := list(islice(source, at_once)):
        together = _together(network, loss, chunk)
        for index, contribution in enumerate(chunk):
            yield contribution.patient, {name: values[index] for name, values in together.items()}


def _one_by_one(network: nn.Module, loss: Loss, contribution: Contribution) -> Gradient:
    parameters = trainable(network)
    with torch.enable_grad():
        losses = _checked(loss(network, contribution.items), contribution.count)
        # A parameter that the loss does not use has the gradient zero.
        values = torch.autograd.grad(losses.mean(), list(parameters.values()), materialize_grads=True)
    return dict(zip(parameters, values, strict=True))


def _together(network: nn.Module, loss: Loss, chunk: Sequence[Contribution]) -> Gradient:
    """Return the gradients of several patients, (patients, …) for each parameter."""
    most = max(contribution.count for contribution in chunk)
    weights = torch.stack([_weights(contribution.count, most) for contribution in chunk])
    names = chunk[0].items.keys()
    items = {name: torch.stack([_filled(one.items[name], most) for one in chunk]) for name in names}
    whole = _WithLoss(network, loss)

    def loss_of_one(parameters: Gradient, items: Items, weights: Tensor) -> Tensor:
        losses = _checked(functional_call(whole, parameters, (items,)), most)
        return (weights.to(losses) * losses).sum()

    at = {f"network.{name}": parameter.detach() for name, parameter in trainable(network).items()}
    gradients = vmap(grad(loss_of_one), in_dims=(None, 0, 0))(at, items, weights)
    return {name.removeprefix("network."): values for name, values in gradients.items()}


class _WithLoss(nn.Module):
    """The loss as a module, so that a functional call exchanges the network's parameters inside it."""

    def __init__(self, network: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.network = network
        self.loss = loss

    def forward(self, items: Items) -> Tensor:
        return self.loss(self.network, items)


def _weights(count: int, most: int) -> Tensor:
    """Return (most,) weights: the mean over `count` items, and nothing for what fills them up."""
    return (torch.arange(most) < count).double() / count


def _filled(tensor: Tensor, most: int) -> Tensor:
    """Return (most, …): the items, and the first of them again and again.

    Not zeros: of a loss that is not finite there, even a weight of zero makes a gradient that is no number.
    """
    return torch.cat([tensor, tensor[:1].expand(most - len(tensor), *tensor.shape[1:])])


def _checked(losses: Tensor, count: int) -> Tensor:
    if losses.shape != (count,):
        msg = f"the loss has to be one number for each of {count} items and has the shape {tuple(losses.shape)}"
        raise UsageError(msg)
    return losses
