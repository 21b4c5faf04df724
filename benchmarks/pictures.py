"""Pictures of *generated* scans for the documentation: one column a substitute patient, one row a modality, and labels.

python benchmarks/pictures.py SYNTHETIC OUT.png [--columns 6] [--first 1]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from anonsynth.cohort.layouts import find_nifti
from anonsynth.files import read_tsv


def main() -> None:
    """Draw the slice with most label of each participant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("synthetic", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--columns", type=int, default=6)
    parser.add_argument("--first", type=int, default=1)
    arguments = parser.parse_args()

    participants = read_tsv(arguments.synthetic / "participants.tsv")
    if any(row["synthetic"] != "true" for row in participants):
        msg = "this folder does not say that all its participants are synthetic; nothing is drawn"
        raise SystemExit(msg)
    found = find_nifti(arguments.synthetic)
    scans = found.scans[arguments.first - 1 : arguments.first - 1 + arguments.columns]
    tumours = [value for value, entry in found.labels.items() if entry.kind.value == "tumour"]
    names = [name for name, _ in scans[0].modalities]
    figure = Figure(figsize=(1.7 * len(scans), 1.9 * (len(names) + 1)), layout="constrained", facecolor="black")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(names) + 1, len(scans), squeeze=False)
    for column, scan in enumerate(scans):
        label = np.asarray(scan.label.read().array) if scan.label else None
        focus = np.isin(label, tumours) if tumours else label > 0
        depth = int(focus.sum((0, 1)).argmax()) if focus.any() else label.shape[2] // 2
        for row, (name, volume) in enumerate(scan.modalities):
            raw = volume.read()
            aspect = np.linalg.norm(raw.affine[:3, 1]) / np.linalg.norm(raw.affine[:3, 0])
            axes = grid[row, column]
            axes.imshow(raw.array[:, :, depth].T, cmap="gray", vmin=0, vmax=1, origin="lower", aspect=aspect)
            if column == 0:
                axes.set_title(name, color="white", fontsize=8, loc="left")
        values = {value: index + 1 for index, value in enumerate(sorted(found.labels))}
        colours = np.vectorize(lambda value, table=values: table.get(value, 0))(label[:, :, depth])
        axes = grid[-1, column]
        axes.imshow(colours.T, cmap="nipy_spectral", vmin=0, vmax=len(values) + 1, origin="lower", aspect=aspect)
        if column == 0:
            axes.set_title("label map", color="white", fontsize=8, loc="left")
    for axes in grid.flat:
        axes.set_axis_off()
    figure.savefig(arguments.out, dpi=90)


if __name__ == "__main__":
    main()
