"""Which networks may be trained on patients with a guarantee: a list of what is allowed, not of what is not.

A gradient is a patient's own only if nothing of another patient enters her loss. Batch norm mixes the patients of a
batch; running statistics carry one step's patients into the next and are released with the weights, without noise;
spectral norm and its power iteration are such a state too, and Opacus 1.6's validator lets it pass. So every module has
to be on the list below, each of which is compared with one-by-one gradients in `tests/test_per_patient.py`, or be
vouched for by name by whoever wrote it.
"""

from __future__ import annotations

from collections.abc import Collection

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from anonsynth.errors import UsageError

__all__ = ["ALLOWED", "check_network"]

ALLOWED: frozenset[type[nn.Module]] = frozenset(
    {
        nn.AvgPool3d,
        nn.Conv3d,
        nn.ConvTranspose3d,
        nn.GroupNorm,
        nn.Identity,
        nn.InstanceNorm3d,
        nn.LayerNorm,
        nn.LeakyReLU,
        nn.Linear,
        nn.Sigmoid,
        nn.SiLU,
        nn.Tanh,
        nn.Upsample,
    }
)
"""Layers that treat every item of a batch by itself, draw nothing at random and keep nothing."""
CONTAINERS: frozenset[type[nn.Module]] = frozenset({nn.ModuleDict, nn.ModuleList, nn.Sequential})
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def check_network(network: nn.Module, composed: Collection[type[nn.Module]] = ()) -> None:
    """Refuse a network whose per-patient gradients are not known to be right.

    Subclasses of allowed layers are not allowed: they may do anything.

    Args:
        network: What is going to be trained.
        composed: Classes of modules that are built of allowed layers and whose own `forward` treats every item of a
            batch by itself, draws nothing at random and changes no buffer; whoever names one answers for it with a test
            against one-by-one gradients. Their buffers are constants.

    Raises:
        UsageError: With the module's place in the network and what is wrong with it.
    """
    for place, module in network.named_modules():
        fault = _fault(module, composed)
        if fault:
            where = f"'{place}'" if place else "as a whole"
            msg = f"the network cannot be trained with a guarantee: {type(module).__name__} ({where}) {fault}"
            raise UsageError(msg)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        msg = "the network has nothing to train; let some of its parameters require gradients"
        raise UsageError(msg)


def _fault(module: nn.Module, composed: Collection[type[nn.Module]]) -> str | None:
    """Return what is wrong with one module, children aside."""
    kind = type(module)
    if is_parametrized(module):
        return "is parametrised (spectral norm, weight norm); take the parametrisation off"
    if any(getattr(module, hooks) for hooks in HOOKS):
        return "has hooks, which may carry anything from patient to patient; take them off"
    if kind not in composed and kind not in ALLOWED | CONTAINERS:
        return "is not on the list of layers that are proven to keep patients apart (anonsynth/privacy/layers.py)"
    if kind not in composed and list(module.buffers(recurse=False)):
        return "has buffers, which are released without noise; group norm and instance norm do without"
    if getattr(module, "inplace", False):
        return "works in place, which overwrites what the gradient needs; leave `inplace` out"
    if getattr(module, "padding_mode", "zeros") != "zeros":
        return "pads with something else than zeros, which is not proven; use zeros"
    return None
