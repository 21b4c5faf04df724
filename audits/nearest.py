"""The nearest training patients of a scan, in every aspect.

The unit is the patient: all visits and crops of a patient are one neighbour. All training scans are ranked by matrix
products (`ranking`); the best candidates are aligned and compared in every aspect (`closer`). Of regions (`regions`)
each has its own neighbours. How much nearer the nearest is than the others is for `nearness` to say.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch

from anonsynth.audits.closer import Aspect, look_closer
from anonsynth.audits.grain import grain_of
from anonsynth.audits.index import Index
from anonsynth.audits.pose import IDENTITY, Pose
from anonsynth.audits.probe import Probe, probe
from anonsynth.audits.ranking import Candidate, propose, propose_in_place, rank
from anonsynth.audits.regions import RegionNeighbours, nearest_regions
from anonsynth.audits.views import View, ViewVolume, make_views
from anonsynth.cohort.model import ScanRecord
from anonsynth.cohort.store import Cohort, Scan
from anonsynth.progress import Progress

__all__ = ["NEIGHBOURS", "Match", "Matches", "Query", "cohort_queries", "compare", "restricted"]

NEIGHBOURS = 6
CANDIDATES = NEIGHBOURS + 2
PROPOSED = 2
"""So many times more patients are laid on the query roughly than are compared in the end: a moved copy has lost its
rim, and lies on the cohort's mean a little otherwise than its original."""
OTHERS = 4
SAME_GRAIN = 2
BLOCK = 8
SMALLEST_DISTANCE = 1e-6
WHOLE = (Aspect.REGION, Aspect.LEARNED)
"""Aspects in which a query is compared with all training scans, not with candidates."""
JOINED = (Aspect.INTENSITY, Aspect.CONTRAST, Aspect.EDGES, Aspect.PARTS)


@dataclass(frozen=True, slots=True)
class Query:
    """A scan to be looked up among the training scans; read when its turn comes."""

    scan: str
    patient: str
    load: Callable[[], Scan]


@dataclass(frozen=True, slots=True)
class Match:
    """A training patient's scan beside a query, in one aspect.

    Attributes:
        scan: The training scan.
        patient: Its patient.
        distance: 1 - similarity, in [1e-6, 2]; single precision, so nothing below 1e-6 means anything.
        pose: How the query lies on it.
    """

    scan: str
    patient: str
    distance: float
    pose: Pose = IDENTITY


@dataclass(frozen=True, slots=True)
class Matches:
    """What a query resembles.

    Attributes:
        scan: The query's name.
        patient: Its patient.
        found: Per aspect the candidates, nearest first, one a patient; of regions, the nearest in any of them.
        regions: Per region the nearest patients' distances, (W, K), nearest first.
        patients: All training patients, in the order in which `regions` numbers them.
    """

    scan: str
    patient: str
    found: Mapping[Aspect, tuple[Match, ...]]
    regions: RegionNeighbours
    patients: tuple[str, ...]


def cohort_queries(cohort: Cohort, records: Iterable[ScanRecord]) -> tuple[Query, ...]:
    """Return queries that read scans of a cohort."""
    return tuple(Query(r.scan, r.patient, lambda record=r: cohort.load(record)) for r in records)  # type: ignore[misc]


