"""Where a model's label maps come from: which prior fits a cohort, and class maps drawn from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from anonsynth.anatomy.atlas import AtlasPrior
from anonsynth.anatomy.context import CONTEXT_CLASSES, unlabelled_share
from anonsynth.anatomy.cosine_shape import CosineShapeModel, load_cosines
from anonsynth.anatomy.heads import look_like_heads
from anonsynth.anatomy.map_prior import WARP_MM, MapPrior
from anonsynth.anatomy.map_templates import load_templates
from anonsynth.anatomy.priors import DrawnLabel, Guarantee, LabelPrior
from anonsynth.anatomy.shape import load_shape_model
from anonsynth.anatomy.shape_prior import ShapePrior
from anonsynth.cohort.geometry import Grid
from anonsynth.cohort.model import BRAIN_LABELS, LabelEntry, LabelKind, Split
from anonsynth.cohort.store import Cohort
from anonsynth.errors import UsageError
from anonsynth.policies.model import Policy
from anonsynth.synthesis.settings import PriorChoice
from anonsynth.synthesis.vocabulary import Vocabulary

__all__ = [
    "ANATOMY_FILE",
    "SHAPE_FILE",
    "AtlasClasses",
    "LabelSource",
    "PublicAnatomy",
    "choose_label_source",
    "choose_private_source",
    "open_prior",
    "private_prior",
]

SHAPE_FILE = "shape_prior.safetensors"
ANATOMY_FILE = "anatomy.safetensors"
LOOKED_AT = 8
CONTEXT_NEEDED = 0.1
"""Share of tissue that may stay unlabelled before the surroundings are modelled too."""
FILLED_OFFSET = 100
"""Added to the atlas' anatomy values where the cohort already uses them for something else."""
_SYNONYMS = {"gray matter": "grey matter", "edema": "oedema", "gm": "grey matter", "wm": "white matter"}


class PublicAnatomy(BaseModel):
    """Public label maps that somebody gave; part of `model.json`.

    Attributes:
        sha256: Of the files' contents and the table of what they stand for.
        maps: How many.
        modality: By whose contrast surroundings are ranked.
        warp: Least and most mean length of the random velocity, mm.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str
    maps: int
    modality: str
    warp: tuple[float, float] = WARP_MM


class LabelSource(BaseModel):
    """What class maps are made of and drawn from; part of `model.json`.

    Attributes:
        prior: `atlas`, `shape` or `private`.
        reason: Why this one, in words.
        vocabulary: The classes.
        filled: Whether the cohort's anatomy is filled in by MRI → label, because only tumours are labelled.
        head: Atlas only: whether skull and scalp are drawn.
        tumour: Atlas only: whether tumours are drawn.
        merged: Atlas only: whether the tumour is one label.
        fov_slices: Atlas only: least and most slices of the field of view.
        table: Atlas only: (value of the atlas, class) of every label it draws.
        anatomy: Atlas only: the public maps that were given in place of the built-in template.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prior: PriorChoice
    reason: str
    vocabulary: Vocabulary
    filled: bool = False
    head: bool = False
    tumour: bool = False
    merged: bool = False
    fov_slices: tuple[int, int] | None = None
    table: tuple[tuple[int, int], ...] = ()
    anatomy: PublicAnatomy | None = None


@dataclass(frozen=True)
class AtlasClasses:
    """The atlas prior, speaking in the classes of a cohort's vocabulary."""

    atlas: AtlasPrior
    table: tuple[tuple[int, int], ...]
    labels: tuple[LabelEntry, ...]
    name: str = "atlas"
    guarantee: Guarantee = Guarantee.PUBLIC

    @property
    def grid(self) -> Grid:
        """The grid of the class maps."""
        return self.atlas.grid

    def draw(self, rng: np.random.Generator) -> DrawnLabel:
        """Draw a class map (X, Y, Z); background inside the field of view is class 1, outside is 0."""
        drawn = self.atlas.draw(rng)
        lookup = np.ones(256, np.uint8)
        for value, index in self.table:
            lookup[value] = index
        classes = np.zeros_like(drawn.label)
        box = tuple(slice(a, b) for a, b in zip(drawn.fov_low, drawn.fov_high, strict=True))
        classes[box] = lookup[drawn.label[box]]
        return DrawnLabel(classes, drawn.fov_low, drawn.fov_high, drawn.recipe)


