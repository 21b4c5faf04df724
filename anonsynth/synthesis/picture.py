"""The training picture: how the losses went, and what the generator makes of fixed drawn label maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from skimage.measure import find_contours

from anonsynth.cohort.geometry import FloatVolume, LabelVolume
from anonsynth.files import replacing

__all__ = ["draw_slice", "training_picture"]


def training_picture(
    path: Path,
    history: Sequence[dict[str, float]],
    samples: Sequence[tuple[FloatVolume, LabelVolume]],
    modalities: Sequence[str],
    spacing: tuple[float, float, float],
) -> None:
    """Write the picture as PNG.

    Args:
        path: Where to.
        history: Losses, each with its step.
        samples: Generated (C, X, Y, Z) images in [0, 1] with the (X, Y, Z) label maps they were written for.
        modalities: Names of the channels.
        spacing: Voxel size in mm.
    """
    columns = max(2, len(samples))
    rows = 1 + len(modalities)
    figure = Figure(figsize=(2.6 * columns, 2.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    places = figure.add_gridspec(rows, columns)
    _losses(figure.add_subplot(places[0, :]), history)
    for column, (image, label) in enumerate(samples):
        for row, name in enumerate(modalities):
            axes = figure.add_subplot(places[1 + row, column])
            draw_slice(axes, image[row], label if row == 0 else None, spacing)
            axes.set_title(name if column == 0 else "", fontsize=9)
    figure.suptitle("Generated from drawn label maps; no patient is shown", fontsize=9)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=90, format="png")


def draw_slice(axes: Axes, image: FloatVolume, label: LabelVolume | None, spacing: tuple[float, float, float]) -> None:
    """Draw the axial slice with most label, or the middle one, with the label's outline, in true proportions."""
    areas = (label > 0).sum((0, 1)) if label is not None else np.zeros(1)
    z = int(areas.argmax()) if areas.any() else image.shape[2] // 2
    axes.imshow(image[:, :, z].T, cmap="gray", vmin=0, vmax=1, origin="lower", aspect=spacing[1] / spacing[0])
    if label is not None:
        _outline(axes, label[:, :, z])
    axes.set_axis_off()


def _outline(axes: Axes, plane: npt.NDArray[np.uint8]) -> None:
    for value in np.unique(plane[plane > 0]):
        for contour in find_contours(np.pad(plane == value, 1).astype(float), 0.5):
            axes.plot(contour[:, 0] - 1, contour[:, 1] - 1, linewidth=0.7)


def _losses(axes: Axes, history: Sequence[dict[str, float]]) -> None:
    names = [name for name in (history[-1] if history else {}) if name != "step"]
    steps = [entry["step"] for entry in history]
    for name in names:
        axes.plot(steps, [entry.get(name, np.nan) for entry in history], label=name, linewidth=1)
    axes.set_xlabel("step", fontsize=8)
    axes.set_ylabel("loss", fontsize=8)
    axes.tick_params(labelsize=7)
    if names:
        axes.legend(fontsize=7, ncols=len(names), frameon=False)
