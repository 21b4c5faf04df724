"""Draws from each label prior, looked at one by one: nothing empty, torn or folded, no public map, the same by seed.

    python benchmarks/label_priors.py [--draws 1000] [--minutes M] [--anatomy DIR] [--seed 0]

Three priors draw in turn, on 128 × 128 × 64 voxels: the built-in atlas with head and tumour; with --anatomy, the folder
of public label maps (CSF, grey and white matter); and the prior of rung 0, a structure of two parts from public
constants. With --minutes it ends early and says how many draws were made. Of every draw this asks

1. whether its labels are there, of a volume within `ATLAS`, `MAPS` or `STRUCTURE`, and in one piece as far as stated
   there (pieces may touch at corners); and whether the whole encloses more than a thousandth of itself unlabelled;
2. whether the Jacobian's determinant is positive between any neighbouring voxels, warp, affine and the tumour's push
   together (rung 0 bends nothing: its labels are level sets that are in one piece by construction);
3. how far it is from every public map: 1 − mean Dice after the best affine (of the draw's own places; for rung 0 middle
   and spread), and how far in mm it was bent beyond that affine. At least `MARGIN` and `MARGIN_MM`;
4. whether no other draw has its bytes, and, of every tenth, whether the seed gives them again.

Shares have Clopper-Pearson's 95 % intervals; draws are independent.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from label_checks import (
    Part,
    PublicMap,
    affine_by_moments,
    affine_of,
    closest,
    hole_share,
    least_jacobian,
    look_at,
    wrong_with,
)

from anonsynth.anatomy.atlas import AtlasPrior
from anonsynth.anatomy.diffeomorphism import grid_points
from anonsynth.anatomy.map_prior import MapPrior
from anonsynth.anatomy.map_templates import cut_templates
from anonsynth.anatomy.priors import DrawnLabel, LabelPrior, PlacedLabel
from anonsynth.anatomy.public_maps import open_maps, rows_by_name
from anonsynth.anatomy.shape_prior import ShapePrior
from anonsynth.anatomy.templates import CHANNELS, brain_template, sample
from anonsynth.audits.calibration import exact_interval
from anonsynth.cohort.geometry import Grid, LabelVolume
from anonsynth.cohort.model import LabelEntry
from anonsynth.progress import Progress
from anonsynth.seeds import stream
from anonsynth.synthesis.private_plan import Facts, make_plan
from anonsynth.synthesis.private_statistics import public_statistics

GRID = Grid((128, 128, 64), (1.875, 1.875, 2.5)).centred()
CROP = Grid((128, 128, 64), (1.0, 1.0, 1.0)).centred()
MARGIN, MARGIN_MM = 0.1, 0.5
MOST_HOLES = 0.001
AGAIN = 10
BRAIN = (1, 2, 3)

MAPS = (
    Part("CSF", (1,), 80, 700, 0.5),
    Part("grey matter", (2,), 400, 1100, 0.98),
    Part("white matter", (3,), 280, 850, 0.95),
)
"""Wide of adults' volumes; fluid lies in sulci and cisterns that are apart at this voxel size, the rest may not be."""
ATLAS = (
    *MAPS,
    Part("tumour", (4, 5, 6), 1, 125, 0.98),
    Part("tumour's core", (5, 6), 0.05, 100, 0.9, needed=False),
    Part("skull", (7,), 150, 900, 0.98),
    Part("scalp", (8,), 250, 1800, 0.95),
)
STRUCTURE = (
    Part("first part", (7,), 1, 400, 1.0),
    Part("second part", (8,), 1, 400, 1.0),
    Part("both parts", (7, 8), 2, 700, 1.0),
)


@dataclass
class Tally:
    """What was found among the draws of one prior.

    Attributes:
        wrong: How often a draw was wrong in each way.
        bad: Draws that were wrong in any.
        jacobians: Least determinant of each draw.
        margins: 1 − Dice to the nearest public map.
        bent: Distance bent beyond the affine, mm.
        seconds: Processor time a draw.
        hashes: SHA-256 of each draw.
        repeated: Draws that were made again.
        differing: Of those, how many came out otherwise.
    """

    wrong: Counter[str] = field(default_factory=Counter)
    bad: int = 0
    jacobians: list[float] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    bent: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    repeated: int = 0
    differing: int = 0


