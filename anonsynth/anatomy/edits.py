"""Edits of a label map: a tumour grown, shrunk, moved, mirrored, transplanted, removed (Shin et al. 2018, §3.3).

Anatomy and tumour are separate labels, so a tumour can be lifted out and put down elsewhere. Where it was, the brain's
other side lends its anatomy; where it goes, anatomy is pushed aside by `tumour.push_aside` and keeps its labels
wherever it moves by less than half a voxel. What cannot be is refused in one sentence (`edit_checks`).

Zone: shareable: label maps in, label maps out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from anonsynth.anatomy.diffeomorphism import grid_points
from anonsynth.anatomy.edit_checks import LOST, EditRules, Places, held, hindrance, refuse, room
from anonsynth.anatomy.scene import FALX_MM, VENTRICLE_DEPTH_MM, ImpossibleEditError, Mask, Scene, mirrored
from anonsynth.anatomy.tumour import TumourPlan, push_aside
from anonsynth.cohort.geometry import Grid, LabelVolume

__all__ = ["REGIONS", "Edited", "Record", "mirror_tumour", "move_tumour", "remove_tumour", "scale_tumour", "transplant"]

Record = dict[str, float | str]
Point = npt.NDArray[np.float64]

REGIONS = {
    "frontal": (0.24, 0.78, 0.60),
    "parietal": (0.24, 0.33, 0.75),
    "temporal": (0.20, 0.55, 0.33),
    "occipital": (0.26, 0.15, 0.50),
    "deep": (0.34, 0.52, 0.52),
}
"""Rough middle of a region on the left, as shares of the brain's box from left, back and bottom."""
LEAST_VOXELS = 8
TRIED = 300
"""Places that are tried where the place is left open."""
REACH_MM = 15.0
"""How far a transplant may end from the place that corresponds to the donor's."""
MOST_PUSH_MM = 9.0


@dataclass(frozen=True, slots=True)
class Edited:
    """A label map after an edit.

    Attributes:
        scene: The label map.
        record: What was done, in numbers, for the scan's sidecar.
    """

    scene: Scene
    record: Record


@dataclass(frozen=True, slots=True)
class _Tumour:
    """A tumour lifted out: its voxels (N, 3) and their values (N,)."""

    places: Places
    values: npt.NDArray[np.uint8]

    @property
    def centre(self) -> Point:
        """Mean voxel (3,)."""
        return np.asarray(self.places.mean(0))

    def moved(self, shift: npt.NDArray[np.int64]) -> _Tumour:
        """Return it elsewhere."""
        return replace(self, places=self.places + shift)


def remove_tumour(scene: Scene, rules: EditRules | None = None) -> Edited:
    """Take the tumour out; the brain's other side lends the anatomy.

    Raises:
        ImpossibleEditError: If there is no tumour.
    """
    taken = scene.chosen((rules or EditRules()).tumour)
    return Edited(_healed(scene, taken), {"edit": "remove", "removed_ml": _ml(scene, int(taken.sum()))})


def scale_tumour(scene: Scene, factor: float, rules: EditRules | None = None) -> Edited:
    """Give the tumour `factor` times its volume: it grows and shrinks about its middle, into what room there is.

    Raises:
        ImpossibleEditError: If there is no tumour, no room, or too little would be left.
    """
    rules = rules or EditRules()
    if not 0.01 <= factor <= 100:
        raise ImpossibleEditError("a tumour can be scaled by 0.01 to 100 times its volume; choose another factor")
    tumour = _lift(scene, scene.chosen(rules.tumour))
    wanted = round(factor * len(tumour.places))
    if wanted < LEAST_VOXELS:
        raise refuse(f"scaled by {factor:g}", f"{wanted} voxels would be left", "choose a larger factor")
    host = _healed(scene, scene.chosen(rules.tumour))
    outside, inside = _distances(scene, tumour, factor)
    # Voxels of the tumour as it was are its own, whatever they border on.
    allowed = (room(host, tumour.centre, rules) | scene.chosen(rules.tumour)) & ~host.tumour
    shape = outside <= 0
    if (shape & allowed).sum() < 0.8 * shape.sum() or allowed.sum() < wanted:
        raise refuse(f"scaled by {factor:g}", "there is no room for it", "choose a smaller factor, or move it first")
    grown = _least(outside - inside, allowed, wanted)
    if abs(grown.sum() - wanted) > LOST * wanted:
        raise refuse(f"scaled by {factor:g}", "it would fall apart", "choose a factor nearer to 1")
    places = np.argwhere(grown)
    result = _Tumour(places, _compartments(tumour, places, factor))
    extra = max(0.0, _radius(scene, wanted) - _radius(scene, len(tumour.places)))
    made = _put(host, result, rules.push * extra)
    record: Record = {"edit": "scale", "factor": factor, "tumour_ml": _ml(scene, len(places))}
    return Edited(made, record | {"got": round(len(places) / len(tumour.places), 4)})


