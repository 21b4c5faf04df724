"""The report's pictures as PNG data addresses, so that one HTML file holds everything."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from anonsynth.audits.alignment import Placement, place
from anonsynth.audits.calibration import BoolVector, FloatVector
from anonsynth.cohort.store import Scan

__all__ = [
    "BLUE",
    "GREEN",
    "GREY",
    "RED",
    "Plot",
    "address",
    "nearness_plot",
    "p_value_plot",
    "pair_picture",
    "power_plot",
    "tidy",
]

BLUE, GREY, GREEN, RED, AMBER = "#0072b2", "#6b6b6b", "#009e73", "#d55e00", "#e69f00"
"""Okabe and Ito's colours, told apart by colour-blind readers; shapes differ too."""
DPI = 110


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture with its words."""

    title: str
    image: str
    alt: str
    caption: str


def nearness_plot(groups: Mapping[str, FloatVector], flagged: BoolVector, title: str) -> str:
    """Draw the relative nearness of each group as a row of dots.

    Args:
        groups: Name to (N,) values; the first is the generated scans.
        flagged: (N,) which of the first group's scans are flagged.
        title: Heading of the plot.
    """
    figure = Figure(figsize=(8, 2.6), layout="constrained")
    axes = figure.add_subplot()
    rng = np.random.default_rng(0)
    for row, ((name, values), colour, marker) in enumerate(
        zip(groups.items(), (BLUE, GREY, AMBER, GREEN, RED), "osvd^", strict=True)
    ):
        height = len(groups) - row + rng.uniform(-0.25, 0.25, len(values))
        axes.scatter(values, height, s=14, c=colour, marker=marker, alpha=0.65, linewidths=0, label=name)
        if row == 0 and flagged.any():
            axes.scatter(values[flagged], height[flagged], s=60, facecolors="none", edgecolors=RED, linewidths=1.5)
    axes.set_yticks(range(len(groups), 0, -1), [f"{name} ({np.isfinite(v).sum()})" for name, v in groups.items()])
    axes.set_xscale("symlog", linthresh=1.0)
    axes.set_xticks([0, 0.5, 1, 2, 5, 10], ["0", "0.5", "1", "2", "5", "10"])
    axes.set_xlabel("relative nearness to the nearest patient (0: no nearer than to the next ones)")
    axes.set_title(title, loc="left", fontsize=10)
    tidy(axes)
    return address(figure)


def p_value_plot(generated: FloatVector, negative: FloatVector, q: float) -> str:
    """Draw sorted p-values of the generated scans and of the negative control beside the Benjamini-Hochberg line."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for values, colour, marker, name in (
        (negative, GREY, "s", "training patients among the others"),
        (generated, BLUE, "o", "generated scans"),
    ):
        if len(values):
            rank = np.arange(1, len(values) + 1) / len(values)
            axes.plot(rank, np.sort(values), marker, color=colour, ms=4, alpha=0.8, label=name)
    line = np.linspace(1 / max(len(generated), 1), 1, 200)
    axes.plot(line, q * line, color=RED, lw=1.2, label=f"flagged below this line (q = {q:g})")
    axes.plot(line, line, color="black", lw=0.8, ls=":", label="no copies")
    axes.set_yscale("log")
    axes.set_xlabel("share of scans, smallest p-value first")
    axes.set_ylabel("p-value")
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    tidy(axes)
    return address(figure)


def power_plot(curves: Mapping[str, Sequence[tuple[str, float, float, float]]]) -> str:
    """Draw for each kind of copy the share that was found against its strength.

    Args:
        curves: Kind to (strength, rate, low, high) of each strength, rates in [0, 1].
    """
    columns = 3
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(8, 1.7 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes, (kind, points) in zip(panels, curves.items(), strict=False):
        place = np.arange(len(points))
        rate, low, high = (np.array([point[i] for point in points]) for i in (1, 2, 3))
        axes.errorbar(place, rate, yerr=(rate - low, high - rate), fmt="o-", color=BLUE, ms=4, lw=1, capsize=2)
        axes.set_xticks(place, [point[0] for point in points])
        axes.set_ylim(-0.05, 1.05)
        axes.set_title(kind, loc="left", fontsize=8)
        tidy(axes)
    for axes in panels[len(curves) :]:
        axes.set_axis_off()
    return address(figure)


def pair_picture(generated: Scan, training: Scan, placement: Placement) -> str:
    """Draw a generated scan, its nearest training scan, their difference and both on each other.

    The overlay shows the generated scan in red and the training scan in cyan; where they agree it is grey.

    Args:
        generated: The generated scan.
        training: The training scan.
        placement: How the first lies on the second, in grid voxels.
    """
    image, label = place(generated.image, placement), place(generated.label[None], placement)[0]
    shared = np.flatnonzero(generated.present & training.present)
    rows = [(image[channel], training.image[channel], "gray") for channel in shared[:2]]
    if label.any() and training.label.any():
        rows.append((label.astype(np.float32), training.label.astype(np.float32), "nipy_spectral"))
    middle = _middle(training)
    figure = Figure(figsize=(8.8, 2.2 * max(len(rows), 1)), layout="constrained")
    grid = figure.subplots(max(len(rows), 1), 4, squeeze=False)
    for row, (first, second, colours) in enumerate(rows):
        a, b = first[:, :, middle], second[:, :, middle]
        top = float(max(a.max(), b.max(), 1e-6))
        for axes, picture, limits, scheme in zip(
            grid[row][:3], (a, b, a - b), ((0, top), (0, top), (-top, top)), (colours, colours, "RdBu"), strict=True
        ):
            axes.imshow(np.rot90(picture), cmap=scheme, vmin=limits[0], vmax=limits[1], interpolation="nearest")
        overlay = np.rot90(np.clip(np.stack([a, b, b], -1) / top, 0, 1))
        grid[row][3].imshow(overlay, interpolation="nearest")
    for axes, title in zip(grid[0], ("generated", "nearest training scan", "difference", "overlay"), strict=True):
        axes.set_title(title, fontsize=9)
    for axes in grid.ravel():
        axes.set_axis_off()
    return address(figure)


def _middle(scan: Scan) -> int:
    """Return the axial slice through the label map, or through the image if there is none."""
    inside = scan.label > 0 if scan.label.any() else (scan.image != 0).any(0)
    slices = np.flatnonzero(inside.any((0, 1)))
    return int(slices[len(slices) // 2]) if len(slices) else scan.label.shape[2] // 2


def tidy(axes: Axes) -> None:
    """Take away what does not help to read a plot."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def address(figure: Figure) -> str:
    """Return a figure as PNG in a data address."""
    stream = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