def choose_label_source(cohort: Cohort, choice: PriorChoice, policy: Policy) -> LabelSource:
    """Choose the prior: the public atlas where the cohort is of brains, else a shape prior of its own label maps.

    Raises:
        UsageError: If the policy allows no prior that fits, or the one asked for does not fit.
    """
    if choice is PriorChoice.PRIVATE:
        msg = "the private prior is bought with --epsilon; give one, or choose another prior"
        raise UsageError(msg)
    allowed = set(policy.synthesis.priors)
    if policy.synthesis.guarantee:
        allowed.discard(PriorChoice.SHAPE)
    atlas = None if choice is PriorChoice.SHAPE else _atlas_source(cohort, forced=choice is PriorChoice.ATLAS)
    if atlas and PriorChoice.ATLAS in allowed:
        return atlas
    if choice is PriorChoice.ATLAS:
        msg = (
            f"policy '{policy.id}' does not allow the atlas prior; choose another policy"
            if atlas
            else "the atlas prior needs a brain cohort: CSF, grey and white matter labelled, or tumour labels alone"
        )
        raise UsageError(msg)
    if PriorChoice.SHAPE not in allowed:
        msg = f"policy '{policy.id}' allows no label prior that fits this cohort; the shape prior gives no guarantee"
        raise UsageError(msg)
    return _shape_source(cohort)


def open_prior(source: LabelSource, grid: Grid, model_folder: Path) -> LabelPrior:
    """Return the prior that a model's class maps are drawn from."""
    if source.prior is PriorChoice.SHAPE:
        model = load_shape_model(model_folder / SHAPE_FILE)
        return ShapePrior(model, grid, source.vocabulary.labels)
    if source.prior is PriorChoice.PRIVATE:
        return private_prior(load_cosines(model_folder / SHAPE_FILE), source, grid)
    if source.anatomy is not None:
        templates, vocabulary = load_templates(model_folder / ANATOMY_FILE), source.vocabulary
        about = source.anatomy
        return MapPrior(templates, grid, vocabulary.labels, vocabulary.context, about.modality, about.warp)
    return AtlasClasses(atlas_of(source, grid), source.table, source.vocabulary.labels)


def private_prior(model: CosineShapeModel, source: LabelSource, grid: Grid) -> ShapePrior:
    """Return the prior that draws from a model in the public basis; its cost is the model's."""
    labels = source.vocabulary.labels
    return ShapePrior(model, grid, labels, name=PriorChoice.PRIVATE.value, guarantee=Guarantee.PRIVATE)


def choose_private_source(cohort: Cohort, choice: PriorChoice, policy: Policy) -> LabelSource:
    """Choose the prior by the names of the labels alone: no scan is opened, no field of view looked at.

    The public atlas where CSF, grey and white matter are labelled, or where it is asked for; else a prior of the
    cohort's own label maps in a public basis, with surroundings by the rank of their intensity.

    Raises:
        UsageError: If the policy does not allow the one that fits.
    """
    names = {_plain(entry.name) for entry in cohort.info.labels}
    asked = choice is PriorChoice.ATLAS
    atlas = None
    if asked or (choice is PriorChoice.AUTO and {"csf", "grey matter", "white matter"} <= names):
        atlas = _atlas_source(cohort, forced=True)
    if asked and atlas is None:
        msg = "the atlas prior needs a brain cohort: CSF, grey and white matter labelled, or tumour labels alone"
        raise UsageError(msg)
    if choice is PriorChoice.SHAPE:
        msg = "the shape prior gives no guarantee; leave --prior out, or choose private or atlas"
        raise UsageError(msg)
    wanted = PriorChoice.ATLAS if atlas else PriorChoice.PRIVATE
    if wanted not in policy.synthesis.priors:
        msg = f"policy '{policy.id}' does not allow the {wanted.value} prior; add it to synthesis.priors"
        raise UsageError(msg)
    if atlas:
        # How many slices the patients' scans have is theirs: the field of view is the whole grid.
        return atlas.model_copy(update={"fov_slices": None})
    return LabelSource(
        prior=PriorChoice.PRIVATE,
        reason="label maps in a public basis, their mean and spread released with noise",
        vocabulary=Vocabulary(context=CONTEXT_CLASSES, labels=cohort.info.labels),
    )