@dataclass(frozen=True)
class Drawer:
    """A prior with what its draws are held against.

    Attributes:
        name: As printed.
        draw: Draws, with places where anatomy is bent.
        parts: What a draw may hold.
        public: The public maps.
        values: Labels that are compared with them.
        grid: Of the draws.
        masked: Values of the whole, which should have no holes.
    """

    name: str
    draw: Callable[[np.random.Generator], PlacedLabel | DrawnLabel]
    parts: tuple[Part, ...]
    public: tuple[PublicMap, ...]
    values: tuple[int, ...]
    grid: Grid
    masked: tuple[int, ...]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--anatomy", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    drawers = [atlas(), rung_zero(), *([from_maps(arguments.anatomy)] if arguments.anatomy else [])]
    tallies = [Tally() for _ in drawers]
    end = time.monotonic() + 60 * arguments.minutes
    with Progress() as progress:
        for number in progress.track(range(arguments.draws), total=arguments.draws, what="draws of each prior"):
            for drawer, tally in zip(drawers, tallies, strict=True):
                examine(drawer, tally, arguments.seed, number)
            if time.monotonic() > end:
                break
    print(f"seed {arguments.seed}, {platform.machine()}, one process, numpy {np.__version__}\n")
    print("\n".join(report(drawers, tallies)))


def atlas() -> Drawer:
    """Return the built-in atlas with head and tumour; its public map is the template at rest."""
    prior = AtlasPrior(GRID, head=True, tumour=True)
    template = brain_template(1.5)
    volumes = sample(template.volumes, template.grid, grid_points(template.grid))
    channels = dict(zip(CHANNELS, volumes, strict=True))
    tissue = np.where(channels["csf_level"] < 122, 1, np.where(channels["wm_level"] > -0.16, 3, 2))
    rest = np.where(channels["outside"] > 0, 0, tissue).astype(np.uint8)
    public = (PublicMap(rest, template.grid),)
    return Drawer("atlas, head and tumour", prior.draw_placed, ATLAS, public, BRAIN, GRID, (1, 2, 3, 4, 5, 6))


def from_maps(folder: Path) -> Drawer:
    """Return the prior of a folder of public label maps."""
    labels = tuple(LabelEntry(value=v, name=n) for v, n in enumerate(("CSF", "grey matter", "white matter"), start=1))
    maps = open_maps(folder)
    templates = cut_templates(maps, maps.rows or rows_by_name(maps, labels), BRAIN, GRID, surrounded=False)
    prior = MapPrior(templates, GRID, labels, 1, "T1w")
    public = tuple(PublicMap(code, templates.grid) for code in templates.codes)

    def draw(rng: np.random.Generator) -> PlacedLabel:
        placed = prior.draw_placed(rng)
        classes = placed.drawn.label
        label = np.where(classes > 1, classes - 1, 0).astype(np.uint8)
        whole = DrawnLabel(label, placed.drawn.fov_low, placed.drawn.fov_high, placed.drawn.recipe)
        return PlacedLabel(whole, placed.fine, placed.places)

    return Drawer(f"--anatomy, {len(maps.paths)} maps", draw, MAPS, public, BRAIN, GRID, BRAIN)


def rung_zero() -> Drawer:
    """Return the prior of rung 0 for a structure of two parts; its public map is what it draws around."""
    facts = Facts(patients=100, shape=CROP.shape, context=6, labels=2, modalities=1, shaped=True)
    model = public_statistics(facts, make_plan(facts, 8.0), 4).model
    if model is None:
        raise AssertionError  # only the atlas has none
    labels = (LabelEntry(value=1, name="first part"), LabelEntry(value=2, name="second part"))
    prior: LabelPrior = ShapePrior(model, CROP, labels, name="private")
    mean = model.decode(np.zeros(len(model.deviation), np.float32), model.reference)
    return Drawer("rung 0, two parts", prior.draw, STRUCTURE, (PublicMap(mean, CROP),), (7, 8), CROP, (7, 8))


