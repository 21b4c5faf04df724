"""Per-patient gradients are exact, layer by layer, and layers that are not on the list are refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.nn.utils.parametrize import remove_parametrizations

from anonsynth.errors import UsageError
from anonsynth.privacy.layers import ALLOWED, CONTAINERS, check_network
from anonsynth.privacy.per_patient import Contribution, Items, patient_gradients, trainable
from anonsynth.synthesis.networks import Discriminator, Modulated, Residual, Translator

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "convolution": lambda: nn.Conv3d(4, 4, 3, padding=1),
    "strided": lambda: nn.Conv3d(4, 6, 4, stride=2, padding=1),
    "grouped and dilated": lambda: nn.Conv3d(4, 4, 3, padding=2, dilation=2, groups=2, bias=False),
    "transposed": lambda: nn.ConvTranspose3d(4, 3, 4, stride=2, padding=1),
    "group norm": lambda: nn.GroupNorm(2, 4),
    "instance norm": lambda: nn.InstanceNorm3d(4, affine=True),
    "layer norm": lambda: nn.LayerNorm(4),
    "linear": lambda: nn.Linear(4, 3),
    "average pooling": lambda: nn.AvgPool3d(2),
    "nearest": lambda: nn.Upsample(scale_factor=2),
    "trilinear": lambda: nn.Upsample(scale_factor=2, mode="trilinear", align_corners=False),
    "leaky ReLU": lambda: nn.LeakyReLU(0.2),
    "others": lambda: nn.Sequential(nn.Identity(), nn.Tanh(), nn.SiLU(), nn.Sigmoid()),
}


def square(network: nn.Module, items: Items) -> Tensor:
    """A loss of every item, which no two items share."""
    return (network(items["image"]) - items["target"][:, None, None, None, None]).pow(2).flatten(1).mean(1)


def contributions(channels: int, shape: tuple[int, int, int] = (4, 4, 4)) -> list[Contribution]:
    """Four patients with one to four items each."""
    draw = torch.Generator().manual_seed(3)
    return [
        Contribution(
            f"P{count}",
            {
                "image": torch.randn(count, channels, *shape, generator=draw, dtype=torch.float64),
                "target": torch.randn(count, generator=draw, dtype=torch.float64),
            },
        )
        for count in (2, 1, 4, 3)
    ]


def one_by_one(network: nn.Module, loss: Callable[[nn.Module, Items], Tensor], patient: Contribution) -> list[Tensor]:
    """The reference: every item alone through plain autograd, then the mean over the patient's items."""
    total = [torch.zeros_like(parameter) for parameter in network.parameters()]
    for item in range(patient.count):
        network.zero_grad(set_to_none=True)
        loss(network, {name: value[item : item + 1] for name, value in patient.items.items()}).sum().backward()
        for value, parameter in zip(total, network.parameters(), strict=True):
            if parameter.grad is not None:
                value += parameter.grad / patient.count
    network.zero_grad(set_to_none=True)
    return total


def assert_exact(network: nn.Module, loss: Callable[[nn.Module, Items], Tensor], patients: list[Contribution]) -> None:
    names = list(trainable(network))
    wanted = {patient.patient: one_by_one(network, loss, patient) for patient in patients}
    assert any(value.abs().max() > 1e-4 for values in wanted.values() for value in values), "nothing to compare"
    for at_once in (1, 3, 9):
        found = list(patient_gradients(network, loss, iter(patients), at_once=at_once))
        assert [patient for patient, _ in found] == [patient.patient for patient in patients]
        for patient, gradient in found:
            assert list(gradient) == names
            for value, reference in zip(gradient.values(), wanted[patient], strict=True):
                torch.testing.assert_close(value, reference, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [(4, 4, 4), (6, 5, 4)])
@pytest.mark.parametrize("name", LAYERS)
def test_every_allowed_layer_has_exact_gradients(name: str, shape: tuple[int, int, int]) -> None:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv3d(2, 4, 1), LAYERS[name]()).double()
    check_network(network)
    assert_exact(network, square, contributions(2, shape))


def test_no_allowed_layer_is_left_out() -> None:
    tried = {type(module) for make in LAYERS.values() for module in make().modules()}
    assert tried - CONTAINERS == ALLOWED


