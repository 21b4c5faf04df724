"""Rung 1: what is learnt of patients, as four sums with noise, and nothing else.

| release | a patient's vector |
|---|---|
| frame | field of view, centre, spread and fill of the labels, and each label's share, apart from the public centre |
| fields | coefficients of the squashed distances and of the surroundings in the public basis, in the mean frame |
| appearance | median intensities, texture, surroundings by distance, rims, how borders stray (`appearance.py`) |
| spread | squares and products of what remains once the means of the first three are taken away |

A patient's scans are averaged first. Later releases rest on what earlier ones released (the frame in which fields lie
on each other, the model by which surroundings are classed, the means around which spreads are taken): adaptive
composition, with noise that was settled beforehand. Everything else that rung 1 knows follows from these sums.

Zone: spending.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from anonsynth.anatomy.cosine_shape import (
    FRAME_CENTRE,
    FRAME_SCALE,
    FRAME_SPREAD,
    SHARE_SCALE,
    CosineShapeModel,
    encode,
    frame_of,
    shares_from,
    shares_of,
)
from anonsynth.anatomy.shells import EDGES, SHELLS, distance_from, limits_for, nearest_shell
from anonsynth.cohort.model import ScanRecord
from anonsynth.cohort.store import Cohort
from anonsynth.privacy.mechanisms import (
    NoisySum,
    average_scans,
    nearest_covariance,
    packed_products,
    unpacked_products,
)
from anonsynth.privacy.releases import Releases
from anonsynth.progress import Progress
from anonsynth.seeds import stream
from anonsynth.synthesis.appearance import (
    MOST_PRODUCTS,
    SPREAD_SCALE,
    AppearanceBlocks,
    Blocks,
    spread_blocks,
)
from anonsynth.synthesis.data import read_class_map
from anonsynth.synthesis.label_source import LabelSource
from anonsynth.synthesis.preparation import plain_class_map
from anonsynth.synthesis.private_plan import Facts, PrivatePlan, groups_of

__all__ = ["Statistics", "private_statistics", "public_statistics"]

Floats64 = npt.NDArray[np.float64]
PUBLIC_SHARE = 0.25
"""Squares of intensity offsets are expected to be this share of the public figure's, all along one axis: brightness."""
DRAWN = 24
"""Class maps that are drawn to see which scores the model gives."""
FARTHEST_FRAME = 3.0
"""Noise moves no frame farther than this from the public centre, in units of its scale: labels stay on the grid."""
LEAST_RATIO, LARGEST_RATIO = 0.1, 4.0
"""Released squares are taken to be within these multiples of what is expected."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """All that is known of the patients, or, at rung 0, assumed of them.

    Attributes:
        model: The label prior; None where it is the public atlas.
        appearance: Values by block (`AppearanceBlocks`).
        axes: (S, C, K − 1) how median intensities vary, from class 1 on; a step of 1 is one standard deviation.
    """

    model: CosineShapeModel | None
    appearance: dict[str, Floats64]
    axes: Floats64


def public_statistics(facts: Facts, plan: PrivatePlan, styles: int) -> Statistics:
    """Return rung 0: the public centres, around which rung 1 releases."""
    blocks = AppearanceBlocks.of(facts.modalities, facts.context, facts.labels)
    model = None
    if facts.shaped:
        model = CosineShapeModel.new(facts.shape, facts.context, facts.labels, plan.waves, deviation=plan.between)
        model = _with_limits(model, np.full((len(SHELLS), facts.context), 1 / facts.context))
    appearance = {block.name: block.centre for block in blocks.blocks.blocks}
    numbers = facts.modalities * (facts.classes - 1)
    return Statistics(model, appearance, _axes(_expected_covariance(numbers), facts, styles))


def private_statistics(
    cohort: Cohort,
    records: tuple[ScanRecord, ...],
    source: LabelSource,
    class_maps: Path | None,
    plan: PrivatePlan,
    releases: Releases,
    styles: int,
    progress: Progress,
) -> Statistics:
    """Return rung 1: read the patients through the plan's four releases, which the ledger holds already.

    Args:
        cohort: Whose training scans are read.
        records: The training scans that can be read.
        source: Where label maps come from.
        class_maps: Folder of class maps, with the atlas prior.
        plan: What is released.
        releases: Releases it.
        styles: Length of a style code.
        progress: Shows the reading.
    """
    reader = _Reader(cohort, records, source, class_maps, progress)
    counts: list[NoisySum] = []

    def take(name: str, of_scan: Callable[[ScanRecord], Floats64]) -> NoisySum:
        released = releases.take(name, lambda: average_scans(reader.vectors(name, of_scan)))
        counts.append(released)
        return released

    model, frame, fields = None, np.zeros(0), np.zeros(0)
    if plan.facts.shaped:
        public = CosineShapeModel.new(plan.facts.shape, plan.facts.context, plan.facts.labels, plan.waves)
        released = take("frame", reader.frame)
        told = np.clip(released.mean(_pooled(counts)), -FARTHEST_FRAME, FARTHEST_FRAME)
        frame, shares = told[: len(FRAME_CENTRE)], shares_from(SHARE_SCALE * told[len(FRAME_CENTRE) :])
        posed = replace(_refitted(public, frame=FRAME_CENTRE + FRAME_SCALE * frame), shares=shares)
        weights = plan.wave_weights
        released = take("fields", lambda record: weights * reader.coefficients(record, posed))
        fields = _shrunk(released, plan, _pooled(counts)) / weights
        model = replace(posed, mean=fields.astype(np.float32))
    blocks = AppearanceBlocks.of(plan.facts.modalities, plan.facts.context, plan.facts.labels)
    released = take("appearance", lambda record: blocks.blocks.pack(reader.appearance(record, blocks, model)))
    count = _pooled(counts)
    appearance = blocks.blocks.unpack(released.mean(count), released.mean_deviation(count))
    groups = groups_of(plan.waves)
    excess = plan.excess() if plan.facts.shaped else None
    spread = spread_blocks(
        plan.facts.modalities,
        plan.facts.classes,
        groups.max(initial=-1) + 1,
        shaped=plan.facts.shaped,
        excess=excess,
    )

    def offsets(record: ScanRecord) -> Floats64:
        # What was measured for the releases before, around what they released.
        colours = (reader.appearance(record, blocks, model)["colours"] - appearance["colours"]).ravel() / SPREAD_SCALE
        values = {"colours": packed_products(colours) if colours.size <= MOST_PRODUCTS else colours**2}
        if model is not None:
            values["frame"] = ((reader.frame(record)[: len(frame)] - frame) * FRAME_SCALE / FRAME_SPREAD) ** 2
            apart = ((reader.coefficients(record, model) - fields) / plan.between) ** 2
            values["groups"] = np.bincount(groups, apart) / np.bincount(groups)
        return spread.pack(values)

    released = take("spread", offsets)
    count = _pooled(counts)
    found = spread.unpack(released.mean(count), released.mean_deviation(count))
    axes = _axes(_covariance(found["colours"], released.mean_deviation(count), spread, plan.facts), plan.facts, styles)
    if model is not None and excess is not None:
        ratio = np.clip(found["frame"] - excess[0], LEAST_RATIO, LARGEST_RATIO)
        power = np.clip(found["groups"] - excess[1], LEAST_RATIO, LARGEST_RATIO)[groups]
        model = replace(
            model,
            frame_deviation=FRAME_SPREAD * np.sqrt(ratio),
            deviation=(plan.between * np.sqrt(power)).astype(np.float32),
        )
        if plan.facts.context > 1:
            model = _with_limits(model, np.clip(appearance["shells"], 0.01, None))
    return Statistics(model, appearance, axes)


@dataclass
class _Reader:
    """Reads scans one at a time; what was computed of a scan is kept for later releases where it is small."""

    cohort: Cohort
    records: tuple[ScanRecord, ...]
    source: LabelSource
    class_maps: Path | None
    progress: Progress

    def __post_init__(self) -> None:
        self._frames: dict[str, Floats64] = {}
        self._coefficients: dict[str, Floats64] = {}
        self._appearances: dict[str, dict[str, Floats64]] = {}

    def vectors(self, name: str, of_scan: Callable[[ScanRecord], Floats64]) -> Iterator[tuple[str, Floats64]]:
        """Yield (patient, vector) of every scan."""
        for record in self.progress.track(self.records, total=len(self.records), what=f"reading for the {name}"):
            yield record.patient, of_scan(record)

    def frame(self, record: ScanRecord) -> Floats64:
        """Return the frame (10,) of a scan and its labels' shares, in units around the public centres."""
        if record.scan not in self._frames:
            classes, vocabulary = plain_class_map(self.cohort, record, self.source), self.source.vocabulary
            frame = frame_of(classes, vocabulary.context, record.fov_low, record.fov_high)
            shares = shares_of(classes, vocabulary.context, len(vocabulary.labels))
            self._frames[record.scan] = np.concatenate([(frame - FRAME_CENTRE) / FRAME_SCALE, shares / SHARE_SCALE])
        return self._frames[record.scan]

    def coefficients(self, record: ScanRecord, model: CosineShapeModel) -> Floats64:
        """Return the coefficients (R,) of a scan; they depend on the model's frame only."""
        if record.scan not in self._coefficients:
            self._coefficients[record.scan] = encode(plain_class_map(self.cohort, record, self.source), model)
        return self._coefficients[record.scan]

    def appearance(
        self, record: ScanRecord, blocks: AppearanceBlocks, model: CosineShapeModel | None
    ) -> dict[str, Floats64]:
        """Return what a scan looks like, by block; it depends on the model of the released means."""
        if record.scan not in self._appearances:
            if model is None or self.class_maps is not None:
                classes = plain = read_class_map(self.class_maps or Path(), record.scan)
            else:
                plain = plain_class_map(self.cohort, record, self.source)
                label = self.source.vocabulary.label_map(plain)
                classes = self.source.vocabulary.class_map(label, model.surroundings(plain), plain > 0)
            scan = self.cohort.load(record)
            self._appearances[record.scan] = blocks.measure(scan, classes, plain, self.cohort.grid.spacing)
        return self._appearances[record.scan]