def examine(drawer: Drawer, tally: Tally, seed: int, number: int) -> None:
    """Draw once and look at it."""
    started = time.process_time()
    made = drawer.draw(stream(seed, "label prior", drawer.name, number))
    tally.seconds.append(time.process_time() - started)
    label = _label(made)
    tally.hashes.append(hashlib.sha256(label.tobytes()).hexdigest())
    if number % AGAIN == 0:
        again = drawer.draw(stream(seed, "label prior", drawer.name, number))
        tally.repeated += 1
        tally.differing += not np.array_equal(
            label, again.drawn.label if isinstance(again, PlacedLabel) else again.label
        )
    whole = np.isin(label, drawer.masked)
    wrong = wrong_with(look_at(label, drawer.grid.voxel_volume / 1000, drawer.parts), drawer.parts)
    if hole_share(whole) > MOST_HOLES:
        wrong.append("holes")
    if isinstance(made, PlacedLabel):
        tally.jacobians.append(least_jacobian(made.places, made.fine.spacing))
        wrong += ["folded"] * (tally.jacobians[-1] <= 0)
        factors = [a // b for a, b in zip(made.fine.shape, label.shape, strict=True)]
        inside = np.zeros(made.fine.shape, bool)
        inside[tuple(slice(None, None, factor) for factor in factors)] = whole
        affine, bent = affine_of(made.places, made.fine, inside)
        tally.bent.append(bent)
        wrong += ["hardly bent"] * (bent < MARGIN_MM)
        affines = [affine] * len(drawer.public)
    else:
        affines = [
            affine_by_moments(whole, drawer.grid, np.isin(known.label, drawer.masked), known.grid)
            for known in drawer.public
        ]
    tally.margins.append(closest(label, drawer.grid, drawer.public, affines, drawer.values))
    wrong += ["a public map"] * (tally.margins[-1] < MARGIN)
    tally.wrong.update(wrong)
    tally.bad += bool(wrong)


def report(drawers: Sequence[Drawer], tallies: Sequence[Tally]) -> list[str]:
    """Return the table's lines."""
    rows: list[tuple[str, Callable[[Tally], str]]] = [
        ("draws", lambda t: str(len(t.hashes))),
        ("wrong in any way", lambda t: _share(t.bad, len(t.hashes))),
        ("how", lambda t: ", ".join(f"{what} {n}" for what, n in t.wrong.most_common()) or "nothing"),
        ("least Jacobian determinant, of all draws", lambda t: _least(t.jacobians)),
        ("1 − Dice to the nearest public map: least, median", lambda t: _both(t.margins)),
        ("bent beyond the best affine, mm: least, median", lambda t: _both(t.bent)),
        ("draws whose bytes another draw has", lambda t: str(len(t.hashes) - len(set(t.hashes)))),
        ("drawn again from the seed, of which different", lambda t: f"{t.repeated}, {t.differing}"),
        ("processor seconds a draw: median, most", lambda t: f"{np.median(t.seconds):.2f}, {max(t.seconds):.2f}"),
    ]
    lines = ["| | " + " | ".join(drawer.name for drawer in drawers) + " |", "|---" * (len(drawers) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(show(tally) for tally in tallies) + " |" for name, show in rows]
    return lines


def _label(made: PlacedLabel | DrawnLabel) -> LabelVolume:
    return made.drawn.label if isinstance(made, PlacedLabel) else made.label


def _share(found: int, of: int) -> str:
    interval = exact_interval(found, of, 0.95)
    return f"{found} of {of} [{interval.low:.4f}, {interval.high:.4f}]"


def _least(values: Sequence[float]) -> str:
    return f"{min(values):.3f}" if values else "none is bent"


def _both(values: Sequence[float]) -> str:
    return f"{min(values):.3f}, {np.median(values):.3f}" if values else "none is bent"


if __name__ == "__main__":
    main()