def test_the_projects_generator_has_exact_gradients() -> None:
    torch.manual_seed(1)
    network = Translator(2, 1, width=8, style=3).double()
    composed = (Translator, Residual, Modulated)
    check_network(network, composed)
    with pytest.raises(UsageError, match="not on the list"):
        check_network(network)
    assert_exact(network, square, contributions(2, (8, 8, 8))[:3])


def judge(network: nn.Module, items: Items) -> Tensor:
    image = items["image"]
    logits, _ = network(image[:, :1], image[:, 1:])
    return torch.stack([torch.relu(1 - value).flatten(1).mean(1) for value in logits]).mean(0)


def test_the_projects_discriminator_has_exact_gradients_without_its_spectral_norm() -> None:
    torch.manual_seed(1)
    network = Discriminator(1, 1, width=4).double()
    with pytest.raises(UsageError, match="parametrised"):
        check_network(network, (Discriminator,))
    for module in list(network.modules()):
        if isinstance(module, nn.Conv3d):
            remove_parametrizations(module, "weight")
    check_network(network, (Discriminator,))
    assert_exact(network, judge, contributions(2, (8, 8, 8))[:3])


class Odd(nn.Conv3d):
    """An allowed layer that somebody changed."""


def hooked() -> nn.Module:
    layer = nn.Conv3d(2, 2, 3)
    layer.register_forward_hook(lambda *_: None)
    return layer


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: nn.BatchNorm3d(2), "not on the list"),
        (lambda: nn.InstanceNorm3d(2, track_running_stats=True), "has buffers"),
        (lambda: spectral_norm(nn.Conv3d(2, 2, 3)), "parametrised"),
        (lambda: weight_norm(nn.Linear(2, 2)), "parametrised"),
        (lambda: nn.Dropout(), "not on the list"),
        (lambda: nn.Conv3d(2, 2, 3, padding=1, padding_mode="reflect"), "pads with something else"),
        (lambda: nn.Conv3d(2, 2, 3, padding=1, padding_mode="circular"), "pads with something else"),
        (lambda: nn.LeakyReLU(0.2, inplace=True), "in place"),
        (lambda: Odd(2, 2, 3), "not on the list"),
        (hooked, "has hooks"),
        (lambda: nn.LSTM(2, 2), "not on the list"),
    ],
)
def test_what_is_not_proven_is_refused(make: Callable[[], nn.Module], sentence: str) -> None:
    network = nn.Sequential(nn.Linear(2, 2), make())
    with pytest.raises(UsageError, match=sentence):
        check_network(network)


def test_a_network_without_anything_to_train_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing to train"):
        check_network(nn.Sequential(nn.Linear(2, 2)).requires_grad_(False))


def test_batch_norm_would_mix_patients() -> None:
    """Why the list is there: with batch norm a batch's gradient is not the sum of its patients' gradients."""
    torch.manual_seed(1)
    patients = contributions(2)
    for layer, mixes in ((nn.BatchNorm3d(4, track_running_stats=False), True), (nn.GroupNorm(2, 4), False)):
        network = nn.Sequential(nn.Conv3d(2, 4, 1), layer).double()
        apart = sum(one_by_one(network, square, patient)[0] * patient.count for patient in patients)
        merged = {name: torch.cat([patient.items[name] for patient in patients]) for name in patients[0].items}
        square(network, merged).sum().backward()
        together = network[0].weight.grad
        assert together is not None
        assert torch.allclose(together, apart, rtol=1e-6) is not mixes  # type: ignore[arg-type]


def test_what_fills_up_a_ragged_chunk_makes_no_number_that_is_none() -> None:
    """A loss that is not finite at zeros would make one of a patient with fewer items than others."""

    def root(network: nn.Module, items: Items) -> Tensor:
        return network(items["image"]).flatten(1).norm(dim=1) / items["image"].flatten(1).norm(dim=1)

    assert_exact(nn.Conv3d(2, 2, 1, bias=False).double(), root, contributions(2))


def test_contributions_and_losses_have_to_fit() -> None:
    with pytest.raises(UsageError, match="same items"):
        Contribution("P1", {"a": torch.zeros(2, 1), "b": torch.zeros(3, 1)})
    with pytest.raises(UsageError, match="one item at least"):
        Contribution("P1", {"a": torch.zeros(0, 1)})
    network = nn.Linear(1, 1)
    with pytest.raises(UsageError, match="one number for each of 2 items"):
        list(
            patient_gradients(network, lambda net, items: net(items["a"]), [Contribution("P", {"a": torch.ones(2, 1)})])
        )
