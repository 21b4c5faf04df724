"""A point for every scan, from a network that learns on the training scans to know a scan again in disguise.

Self-supervised: contrastive learning with the NT-Xent loss (Chen et al. 2020, SimCLR, arXiv:2002.05709), on the private
side and on training scans alone; no weights come from elsewhere. Of a training scan and the same scan in a random
disguise (`disguises`) the points shall be near, and far from the points of other patients. Scans of one patient are
neither pulled together nor pushed apart.

Before the network sees it, a scan is halved where it has more than 16 voxels along an axis, laid on the mean of the
training scans' edges (`pose`; contrast plays no part in it) and given six channels of edges beside its intensities.
Overlapping blocks of voxels then go through one matrix, all of them together through two more. In a minute of one core
that learned more than convolutions did, of which the same minute allows far fewer steps.

Scans that it learned from are special to the network: it keeps them apart, so that such a scan looked up among the
others stands out less than one that the network never saw. It therefore learns from half of the training patients
only. Holdout patients, generated scans and the other half of the training patients are alike in that none was seen.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from anonsynth.audits.disguises import Disguises, standardised
from anonsynth.audits.index import Index, Learned
from anonsynth.audits.pose import IDENTITY, Resampler, refined
from anonsynth.audits.views import View
from anonsynth.cohort.geometry import FloatVolume
from anonsynth.progress import Progress
from anonsynth.seeds import stream

__all__ = ["Embedding", "learn", "nt_xent", "seen_alike", "train_embedding"]

LONGEST = 16
"""Axes with more voxels are halved."""
BLOCK, STRIDE = 3, 2
"""Voxels along each axis of a block, and from one block to the next."""
EDGE_WEIGHT = 2.0
FEATURES, HIDDEN, NUMBERS = 32, 256, 64
"""Numbers that are kept of a block, of all blocks, and in the end."""
BATCH = 48
STEPS = 600
WORK = 1.6e7
"""Numbers in the blocks of a scan times steps: a large scan or one of many modalities gets fewer steps."""
RATE = 2e-3
DECAY = 1e-2
WARM_UP = 0.1
TEMPERATURE = 0.1
HELD, FRESH = 128, 8
"""Scans in memory, and how many of them make room for others before each step."""
TOGETHER = 32
"""Scans that are read or embedded at once."""
FEWEST_PATIENTS = 40
FEWEST = 3
"""With fewer patients there is nothing to learn, and the first weights stay."""


Points = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Embedding:
    """The network, and the template on which scans are laid.

    Attributes:
        network: From volumes that lie on the template to points.
        template: (6, x, y, z) mean edges of the training scans, halved.
        resampler: For halved volumes.
    """

    network: Network
    template: FloatVolume
    resampler: Resampler

    def points(self, volumes: FloatVolume) -> Points:
        """Return (N, D) points of length 1; two scans are as alike as the cosine of their points, in [-1, 1].

        Args:
            volumes: (N, C, X, Y, Z) of the intensity view, each modality of mean 0 and norm 1, or all 0.
        """
        found = [np.zeros((0, NUMBERS), np.float32)]
        with torch.no_grad():
            for start in range(0, len(volumes), TOGETHER):
                some = volumes[start : start + TOGETHER]
                # Both facings together: a mirrored copy has the very point of its original.
                both = self._facing(some) + self._facing(some[:, :, ::-1])
                found.append(functional.normalize(both, dim=1).numpy())
        return np.concatenate(found)

    def _facing(self, volumes: FloatVolume) -> Tensor:
        halved = _halved(volumes)
        laid = _laid(halved, *_poses(halved, self.template, self.resampler), self.resampler)
        points: Tensor = self.network(laid)
        return points


class Network(nn.Module):
    """Every block through one matrix, all blocks together through two more.

    Args:
        modalities: Channels of the volumes.
        shape: (x, y, z) voxels of the volumes.
    """

    def __init__(self, modalities: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        _, blocks, numbers = _blocks(torch.zeros(1, modalities + 6, *shape)).shape
        self.size = blocks * numbers
        self.layers = nn.Sequential(
            *(nn.Linear(numbers, FEATURES), nn.LayerNorm(FEATURES), nn.GELU(), nn.Flatten()),
            *(nn.Linear(blocks * FEATURES, HIDDEN), nn.LayerNorm(HIDDEN), nn.GELU(), nn.Linear(HIDDEN, NUMBERS)),
        )

    def forward(self, volumes: Tensor) -> Tensor:
        """Return (B, 64) points of length 1 of (B, C, x, y, z) volumes of mean square 1."""
        blocks = _blocks(torch.cat([volumes, EDGE_WEIGHT * _edges(volumes)], 1))
        return functional.normalize(self.layers(blocks), dim=1)


def learn(index: Index, seed: int, progress: Progress) -> Index:
    """Let a network learn from half of the training patients, and return the index with every scan's point.

    With fewer than 40 training patients there is no network: what the other half varies by would not be known.
    """
    names = list(dict.fromkeys(record.patient for record in index.records))
    if len(names) < FEWEST_PATIENTS:
        return index
    half = stream(seed, "audit", "embedding", "students").permutation(len(names))[: (len(names) + 1) // 2]
    students = frozenset(names[number] for number in half)
    return _with_points(index, train_embedding(index, students, seed, progress), students)


def seen_alike(index: Index, like: Index) -> Index:
    """Return an index with the points that the network of another index gives its scans."""
    if like.learned is None:
        return index
    return replace(index, learned=replace(like.learned, own=_points_of_all(index, like.learned.points)))


def train_embedding(index: Index, students: Collection[str], seed: int, progress: Progress) -> Embedding:
    """Train a network on the scans of some training patients; the same seed gives the same weights.

    Args:
        index: The training scans; their views are read from disk a few at a time.
        students: The patients to learn from.
        seed: Where all randomness comes from; torch's own generator is left as it was.
        progress: Shows how far it is.
    """
    rng = stream(seed, "audit", "embedding")
    resampler = _resampler(index)
    scans = [number for number, record in enumerate(index.records) if record.patient in students]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**62)))
        network = Network(index.grid.modalities, resampler.shape)
    template = np.zeros((6, *resampler.shape), np.float32)
    for volumes in _all(index, scans):
        template += _edges(volumes).sum(0).numpy() / len(scans)
    embedding = Embedding(network, template, resampler)
    if len({index.records[number].patient for number in scans}) >= FEWEST:
        _train(embedding, index, scans, rng, progress)
    return embedding


def _with_points(index: Index, embedding: Embedding, students: frozenset[str]) -> Index:
    return replace(index, learned=Learned(embedding.points, _points_of_all(index, embedding.points), students))


def _points_of_all(index: Index, points: Callable[[FloatVolume], Points]) -> Points:
    """Return (N, D) points, reading some scans at a time."""
    count = len(index.records)
    starts = range(0, count, TOGETHER)
    return np.concatenate([points(_volumes(index, range(i, min(i + TOGETHER, count)))) for i in starts])


def nt_xent(first: Tensor, second: Tensor, patients: Tensor) -> Tensor:
    """Return the mean NT-Xent loss of (B, D) points of length 1 and their (B, D) partners.

    Each point shall be nearer to its partner than to the points of all other patients.

    Args:
        first: Points of one picture of each scan.
        second: Points of another picture of the same scans.
        patients: (B,) integers; scans of the same patient are not told apart.
    """
    points = torch.cat([first, second])
    everyone = torch.cat([patients, patients])
    alike = points @ points.T / TEMPERATURE
    partner = torch.arange(len(points)).roll(len(first))
    own = alike.gather(1, partner[:, None])
    others = alike.masked_fill(everyone[:, None] == everyone[None], -torch.inf)
    return (torch.logsumexp(torch.cat([own, others], 1), 1) - own[:, 0]).mean()


def _train(
    embedding: Embedding, index: Index, scans: Sequence[int], rng: np.random.Generator, progress: Progress
) -> None:
    network, resampler = embedding.network, embedding.resampler
    disguises = Disguises(resampler, torch.Generator().manual_seed(int(rng.integers(2**62))))
    poses = [_poses(volumes, embedding.template, resampler) for volumes in _all(index, scans)]
    matrices, offsets = (torch.cat(parts) for parts in zip(*poses, strict=True))
    people = [index.records[number].patient for number in scans]
    names = {name: number for number, name in enumerate(dict.fromkeys(people))}
    patients = torch.tensor([names[name] for name in people])
    steps = max(1, min(STEPS, int(WORK / network.size)))
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, RATE, total_steps=steps, pct_start=WARM_UP, cycle_momentum=False
    )
    for step, (volumes, drawn) in enumerate(_batches(index, scans, rng, steps), start=1):
        where = matrices[drawn], offsets[drawn]
        plain = disguises.mirrored(_laid(volumes, *where, resampler))
        first, second = network(torch.cat([disguises(volumes, *where), plain])).split(len(drawn))
        loss = nt_xent(first, second, patients[drawn])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        progress.step("learning to know scans again", step, steps, f"loss {loss.item():.3f}")


def _batches(
    index: Index, scans: Sequence[int], rng: np.random.Generator, steps: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield for every step (B, C, x, y, z) halved volumes and (B,) which of `scans` they are.

    Batches are drawn from a part of the cohort that slowly moves on: reading all of them anew would take longer than
    the step itself, and holding the cohort would let memory grow with it.
    """
    queue: list[int] = []
    held: dict[int, Tensor] = {}
    for step in range(steps):
        for _ in range(FRESH if step else HELD):
            if len(held) == len(scans):
                break
            if not queue:
                queue = [one for one in rng.permutation(len(scans)).tolist() if one not in held]
            if len(held) == HELD:
                del held[next(iter(held))]
            one = queue.pop()
            held[one] = _halved(_volumes(index, [scans[one]]))[0]
        drawn = rng.permutation(list(held))[:BATCH]
        yield torch.stack([held[int(one)] for one in drawn]), torch.from_numpy(drawn)


