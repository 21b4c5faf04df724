"""One generated brain and every edit of its tumour, in all modalities: the pictures of docs/gallery.md.

    python benchmarks/gallery.py MODEL OUT --simulated [--seed 0] [--index 1] [--donor 2]

MODEL is trained on simulated patients (the page says how). One label map is drawn from the public atlas and edited;
each edit is written by the generator with the same style and noise, so that pictures differ by the edit alone. What
cannot be done is left out and printed. A model that read scans is refused unless --simulated says what they were.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from anonsynth.anatomy.edits import mirror_tumour, move_tumour, remove_tumour, scale_tumour, transplant
from anonsynth.anatomy.priors import Guarantee
from anonsynth.anatomy.scene import ImpossibleEditError, Scene
from anonsynth.cohort.geometry import FloatVolume, LabelVolume
from anonsynth.seeds import stream, stream_seed
from anonsynth.synthesis.generate import load_generator
from anonsynth.synthesis.label_source import open_prior
from anonsynth.synthesis.label_to_mri import render
from anonsynth.synthesis.model import ModelInfo, check_weights, open_model
from anonsynth.synthesis.painter import PaintedTranslator
from anonsynth.synthesis.style import draw_style
from anonsynth.synthesis.vocabulary import coordinates

SIZES = (0.25, 0.5, 1.0, 1.5, 2.0)
PLACES = ("left frontal", "right parietal", "right temporal")
COLOURS = 9


@dataclass(frozen=True)
class Written:
    """An edited label map (X, Y, Z) and its images (C, X, Y, Z)."""

    title: str
    label: LabelVolume
    images: FloatVolume


@dataclass(frozen=True)
class Studio:
    """A finished model on the processor, writing with one style."""

    info: ModelInfo
    generator: PaintedTranslator
    seed: int

    @torch.no_grad()
    def write(self, label: LabelVolume) -> FloatVolume:
        """Return the images (C, X, Y, Z) of a label map (X, Y, Z)."""
        vocabulary = self.info.source.vocabulary
        classes = vocabulary.class_map(label, np.zeros(label.shape, np.uint8), np.ones(label.shape, bool))
        noise = torch.Generator().manual_seed(self.seed)
        style = draw_style(self.info.settings.style, noise)
        shown = torch.from_numpy(np.ascontiguousarray(classes))[None]
        image = render(self.generator, shown, coordinates(label.shape)[None], style, vocabulary, noise)[0]
        return np.asarray(image.numpy(), np.float32)


def main() -> None:
    """Draw the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--index", type=int, default=1, help="which drawn brain")
    parser.add_argument("--donor", type=int, default=2, help="whose tumour is transplanted")
    parser.add_argument("--simulated", action="store_true", help="say that MODEL was trained on simulated patients")
    parser.add_argument("--pictures", default="sizes,places,edits")
    arguments = parser.parse_args()
    info = open_model(arguments.model)
    check_weights(arguments.model, info)
    if info.guarantee is Guarantee.NONE and not arguments.simulated:
        msg = "this model read scans without a guarantee; say --simulated if they were simulated ones"
        raise SystemExit(msg)
    generator = load_generator(info, arguments.model, torch.device("cpu"))
    prior = open_prior(info.source, info.grid.grid, arguments.model)
    entries = info.source.vocabulary.labels

    def drawn(index: int) -> Scene:
        classes = prior.draw(stream(arguments.seed, "label map", index)).label
        return Scene(info.source.vocabulary.label_map(classes), info.grid.grid.spacing, entries)

    studio = Studio(info, generator, stream_seed(arguments.seed, "style", arguments.index, 1))
    brain, donor = drawn(arguments.index), drawn(arguments.donor)
    small = scale_tumour(brain, 0.5).scene
    place, aside = mirrorable(small)
    rows: dict[str, list[tuple[str, Callable[[], Scene]]]] = {
        "sizes": [(f"{factor:g} times", lambda factor=factor: scale_tumour(brain, factor).scene) for factor in SIZES],
        "places": [("half, as drawn", lambda: small)]
        + [(place, lambda place=place: move_tumour(small, place).scene) for place in PLACES],
        "edits": [
            (place, lambda: aside),
            ("mirrored", lambda: mirror_tumour(aside).scene),
            ("removed", lambda: remove_tumour(brain).scene),
            ("another's", lambda: transplant(remove_tumour(brain).scene, donor).scene),
        ],
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.pictures.split(","):
        draw(arguments.out / f"gallery-{name}.png", list(written(studio, rows[name])), brain, info)


def mirrorable(scene: Scene) -> tuple[str, Scene]:
    """Return the first place from which the tumour can be mirrored, and the label map with it there."""
    for place in (*reversed(PLACES), "left parietal", "left temporal"):
        try:
            moved = move_tumour(scene, place).scene
            mirror_tumour(moved)
        except ImpossibleEditError:
            continue
        return place, moved
    msg = "the tumour can be mirrored from none of the places; choose another --index"
    raise SystemExit(msg)


def written(studio: Studio, steps: Sequence[tuple[str, Callable[[], Scene]]]) -> Sequence[Written]:
    """Return what can be done; say what cannot."""
    done = []
    for title, step in steps:
        try:
            label = step().label
        except ImpossibleEditError as refused:
            print(f"{title}: {refused}")
            continue
        done.append(Written(title, label, studio.write(label)))
    return done


def draw(path: Path, columns: Sequence[Written], before: Scene, info: ModelInfo) -> None:
    """Draw one column an edit, one row a modality and the label map; the slice with most tumour of each."""
    rows = len(info.modalities) + 1
    figure = Figure(figsize=(1.5 * len(columns), 1.75 * rows), layout="constrained", facecolor="black")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, len(columns), squeeze=False)
    for column, shown in enumerate(columns):
        scene = before.with_label(shown.label)
        focus = scene.tumour if scene.tumour.any() else before.tumour
        depth = int(focus.sum((0, 1)).argmax())
        for row, name in enumerate(info.modalities):
            grid[row, column].imshow(shown.images[row, :, :, depth].T, cmap="gray", vmin=0, vmax=1, origin="lower")
            if column == 0:
                grid[row, column].set_ylabel(name, color="white", fontsize=7)
        palette = {"cmap": "nipy_spectral", "vmin": 0, "vmax": COLOURS, "origin": "lower", "interpolation": "nearest"}
        grid[-1, column].imshow(shown.label[:, :, depth].T, **palette)
        grid[0, column].set_title(shown.title, color="white", fontsize=8)
    grid[-1, 0].set_ylabel("label map", color="white", fontsize=7)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main()
