"""The nearest training patients of a scan, and how much nearer the nearest is than the others.

The unit is the patient: all visits and crops of a patient are one neighbour. The raw distance to the nearest patient
says little, because a smooth, average-looking generated scan is near to everybody. A copy is near to *one* patient and
as far from the others as any scan. The statistic is therefore relative, as in Lowe's ratio test (2004,
doi:10.1023/B:VISI.0000029664.99615.94), with a mean over several neighbours in place of the second alone:

    s = log(mean of d2 ... dk) - log(d1),    d = 1 - similarity after alignment,   k = 6

All training scans are ranked by matrix products of coarse features; the best candidates are compared again under every
view after alignment. Only the coarse features of the training scans stay in memory, some 25 kB a view; scans are read
one at a time, and generated ones in blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from anonsynth.audits.alignment import Placement, Spectrum, best_placement, place, spectrum
from anonsynth.audits.views import View, ViewGrid, ViewVolume, make_views
from anonsynth.cohort.geometry import FloatVolume
from anonsynth.cohort.model import ScanRecord
from anonsynth.cohort.store import Cohort, Scan
from anonsynth.progress import Progress

__all__ = ["Index", "Match", "Matches", "Query", "build_index", "cohort_queries", "compare", "relative_nearness"]

NEIGHBOURS = 6
CANDIDATES = NEIGHBOURS + 3
BLOCK = 32
SMALLEST_DISTANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Query:
    """A scan to be looked up among the training scans; read when its turn comes."""

    scan: str
    patient: str
    load: Callable[[], Scan]


@dataclass(frozen=True, slots=True)
class Match:
    """A training patient's scan beside a query, in one view."""

    scan: str
    patient: str
    placement: Placement

    @property
    def distance(self) -> float:
        """1 - similarity, in [1e-6, 2]; the spectra are single precision, so nothing below 1e-6 means anything."""
        return max(1 - self.placement.similarity, SMALLEST_DISTANCE)


@dataclass(frozen=True, slots=True)
class Matches:
    """What a query resembles: per view the candidates, nearest first, one a patient."""

    scan: str
    patient: str
    views: Mapping[View, tuple[Match, ...]]


@dataclass(frozen=True, slots=True)
class Index:
    """Coarse features of all training scans.

    Attributes:
        cohort: Where the scans are read from.
        records: The N training scans.
        grid: The grid of the views.
        features: Per ranked view (N, C, x, y, z) float32.
        present: Per ranked view (N, C) bool, or (N, 1) for labels.
    """

    cohort: Cohort
    records: tuple[ScanRecord, ...]
    grid: ViewGrid
    features: Mapping[View, FloatVolume]
    present: Mapping[View, npt.NDArray[np.bool_]]

    def candidates(self, views: Mapping[View, ViewVolume], ranked: View) -> tuple[int, ...]:
        """Return the best scan of each of the most similar patients, as positions in `records`."""
        view = views[ranked]
        if not view.present.any():
            return ()
        reference = self.features[ranked].reshape(len(self.records), -1)
        moved = np.stack([moved.ravel() for moved in _moved(self.grid.coarse(view, ranked))])
        shared = (self.present[ranked] & view.present).sum(1)
        similarity = (moved @ reference.T).max(0) / np.maximum(shared, 1)
        best: dict[str, int] = {}
        for position in np.argsort(-similarity, kind="stable"):
            if shared[position]:
                best.setdefault(self.records[position].patient, int(position))
            if len(best) == CANDIDATES:
                break
        return tuple(best.values())


def build_index(cohort: Cohort, records: Sequence[ScanRecord], grid: ViewGrid, progress: Progress) -> Index:
    """Read every training scan once and keep its coarse features."""
    features: dict[View, list[FloatVolume]] = {View.INTENSITY: [], View.LABEL: []}
    present: dict[View, list[npt.NDArray[np.bool_]]] = {View.INTENSITY: [], View.LABEL: []}
    for record in progress.track(records, total=len(records), what="indexing training scans"):
        views = make_views(cohort.load(record), grid)
        for view in features:
            features[view].append(grid.coarse(views[view], view))
            present[view].append(views[view].present)
    return Index(
        cohort,
        tuple(records),
        grid,
        {view: np.stack(rows) for view, rows in features.items()},
        {view: np.stack(rows) for view, rows in present.items()},
    )


def cohort_queries(cohort: Cohort, records: Iterable[ScanRecord]) -> tuple[Query, ...]:
    """Return queries that read scans of a cohort."""
    return tuple(Query(r.scan, r.patient, lambda record=r: cohort.load(record)) for r in records)  # type: ignore[misc]


def compare(queries: Sequence[Query], index: Index, progress: Progress, what: str) -> tuple[Matches, ...]:
    """Find the nearest training patients of every query, in the order of the queries.

    Args:
        queries: Scans on the index's grid.
        index: The training scans.
        progress: Shows how far it is.
        what: The task's name for the progress line.
    """
    results: list[Matches] = []
    for start in range(0, len(queries), BLOCK):
        results += _compare_block(queries[start : start + BLOCK], index)
        progress.step(what, len(results), len(queries))
    return tuple(results)


def relative_nearness(matches: Matches, view: View, *, without: str | None = None) -> float:
    """Return the statistic s of the module's docstring; NaN with fewer than two other patients to compare with.

    Args:
        matches: What the query resembles.
        view: Which view.
        without: A patient to leave out, for a training scan that is looked up among the *other* patients.
    """
    distances = [match.distance for match in matches.views[view] if match.patient != without][:NEIGHBOURS]
    if len(distances) < 3:
        return float("nan")
    return float(np.log(np.mean(distances[1:])) - np.log(distances[0]))


def _compare_block(queries: Sequence[Query], index: Index) -> list[Matches]:
    """Compare a block of queries, reading each training scan that is anyone's candidate once."""
    spectra: list[Mapping[View, Spectrum]] = []
    wanted: dict[int, list[tuple[int, str]]] = {}
    for number, query in enumerate(queries):
        views = make_views(query.load(), index.grid)
        spectra.append({view: spectrum(volume) for view, volume in views.items()})
        for ranked in (View.INTENSITY, View.LABEL):
            for position in index.candidates(views, ranked):
                wanted.setdefault(position, []).append((number, ranked.domain))
    found: list[dict[View, list[Match]]] = [{view: [] for view in View} for _ in queries]
    for position in sorted(wanted):
        record = index.records[position]
        views = make_views(index.cohort.load(record), index.grid)
        domains = {domain for _, domain in wanted[position]}
        fixed = {view: spectrum(volume) for view, volume in views.items() if view.domain in domains}
        for number, domain in wanted[position]:
            for view in fixed:
                if view.domain == domain:
                    placement = best_placement(spectra[number][view], fixed[view])
                    found[number][view].append(Match(record.scan, record.patient, placement))
    return [
        Matches(query.scan, query.patient, {view: _nearest_first(found[number][view]) for view in View})
        for number, query in enumerate(queries)
    ]


def _moved(coarse: FloatVolume) -> Iterator[FloatVolume]:
    """Yield a scan's features mirrored or not, and shifted by up to one coarse voxel along each axis."""
    for mirrored, x, y, z in product((False, True), (-1, 0, 1), (-1, 0, 1), (-1, 0, 1)):
        yield place(coarse, Placement(1.0, (x, y, z), mirrored=mirrored))


def _nearest_first(matches: list[Match]) -> tuple[Match, ...]:
    return tuple(sorted(matches, key=lambda match: -match.placement.similarity))
