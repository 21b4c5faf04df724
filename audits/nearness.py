"""How much nearer the nearest patient is than the others: the statistic of every aspect.

The raw distance to the nearest patient says little, because a smooth, average-looking generated scan is near to
everybody. A copy is near to *one* patient and as far from the others as any scan. The statistic is therefore relative,
as in Lowe's ratio test (2004, doi:10.1023/B:VISI.0000029664.99615.94), with the middle of several neighbours in place
of the second alone:

    s = log(median of d2 ... dk) - log(d1),    d = 1 - similarity,   k = 6

Of regions each has its own neighbours and its own s. Regions differ: in some s varies much. So each is measured by
mean and spread of what it is for scans of the same kind, and the largest of all counts.

A patient may be near to a great part of *all* generated scans, because his field of view, his posture or the state of
his scanner is the one that the generator makes: a hub (Radovanović et al. 2010, JMLR 11:2487). That singles out no
generated scan as his copy. What a quarter of the scans of the same kind share with a patient is therefore taken off his
distance, up to a factor of four; beyond it every one of them counts as near to him.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from anonsynth.audits.closer import Aspect
from anonsynth.audits.nearest import NEIGHBOURS, Matches
from anonsynth.audits.regions import SMALLEST

__all__ = ["NOTHING_USUAL", "Usual", "nearness", "region_nearness", "strongest_region", "usual_of"]

FEWEST_NEIGHBOURS = 3
FEWEST_SCANS, FEWEST_FOR_REGIONS = 8, 20
"""Among fewer scans a copied patient would himself be usual."""
SHARE = 0.25
LARGEST_HUB = float(np.log(4))
SMALLEST_SPREAD, LARGEST_SPREAD, LARGEST_RISE = 0.5, 2.5, 2.0

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Usual:
    """What is usual for scans of one kind, so that only what goes beyond it singles out one of them.

    Attributes:
        hubs: Per aspect and patient the log factor, below 0, by which he is near to a great part of all scans.
        region_hubs: (W, P) the same per region and number of the patient; None where nothing is known.
        mean: (W,) of s of each region.
        spread: (W,) of s of each region.
        strongest: Per scan that this was found from its largest s of all regions, measured by what is usual for the
            *others*: in its own company every scan would look more usual than a scan that comes from outside.
    """

    hubs: Mapping[Aspect, Mapping[str, float]]
    region_hubs: Vector | None
    mean: Vector
    spread: Vector
    strongest: Mapping[str, float]


NOTHING_USUAL = Usual({}, None, np.zeros(1), np.ones(1), {})


def usual_of(matches: Sequence[Matches], *, without_own: bool = False, beside: Usual | None = None) -> Usual:
    """Find what is usual for scans of one kind: all generated ones, or real ones.

    Args:
        matches: What each scan resembles.
        without_own: Leave a scan's own patient out, for training patients.
        beside: For generated scans, what is usual for real ones: they may not lie far above it, nor vary much more,
            lest many copies hide each other.
    """
    if len(matches) < FEWEST_SCANS:
        return NOTHING_USUAL if beside is None else replace(beside, hubs={}, region_hubs=None, strongest={})
    hubs: dict[Aspect, Mapping[str, float]] = {
        aspect: _aspect_hubs(matches, aspect, without_own=without_own)
        for aspect in Aspect
        if aspect is not Aspect.REGION
    }
    regions = _region_hubs(matches, without_own=without_own)
    found = replace(NOTHING_USUAL, hubs=hubs, region_hubs=regions)
    values = np.stack([region_nearness(m, found, without=m.patient if without_own else None) for m in matches])
    if beside is not None and len(matches) < FEWEST_FOR_REGIONS:
        return replace(found, mean=beside.mean, spread=beside.spread)
    mean, spread = _bounded(*_region_scale(values), beside)
    others, among = _bounded(*_region_scale(values, without_each=True), beside)
    measured = (values - others) / among
    strongest = {match.scan: _largest(row) for match, row in zip(matches, measured, strict=True)}
    return replace(found, mean=mean[0], spread=spread[0], strongest=strongest)


def nearness(matches: Matches, aspect: Aspect, usual: Usual, *, without: str | None = None) -> float:
    """Return s of one aspect other than the regions; NaN with fewer than three patients to compare with.

    Args:
        matches: What the scan resembles.
        aspect: In which respect.
        usual: For scans of its kind.
        without: A patient to leave out, for a training scan that is looked up among the *other* patients.
    """
    own = usual.hubs.get(aspect, {})
    logs = [
        np.log(match.distance) - own.get(match.patient, 0.0)
        for match in matches.found[aspect]
        if match.patient != without
    ]
    return float(_statistic(np.array(logs, np.float64)[None])[0])


def region_nearness(matches: Matches, usual: Usual, *, without: str | None = None) -> Vector:
    """Return s of each region, (W,); NaN with fewer than three patients to compare with."""
    counts = np.array([name != without for name in matches.patients] + [False])
    logs = _region_logs(matches)
    if usual.region_hubs is not None:
        rows = np.arange(len(logs))[:, None]
        logs = logs - np.where(matches.regions.patient >= 0, usual.region_hubs[rows, matches.regions.patient], 0.0)
    return _statistic(np.where(counts[matches.regions.patient], logs, np.nan))


def strongest_region(matches: Matches, usual: Usual, *, without: str | None = None) -> float:
    """Return the largest s of all regions of a scan, each measured by what is usual there; NaN where there is none."""
    own = usual.strongest.get(matches.scan)
    return (
        _largest((region_nearness(matches, usual, without=without) - usual.mean) / usual.spread) if own is None else own
    )


def _largest(values: Vector) -> float:
    return float(np.nanmax(values)) if np.isfinite(values).any() else float("nan")


def _region_scale(values: Vector, *, without_each: bool = False) -> tuple[Vector, Vector]:
    """Return mean and spread of the columns of (n, W); 0 and 1 where too few are known.

    No region is taken for much steadier than the common one: its spread may be small by chance.

    Returns:
        (1, W) each; or (n, W), without each of the rows in turn.
    """
    known, filled = np.isfinite(values), np.nan_to_num(values)
    count, total, square = (part.sum(0, keepdims=True) for part in (known, filled, filled**2))
    if without_each:
        count, total, square = count - known, total - filled, square - filled**2
    enough = count >= max(FEWEST_SCANS - 1, len(values) / 2)
    mean = np.where(enough, total / np.maximum(count, 1), 0.0)
    spread = np.sqrt(np.maximum(square / np.maximum(count, 1) - mean**2, 0))
    common = np.nanmedian(np.where(enough, spread, np.nan)) if enough.any() else 1.0
    return mean, np.where(enough, np.maximum(spread, max(1e-3, SMALLEST_SPREAD * float(common))), 1.0)


def _bounded(mean: Vector, spread: Vector, beside: Usual | None) -> tuple[Vector, Vector]:
    """Keep what is usual for generated scans near to what is for real ones."""
    if beside is None:
        return mean, spread
    low, high = beside.spread, LARGEST_SPREAD * beside.spread
    return np.clip(mean, beside.mean, beside.mean + LARGEST_RISE * low), np.clip(spread, low, high)


def _statistic(logs: Vector) -> Vector:
    """Return s of (n, K) log distances in any order, NaN where there is nobody."""
    if logs.shape[1] == 0:
        return np.full(len(logs), np.nan)
    near = np.sort(logs, axis=1)[:, :NEIGHBOURS]  # NaN come last
    enough = np.isfinite(near).sum(1) >= FEWEST_NEIGHBOURS
    result = np.full(len(logs), np.nan)
    if enough.any():
        result[enough] = np.nanmedian(near[enough, 1:], axis=1) - near[enough, 0]
    return result


def _aspect_hubs(matches: Sequence[Matches], aspect: Aspect, *, without_own: bool) -> Mapping[str, float]:
    """Return the SHARE quantile, over all scans, of a patient's log distance below the farthest candidate's."""
    below: dict[str, list[float]] = {}
    for match in matches:
        own = [m for m in match.found[aspect] if not (without_own and m.patient == match.patient)]
        if own:
            farthest = np.log(max(m.distance for m in own))
            for m in own:
                below.setdefault(m.patient, []).append(float(np.log(m.distance) - farthest))
    hubs = {patient: _quantile(values, len(matches)) for patient, values in below.items()}
    return {patient: value for patient, value in hubs.items() if value < 0}


def _quantile(values: Sequence[float], count: int) -> float:
    padded = np.concatenate([values, np.zeros(count - len(values))])
    return float(np.clip(np.quantile(padded, SHARE), -LARGEST_HUB, 0))


def _region_hubs(matches: Sequence[Matches], *, without_own: bool) -> Vector | None:
    if not len(matches[0].regions.distance):
        return None
    windows, patients = len(matches[0].regions.distance), len(matches[0].patients)
    numbers = {name: number for number, name in enumerate(matches[0].patients)}
    own = np.array([numbers.get(match.patient, patients) for match in matches])
    nearest = np.stack([match.regions.patient for match in matches])
    below = np.stack([_below_farthest(match) for match in matches])
    hubs = np.zeros((windows, patients))
    rows = np.arange(len(matches))
    table = np.zeros((len(matches), patients + 1), np.float32)  # the last column is nobody's
    for window in range(windows):
        table[:] = 0
        table[rows[:, None], nearest[:, window]] = below[:, window]
        if without_own:
            table[rows, own] = 0
        hubs[window] = np.quantile(table[:, :-1], SHARE, axis=0)
    return np.clip(hubs, -LARGEST_HUB, 0)


def _below_farthest(matches: Matches) -> npt.NDArray[np.float32]:
    """Return (W, K) log distances below that of the farthest patient who was kept; 0 where there is nobody."""
    logs = _region_logs(matches)
    farthest = np.max(np.where(np.isfinite(logs), logs, -np.inf), axis=1, keepdims=True)
    return np.where(np.isfinite(logs), logs - np.where(np.isfinite(farthest), farthest, 0), 0).astype(np.float32)


def _region_logs(matches: Matches) -> Vector:
    """Return (W, K) log distances of the regions' nearest patients; NaN where there is nobody."""
    distance = np.where(matches.regions.patient >= 0, matches.regions.distance, np.nan)
    return np.log(np.maximum(distance.astype(np.float64), SMALLEST))
