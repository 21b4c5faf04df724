"""Rung 3: a few hundred weights of a generator that was pretrained on simulated scans learn from patients, by DP-SGD.

The translator learns from simulated scanners where scans may depart from their painting (`scanners.py`; ε = 0). Its
body is frozen then. What learns from patients is an *adapter*: its last layer and, as far as the budget allows, the
shift of every channel, from the last layers backwards (bias tuning: Zaken et al. 2022, arXiv 2106.10199; with
differential privacy Bu et al. 2022, arXiv 2210.00036). Noise is added to every weight that is trained, so few weights
are what makes a hundred patients audible at all.

The loss of a patient is plain reconstruction: her own scans from their own class maps, in their own colours, as a mean
absolute difference. No discriminator stands between, so that a step's gradient is the answer to a question with one
answer, and gradients of different patients point alike. What a mean absolute difference cannot teach, texture and
grain, rung 1 has released already.

Zone: spending.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anonsynth.privacy.per_patient import Items, Loss, trainable
from anonsynth.synthesis.checkpoint import update_mean
from anonsynth.synthesis.networks import Modulated, Residual, Translator
from anonsynth.synthesis.painter import DARKEST, Painter
from anonsynth.synthesis.vocabulary import Vocabulary, condition_tensor, without_seams

__all__ = [
    "COMPOSED",
    "adapter_items",
    "adapter_loss",
    "adapter_sizes",
    "corrected",
    "freeze_but",
    "running_mean",
    "typical_norm",
]

COMPOSED = (Translator, Residual, Modulated)
"""Modules of a translator whose own `forward` treats every item by itself; `tests/test_adapter.py` answers for it."""
FIRST = ("out.",)
FURTHER = (("out_norm.affine.bias", "fine_norm.affine.bias"), ("up_half.",), ("up_quarter.",), ("at_", "up_"))
"""What joins the adapter next, each only with the shifts of its channels; from the last layers backwards."""
DECAY = 0.95


def adapter_sizes(modalities: int, width: int) -> tuple[int, ...]:
    """Return how many weights the adapters have that may be trained, ascending."""
    with torch.device("meta"):
        translator = Translator(1, modalities, width=width, style=1)
    return tuple(sum(p.numel() for p in parameters.values()) for parameters in _adapters(translator))


def freeze_but(translator: Translator, weights: int) -> None:
    """Let only the adapter of so many weights be trained."""
    translator.requires_grad_(False)
    for parameters in _adapters(translator):
        if sum(parameter.numel() for parameter in parameters.values()) <= weights:
            for parameter in parameters.values():
                parameter.requires_grad_(True)


def _adapters(translator: Translator) -> list[dict[str, nn.Parameter]]:
    named = dict(translator.named_parameters())
    found = [{name: value for name, value in named.items() if name.startswith(FIRST)}]
    for prefixes in FURTHER:
        shifts = {n: v for n, v in named.items() if n.startswith(prefixes) and n.endswith("affine.bias")}
        found.append(found[-1] | shifts)
    return found


@torch.no_grad()
def adapter_items(items: Items, painter: Painter, vocabulary: Vocabulary) -> Items:
    """Return a patient's items as the loss takes them: `image`, `known`, what is `painted`, and `told` of the map.

    Args:
        items: As `PatientScans.items` returns them.
        painter: With the colours that were released.
        vocabulary: The classes.
    """
    condition = condition_tensor(items["classes"], items["place"], vocabulary)
    painted = painter(condition[:, : vocabulary.classes], items["style"])
    told = without_seams(condition, vocabulary)
    return {"image": items["image"], "known": items["known"], "painted": painted, "told": told}


def adapter_loss(network: nn.Module, items: Items) -> Tensor:
    """Return the loss (K,) of each of a patient's scans: mean absolute difference over what is known of it."""
    image = corrected(network, items["painted"], items["told"])
    known = items["known"]
    gap = ((items["image"] - image).abs() * known).flatten(1).sum(1)
    loss: Tensor = gap / known.flatten(1).sum(1).clamp_min(1)
    return loss


def corrected(translator: nn.Module, painted: Tensor, told: Tensor) -> Tensor:
    """Return painted images (B, C, X, Y, Z) as a quiet translator corrects them, without grain and texture."""
    found = translator(torch.cat([told, painted - 0.5], 1))
    image: Tensor = (painted.clamp(DARKEST, 1 - DARKEST).logit() + found).sigmoid()
    return image


def running_mean(network: nn.Module, step: int, mean: nn.Module) -> None:
    """Move the mean of the weights over the last steps: noise of single steps averages out in it, at no cost."""
    update_mean(mean, network, DECAY, step)


def typical_norm(network: nn.Module, loss: Loss, people: Sequence[Items]) -> float:
    """Return the median length of simulated people's gradients: a clipping norm that no patient was asked for."""
    still = copy.deepcopy(network)
    lengths = []
    for items in people:
        parameters = list(trainable(still).values())
        values = torch.autograd.grad(loss(still, items).mean(), parameters, materialize_grads=True)
        lengths.append(torch.cat([value.flatten() for value in values]).norm())
    return float(torch.stack(lengths).median())