def move_tumour(
    scene: Scene, to: tuple[float, float, float] | str, rules: EditRules | None = None, *, seed: int = 0
) -> Edited:
    """Move the tumour by (right, anterior, superior) mm, to a region such as `left frontal`, or `random`ly.

    Raises:
        ImpossibleEditError: If it cannot be there, or there is no such region.
    """
    rules = rules or EditRules()
    tumour = _lift(scene, scene.chosen(rules.tumour))
    host = _healed(scene, scene.chosen(rules.tumour))
    if isinstance(to, str):
        shift = _open_place(host, tumour, _candidates(host, to, seed), rules, f"moved to '{to}'")
        asked = to
    else:
        shift = np.rint(np.array(to) / np.array(scene.spacing)).astype(np.int64)
        there = tumour.moved(shift)
        why = hindrance(host, there.places, there.centre, rules)
        if why:
            raise refuse("moved there", why, "choose another place")
        asked = ",".join(f"{value:g}" for value in to)
    made, kept = _laid(host, tumour.moved(shift), rules)
    x, y, z = (float(step) for step in shift * np.array(scene.spacing))
    record: Record = {"edit": "move", "asked": asked, "right_mm": x, "anterior_mm": y, "superior_mm": z}
    return Edited(made, record | {"kept": kept})


def mirror_tumour(scene: Scene, rules: EditRules | None = None, *, plane: int | None = None) -> Edited:
    """Exchange the tumour with what lies at its mirror place; done twice about one plane, nothing has changed.

    An exchange needs no anatomy to be made up, and loses none. Where the brain's sides differ at its surface, the
    tumour's few voxels there take part.

    Args:
        scene: The label map.
        rules: What is asked of the edit.
        plane: Index of a voxel along the first axis plus that of its mirror image; the brain's own if left out.

    Raises:
        ImpossibleEditError: If it cannot be there.
    """
    rules = rules or EditRules()
    taken = scene.chosen(rules.tumour)
    total = scene.mirror_sum if plane is None else plane
    there = mirrored(taken, total)
    few, remedy = LOST * taken.sum(), "move it first"
    if there.sum() != taken.sum():
        raise refuse("mirrored", "its mirror place lies outside the scan", remedy)
    if (there & ~scene.brain).sum() > few:
        raise refuse("mirrored", "it would lie outside the brain", remedy)
    if (there & scene.tumour & ~taken).any():
        raise refuse("mirrored", "another tumour is there", "remove that one first")
    if not rules.across_midline:
        # Both places count, so that what may be mirrored may be mirrored back.
        for mask in (taken, there):
            middle = tuple(np.rint(np.argwhere(mask).mean(0)).astype(int))
            if (mask & (np.sign(scene.side[middle]) * scene.side <= FALX_MM)).sum() > few:
                raise refuse("mirrored", "it would lie across the falx", "allow that with --across-midline")
    deep = np.maximum(scene.depth, mirrored(scene.depth, total)) > VENTRICLE_DEPTH_MM
    if not rules.into_ventricle and (there & (scene.ventricles | (scene.fluid & deep))).sum() > few:
        raise refuse("mirrored", "it would lie in a ventricle", "allow that with --into-ventricle")
    label = scene.label.copy()
    both = taken | there
    label[both] = mirrored(scene.label, total)[both]
    return Edited(scene.with_label(label), {"edit": "mirror", "plane": total})


