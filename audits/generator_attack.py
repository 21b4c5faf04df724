"""Does the released model paint its training patients better than patients it never saw?

Whoever holds the weights and a patient's scan can let the model write that scan again from its own label map, as it was
trained to. A model that has learnt a patient by heart writes that patient better. The label map of every patient,
trained on or not, is completed as the model's training completed it; the style code is the one that gives the scan's
own median intensity of each tissue; grain and texture, which are noise, are switched off; several paintings that
differ in the translator's noise are averaged. Three scores compare it with the scan, and none grows because a
patient is merely easy to paint:

- error: minus the log ratio of the mean absolute error of the painting and that of the plainest painting there is,
  which gives every label of the scan, as it came, its own median (difficulty calibration, Watson et al. 2022, arXiv
  2111.08440);
- detail: the correlation of what painting and scan hold beyond the medians of the model's classes: how much of what is
  particular to the patient the model reproduces;
- map: minus the log ratio of what is left of the scan beyond the medians of the model's classes and of its own labels:
  a label prior that was fitted to training patients expresses their surroundings better (it is part of the model).

They are judged as every membership attack is (`membership`): training patients against holdout patients, exact
p-values, random halves of the training patients as the negative control, and besides a blind attack: the error of the
plainest painting, of which no model knows. White-box reconstruction as an attack: Hilprecht et al. 2019,
doi:10.2478/popets-2019-0067; Chen et al. 2020 (GAN-Leaks), doi:10.1145/3372297.3417238.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from anonsynth.audits.answer import Answer
from anonsynth.audits.membership_answer import Attacks, Wording, answer_membership
from anonsynth.audits.nearest import Query
from anonsynth.audits.permutation import attack_tests
from anonsynth.cohort.geometry import FloatVolume, LabelVolume
from anonsynth.cohort.model import ScanRecord
from anonsynth.cohort.store import Cohort, Scan
from anonsynth.policies.model import AuditRules
from anonsynth.progress import Progress
from anonsynth.seeds import stream_seed
from anonsynth.synthesis.device import pick_device
from anonsynth.synthesis.generate import load_generator
from anonsynth.synthesis.label_to_mri import render
from anonsynth.synthesis.model import open_model
from anonsynth.synthesis.painter import PaintedTranslator
from anonsynth.synthesis.preparation import class_map_maker
from anonsynth.synthesis.style import StyleSpace, measure_colours
from anonsynth.synthesis.vocabulary import Vocabulary, coordinates

__all__ = ["compare_painting", "generator_attack"]

MOST = 40
"""Patients of either side that are painted."""
PAINTINGS = 2
FARTHEST_STYLE = 3.0
"""Style codes are cut at so many standard deviations: beyond, the translator was never trained."""
SMALLEST = 1e-6

WORDING = Wording(
    ("reconstruction", "reconstruction-few"),
    (
        "Does the model paint training patients better than patients it never saw, on average?",
        "Are a few training patients recognised for sure by how well the model paints them?",
    ),
    "Membership from the model's weights",
    "who holds the weights, a real scan and its label map",
)


@dataclass(frozen=True, slots=True)
class _Painter:
    """Writes real scans again."""

    generator: PaintedTranslator
    vocabulary: Vocabulary
    place: torch.Tensor
    class_map: Callable[[ScanRecord], LabelVolume]
    seed: int

    @torch.no_grad()
    def scores(self, scan: Scan) -> tuple[float, float, float, float]:
        """Return the scores `error`, `detail` and `map`, and the log of the plainest painting's error."""
        classes = self.class_map(scan.record)
        known = np.broadcast_to(scan.present[:, None, None, None] & (classes > 0), scan.image.shape)
        colours, voxels = measure_colours(scan.image, known, classes, self.vocabulary.classes)
        painter = self.generator.painter
        weight = np.sqrt(voxels / max(float(voxels.sum()), 1.0)).astype(np.float32)
        space = StyleSpace(painter.mean.cpu().numpy(), painter.axes.cpu().numpy(), weight)
        style = torch.from_numpy(space.encode(colours).clip(-FARTHEST_STYLE, FARTHEST_STYLE))[None].to(self.place)
        drawn = torch.from_numpy(np.ascontiguousarray(classes))[None].to(self.place.device)
        total = np.zeros_like(scan.image)
        for number in range(PAINTINGS):
            noise = torch.Generator().manual_seed(stream_seed(self.seed, "audit", "painting", scan.record.scan, number))
            painted = render(self.generator, drawn, self.place, style, self.vocabulary, noise)[0]
            total += painted.cpu().numpy() / PAINTINGS
        error, detail, within = compare_painting(scan.image, total, known, classes, self.vocabulary.classes)
        plainest, plain_known = _plain_classes(scan)
        plain = _mean_beyond(scan.image, plain_known, plainest, int(plainest.max()) + 1)
        return plain - error, detail, plain - within, plain