def _pooled(counts: list[NoisySum]) -> float:
    """Return the number of patients from all releases so far: each has told it, with noise of its own."""
    weights = np.array([released.count_deviation**-2 for released in counts])
    values = np.array([released.count for released in counts])
    pooled = float((weights * values).sum() / weights.sum())
    return max(pooled, float(weights.sum() ** -0.5), 1.0)


def _shrunk(released: NoisySum, plan: PrivatePlan, count: float) -> Floats64:
    """Return released coefficients (R,), each group drawn to 0 by as much as its noise asks for (James & Stein)."""
    mean, noise = released.mean(count), released.mean_deviation(count)
    groups = groups_of(plan.waves)
    power, size = np.bincount(groups, mean**2), np.bincount(groups)
    kept = np.clip(1 - np.maximum(size - 2, 0) * noise**2 / np.maximum(power, 1e-30), 0, 1)
    shrunk: Floats64 = mean * kept[groups]
    return shrunk


def _refitted(model: CosineShapeModel, *, frame: Floats64) -> CosineShapeModel:
    return CosineShapeModel.new(model.shape, model.context, model.labels, model.waves, frame=frame)


def _with_limits(model: CosineShapeModel, shares: Floats64) -> CosineShapeModel:
    """Return the model with limits at which drawn surroundings have those shares (len(SHELLS), K) by distance."""
    if model.context == 1:
        return model
    scored = np.zeros((len(SHELLS), len(EDGES) - 1))
    for index in range(DRAWN):
        rng = stream(0, "surroundings of a cosine model", index)
        _, pose = model.draw_frame(rng)
        scores, inside = model.draw_scores(rng, pose)
        distance = distance_from(inside)[~inside]
        rows = np.arange(len(SHELLS) + 1)
        scored += np.histogram2d(nearest_shell(distance), scores[~inside].clip(EDGES[0], EDGES[-1]), (rows, EDGES))[0]
    return replace(model, limits=limits_for(scored, shares))