def transplant(host: Scene, donor: Scene, rules: EditRules | None = None) -> Edited:
    """Put the donor's tumour into the host, at the place that corresponds to the donor's or as near as it can be.

    The host's own tumours stay, so that it can hold several.

    Raises:
        ImpossibleEditError: If the donor has no tumour, or it can be nowhere near that place.
    """
    rules = rules or EditRules()
    if donor.spacing != host.spacing:
        raise ImpossibleEditError("a tumour can be transplanted between label maps of one voxel size; resample one")
    unknown = set(np.unique(donor.label[donor.tumour])) - {entry.value for entry in host.entries}
    if unknown:
        raise ImpossibleEditError(f"the host has no label {min(unknown)}; name it among the host's labels")
    tumour = _lift(donor, donor.chosen(rules.tumour))
    (low, high), (own_low, own_high) = _box(donor.brain), _box(host.brain)
    target = own_low + (tumour.centre - low) / np.maximum(high - low, 1) * (own_high - own_low)
    shift = np.rint(target - tumour.centre).astype(np.int64)
    near = _offsets(host, 3.0, REACH_MM)
    found = _open_place(host, tumour, tumour.centre + shift + near, rules, "transplanted")
    made, kept = _laid(host, tumour.moved(found), rules)
    away = float(np.linalg.norm((found - shift) * np.array(host.spacing)))
    record: Record = {"edit": "transplant", "tumour_ml": _ml(host, len(tumour.places)), "away_mm": round(away, 2)}
    return Edited(made, record | {"kept": kept})


def _lift(scene: Scene, mask: Mask) -> _Tumour:
    places = np.argwhere(mask)
    return _Tumour(places, scene.label[mask])


def _healed(scene: Scene, region: Mask) -> Scene:
    """Return the scene without the tumour in `region`: the other side's anatomy, or the nearest where that is none."""
    label = scene.label.copy()
    total = scene.mirror_sum
    healthy = scene.brain & ~scene.tumour
    lent = region & mirrored(healthy, total)
    label[lent] = mirrored(scene.label, total)[lent]
    rest = region & ~lent
    if rest.any():
        nearest = ndimage.distance_transform_edt(
            ~(healthy | lent), sampling=scene.spacing, return_distances=False, return_indices=True
        )
        label[rest] = label[tuple(axis[rest] for axis in nearest)]
    return scene.with_label(label)


def _laid(host: Scene, tumour: _Tumour, rules: EditRules) -> tuple[Scene, float]:
    """Return the host with the tumour, cut to where it may lie, and the share of it that was kept."""
    may = held(host, tumour.places, tumour.centre, rules)
    kept = _Tumour(tumour.places[may], tumour.values[may])
    push = min(rules.push * _radius(host, len(kept.places)), MOST_PUSH_MM)
    return _put(host, kept, push), round(float(may.mean()), 4)


def _put(host: Scene, tumour: _Tumour, push: float) -> Scene:
    """Push the host's anatomy aside by `push` mm at the tumour's edge, and lay the tumour in."""
    label = _pushed(host, tumour, push) if push > 0 else host.label.copy()
    label[tuple(tumour.places.T)] = tumour.values
    return host.with_label(label)


def _pushed(host: Scene, tumour: _Tumour, push: float) -> LabelVolume:
    """Return the host's labels pushed aside; the skull holds the brain, and other tumours stay where they are."""
    x, y, z = host.label.shape
    grid = Grid((x, y, z), host.spacing)
    points = grid_points(grid)
    cx, cy, cz = (float(value) for value in tumour.centre * np.array(host.spacing))
    plan = TumourPlan((cx, cy, cz), len(tumour.places) * host.voxel_ml, 0.0, 0.0, False, push, (1.0, 1.0, 1.0))
    pulled = push_aside(points, plan) / np.array(host.spacing, np.float32)[:, None, None, None]
    source = np.clip(np.rint(pulled).astype(np.int64), 0, np.array(host.label.shape)[:, None, None, None] - 1)
    taken = host.label[tuple(source)]
    tissue = host.brain & ~host.tumour
    moves = tissue & tissue[tuple(source)]
    return np.where(moves, taken, host.label).astype(np.uint8)