def _all(index: Index, scans: Sequence[int]) -> Iterator[Tensor]:
    """Yield some scans, a few at a time, halved."""
    for start in range(0, len(scans), TOGETHER):
        yield _halved(_volumes(index, scans[start : start + TOGETHER]))


def _volumes(index: Index, scans: Iterable[int]) -> FloatVolume:
    return np.stack([index.views(scan)[View.INTENSITY].volume for scan in scans])


def _factors(shape: tuple[int, ...]) -> list[int]:
    return [2 if n > LONGEST else 1 for n in shape]


def _resampler(index: Index) -> Resampler:
    full, spacing = index.grid.views.view_shape, index.grid.views.view_spacing
    factors = _factors(full)
    x, y, z = (-(-n // factor) for n, factor in zip(full, factors, strict=True))
    dx, dy, dz = (step * factor for step, factor in zip(spacing, factors, strict=True))
    return Resampler((x, y, z), (dx, dy, dz))


def _halved(volumes: FloatVolume) -> Tensor:
    """Average (B, C, X, Y, Z) voxels two by two along long axes; far ends are padded with zeros."""
    full = torch.from_numpy(np.array(volumes, np.float32, order="C"))
    # A modality has norm 1: its voxels are as small as the volume is large.
    full = full * float(np.sqrt(np.prod(full.shape[2:])))
    factors = _factors(tuple(full.shape[2:]))
    pads = [side for n, f in zip(full.shape[:1:-1], factors[::-1], strict=True) for side in (0, -n % f)]
    halved = functional.avg_pool3d(functional.pad(full, pads), factors)
    return standardised(halved, _inside(halved))


def _poses(halved: Tensor, template: FloatVolume, resampler: Resampler) -> tuple[Tensor, Tensor]:
    """Return the (B, 3, 3) matrices and (B, 3) offsets in mm by which the template lies on (B, C, x, y, z) volumes."""
    found = [IDENTITY] * len(halved)
    if min(resampler.shape) > 1:  # there is no turning what is flat
        found = refined(template, _edges(halved).numpy(), found, resampler)
    matrices = torch.tensor(np.stack([pose.matrix for pose in found]), dtype=torch.float32)
    offsets = torch.tensor(np.stack([pose.offset for pose in found]), dtype=torch.float32)
    return matrices, offsets


def _laid(halved: Tensor, matrices: Tensor, offsets: Tensor, resampler: Resampler) -> Tensor:
    moved = resampler(halved, matrices, offsets)
    return standardised(moved, _inside(moved))


def _inside(volumes: Tensor) -> Tensor:
    return (volumes != 0).any(1, keepdim=True).float()


def _edges(volumes: Tensor) -> Tensor:
    """Return (B, 6, x, y, z): the tensors n n' - |n|²/3 of normalised gradients n, summed over modalities.

    As in `views`, but of halved volumes, since disguises come without their full resolution. The sense in which
    intensity changes does not show, nor by how much. At the rim of the body there are none.
    """
    inside = _inside(volumes)
    slopes, deep = [], inside
    for axis, n in enumerate(volumes.shape[2:]):
        pads = [0] * 6
        pads[4 - 2 * axis] = pads[5 - 2 * axis] = 1
        wide, near = (functional.pad(own, pads, mode="replicate") for own in (volumes, inside))
        slopes.append((wide.narrow(axis + 2, 2, n) - wide.narrow(axis + 2, 0, n)) / 2)
        deep = deep * near.narrow(axis + 2, 2, n) * near.narrow(axis + 2, 0, n)
    square = torch.stack(slopes).square().sum(0) * deep
    usual = square.sum((2, 3, 4), keepdim=True) / deep.sum((2, 3, 4), keepdim=True).clamp(min=1)
    x, y, z = (slope * deep / (square + usual / 2 + 1e-6).sqrt() for slope in slopes)
    third, twice = (x * x + y * y + z * z) / 3, 2**0.5
    parts = (x * x - third, y * y - third, z * z - third, twice * x * y, twice * x * z, twice * y * z)
    return torch.stack([part.sum(1) for part in parts], 1)


def _blocks(volumes: Tensor) -> Tensor:
    """Return (B, blocks, numbers): (B, C, x, y, z) volumes cut into overlapping blocks, padded with zeros."""
    shape = volumes.shape[2:]
    sides = [min(BLOCK, n) for n in shape]
    short = [-(n - side) % STRIDE for n, side in zip(shape, sides, strict=True)]
    whole = functional.pad(volumes, [pad for n in reversed(short) for pad in (0, n)])
    for axis, side in enumerate(sides, start=2):
        whole = whole.unfold(axis, side, STRIDE)
    return whole.permute(0, 2, 3, 4, 1, 5, 6, 7).flatten(4).flatten(1, 3)
