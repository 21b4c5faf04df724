"""Where tensors live."""

from __future__ import annotations

import torch

from anonsynth.errors import UsageError

__all__ = ["pick_device"]


def pick_device(name: str) -> torch.device:
    """Return the device called `auto`, `cpu` or `cuda`; `auto` takes a GPU if there is one.

    Raises:
        UsageError: If the device is not on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in {"cpu", "cuda"}:
        msg = f"there is no device '{name}'; choose auto, cpu or cuda"
        raise UsageError(msg)
    if name == "cuda" and not torch.cuda.is_available():
        msg = "this machine has no CUDA device that torch can use; choose --device cpu"
        raise UsageError(msg)
    return torch.device(name)
