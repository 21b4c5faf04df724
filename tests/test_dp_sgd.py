"""The private step does what the proof needs, and every part that is left out is noticed."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from anonsynth.errors import InternalError
from anonsynth.privacy import dp_sgd
from anonsynth.privacy.dp_sgd import DPSGDSettings, check_noise, clipped, norm, private_gradient
from anonsynth.privacy.events import SampledGaussian
from anonsynth.privacy.per_patient import Contribution, Gradient, Items, patient_gradients, trainable
from anonsynth.privacy.randomness import PrivateRandomness
from anonsynth.privacy.sampling import Participation, check_participation, draw_patients

SETTINGS = DPSGDSettings(clipping_norm=0.5, noise_multiplier=2.0, sampling_rate=0.25, steps=40, expected_batch=4.0)
SECRET = bytes(range(32))
RANDOM = PrivateRandomness(SECRET, "a test")


def network() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(6, 40), nn.LeakyReLU(0.2), nn.Linear(40, 3))


def loss(net: nn.Module, items: Items) -> Tensor:
    return net(items["x"]).pow(2).sum(1)


def people(number: int, scale: float = 1.0) -> list[Contribution]:
    draw = torch.Generator().manual_seed(2)
    return [
        Contribution(f"P{index}", {"x": scale * torch.randn(1 + index % 3, 6, generator=draw)})
        for index in range(number)
    ]


def released(contributions: list[Contribution], *, at_once: int = 1, step: int = 0) -> Gradient:
    net = network()
    gradients = patient_gradients(net, loss, contributions, at_once=at_once)
    return private_gradient(gradients, trainable(net), SETTINGS, RANDOM, step)


def noise_of(step: int) -> Gradient:
    strength = SETTINGS.noise_multiplier * SETTINGS.clipping_norm
    return {k: dp_sgd.noise_like(v, strength, RANDOM, step, k) for k, v in trainable(network()).items()}


def flat(gradient: Gradient) -> Tensor:
    return torch.cat([value.double().reshape(-1) for value in gradient.values()])


def test_the_step_is_the_mechanism_in_its_docstring() -> None:
    net = network()
    total = torch.zeros(sum(p.numel() for p in net.parameters()), dtype=torch.float64)
    for patient in people(9):
        net.zero_grad(set_to_none=True)
        loss(net, patient.items).mean().backward()
        own = torch.cat([p.grad.reshape(-1).double() for p in net.parameters() if p.grad is not None])
        total += own * min(1.0, SETTINGS.clipping_norm / float(own.norm()))
    wanted = (total + flat(noise_of(3))) / SETTINGS.expected_batch
    torch.testing.assert_close(flat(released(people(9), step=3)), wanted, rtol=1e-5, atol=1e-6)


def test_the_sum_is_the_same_however_patients_are_chunked_or_ordered() -> None:
    patients = people(11)
    whole = flat(released(patients))
    for at_once in (1, 2, 5, 11):
        torch.testing.assert_close(flat(released(patients[::-1], at_once=at_once)), whole, rtol=0, atol=1e-6)


def test_one_patient_moves_the_sum_by_the_clipping_norm_at_most_however_many_scans_she_has() -> None:
    others = people(6)
    for scans in (1, 4, 30):
        loud = Contribution("loud", {"x": 1e4 * torch.randn(scans, 6, generator=torch.Generator().manual_seed(scans))})
        moved = (flat(released([*others, loud])) - flat(released(others))) * SETTINGS.expected_batch
        assert 0.99 * SETTINGS.clipping_norm < float(moved.norm()) < (1 + 1e-5) * SETTINGS.clipping_norm


def test_a_batch_of_nobody_is_noise_and_is_released() -> None:
    torch.testing.assert_close(flat(released([], step=7)), flat(noise_of(7)) / SETTINGS.expected_batch)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30])
def test_a_gradient_that_is_not_finite_stays_its_patients_own_affair(value: float) -> None:
    """Scaled by C/norm it would make the whole sum no number, and tell that she was there."""
    broken = Contribution("broken", {"x": torch.full((2, 6), value)})
    alone, together = flat(released(people(4))), flat(released([*people(4), broken]))
    assert torch.isfinite(together).all()
    assert (together - alone).norm() * SETTINGS.expected_batch <= SETTINGS.clipping_norm * (1 + 1e-5)
    assert norm(clipped({"x": torch.tensor([value, 1.0], dtype=torch.float32)}, 0.5)) <= 0.5


def test_the_event_is_built_from_what_runs() -> None:
    assert SETTINGS.event == SampledGaussian(noise_multiplier=2.0, sampling_rate=0.25, steps=40)


# The noise.


def test_noise_is_normal_independent_and_drawn_again_only_for_the_same_step() -> None:
    from scipy.stats import kstest

    drawn = RANDOM.normal(20_001, "a").numpy()
    assert kstest(drawn, "norm").pvalue > 1e-4
    assert abs(np.corrcoef(drawn[:10_000], drawn[10_000:20_000])[0, 1]) < 0.04
    assert np.array_equal(drawn, RANDOM.normal(20_001, "a").numpy())
    others = [
        RANDOM.normal(20_001, "b"),
        PrivateRandomness(SECRET, "another run").normal(20_001, "a"),
        PrivateRandomness(bytes(32), "a test").normal(20_001, "a"),
    ]
    assert all(abs(np.corrcoef(drawn, other)[0, 1]) < 0.04 for other in others)
    assert abs(float(torch.corrcoef(torch.stack([flat(noise_of(0)), flat(noise_of(1))]))[0, 1])) < 0.25


def test_names_are_not_run_together_and_the_secret_is_not_printed() -> None:
    assert RANDOM.draw(8, "a", "bc") != RANDOM.draw(8, "ab", "c")
    assert RANDOM.draw(8, "a", 1) != RANDOM.draw(8, "a1")
    assert SECRET.hex()[:8] not in repr(RANDOM)
    assert repr(SECRET) not in repr(RANDOM)
    assert RANDOM.name == PrivateRandomness(SECRET, "a test").name != PrivateRandomness(SECRET, "b").name


@pytest.mark.parametrize("factor", [0.0, 0.1, 0.5, 0.9, 1.1, 3.0])
def test_noise_that_is_not_as_strong_as_promised_is_noticed(factor: float) -> None:
    drawn = RANDOM.normal(4000, "check")
    check_noise({"a": drawn}, 1.0)
    noise = {"a": drawn / drawn.square().mean().sqrt()}  # as strong as promised, with no luck of the draw
    with pytest.raises(InternalError, match="not as strong as promised"):
        check_noise({"a": factor * noise["a"]}, 1.0)


def test_the_check_of_the_noise_gives_no_false_alarm() -> None:
    for count in (1, 2, 7, 100):
        for draw in range(200):
            check_noise({"a": RANDOM.normal(count, "calm", count, draw)}, 1.0)


# What is left out is noticed by the code that runs.


def test_noise_left_out_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dp_sgd, "noise_like", lambda like, *_: torch.zeros(like.shape, dtype=torch.float64))
    with pytest.raises(InternalError, match="noise of a private step"):
        released(people(3))
    monkeypatch.setattr(dp_sgd, "check_noise", lambda *_: None)
    released(people(3))


def test_clipping_left_out_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dp_sgd, "clipped", lambda gradient, _: gradient)
    with pytest.raises(InternalError, match="longer than the clipping norm"):
        released(people(3, scale=100.0))


def test_clipping_each_parameter_by_itself_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def each(gradient: Gradient, bound: float) -> Gradient:
        return {name: value * (bound / float(value.norm())) for name, value in gradient.items()}

    monkeypatch.setattr(dp_sgd, "clipped", each)
    with pytest.raises(InternalError, match="longer than the clipping norm"):
        released(people(3))


def test_a_patient_who_comes_twice_is_noticed() -> None:
    patients = people(4)
    with pytest.raises(InternalError, match="twice in one private step"):
        released([*patients, Contribution("P1", patients[0].items)])


# The sampler.


def coins(patients: int, steps: int, rate: float) -> list[tuple[str, ...]]:
    names = [f"P{index}" for index in range(patients)]
    return [draw_patients(names, rate, RANDOM, step) for step in range(steps)]


def fixed_size(patients: int, steps: int, rate: float) -> list[tuple[str, ...]]:
    rng = np.random.default_rng(1)
    size = round(rate * patients)
    return [tuple(f"P{i}" for i in rng.choice(patients, size, replace=False)) for _ in range(steps)]


def shuffled(patients: int, steps: int, rate: float) -> Iterator[tuple[str, ...]]:
    rng = np.random.default_rng(1)
    size, order = round(rate * patients), np.empty(0, int)
    for _ in range(steps):
        if len(order) < size:
            order = rng.permutation(patients)
        # Batches of uneven size, so that size alone does not give it away.
        take = min(len(order), max(1, int(rng.binomial(patients, rate))))
        yield tuple(f"P{i}" for i in order[:take])
        order = order[take:]


def blocks(patients: int, steps: int, rate: float) -> list[tuple[str, ...]]:
    """Scans of a site are drawn together."""
    rng = np.random.default_rng(1)
    return [tuple(f"P{i}" for i in range(patients) if chosen[i // 10]) for chosen in rng.random((steps, 99)) < rate]


def too_often(patients: int, steps: int, rate: float) -> list[tuple[str, ...]]:
    return coins(patients, steps, 1.5 * rate)


def log_of(batches: list[tuple[str, ...]], patients: int, rate: float) -> Participation:
    counts = [sum(f"P{index}" in batch for batch in batches) for index in range(patients)]
    return Participation(np.array([len(batch) for batch in batches]), np.array(counts), rate)


@pytest.mark.parametrize("sampler", [fixed_size, shuffled, blocks, too_often])
def test_a_sampler_that_is_not_poisson_is_noticed(sampler) -> None:
    with pytest.raises(InternalError, match="independent coins"):
        check_participation(log_of(list(sampler(60, 120, 0.25)), 60, 0.25))


@pytest.mark.parametrize(("patients", "steps", "rate"), [(60, 120, 0.25), (5, 200, 0.02), (300, 10, 0.9), (7, 9, 1.0)])
def test_poisson_sampling_raises_no_alarm(patients: int, steps: int, rate: float) -> None:
    batches = coins(patients, steps, rate)
    check_participation(log_of(batches, patients, rate))
    mean = sum(map(len, batches)) / (patients * steps)
    assert abs(mean - rate) <= 5 * math.sqrt(rate * (1 - rate) / (patients * steps))


def test_a_patients_coin_does_not_depend_on_who_else_is_there() -> None:
    names = [f"P{index}" for index in range(50)]
    for step in range(5):
        with_all = draw_patients(names, 0.3, RANDOM, step)
        without = draw_patients(names[:20] + names[21:], 0.3, RANDOM, step)
        assert tuple(name for name in with_all if name != "P20") == without
    assert len({draw_patients(names, 0.3, RANDOM, step) for step in range(5)}) == 5


def test_a_log_that_contradicts_itself_is_noticed() -> None:
    with pytest.raises(InternalError, match="contradicts itself"):
        check_participation(Participation(np.array([3, 2]), np.array([1, 1, 1]), 0.5))
