"""Rung 4's discriminator: of layers that keep patients apart, conditional on the map, and small."""

from __future__ import annotations

import torch

from anonsynth.privacy.layers import check_network
from anonsynth.privacy.per_patient import Contribution, patient_gradients
from anonsynth.synthesis.networks import Discriminator
from anonsynth.synthesis.private_gan import COMPOSED, PrivateCritic, critic_loss, critic_weights

CONDITION, MODALITIES = 5, 2


def critic() -> PrivateCritic:
    torch.manual_seed(0)
    return PrivateCritic(CONDITION, MODALITIES)


def person(index: int) -> Contribution:
    source = torch.Generator().manual_seed(index)
    scans = 1 + index % 3
    condition = torch.rand(scans, CONDITION, 8, 9, 10, generator=source)
    image, fake = (torch.rand(scans, MODALITIES, 8, 9, 10, generator=source) for _ in range(2))
    return Contribution(f"P{index}", {"condition": condition, "image": image, "fake": fake})


def test_patients_gradients_are_their_own_whoever_else_is_there() -> None:
    network = critic()
    check_network(network, COMPOSED)
    people = [person(index) for index in range(4)]
    alone = dict(patient_gradients(network, critic_loss, people, at_once=1))
    together = dict(patient_gradients(network, critic_loss, people, at_once=4))
    for patient, gradient in alone.items():
        assert gradient.keys() == dict(network.named_parameters()).keys()
        for name, value in gradient.items():
            torch.testing.assert_close(together[patient][name], value, rtol=1e-4, atol=1e-6)
    # A scan's loss does not depend on her other scans: hers is the mean.
    items = people[2].items
    one = {name: value[2:] for name, value in items.items()}
    torch.testing.assert_close(critic_loss(network, items)[2:], critic_loss(network, one))


def test_the_plain_discriminator_would_be_refused() -> None:
    import pytest

    from anonsynth.errors import UsageError

    with pytest.raises(UsageError, match="spectral norm"):
        check_network(Discriminator(CONDITION, MODALITIES, width=8), (Discriminator,))


def test_it_judges_scan_and_map_together() -> None:
    network, items = critic(), person(0).items
    judged = network(items["condition"], items["image"])
    other_map = network(items["condition"].flip(2), items["image"])
    other_scan = network(items["condition"], items["fake"])
    assert not torch.allclose(judged, other_map)
    assert not torch.allclose(judged, other_scan)


def test_its_size_is_known_before_it_is_made() -> None:
    assert critic_weights(CONDITION, MODALITIES) == sum(p.numel() for p in critic().parameters())
    assert critic_weights(12, 1) < 10_000
