"""Public label maps cut to a cohort's field of view: one template for each map and site, ready to be warped.

    MODEL/anatomy.safetensors     codes (T, X, Y, Z) uint8: 1 to L the cohort's labels, then the tissues around them

A template's middle is the middle of the structure's bounding box, with a margin for turning and bending. Where the
structure lies on a patient's scan is not asked: the grid, the labels and the table are all that is known of the cohort.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save

from anonsynth.anatomy.freesurfer import AIR, TISSUES, tissue_of
from anonsynth.anatomy.public_maps import SIDES, MapRow, PublicMaps
from anonsynth.cohort.geometry import Grid, LabelVolume
from anonsynth.cohort.resample import resample_label
from anonsynth.errors import InputError
from anonsynth.files import write_bytes

__all__ = ["MARGIN_MM", "MapTemplates", "cut_templates", "load_templates", "save_templates"]

MARGIN_MM = 16.0
"""Rotations, shifts and warps reach no farther beyond the field of view; the border value goes on where they do."""
FINEST_MM = 1.0
"""Templates are no finer than this, nor finer than the cohort's grid."""


@dataclass(frozen=True, slots=True)
class MapTemplates:
    """Templates of one structure, or of whole heads.

    Attributes:
        grid: Of all templates; the world's origin is the structure's middle.
        codes: (T, X, Y, Z) uint8: 0 is air, 1 to `labels` are the cohort's labels, then `TISSUES`.
        labels: Number of labels.
        tissues: Which of `TISSUES` each label is of, by its index; what its brightness follows from.
        sources: (T, 2) number of the map and of the site that each template was cut from.
    """

    grid: Grid
    codes: npt.NDArray[np.uint8]
    labels: int
    tissues: tuple[int, ...]
    sources: npt.NDArray[np.int64]


def cut_templates(
    maps: PublicMaps, rows: Sequence[MapRow], values: Sequence[int], grid: Grid, *, surrounded: bool
) -> MapTemplates:
    """Cut a template from each map at each site that shows all labels.

    Args:
        maps: The maps.
        rows: What their values stand for.
        values: The cohort's label values, in the order of their classes.
        grid: The cohort's.
        surrounded: Whether the surroundings matter; otherwise everything but the labels is air.

    Raises:
        InputError: If a label has no row, a value has no meaning, or no map shows all labels at a site.
    """
    missing = [value for value in values if all(row.label != value for row in rows)]
    if missing:
        raise InputError(
            f"no row of --anatomy-labels shows label {missing[0]} of the cohort", remedy="add a row that does"
        )
    sites = sorted({row.site for row in rows if isinstance(row.label, int)})
    working = _working_grid(grid)
    found, sources = [], []
    for number, (array, affine) in enumerate(maps.read()):
        for place, site in enumerate(sites):
            here = [row for row in rows if row.site in ("", site)]
            coded = _coded(array, here, values, surrounded=surrounded)
            if set(range(1, len(values) + 1)) <= set(np.unique(coded).tolist()):
                cut = _cut(coded, affine, working, len(values))
                found.append(cut[::-1] if any(row.mirror for row in here) else cut)
                sources.append((number, place))
    if not found:
        raise InputError(
            "none of the public maps shows all labels of the cohort", remedy="correct --anatomy-labels or --anatomy"
        )
    return MapTemplates(
        working, np.stack(found), len(values), _tissues(rows, values), np.array(sources, np.int64).reshape(-1, 2)
    )


def save_templates(templates: MapTemplates, path: Path) -> None:
    """Write templates as safetensors, atomically."""
    tensors = {
        "codes": templates.codes,
        "spacing": np.array(templates.grid.spacing),
        "tissues": np.array(templates.tissues, np.int64),
        "sources": templates.sources,
    }
    write_bytes(path, save({name: np.ascontiguousarray(value) for name, value in tensors.items()}))