def generator_attack(
    model: Path,
    cohort: Cohort,
    training: Sequence[Query],
    holdout: Sequence[Query],
    rules: AuditRules,
    seed: int,
    progress: Progress,
) -> Answer:
    """Attack a model by painting patients with it.

    Args:
        model: What `anonsynth train` wrote, on this very cohort.
        cohort: The cohort.
        training: One scan of each of some training patients; the first 40 with what the model learns from are painted.
        holdout: Likewise of holdout patients.
        rules: The policy's.
        seed: Of the paintings and permutations.
        progress: Shows how far it is.

    Raises:
        InputError: If the model's folder lacks a file.
    """
    info = open_model(model)
    device = pick_device("cpu")
    generator = load_generator(info, model, device)
    generator.grain.strength.data.zero_()
    generator.texture.strength.zero_()
    painter = _Painter(
        generator,
        info.source.vocabulary,
        coordinates(info.grid.shape)[None].to(device),
        class_map_maker(cohort, info.source, model, info.settings, device),
        seed,
    )
    # What was trained on: labelled scans, or all where anatomy alone is filled in.
    all_used = info.source.filled and not info.source.tumour
    labelled = {record.scan for record in cohort.records if record.labelled or all_used}
    sides = []
    for queries, what in ((training, "painting training patients"), (holdout, "painting holdout patients")):
        chosen = [query for query in queries if query.scan in labelled][:MOST]
        rows = [painter.scores(query.load()) for query in progress.track(chosen, total=len(chosen), what=what)]
        sides.append(np.array(rows, np.float64).reshape(len(rows), 4))
    inside, outside = sides
    names = ("error", "detail", "map")
    attacks = Attacks(
        {name: inside[:, column] for column, name in enumerate(names)},
        {name: outside[:, column] for column, name in enumerate(names)},
    )
    plain = np.concatenate([inside[:, 3], outside[:, 3]])
    blind = attack_tests(np.stack([plain, -plain]), len(inside), (), seed).average
    return answer_membership(attacks, {"how hard the scans are to paint at all": blind}, WORDING, rules, seed)


def compare_painting(
    scan: FloatVolume, painting: FloatVolume, known: npt.NDArray[np.bool_], classes: LabelVolume, count: int
) -> tuple[float, float, float]:
    """Compare a painting with the scan that it was painted after.

    Args:
        scan: (C, X, Y, Z) in [0, 1].
        painting: Likewise.
        known: (C, X, Y, Z); only these voxels count.
        classes: (X, Y, Z) class map of both.
        count: Number of classes.

    Returns:
        The log of the painting's mean absolute error; the correlation of what both hold beyond the medians of their
        classes; the log of the mean absolute deviation of the scan from the medians of its classes.

    Example:
        >>> scan = np.random.default_rng(0).random((1, 4, 4, 4)).astype(np.float32)
        >>> whole, one = np.ones(scan.shape, bool), np.ones((4, 4, 4), np.uint8)
        >>> round(compare_painting(scan, scan, whole, one, 2)[1], 3)
        1.0
    """
    own = _beyond_medians(scan, known, classes, count)
    theirs = _beyond_medians(painting, known, classes, count)
    error = max(float(np.abs(scan[known] - painting[known]).mean()), SMALLEST) if known.any() else SMALLEST
    norms = float(np.linalg.norm(own[known]) * np.linalg.norm(theirs[known]))
    detail = float(np.dot(own[known], theirs[known])) / norms if norms > 0 else 0.0
    return float(np.log(error)), detail, _mean_beyond(scan, known, classes, count)


def _plain_classes(scan: Scan) -> tuple[LabelVolume, npt.NDArray[np.bool_]]:
    """Return the label map as it came, numbered from 1 in the field of view, and which voxels (C, X, Y, Z) count."""
    fov = np.zeros(scan.label.shape, bool)
    fov[tuple(slice(a, b) for a, b in zip(scan.record.fov_low, scan.record.fov_high, strict=True))] = True
    _, numbers = np.unique(scan.label, return_inverse=True)
    classes = np.where(fov, 1 + numbers.reshape(scan.label.shape), 0).astype(np.uint8)
    return classes, np.broadcast_to(scan.present[:, None, None, None] & fov, scan.image.shape)


def _mean_beyond(image: FloatVolume, known: npt.NDArray[np.bool_], classes: LabelVolume, count: int) -> float:
    """Return the log of the mean absolute deviation from the medians."""
    beyond = np.abs(_beyond_medians(image, known, classes, count)[known])
    return float(np.log(max(float(beyond.mean()), SMALLEST))) if beyond.size else float(np.log(SMALLEST))


def _beyond_medians(
    image: FloatVolume, known: npt.NDArray[np.bool_], classes: LabelVolume, count: int
) -> npt.NDArray[np.float64]:
    """Take from each voxel the median of its tissue and modality; (C, X, Y, Z)."""
    medians, _ = measure_colours(image, known, classes, count)
    flat = np.nan_to_num(medians.astype(np.float64))
    beyond: npt.NDArray[np.float64] = image - np.stack([row[classes] for row in flat])
    return beyond
