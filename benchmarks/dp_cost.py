"""What a private step costs beside a plain one: time and memory, our ways and Opacus' in the same run.

    python benchmarks/dp_cost.py [--axis 40] [--batch 4] [--items 1] [--repeats 9] [--threads 2]

A step is forward, backward and an SGD update on one batch; a private one clips every patient's gradient, adds noise and
divides by the expected batch. The same crop size, weights and batch for all, `--items` crops of each patient:

- `plain`: the batch as one, the mean of the losses;
- `one by one`: `patient_gradients(at_once=1)`, what training uses;
- `vmap`: `patient_gradients(at_once=batch)`;
- `opacus hooks`, `opacus functorch`, `opacus ghost`: Opacus' per-sample gradients, whose noise is torch's. Its unit is
  the crop, so it takes part only where each patient has one.

Times are measured in one process that goes through all variants in turn, again and again; a ratio is that of a variant
and of the plain step in the same round, its median stands with an interval that covers the true median in at least
95 % of runs (order statistics). Memory is the peak of a process of its own for each variant, less what it had before
the network was made. On a busy machine look at the processor's time as well as at the clock.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import remove_parametrizations

from anonsynth.errors import UsageError
from anonsynth.privacy.dp_sgd import DPSGDSettings, private_gradient
from anonsynth.privacy.layers import check_network
from anonsynth.privacy.per_patient import Contribution, Items, patient_gradients, trainable
from anonsynth.privacy.randomness import PrivateRandomness
from anonsynth.synthesis.networks import Discriminator, Modulated, Residual, Translator

CONDITION, IMAGE, WIDTH, STYLE = 8, 2, 24, 8
NORM, SIGMA = 1.0, 1.0
RANDOMNESS = PrivateRandomness(bytes(32), "a benchmark")
VARIANTS = ("plain", "one by one", "vmap", "opacus hooks", "opacus functorch", "opacus ghost")
NETWORKS = ("discriminator", "generator", "plain generator")
COMPOSED = (Discriminator, Translator, Residual, Modulated)
Step = Callable[[], None]


def make_network(name: str) -> nn.Module:
    """Return one of the networks, as it is at the start of training."""
    torch.manual_seed(1)
    if name == "discriminator":
        network: nn.Module = Discriminator(CONDITION, IMAGE, width=WIDTH)
        for module in list(network.modules()):
            if isinstance(module, nn.Conv3d):
                remove_parametrizations(module, "weight")
        return network
    if name == "generator":
        return Translator(CONDITION, IMAGE, width=WIDTH, style=STYLE)
    # The same sizes built of nothing but standard layers, which all variants can take.
    w = WIDTH

    def block(inputs: int, outputs: int, **how: int) -> list[nn.Module]:
        return [nn.Conv3d(inputs, outputs, padding=1, **how), nn.GroupNorm(4, outputs), nn.LeakyReLU(0.2)]

    return nn.Sequential(
        *block(CONDITION, w, kernel_size=4, stride=2),
        *block(w, 2 * w, kernel_size=4, stride=2),
        *block(2 * w, 2 * w, kernel_size=3),
        nn.Upsample(scale_factor=2),
        *block(2 * w, w, kernel_size=3),
        nn.Upsample(scale_factor=2),
        *block(w, 16, kernel_size=3),
        nn.Conv3d(16, IMAGE, 1),
    )


def loss(network: nn.Module, items: Items) -> Tensor:
    """Return the hinge loss of a discriminator, or the L1 loss of a generator, of each scan (B,)."""
    inner = getattr(network, "_module", network)
    if isinstance(inner, Discriminator):
        logits, _ = network(items["condition"], items["image"])
        return torch.stack([torch.relu(1 - value).flatten(1).mean(1) for value in logits]).mean(0)
    return (network(items["condition"]) - items["image"]).abs().flatten(1).mean(1)


def make_batch(batch: int, axis: int) -> dict[str, Tensor]:
    """Return noise in place of scans: time does not depend on values."""
    draw = torch.Generator().manual_seed(2)
    size = (batch, CONDITION + IMAGE, axis, axis, axis)
    both = torch.rand(size, generator=draw)
    return {"condition": both[:, :CONDITION], "image": both[:, CONDITION:]}


def make_step(variant: str, name: str, batch: int, each: int, axis: int) -> Step:
    """Return a function that makes one step of a variant.

    Raises:
        Exception: Whatever the variant says about a network that it cannot take.
    """
    network, items = make_network(name), make_batch(batch * each, axis)
    if variant.startswith("opacus"):
        if each > 1:
            msg = "its unit is the crop, not the patient"
            raise UsageError(msg)
        return _opacus(variant.removeprefix("opacus "), network, items, batch)
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-3)
    if variant == "plain":

        def plain() -> None:
            optimiser.zero_grad(set_to_none=True)
            loss(network, items).mean().backward()
            optimiser.step()

        return plain
    check_network(network, COMPOSED)
    parameters = trainable(network)
    settings = DPSGDSettings(
        clipping_norm=NORM, noise_multiplier=SIGMA, sampling_rate=0.5, steps=1, expected_batch=batch
    )
    patients = [
        Contribution(f"P{i}", {key: value[i * each : (i + 1) * each] for key, value in items.items()})
        for i in range(batch)
    ]
    at_once = 1 if variant == "one by one" else batch

    def private() -> None:
        gradients = patient_gradients(network, loss, patients, at_once=at_once)
        for key, value in private_gradient(gradients, parameters, settings, RANDOMNESS, 0).items():
            parameters[key].grad = value
        optimiser.step()

    return private


def _opacus(mode: str, network: nn.Module, items: dict[str, Tensor], batch: int) -> Step:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from opacus.grad_sample.utils import wrap_model
        from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
        from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

    inner = torch.optim.SGD(network.parameters(), lr=1e-3)
    told = {"noise_multiplier": SIGMA, "max_grad_norm": NORM, "expected_batch_size": batch}
    if mode == "ghost":
        module = wrap_model(network, "ghost", max_grad_norm=NORM, use_ghost_clipping=True)
        ghost = DPOptimizerFastGradientClipping(inner, **told)
        criterion = DPLossFastGradientClipping(module, ghost, _AsItIs())

        def step() -> None:
            ghost.zero_grad()
            criterion(loss(module, items)).backward()
            ghost.step()

        return step
    module = wrap_model(network, mode)
    optimiser = DPOptimizer(inner, **told)

    def hooked() -> None:
        optimiser.zero_grad()
        loss(module, items).mean().backward()
        optimiser.step()

    return hooked


class _AsItIs:
    """A criterion that has been computed already."""

    reduction = "mean"

    def __call__(self, losses: Tensor) -> Tensor:
        return losses


def main() -> int:
    """Measure and print, or be one of the children."""
    options = _options()
    torch.set_num_threads(options.threads)
    if options.child == "time":
        print(json.dumps(_times(options)))
        return 0
    if options.child == "memory":
        print(json.dumps(_memory(options)))
        return 0
    for name in options.networks:
        weights = sum(parameter.numel() for parameter in make_network(name).parameters())
        crops = f"{options.batch} patients with {options.items} crops of {options.axis}³ voxels"
        print(f"{name}: {weights} weights, {crops}, threads: {options.threads}", flush=True)
        timed = _call(options, "time", name, "")
        for variant in VARIANTS:
            _print(variant, timed[variant], _call(options, "memory", name, variant))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--axis", type=int, default=40, help="voxels along each axis, a multiple of 8")
    parser.add_argument("--batch", type=int, default=4, help="patients in a step")
    parser.add_argument("--items", type=int, default=1, help="crops of each patient")
    parser.add_argument("--repeats", type=int, default=9, help="rounds through all variants")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--child", choices=("time", "memory"), help=argparse.SUPPRESS)
    parser.add_argument("--variant", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def _call(options: argparse.Namespace, child: str, network: str, variant: str) -> dict[str, dict[str, object]]:
    command = [sys.executable, __file__, "--child", child, "--networks", network, "--variant", variant]
    for key in ("axis", "batch", "items", "repeats", "threads"):
        command += [f"--{key}", str(getattr(options, key))]
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
    ended = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if ended.returncode:
        raise SystemExit(ended.stderr)
    found: dict[str, dict[str, object]] = json.loads(ended.stdout.splitlines()[-1])
    return found


def _times(options: argparse.Namespace) -> dict[str, dict[str, object]]:
    steps: dict[str, Step] = {}
    found: dict[str, dict[str, object]] = {}
    for variant in VARIANTS:
        try:
            step = make_step(variant, options.networks[0], options.batch, options.items, options.axis)
            step()
        except (UsageError, NotImplementedError, RuntimeError, ValueError, TypeError, AttributeError, KeyError) as why:
            found[variant] = {"refused": f"{type(why).__name__}: {str(why).splitlines()[0][:110]}"}
        else:
            steps[variant], found[variant] = step, {"clock": [], "processor": []}
    order = list(steps)
    for turn in range(options.repeats):
        for variant in order[turn % len(order) :] + order[: turn % len(order)]:
            clock, processor = time.perf_counter(), time.process_time()
            steps[variant]()
            found[variant]["clock"].append(time.perf_counter() - clock)  # type: ignore[attr-defined]
            found[variant]["processor"].append(time.process_time() - processor)  # type: ignore[attr-defined]
    for variant in order:
        for what in ("clock", "processor"):
            pairs = zip(found[variant][what], found["plain"][what], strict=True)  # type: ignore[call-overload]
            found[variant][f"{what} ratio"] = _median([own / plain for own, plain in pairs])
    return found


def _median(values: list[float]) -> tuple[float, float, float]:
    """Return the median and an interval of order statistics that covers the true one with 95 % at least."""
    ordered, n = sorted(values), len(values)
    out = 0
    while n > 2 * (out + 1) and 2 * sum(math.comb(n, k) for k in range(out + 1)) / 2**n <= 0.05:
        out += 1
    low, high = max(out - 1, 0), n - 1 - max(out - 1, 0)
    middle = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    return middle, ordered[low], ordered[high]


def _memory(options: argparse.Namespace) -> dict[str, dict[str, object]]:
    if options.variant.startswith("opacus"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import opacus  # noqa: F401 - what it takes to import is not what a step takes
    torch.nn.Conv3d(1, 1, 1)(torch.zeros(1, 1, 2, 2, 2)).sum().backward()
    idle = _peak()
    try:
        step = make_step(options.variant, options.networks[0], options.batch, options.items, options.axis)
        step()
        step()
    except (UsageError, NotImplementedError, RuntimeError, ValueError, TypeError, AttributeError, KeyError):
        return {"memory": {"refused": True}}
    return {"memory": {"peak": _peak() - idle}}


def _peak() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)


def _print(variant: str, timed: dict[str, object], memory: dict[str, dict[str, object]]) -> None:
    if "refused" in timed:
        print(f"  {variant:17s} cannot: {timed['refused']}", flush=True)
        return
    seconds = _median(timed["clock"])[0]  # type: ignore[arg-type]
    clock, processor = timed["clock ratio"], timed["processor ratio"]
    print(
        f"  {variant:17s} {seconds:7.3f} s   clock × {_interval(clock)}   processor × {_interval(processor)}   "
        f"{memory['memory'].get('peak', math.nan):6.0f} MiB",
        flush=True,
    )


def _interval(value: object) -> str:
    middle, low, high = value  # type: ignore[misc]
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    sys.exit(main())