def atlas_of(source: LabelSource, grid: Grid) -> AtlasPrior:
    """Return the atlas prior of a source on any grid; the field of view is the whole grid where slices differ."""
    slices = source.fov_slices
    if slices and slices[1] > grid.shape[2]:
        slices = None
    return AtlasPrior(grid, head=source.head, tumour=source.tumour, merge_tumour=source.merged, fov_slices=slices)


def _shape_source(cohort: Cohort) -> LabelSource:
    shares = [
        unlabelled_share(scan.image[0], scan.label) for scan in map(cohort.load, cohort.of(Split.TRAIN)[:LOOKED_AT])
    ]
    context = CONTEXT_CLASSES if float(np.median(shares)) > CONTEXT_NEEDED else 1
    return LabelSource(
        prior=PriorChoice.SHAPE,
        reason="no public atlas of this anatomy: a shape model of the training label maps, without a guarantee",
        vocabulary=Vocabulary(context=context, labels=cohort.info.labels),
    )


def _atlas_source(cohort: Cohort, *, forced: bool) -> LabelSource | None:
    labels = cohort.info.labels
    names = {_plain(entry.name): entry for entry in labels}
    anatomy = {_plain(entry.name): entry for entry in BRAIN_LABELS if entry.kind is LabelKind.ANATOMY}
    heights = [record.fov_high[2] - record.fov_low[2] for record in cohort.of(Split.TRAIN)]
    slices = (min(heights), max(heights))
    tumours = [entry for entry in labels if entry.kind is LabelKind.TUMOUR]
    if {"csf", "grey matter", "white matter"} <= names.keys():
        vocabulary = Vocabulary(context=1, labels=labels)
        pairs = [(entry.value, names[name]) for name, entry in anatomy.items() if name in names]
        reason = "CSF, grey and white matter are labelled: the public ICBM152 atlas"
        filled = False
    elif len(tumours) == len(labels) and (forced or look_like_heads(cohort)):
        drawn = [entry for entry in BRAIN_LABELS if entry.kind is LabelKind.ANATOMY]
        taken = {entry.value for entry in labels}
        offset = FILLED_OFFSET if taken & {entry.value for entry in drawn} else 0
        added = [entry.model_copy(update={"value": entry.value + offset}) for entry in drawn]
        vocabulary = Vocabulary(context=1, labels=(*labels, *added))
        pairs = list(zip((entry.value for entry in drawn), added, strict=True))
        reason = "the scans look like whole heads and only tumours are labelled: the public ICBM152 atlas"
        filled = True
    else:
        return None
    pairs += _tumour_pairs(tumours)
    classes = {entry.value: 1 + vocabulary.context + index for index, entry in enumerate(vocabulary.labels)}
    return LabelSource(
        prior=PriorChoice.ATLAS,
        reason=reason,
        vocabulary=vocabulary,
        filled=filled,
        head=filled or "skull" in names,
        tumour=bool(tumours),
        merged=len(tumours) == 1,
        fov_slices=slices,
        table=tuple((value, classes[entry.value]) for value, entry in pairs),
    )


def _tumour_pairs(tumours: list[LabelEntry]) -> list[tuple[int, LabelEntry]]:
    """Match the atlas' compartments to the cohort's by name; what has no name of its own joins the first."""
    by_name = {_plain(entry.name): entry for entry in tumours}
    compartments = [entry for entry in BRAIN_LABELS if entry.kind is LabelKind.TUMOUR]
    return [(entry.value, by_name.get(_plain(entry.name), tumours[0])) for entry in compartments if tumours]


def _plain(name: str) -> str:
    plain = " ".join(name.lower().replace("_", " ").split())
    return _SYNONYMS.get(plain, plain)