def _expected_covariance(numbers: int) -> Floats64:
    """Return the public figure for the covariance of the medians: they rise and fall together, and a little apart."""
    covariance: Floats64 = SPREAD_SCALE**2 * PUBLIC_SHARE * (0.5 * np.ones((numbers, numbers)) + 0.5 * np.eye(numbers))
    return covariance


def _covariance(found: Floats64, deviation: float, spread: Blocks, facts: Facts) -> Floats64:
    """Return the covariance (D, D) of the medians: what was released, nearer to the public figure the noisier it is."""
    numbers = facts.modalities * (facts.classes - 1)
    matrix = unpacked_products(found) if numbers <= MOST_PRODUCTS else np.diag(found)
    public = _expected_covariance(numbers) / SPREAD_SCALE**2
    unit = spread.blocks[0].unit * deviation
    trust = PUBLIC_SHARE**2 / (PUBLIC_SHARE**2 + unit**2)
    return SPREAD_SCALE**2 * nearest_covariance(trust * matrix + (1 - trust) * public)


def _axes(covariance: Floats64, facts: Facts, styles: int) -> Floats64:
    """Return the principal axes (S, C, K − 1) of a covariance, each as long as its standard deviation."""
    values, vectors = np.linalg.eigh(covariance)
    axes = np.zeros((styles, len(values)))
    for row, index in enumerate(np.argsort(values)[::-1][:styles]):
        axes[row] = vectors[:, index] * np.sqrt(max(values[index], 0))
    return axes.reshape(styles, facts.modalities, facts.classes - 1)