def _distances(scene: Scene, tumour: _Tumour, factor: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return distances (mm) to the scaled tumour from outside and from inside, (X, Y, Z)."""
    held = np.zeros(scene.label.shape, np.float32)
    held[tuple(tumour.places.T)] = 1
    back = factor ** (-1 / 3)
    offset = tumour.centre * (1 - back)
    scaled = ndimage.affine_transform(held, np.full(3, back), offset, order=1, mode="constant") > 0.5
    if not scaled.any():
        scaled[tuple(np.rint(tumour.centre).astype(int))] = True
    outside = ndimage.distance_transform_edt(~scaled, sampling=scene.spacing)
    return np.asarray(outside), np.asarray(ndimage.distance_transform_edt(scaled, sampling=scene.spacing))


def _least(cost: npt.NDArray[np.float64], allowed: Mask, wanted: int) -> Mask:
    """Return the `wanted` allowed voxels of least cost, in one piece where the largest piece grows to that."""
    chosen = np.zeros(allowed.shape, bool)
    free = allowed
    for _ in range(4):
        order = np.argsort(cost[free], kind="stable")[:wanted]
        chosen = np.zeros(allowed.shape, bool)
        chosen[tuple(np.argwhere(free)[order].T)] = True
        parts, count = ndimage.label(chosen, structure=np.ones((3, 3, 3)))
        if count <= 1:
            break
        sizes = np.bincount(parts.ravel())
        small = np.flatnonzero(sizes < LOST * wanted)
        crumbs = np.isin(parts, small[small > 0])
        if not crumbs.any():
            break  # several tumours that are scaled as one
        free = free & ~crumbs
    return chosen


def _compartments(tumour: _Tumour, places: Places, factor: float) -> npt.NDArray[np.uint8]:
    """Return the value of each voxel (N,): that of the nearest voxel of the tumour once it is scaled back."""
    back = tumour.centre + (places - tumour.centre) * factor ** (-1 / 3)
    _, nearest = cKDTree(tumour.places).query(back)
    return np.asarray(tumour.values[nearest])


def _open_place(host: Scene, tumour: _Tumour, candidates: Point, rules: EditRules, what: str) -> npt.NDArray[np.int64]:
    """Return the shift to the first candidate centre (N, 3) at which the tumour can be."""
    why = "there is no such place"
    first = ""
    for place in candidates[:TRIED]:
        shift = np.rint(place - tumour.centre).astype(np.int64)
        there = tumour.moved(shift)
        found = hindrance(host, there.places, there.centre, rules)
        if found is None:
            return np.asarray(shift)
        first = first or found
    raise refuse(what, first or why, "choose a smaller tumour or another place")


def _candidates(host: Scene, to: str, seed: int) -> Point:
    """Return centres (N, 3) to try: anywhere at random, or around a region's middle, the nearest first."""
    if to == "random":
        places = np.argwhere(host.brain & ~host.ventricles)
        rng = np.random.default_rng([seed, len(places)])
        return places[rng.permutation(len(places))[:TRIED]].astype(np.float64)
    side, _, name = to.partition(" ")
    if side not in ("left", "right") or name not in REGIONS:
        known = ", ".join(REGIONS)
        raise ImpossibleEditError(f"there is no place '{to}'; give mm, random, or left or right with one of: {known}")
    low, high = _box(host.brain)
    share = np.array(REGIONS[name])
    if side == "right":
        share[0] = 1 - share[0]
    middle = low + share * (high - low)
    return np.asarray(middle + _offsets(host, 5.0, REACH_MM))


def _offsets(host: Scene, step: float, reach: float) -> npt.NDArray[np.int64]:
    """Return offsets (N, 3) in voxels, about `step` mm apart and at most `reach` mm long, the shortest first."""
    steps = [max(1, round(step / size)) for size in host.spacing]
    counts = [int(reach / size / n) for size, n in zip(host.spacing, steps, strict=True)]
    axes = [n * np.arange(-count, count + 1) for n, count in zip(steps, counts, strict=True)]
    offsets = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    length = np.linalg.norm(offsets * np.array(host.spacing), axis=1)
    near = np.argsort(length, kind="stable")[: int((length <= reach).sum())]
    return np.asarray(offsets[near], np.int64)


def _box(mask: Mask) -> tuple[Point, Point]:
    places = np.argwhere(mask)
    return places.min(0).astype(np.float64), places.max(0).astype(np.float64)


def _radius(scene: Scene, voxels: int) -> float:
    """Return the radius in mm of a ball of so many voxels."""
    return float((voxels * scene.voxel_ml * 1000 * 3 / (4 * np.pi)) ** (1 / 3))


def _ml(scene: Scene, voxels: int) -> float:
    return round(voxels * scene.voxel_ml, 3)
