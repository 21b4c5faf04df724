"""The atlas prior: label maps from the public template alone, so that drawing one costs the patients nothing."""

from __future__ import annotations

import numpy as np

from anonsynth.anatomy.priors import DrawnLabel, Guarantee, PlacedLabel
from anonsynth.anatomy.subject import SubjectSettings, draw_subject
from anonsynth.anatomy.voxels import label_map, refined
from anonsynth.cohort.geometry import Grid
from anonsynth.cohort.model import BRAIN_LABELS, LabelEntry, LabelKind

__all__ = ["MERGED_TUMOUR", "AtlasPrior"]

MERGED_TUMOUR = LabelEntry(value=4, name="tumour", kind=LabelKind.TUMOUR)
"""The one tumour label of a prior whose cohort knows no compartments."""


class AtlasPrior:
    """Draws brains, with or without tumour and head, on any grid.

    Args:
        grid: The grid of the label maps; the brain's centre is near its centre.
        head: Draw skull and scalp (labels 7 and 8) too.
        tumour: Draw a tumour (labels 4 to 6).
        merge_tumour: Give all compartments of the tumour the label 4.
        fov_slices: Least and most number of slices (along Z) of the field of view, drawn for every map; None for all.
    """

    name = "atlas"
    guarantee = Guarantee.PUBLIC

    def __init__(
        self,
        grid: Grid,
        *,
        head: bool = False,
        tumour: bool = True,
        merge_tumour: bool = False,
        fov_slices: tuple[int, int] | None = None,
    ) -> None:
        if fov_slices and not 1 <= fov_slices[0] <= fov_slices[1] <= grid.shape[2]:
            msg = f"fov_slices must lie within the grid's {grid.shape[2]} slices, got {fov_slices}"
            raise ValueError(msg)
        self.grid = grid
        self.labels = _labels(head=head, tumour=tumour, merged=merge_tumour)
        self._settings = SubjectSettings(head=head, tumour=tumour)
        self._merge = merge_tumour
        self._fov_slices = fov_slices or (grid.shape[2], grid.shape[2])

    def draw(self, rng: np.random.Generator) -> DrawnLabel:
        """Draw one label map; the same generator state gives the same map."""
        return self.draw_placed(rng).drawn

    def draw_placed(self, rng: np.random.Generator) -> PlacedLabel:
        """Draw the same label map, with where each voxel lies in the template."""
        nx, ny, nz = self.grid.shape
        slices = int(rng.integers(self._fov_slices[0], self._fov_slices[1] + 1))
        low = (nz - slices) // 2
        view = Grid((nx, ny, slices), self.grid.spacing).centred()
        fine, factors = refined(view)
        subject = draw_subject(fine, self._settings, rng)
        label = np.zeros(self.grid.shape, np.uint8)
        drawn = label_map(subject.tissue, factors)
        if self._merge:
            drawn[(drawn == 5) | (drawn == 6)] = MERGED_TUMOUR.value
        label[:, :, low : low + slices] = drawn
        recipe = {"prior": self.name, "slices": float(slices), **subject.recipe}
        drawn_label = DrawnLabel(label, (0, 0, low), (nx, ny, low + slices), recipe)
        return PlacedLabel(drawn_label, fine, subject.places)


def _labels(*, head: bool, tumour: bool, merged: bool) -> tuple[LabelEntry, ...]:
    anatomy = [entry for entry in BRAIN_LABELS if entry.kind is LabelKind.ANATOMY and (head or entry.value < 7)]
    compartments = [entry for entry in BRAIN_LABELS if entry.kind is LabelKind.TUMOUR] if tumour else []
    if merged and tumour:
        compartments = [MERGED_TUMOUR]
    return tuple(sorted(anatomy + compartments, key=lambda entry: entry.value))
