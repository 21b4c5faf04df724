"""Pictures of the questions about whole cohorts: ROC curves, distances on both sides, rates side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from anonsynth.audits.calibration import FloatVector
from anonsynth.audits.figures import BLUE, GREEN, GREY, RED, address, tidy

__all__ = ["nearest_plot", "rates_plot", "roc_plot"]

COLOURS = (BLUE, RED, GREEN, "#cc79a7", "#e69f00")


def roc_plot(curves: Mapping[str, tuple[FloatVector, FloatVector]], band: tuple[float, float]) -> str:
    """Draw a ROC curve of each attack, and in grey where areas between random halves of the members lie.

    Args:
        curves: Attack to scores of (m,) members and (n,) others.
        band: Area under the curve below and above which few splits of members among themselves lie.
    """
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.add_subplot()
    share = np.linspace(0, 1, 200)
    # The curve whose area is A and whose two halves mirror each other: 1 - (1 - x)^k with k = A / (1 - A).
    low, high = (1 - (1 - share) ** (area / max(1 - area, 1e-6)) for area in band)
    axes.fill_between(share, low, high, color=GREY, alpha=0.25, linewidth=0, label="members against members")
    axes.plot(share, share, color="black", lw=0.8, ls=":", label="guessing")
    for (name, (members, others)), colour in zip(curves.items(), COLOURS, strict=False):
        thresholds = np.unique(np.concatenate([members, others]))[::-1]
        hits = [0.0, *((members >= t).mean() for t in thresholds), 1.0]
        alarms = [0.0, *((others >= t).mean() for t in thresholds), 1.0]
        axes.step(alarms, hits, where="post", color=colour, lw=1.2, label=name)
    axes.set_xlabel("share of holdout patients taken for members")
    axes.set_ylabel("share of training patients\nrecognised")
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    tidy(axes)
    return address(figure)


def nearest_plot(to_train: FloatVector, to_holdout: FloatVector, scale: float) -> str:
    """Draw each generated scan by its distance to the nearest training and to the nearest holdout patient.

    Args:
        to_train: (G,) distances to as many training patients as there are holdout patients.
        to_holdout: (G,) distances.
        scale: Distance at which patients lie from one another; both axes are in units of it.
    """
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.scatter(to_holdout / scale, to_train / scale, s=14, c=BLUE, alpha=0.65, linewidths=0, label="generated scans")
    top = float(max(to_train.max(), to_holdout.max()) / scale) * 1.05
    axes.plot([0, top], [0, top], color="black", lw=0.8, ls=":", label="as near to either")
    axes.set_xlim(0, top)
    axes.set_ylim(0, top)
    axes.set_xlabel("distance to the nearest holdout patient (1: as patients lie from one another)")
    axes.set_ylabel("… nearest training patient,\namong as many")
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    tidy(axes)
    return address(figure)


def rates_plot(groups: Mapping[str, Sequence[tuple[float, float, float]]]) -> str:
    """Draw for each attack its rate of success against training patients, holdout patients and by guessing.

    Args:
        groups: Attack to (rate, low, high) of each of the three, in [0, 1].
    """
    figure = Figure(figsize=(8, 0.8 + 0.75 * len(groups)), layout="constrained")
    axes = figure.add_subplot()
    for row, rates in enumerate(groups.values()):
        for number, ((rate, low, high), colour, marker, name) in enumerate(
            zip(rates, (BLUE, GREY, "black"), "osx", ("training patients", "holdout patients", "guessing"), strict=True)
        ):
            place = len(groups) - row + (1 - number) * 0.22
            label = name if row == 0 else None
            axes.plot([low, high], [place, place], color=colour, lw=1.2)
            axes.plot(rate, place, marker, color=colour, ms=5, label=label)
    axes.set_yticks(range(len(groups), 0, -1), list(groups))
    axes.set_ylim(0.4, len(groups) + 0.6)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("share of attacks that succeed")
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    tidy(axes)
    return address(figure)
