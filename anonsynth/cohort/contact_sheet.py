"""A cohort at a glance: one slice per scan and modality with the labels' outlines. Private: it shows real scans."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from skimage.measure import find_contours

from anonsynth.cohort.model import ScanRecord
from anonsynth.cohort.store import Cohort, Scan
from anonsynth.files import write_bytes
from anonsynth.progress import Progress

__all__ = ["draw_contact_sheet", "slice_to_show"]

MAX_SCANS = 24
COLUMNS = 8
TILE = 1.5
"""Inches."""
COLOURS = ("#ffb000", "#4cc9f0", "#ff4d6d", "#b5e48c", "#c77dff", "#fb8500", "#80ffdb", "#f4f1de")


def draw_contact_sheet(cohort: Cohort, path: Path, progress: Progress) -> Path:
    """Write a PNG of up to 24 scans, evenly drawn from the cohort: axial slices, the patient's left on the left.

    Args:
        cohort: The cohort.
        path: The PNG; written atomically.
        progress: Where to show how far it is.
    """
    picked = np.linspace(0, len(cohort.records) - 1, min(MAX_SCANS, len(cohort.records))).round().astype(int)
    records = [cohort.records[index] for index in picked]
    columns = min(COLUMNS, len(records))
    rows = -(-len(records) // columns)
    names = cohort.info.modalities
    width, height, _ = cohort.grid.extent
    figure = Figure(
        figsize=(columns * TILE, (len(names) * rows * height / width + 0.4 * len(names) + 0.4) * TILE),
        facecolor="black",
    )
    FigureCanvasAgg(figure)
    blocks = figure.subfigures(len(names), 1, squeeze=False)[:, 0]
    axes = []
    for block, name in zip(blocks, names, strict=True):
        block.set_facecolor("black")
        block.suptitle(name, color="white", fontsize=10, y=0.995)
        axes.append(block.subplots(rows, columns, squeeze=False, gridspec_kw={"wspace": 0.03, "hspace": 0.12}).ravel())
        block.subplots_adjust(left=0.01, right=0.99, bottom=0.01, top=0.93)
    for number, scan in enumerate(progress.track(_scans(cohort, records), total=len(records), what="contact sheet")):
        for channel, tiles in enumerate(axes):
            _draw(tiles[number], scan, channel, cohort)
    for tiles in axes:
        for tile in tiles:
            tile.axis("off")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110, facecolor="black")
    write_bytes(path, picture.getvalue())
    return path


def slice_to_show(scan: Scan) -> int:
    """Return the axial slice with the most labelled voxels, or the middle of the field of view without labels."""
    areas = np.count_nonzero(scan.label, axis=(0, 1))
    if areas.any():
        return int(np.argmax(areas))
    return (scan.record.fov_low[2] + scan.record.fov_high[2] - 1) // 2


def _scans(cohort: Cohort, records: Sequence[ScanRecord]) -> Iterator[Scan]:
    return map(cohort.load, records)


def _draw(tile: Axes, scan: Scan, channel: int, cohort: Cohort) -> None:
    tile.set_title(f"{scan.record.scan} {scan.record.split}", color="#aaaaaa", fontsize=5, pad=2)
    width, height, _ = cohort.grid.extent
    if not scan.present[channel]:
        tile.text(0.5, 0.5, "not acquired", color="#888888", fontsize=6, ha="center", transform=tile.transAxes)
        return
    level = slice_to_show(scan)
    shown = scan.image[channel, :, :, level].T
    tile.imshow(shown, cmap="gray", vmin=0, vmax=1, origin="lower", extent=(0, width, 0, height))
    step_x, step_y, _ = cohort.grid.spacing
    for number, entry in enumerate(cohort.info.labels):
        mask = np.pad(scan.label[:, :, level] == entry.value, 1).astype(float)
        for line in find_contours(mask, 0.5):
            x, y = (line[:, 0] - 0.5) * step_x, (line[:, 1] - 0.5) * step_y
            tile.plot(x, y, color=COLOURS[number % len(COLOURS)], linewidth=0.6)
    tile.set_xlim(0, width)
    tile.set_ylim(0, height)
