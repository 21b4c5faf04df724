"""Patients and generated scans as points: the one place where the set-level, membership and linkage questions look.

A point is what a scan's row of the index says of its intensities (each modality of norm 1, as the cohort's mean sees
it), projected onto at most 64 principal components. The components are fitted on real patients whichever side they are
on, one scan each: fitted on the training patients alone they would hold more of a training patient than of any other,
and every comparison of the two would see a leak that is not there. Another embedding may stand in: whatever makes a
`Population` and a `Views` whose real points treat training and holdout patients alike.

Zone: private. Scans are read one at a time; only points, and the rows of the holdout, stay in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anonsynth.audits.calibration import FloatVector
from anonsynth.audits.index import Index
from anonsynth.audits.nearest import Query
from anonsynth.audits.points import FloatMatrix
from anonsynth.audits.second_view import second_acquisition
from anonsynth.audits.views import View, make_view
from anonsynth.cohort.model import ScanRecord
from anonsynth.cohort.store import Scan
from anonsynth.progress import Progress
from anonsynth.seeds import stream

__all__ = [
    "Acquired",
    "Named",
    "Part",
    "Population",
    "Reader",
    "Side",
    "Views",
    "assembled",
    "build_population",
    "common_modalities",
    "read_patients",
]

COMPONENTS = 64
FITTED_ON = 600
"""Real patients that the components are fitted on, drawn whichever side they are on."""
SHARED_BY = 0.8
"""A modality is compared if so many scans of every side have it; scans that lack it are left out."""

Rows = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Part:
    """Points of one kind of all sides: (P, D) training patients, (H, D) holdout patients, (G, D) generated scans."""

    train: FloatMatrix
    holdout: FloatMatrix
    generated: FloatMatrix


@dataclass(frozen=True, slots=True)
class Views:
    """What an attacker may hold of some patients: two different pieces of each, and what the label maps measure.

    Attributes:
        first: Points of one half of a patient's scan; of generated scans, of that half.
        second: Points of the other half of a second acquisition; of generated scans, of that other half.
        whole: Points of the whole second acquisition; of generated scans, of the whole.
        volumes: (·, L) label volumes in voxels, one column a label; NaN for scans without a label map.
        labels: (L,) names of the labels.
    """

    first: Part
    second: Part
    whole: Part
    volumes: Part
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Population:
    """One scan of every patient, and every generated scan, as points.

    Attributes:
        points: One row a training patient, a holdout patient, a generated scan.
        train_patients: (P,) pseudonyms.
        holdout_patients: (H,) pseudonyms.
        modalities: What was compared.
        left_out: Scans that lack one of these.
        views: For linkage and inference, of all holdout patients and some training patients.
    """

    points: Part
    train_patients: tuple[str, ...]
    holdout_patients: tuple[str, ...]
    modalities: tuple[str, ...]
    left_out: int
    views: Views


@dataclass(frozen=True, slots=True)
class _Basis:
    mean: FloatVector
    axes: FloatMatrix

    def points(self, rows: Rows) -> FloatMatrix:
        """Project (n, numbers) rows to (n, D)."""
        projected: FloatMatrix = (rows.astype(np.float64) - self.mean) @ self.axes
        return projected


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads what is needed of a scan: its row, in the compared modalities.

    Attributes:
        index: The training scans; a row is what it would hold of the scan.
        channels: The compared modalities.
        seed: Of the second acquisitions, and of the patients that components are fitted on.
    """

    index: Index
    channels: tuple[int, ...]
    seed: int

    def row(self, scan: Scan) -> Rows:
        """Return (numbers,) of the scan."""
        needed = (View.INTENSITY, View.EDGES, View.GROUND)
        views = {view: make_view(scan, self.index.grid.views, view) for view in needed}
        _, intensity, _, _ = self.index.image_parts(views)
        return intensity[list(self.channels)].ravel()

    def again(self, scan: Scan) -> Rows:
        """Return (numbers,) of a second acquisition of it."""
        return self.row(second_acquisition(scan, stream(self.seed, "audit", "second acquisition", scan.record.scan)))

    def indexed(self, positions: npt.NDArray[np.intp]) -> Rows:
        """Return (n, numbers) of training scans, from the index."""
        wanted = {int(position): number for number, position in enumerate(positions)}
        shape = (self.index.grid.modalities, int(np.prod(self.index.grid.shape)))
        rows = np.zeros((len(positions), len(self.channels) * shape[1]), np.float32)
        for block in self.index.blocks():
            own = [p for p in range(block.first, block.first + len(block.intensity)) if p in wanted]
            if own:
                taken = block.intensity[[p - block.first for p in own]].reshape(-1, *shape)
                rows[[wanted[p] for p in own]] = taken[:, list(self.channels)].reshape(len(own), -1)
        return rows

    def half(self, rows: Rows, *, front: bool) -> Rows:
        """Return the half of (n, numbers) rows that lies before, or behind, the middle of the longest axis."""
        shape = self.index.grid.shape
        axis = int(np.argmax(shape))
        cut = slice(0, shape[axis] // 2) if front else slice(shape[axis] // 2, None)
        volumes = np.moveaxis(rows.reshape(len(rows), len(self.channels), *shape), axis + 2, 2)
        return np.ascontiguousarray(volumes[:, :, cut]).reshape(len(rows), -1)


def common_modalities(
    names: Sequence[str], sides: Iterable[Sequence[ScanRecord]]
) -> tuple[tuple[str, ...], tuple[tuple[ScanRecord, ...], ...]]:
    """Return the modalities that four fifths of every side have, and of each side the scans that have them all."""
    given = [tuple(side) for side in sides]
    shared = tuple(
        name
        for name in names
        if all(sum(name in r.modalities for r in side) >= max(1, SHARED_BY * len(side)) for side in given)
    )
    kept = tuple(tuple(r for r in side if shared and set(shared) <= set(r.modalities)) for side in given)
    return shared, kept


def build_population(
    index: Index,
    drawn: Sequence[Query],
    holdout: Sequence[Query],
    generated: Sequence[Query],
    records: tuple[Sequence[ScanRecord], Sequence[ScanRecord]],
    seed: int,
    progress: Progress,
) -> Population | None:
    """Turn every patient and every generated scan into points.

    Args:
        index: The training scans.
        drawn: One scan of each of some training patients; they are also seen in a second acquisition.
        holdout: One scan of each holdout patient.
        generated: The generated scans.
        records: Rows of the holdout and of the generated scans.
        seed: Of the scans that are drawn, the second acquisitions and the patients that components are fitted on.
        progress: Shows how far it is.

    Returns:
        None where no modality is common to all sides, or a side is empty.
    """
    names = index.cohort.info.modalities
    held = {query.scan for query in holdout}
    modalities, kept = common_modalities(names, (index.records, [r for r in records[0] if r.scan in held], records[1]))
    fit = [{record.scan for record in side} for side in kept]
    positions = _one_a_patient(index.records, fit[0], drawn, seed)
    unseen, made = ([q for q in side if q.scan in own] for side, own in zip((holdout, generated), fit[1:], strict=True))
    if not modalities or min(len(positions), len(unseen), len(made)) < 2:
        return None
    reader = Reader(index, tuple(names.index(name) for name in modalities), seed)
    labels = tuple(entry for entry in index.cohort.info.labels)
    values = tuple(entry.value for entry in labels)
    of_unseen = read_patients(reader, unseen, values, progress, "points: holdout patients")
    of_drawn = read_patients(
        reader, [q for q in drawn if q.scan in fit[0]], values, progress, "points: training patients"
    )
    people = [index.records[int(position)].patient for position in positions]
    return assembled(
        reader,
        Side(tuple(people), reader.indexed(positions)),
        Side(tuple(query.patient for query in unseen), of_unseen.rows),
        (of_drawn, of_unseen),
        _made(reader, made, values, progress),
        Named(modalities, tuple(entry.name for entry in labels)),
        left_out=len({r.patient for r in index.records})
        - len(people)
        + len(holdout)
        + len(generated)
        - len(unseen)
        - len(made),
    )


@dataclass(frozen=True, slots=True)
class Side:
    """Training or holdout patients, one scan each.

    Attributes:
        patients: (n,) pseudonyms.
        rows: (n, numbers).
    """

    patients: tuple[str, ...]
    rows: Rows


@dataclass(frozen=True, slots=True)
class Named:
    """What was compared: names of the modalities and of the labels."""

    modalities: tuple[str, ...]
    labels: tuple[str, ...]


def assembled(
    reader: Reader,
    train: Side,
    holdout: Side,
    acquired: tuple[Acquired, Acquired],
    made: Iterable[tuple[Rows, Sequence[float]]],
    named: Named,
    left_out: int,
) -> Population:
    """Turn rows into points.

    Args:
        reader: Knows how rows are halved.
        train: All training patients.
        holdout: All holdout patients.
        acquired: Both acquisitions of some training patients, and of all holdout patients.
        made: Row (1, numbers) and label volumes of each generated scan.
        named: What was compared.
        left_out: Scans that lack one of the modalities.
    """
    of_drawn, of_unseen = acquired
    seed = reader.seed
    whole = _basis(_some(train.rows, holdout.rows, seed))
    halves = [
        _basis(np.concatenate([reader.half(of.pick(again=again), front=front) for of in acquired]))
        for front, again in ((True, False), (False, True))
    ]
    points: list[list[FloatMatrix]] = [[], [], []]
    volumes = []
    for row, own in made:
        points[0].append(whole.points(row))
        points[1].append(halves[0].points(reader.half(row, front=True)))
        points[2].append(halves[1].points(reader.half(row, front=False)))
        volumes.append(own)
    full, front, back = (np.concatenate(rows) for rows in points)
    first = Part(
        halves[0].points(reader.half(of_drawn.rows, front=True)),
        halves[0].points(reader.half(of_unseen.rows, front=True)),
        front,
    )
    second = Part(
        halves[1].points(reader.half(of_drawn.again, front=False)),
        halves[1].points(reader.half(of_unseen.again, front=False)),
        back,
    )
    return Population(
        Part(whole.points(train.rows), whole.points(holdout.rows), full),
        train.patients,
        holdout.patients,
        named.modalities,
        left_out,
        views=Views(
            first,
            second,
            Part(whole.points(of_drawn.again), whole.points(of_unseen.again), full),
            Part(of_drawn.volumes, of_unseen.volumes, np.array(volumes, np.float64).reshape(len(full), -1)),
            named.labels,
        ),
    )


def _made(
    reader: Reader, made: Sequence[Query], values: Sequence[int], progress: Progress
) -> Iterator[tuple[Rows, Sequence[float]]]:
    """Read generated scans one at a time."""
    for number, query in enumerate(made):
        scan = query.load()
        yield reader.row(scan)[None], _volumes(scan, values)
        progress.step("points: generated scans", number + 1, len(made))


@dataclass(frozen=True, slots=True)
class Acquired:
    """Rows of some patients' scans and of their second acquisitions, (n, numbers), and their label volumes (n, L)."""

    rows: Rows
    again: Rows
    volumes: FloatMatrix

    def pick(self, *, again: bool) -> Rows:
        """Return the first or the second acquisitions."""
        return self.again if again else self.rows


def read_patients(
    reader: Reader, queries: Sequence[Query], values: Sequence[int], progress: Progress, what: str
) -> Acquired:
    """Read both acquisitions of some patients, and their label volumes."""
    rows, again, volumes = [], [], []
    for number, query in enumerate(queries):
        scan = query.load()
        rows.append(reader.row(scan))
        again.append(reader.again(scan))
        volumes.append(_volumes(scan, values))
        progress.step(what, number + 1, len(queries))
    width = len(reader.channels) * int(np.prod(reader.index.grid.shape))
    shape = (len(queries), width)
    return Acquired(
        np.array(rows, np.float32).reshape(shape),
        np.array(again, np.float32).reshape(shape),
        np.array(volumes, np.float64).reshape(len(queries), len(values)),
    )


def _volumes(scan: Scan, values: Sequence[int]) -> list[float]:
    if not scan.record.labelled:
        return [float("nan")] * len(values)
    counts = np.bincount(scan.label.ravel(), minlength=256)
    return [float(counts[value]) for value in values]


def _one_a_patient(
    records: Sequence[ScanRecord], usable: set[str], drawn: Sequence[Query], seed: int
) -> npt.NDArray[np.intp]:
    """Draw one usable scan of each training patient, the same as in `drawn` where it is in there."""
    rng = stream(seed, "audit", "population", "scans")
    chosen = {query.patient: query.scan for query in drawn if query.scan in usable}
    by_patient: dict[str, list[int]] = {}
    for position, record in enumerate(records):
        if record.scan in usable and chosen.get(record.patient, record.scan) == record.scan:
            by_patient.setdefault(record.patient, []).append(position)
    return np.array([own[int(rng.integers(len(own)))] for own in by_patient.values()], np.intp)


def _some(train: Rows, holdout: Rows, seed: int) -> Rows:
    """Draw the patients that components are fitted on, without asking which side they are on."""
    together = len(train) + len(holdout)
    if together <= FITTED_ON:
        return np.concatenate([train, holdout])
    chosen = stream(seed, "audit", "population", "fit").permutation(together)[:FITTED_ON]
    return np.concatenate([train[chosen[chosen < len(train)]], holdout[chosen[chosen >= len(train)] - len(train)]])


def _basis(rows: Rows) -> _Basis:
    mean = rows.mean(0, dtype=np.float64)
    _, values, axes = np.linalg.svd(rows.astype(np.float64) - mean, full_matrices=False)
    kept = max(1, min(COMPONENTS, int((values > values[0] * 1e-6).sum())))
    return _Basis(mean, axes[:kept].T)
