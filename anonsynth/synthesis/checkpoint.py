"""Resuming after `kill -9` to the same weights: everything a loop needs to go on, in one safetensors file.

Batches and noise are pure functions of the seed and the step, so no state of a random generator is stored: the
weights, the optimisers' moments, the running mean and the step are all there is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from anonsynth.errors import InputError
from anonsynth.files import write_bytes

__all__ = ["load_checkpoint", "load_weights", "save_checkpoint", "save_weights", "update_mean"]


def save_checkpoint(
    path: Path,
    step: int,
    networks: Mapping[str, nn.Module],
    optimisers: Mapping[str, torch.optim.Optimizer],
    history: list[dict[str, float]],
) -> None:
    """Write the state after `step` steps, atomically."""
    tensors: dict[str, Tensor] = {}
    for name, network in networks.items():
        tensors |= {f"network/{name}/{key}": value for key, value in network.state_dict().items()}
    for name, optimiser in optimisers.items():
        for index, state in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser/{name}/{index}/{key}": value for key, value in state.items()}
    metadata = {"step": str(step), "history": json.dumps(history)}
    write_bytes(path, save({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, metadata))


def load_checkpoint(
    path: Path, networks: Mapping[str, nn.Module], optimisers: Mapping[str, torch.optim.Optimizer]
) -> tuple[int, list[dict[str, float]]]:
    """Restore networks and optimisers in place; return the number of finished steps and the history of losses.

    Returns (0, []) where there is no checkpoint.
    """
    if not path.exists():
        return 0, []
    with safe_open(path, "pt") as stored:
        metadata = stored.metadata()
        tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 - no mapping
    for name, network in networks.items():
        prefix = f"network/{name}/"
        network.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    for name, optimiser in optimisers.items():
        moments: dict[int, dict[str, Tensor]] = {}
        prefix = f"optimiser/{name}/"
        for key, value in tensors.items():
            if key.startswith(prefix):
                index, field = key.removeprefix(prefix).split("/")
                moments.setdefault(int(index), {})[field] = value
        optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
    history: list[dict[str, float]] = json.loads(metadata["history"])
    return int(metadata["step"]), history


def save_weights(path: Path, network: nn.Module) -> None:
    """Write a network's weights as safetensors, atomically."""
    write_bytes(path, save({k: v.detach().cpu().contiguous().clone() for k, v in network.state_dict().items()}))


def load_weights(path: Path, network: nn.Module) -> None:
    """Load weights into `network`; raise InputError if they are not its own."""
    try:
        with safe_open(path, "pt") as stored:
            network.load_state_dict({key: stored.get_tensor(key) for key in stored.keys()})  # noqa: SIM118
    except (OSError, RuntimeError, SafetensorError):
        raise InputError(f"{path.name} does not hold the weights of this model", remedy="train it again") from None


@torch.no_grad()
def update_mean(mean: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Move the running mean of the weights towards `network`; the untrained start is soon forgotten."""
    rate = min(decay, (1 + step) / (10 + step))
    for slow, fast in zip(mean.parameters(), network.parameters(), strict=True):
        slow.lerp_(fast, 1 - rate)