def load_templates(path: Path) -> MapTemplates:
    """Read what `save_templates` wrote."""
    tensors = load_file(path)
    codes = tensors["codes"]
    x, y, z = (float(step) for step in tensors["spacing"])
    tissues = tuple(int(index) for index in tensors["tissues"])
    shape = (codes.shape[1], codes.shape[2], codes.shape[3])
    return MapTemplates(Grid(shape, (x, y, z)).centred(), codes, len(tissues), tissues, tensors["sources"])


def _working_grid(grid: Grid) -> Grid:
    step = max(FINEST_MM, min(grid.spacing))
    nx, ny, nz = (int(np.ceil((length + 2 * MARGIN_MM) / step)) for length in grid.extent)
    return Grid((nx, ny, nz), (step,) * 3).centred()


def _coded(
    array: npt.NDArray[np.int32], rows: Sequence[MapRow], values: Sequence[int], *, surrounded: bool
) -> LabelVolume:
    """Return a map (X, Y, Z) in codes."""
    first_tissue = 1 + len(values)
    present = np.unique(array)
    codes = np.zeros(len(present), np.uint8)
    given = {row.value: row.label for row in rows if isinstance(row.label, str)}
    named = {row.value for row in rows}
    for index, value in enumerate(present.tolist()):
        tissue = given.get(value) or tissue_of(value)
        if surrounded and tissue is None and value not in named:
            raise InputError(
                f"what the value {value} of the public maps stands for is not known",
                remedy=f"add a row to --anatomy-labels with one of {', '.join(TISSUES)}",
            )
        if surrounded and tissue not in (None, AIR):
            codes[index] = first_tissue + TISSUES.index(tissue or AIR)
    coded: LabelVolume = codes[np.searchsorted(present, array)]
    for value in sorted({row.value for row in rows if isinstance(row.label, int)}):
        _put_parts(coded, array == value, [row for row in rows if row.value == value], values)
    return coded


def _put_parts(
    coded: LabelVolume, structure: npt.NDArray[np.bool_], rows: Sequence[MapRow], values: Sequence[int]
) -> None:
    """Write the labels of one structure in place: whole, or cut at the plane that leaves each side its share."""
    places = np.argwhere(structure)
    free = np.ones(len(places), bool)
    for row in rows:
        if row.label not in values or not len(places):
            continue
        chosen = free.copy()
        if row.side:
            axis, direction = SIDES[row.side]
            depth = direction * places[:, axis]
            count = min(round(row.share * len(places)), len(places))
            chosen &= depth >= np.sort(depth)[len(places) - count] if count else False
        free &= ~chosen
        coded[tuple(places[chosen].T)] = 1 + list(values).index(int(row.label))


def _cut(coded: LabelVolume, affine: npt.NDArray[np.float64], working: Grid, labels: int) -> LabelVolume:
    inside = np.argwhere((coded >= 1) & (coded <= labels))
    low, high = inside.min(0), inside.max(0)
    middle = affine[:3, :3] @ ((low + high) / 2) + affine[:3, 3]
    x, y, z = (float(m + o) for m, o in zip(middle, working.origin, strict=True))
    # What lies beyond the templates' reach needs no resampling.
    steps = np.abs(np.linalg.inv(affine[:3, :3])) @ (np.array(working.extent) / 2) + 3
    centre = (low + high) / 2
    start = np.clip(np.floor(centre - steps), 0, None).astype(int)
    end = np.minimum(np.ceil(centre + steps).astype(int) + 1, coded.shape)
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ start
    box = tuple(slice(int(a), int(b)) for a, b in zip(start, end, strict=True))
    return resample_label(np.ascontiguousarray(coded[box]), moved, Grid(working.shape, working.spacing, (x, y, z)))


def _tissues(rows: Sequence[MapRow], values: Sequence[int]) -> tuple[int, ...]:
    known = [next(tissue_of(row.value) for row in rows if row.label == value) for value in values]
    return tuple(TISSUES.index(tissue or "grey matter") for tissue in known)