def compare(
    queries: Sequence[Query], index: Index, progress: Progress, what: str, *, patients: int = CANDIDATES
) -> tuple[Matches, ...]:
    """Find the nearest training patients of every query, in the order of the queries.

    Args:
        queries: Scans on the index's grid.
        index: The training scans.
        progress: Shows how far it is.
        what: The task's name for the progress line.
        patients: How many patients are looked at closely in each ranking.
    """
    workers = max(1, os.cpu_count() or 1)
    size = max(1, min(BLOCK, -(-len(queries) // workers)))
    blocks = [queries[start : start + size] for start in range(0, len(queries), size)]
    results: list[Matches] = []
    with _one_thread(), ThreadPoolExecutor(workers) as pool:
        for found in pool.map(lambda block: _compare_block(block, index, patients), blocks):
            results += found
            progress.step(what, len(results), len(queries))
    return tuple(results)


def restricted(matches: Matches, among: Collection[str]) -> Matches:
    """Return what a scan resembles among some patients only."""
    counts = np.array([name in among for name in matches.patients] + [False])[matches.regions.patient]
    regions = replace(
        matches.regions,
        distance=np.where(counts, matches.regions.distance, np.inf).astype(np.float32),
        patient=np.where(counts, matches.regions.patient, -1).astype(np.int32),
    )
    found = {aspect: tuple(m for m in own if m.patient in among) for aspect, own in matches.found.items()}
    return replace(matches, found=found, regions=regions)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread a product: ones this small take twice as long when two share them (measured).

    The cores are better used by comparing several blocks of queries at a time.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _compare_block(queries: Sequence[Query], index: Index, patients: int) -> list[Matches]:
    views, probes, grains = [], [], []
    for query in queries:
        scan = query.load()
        views.append(make_views(scan, index.grid.views))
        grains.append(grain_of(scan.image))
        probes.append(probe(scan, grains[-1], index.grid.views))
    rankings = rank(views, grains, index)
    parts = [index.grid.regions(view[View.INTENSITY].volume) for view in views]
    present = [view[View.INTENSITY].present for view in views]
    bodies = [index.grid.regions(view[View.GROUND].volume[:1])[0] for view in views]
    regions = nearest_regions(parts, bodies, present, index, keep=patients + 1)
    names = tuple(dict.fromkeys(record.patient for record in index.records))
    results = []
    for query, view, voxels, ranking, region in zip(queries, views, probes, rankings, regions, strict=True):
        proposed = [
            *propose(ranking, index, View.EDGES, PROPOSED * patients),
            *propose(ranking, index, View.INTENSITY, patients),
            *propose_in_place(-region.together, index, OTHERS),
            *propose_in_place(ranking.grain, index, SAME_GRAIN, kept=True),
        ]
        images = _closest(view, voxels, proposed, index, "image", patients)
        labels = _closest(
            view, voxels, propose(ranking, index, View.LABEL, PROPOSED * patients), index, "label", patients
        )
        found = {**images, **labels}
        found[Aspect.REGION] = _by_region(region, index, names) if view[View.INTENSITY].present.any() else ()
        found[Aspect.LEARNED] = _by_point(view[View.INTENSITY], index, images[Aspect.INTENSITY])
        results.append(Matches(query.scan, query.patient, found, region, names))
    return results


def _closest(
    views: Mapping[View, ViewVolume],
    voxels: Probe,
    proposed: Iterable[Candidate],
    index: Index,
    domain: str,
    keep: int,
) -> dict[Aspect, tuple[Match, ...]]:
    candidates: dict[tuple[int, bool], Candidate] = {}
    for candidate in proposed:
        key = candidate.position, candidate.start.mirrored
        known = candidates.setdefault(key, candidate)
        candidates[key] = replace(known, kept=known.kept or candidate.kept)
    looked = look_closer(views, voxels, list(candidates.values()), index, domain, keep)
    found: dict[Aspect, list[Match]] = {a: [] for a in Aspect if a.domain == domain and a not in WHOLE}
    for candidate, pose, similarities in looked:
        position = candidate.position
        record = index.records[position]
        for aspect, similarity in similarities.items():
            if similarity > -1:
                distance = max(1 - similarity, SMALLEST_DISTANCE)
                found[aspect].append(Match(record.scan, record.patient, distance, pose))
    one = {aspect: _one_a_patient(matches) for aspect, matches in found.items()}
    if domain == "image":
        one[Aspect.TOGETHER] = _together([one[aspect] for aspect in JOINED])
        # Fields of view differ: over some patients' ground anybody's intensities are a function of theirs. A copy in
        # another contrast keeps its edges; without this, five of fifty generated LGG scans were flagged that
        # had nothing but air and head in common with the same two patients.
        one[Aspect.CONTRAST] = _together([one[Aspect.CONTRAST], one[Aspect.EDGES]])
    return one


def _together(aspects: Sequence[tuple[Match, ...]]) -> tuple[Match, ...]:
    """Return the patients by the geometric mean of their distances in several aspects."""
    by_patient = [{match.patient: match for match in matches} for matches in aspects]
    common = [patient for patient in by_patient[0] if all(patient in own for own in by_patient)]
    joined = []
    for patient in common:
        nearest = min((own[patient] for own in by_patient), key=lambda match: match.distance)
        mean = float(np.exp(np.mean([np.log(own[patient].distance) for own in by_patient])))
        joined.append(replace(nearest, distance=mean))
    return tuple(sorted(joined, key=lambda match: match.distance))


def _by_region(regions: RegionNeighbours, index: Index, names: Sequence[str]) -> tuple[Match, ...]:
    """Return the patient of the region with the largest s."""
    others = np.where(np.isfinite(regions.distance[:, 1:]), regions.distance[:, 1:], 0).max(1)
    ratio = others / np.maximum(regions.distance[:, 0], SMALLEST_DISTANCE)
    window = int(np.argmax(ratio))
    if regions.patient[window, 0] < 0:
        return ()
    patient = names[regions.patient[window, 0]]
    own = [number for number, record in enumerate(index.records) if record.patient == patient]
    scan = index.records[min(own, key=lambda number: regions.together[:, number].min())].scan
    return (Match(scan, patient, float(regions.distance[window, 0])),)


def _by_point(view: ViewVolume, index: Index, images: Sequence[Match]) -> tuple[Match, ...]:
    """Return the patients whose points are nearest to the query's; they lie on it as their images were found to."""
    if index.learned is None or not view.present.any():
        return ()
    distances = 1 - index.learned.own @ index.learned.points(view.volume[None])[0]
    seen = np.asarray(index.present[View.INTENSITY].any(axis=1), bool)
    poses = {match.scan: match.pose for match in images}
    matches = [
        Match(record.scan, record.patient, max(float(distance), SMALLEST_DISTANCE), poses.get(record.scan, IDENTITY))
        for record, distance, present in zip(index.records, distances, seen, strict=True)
        if present
    ]
    return _one_a_patient(matches)[:CANDIDATES]


def _one_a_patient(matches: list[Match]) -> tuple[Match, ...]:
    best: dict[str, Match] = {}
    for match in sorted(matches, key=lambda match: match.distance):
        best.setdefault(match.patient, match)
    return tuple(best.values())
