"""What the audit's search costs: time a pair and memory as the training scans grow, beside brute force.

    python benchmarks/audit_cost.py [--sizes 100 1000] [--generated 1000] [--queries 40] [--processes 1] [--axis 48]

Cohorts of simulated scans (a body of its own shape and a smooth random texture each, with a label map) are written to
a temporary folder, one at a time. For each number of training scans a child process of its own builds the index and
looks generated scans up in it (`compare`), so that its peak memory is its own. Brute force is scikit-learn's
`NearestNeighbors` (Euclidean, exact) on the raw voxels, in another child.

With fewer `--queries` than `--generated` the time of `compare` is extrapolated in proportion, and the table says so:
it goes through the queries in blocks of 16, all alike. `--processes 2` looks half of the queries up in each of two
processes, as an audit on two cores could; memory is then the sum of both.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from sklearn.neighbors import NearestNeighbors

from anonsynth.audits.index import build_index
from anonsynth.audits.nearest import cohort_queries, compare
from anonsynth.audits.views import ViewGrid
from anonsynth.cohort.geometry import FloatVolume, Grid, LabelVolume
from anonsynth.cohort.model import CohortInfo, GridInfo, LabelEntry, ScanRecord, Split
from anonsynth.cohort.store import Cohort, open_cohort, save_cohort_tables, save_scan
from anonsynth.progress import Progress
from anonsynth.seeds import stream

NEIGHBOURS = 6
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Cost:
    """What one child measured.

    Attributes:
        prepare: Seconds to build the index, or to read the training scans.
        search: Seconds to look the queries up.
        cpu: Processor seconds of the search; more than `search` means threads, less means a busy machine.
        queries: How many they were.
        memory: Peak resident memory of the process, MiB.
        idle: The same before any scan was read: what the libraries take.
    """

    prepare: float
    search: float
    cpu: float
    queries: int
    memory: float
    idle: float


@dataclass(frozen=True, slots=True)
class Row:
    """One size and method, all generated scans counted."""

    method: str
    training: int
    prepare: float
    search: float
    cpu: float
    memory: float

    @property
    def total(self) -> float:
        """Seconds for everything."""
        return self.prepare + self.search


def main() -> int:
    """Measure all sizes and print the table, or be one of the children."""
    options = _options()
    if options.child:
        print(json.dumps(asdict(_child(options))))
        return 0
    sizes = sorted(options.sizes)
    queries = min(options.queries or options.generated, options.generated)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        cohort = _write_cohort(Path(scratch) / "cohort", sizes[-1], queries, options.axis)
        for size in sizes:
            rows.append(_measure("audit", cohort, size, queries, options))
            _print(rows[-1], options.generated)
            rows.append(_measure("brute", cohort, size, queries, options))
            _print(rows[-1], options.generated)
    if queries < options.generated:
        print(f"search times are those of {queries} queries times {options.generated / queries:g}")
    _growth(rows)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000], help="numbers of training scans")
    parser.add_argument("--generated", type=int, default=1000, help="generated scans that the table is for")
    parser.add_argument("--queries", type=int, default=40, help="how many of them are looked up; 0 for all")
    parser.add_argument("--processes", type=int, default=1, help="processes that share the queries")
    parser.add_argument("--axis", type=int, default=48, help="voxels along each axis")
    parser.add_argument("--scratch", type=Path, help="where the temporary folder goes")
    parser.add_argument("--child", choices=("audit", "brute"), help=argparse.SUPPRESS)
    parser.add_argument("--cohort", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--part", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def _measure(method: str, cohort: Path, size: int, queries: int, options: argparse.Namespace) -> Row:
    """Run the children of one size; what they take together is the slowest's time and everybody's memory."""
    processes = options.processes if method == "audit" else 1
    command = [sys.executable, __file__, "--child", method, "--cohort", str(cohort), "--sizes", str(size)]
    command += ["--queries", str(queries), "--processes", str(processes)]
    running = [
        subprocess.Popen([*command, "--part", str(part)], stdout=subprocess.PIPE, text=True)
        for part in range(processes)
    ]
    costs = []
    for process in running:
        output, _ = process.communicate()
        if process.returncode:
            raise SystemExit(process.returncode)
        costs.append(Cost(**json.loads(output.splitlines()[-1])))
    for cost in costs:
        print(f"  {method}, {size}: {cost.memory:.0f} MiB, of which {cost.idle:.0f} before the first scan", flush=True)
    slowest = max(cost.search for cost in costs)
    return Row(
        "audit" if method == "audit" else "brute force",
        size,
        max(cost.prepare for cost in costs),
        slowest * options.generated / queries,
        sum(cost.cpu for cost in costs) * options.generated / queries,
        sum(cost.memory for cost in costs),
    )


def _child(options: argparse.Namespace) -> Cost:
    cohort = open_cohort(options.cohort)
    training = cohort.of(Split.TRAIN)[: options.sizes[0]]
    generated = cohort.of(Split.HOLDOUT)[: options.queries][options.part :: options.processes]
    idle = _peak()
    search = _audit if options.child == "audit" else _brute
    prepare, seconds, cpu = search(cohort, training, generated)
    return Cost(prepare, seconds, cpu, len(generated), _peak(), idle)


def _audit(
    cohort: Cohort, training: tuple[ScanRecord, ...], generated: tuple[ScanRecord, ...]
) -> tuple[float, float, float]:
    grid = ViewGrid(cohort.grid.shape, cohort.grid.spacing, tuple(entry.value for entry in cohort.info.labels))
    quiet = Progress(quiet=True)
    with tempfile.TemporaryDirectory(dir=cohort.folder) as folder:
        start = time.perf_counter()
        index = build_index(cohort, training, grid, Path(folder), quiet)
        built, cpu = time.perf_counter(), time.process_time()
        compare(cohort_queries(cohort, generated), index, quiet, "")
        return built - start, time.perf_counter() - built, time.process_time() - cpu


def _brute(
    cohort: Cohort, training: tuple[ScanRecord, ...], generated: tuple[ScanRecord, ...]
) -> tuple[float, float, float]:
    start = time.perf_counter()
    search = NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute").fit(_raw(cohort, training))
    built, cpu = time.perf_counter(), time.process_time()
    search.kneighbors(_raw(cohort, generated))
    return built - start, time.perf_counter() - built, time.process_time() - cpu


def _raw(cohort: Cohort, records: tuple[ScanRecord, ...]) -> npt.NDArray[np.float32]:
    """Return all voxels of all scans, (N, voxels): brute force has to hold them."""
    voxels = np.empty((len(records), int(np.prod(cohort.grid.shape))), np.float32)
    for row, record in zip(voxels, records, strict=True):
        row[:] = cohort.load(record).image[0].ravel()
    return voxels


def _peak() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (MIB if sys.platform == "darwin" else 1024)


def _print(row: Row, generated: int) -> None:
    pair = 1e3 * row.total / (row.training * generated)
    print(
        f"{row.method}\t{row.training} training\t{generated} generated\tprepare {row.prepare:.1f} s\t"
        f"search {row.search:.1f} s (processor {row.cpu:.1f} s)\t"
        f"total {row.total:.1f} s\t{pair:.3f} ms a pair\t{row.memory:.0f} MiB",
        flush=True,
    )


def _growth(rows: list[Row]) -> None:
    for method in dict.fromkeys(row.method for row in rows):
        own = [row for row in rows if row.method == method]
        for small, large in pairwise(own):
            print(
                f"{method}: {large.training / small.training:g} times the training scans take "
                f"{large.total / small.total:.2f} times the time and {large.memory / small.memory:.2f} times the memory"
            )


def _write_cohort(folder: Path, training: int, generated: int, axis: int) -> Path:
    """Write simulated scans, one at a time: `train` is what is looked in, `holdout` what is looked up."""
    shape = (axis, axis, axis)
    grid = Grid(shape, (1.0, 1.0, 1.0)).centred()
    records = []
    for number, (image, label) in enumerate(_scans(training + generated, shape)):
        name = f"P{number + 1:05d}"
        save_scan(folder / "scans" / name, grid, [("T1w", image)], label)
        split = Split.TRAIN if number < training else Split.HOLDOUT
        record = ScanRecord(
            scan=name,
            patient=name,
            split=split,
            modalities=("T1w",),
            labelled=True,
            fov_low=(0, 0, 0),
            fov_high=shape,
            sha256="0" * 64,
        )
        records.append(record)
    info = CohortInfo(
        anonsynth="0",
        layout="simulated for a benchmark",
        policy="internal",
        seed=0,
        holdout_fraction=generated / (training + generated),
        modalities=("T1w",),
        labels=(LabelEntry(value=1, name="body"), LabelEntry(value=2, name="core")),
        grid=GridInfo(shape=shape, spacing=(1.0, 1.0, 1.0)),
        grid_given=True,
        interpolation="linear",
        patients=len(records),
        scans=len(records),
        quarantined=0,
        merged_duplicates=0,
        settings_sha256="0" * 64,
    )
    save_cohort_tables(folder, info, records)
    return folder


def _scans(count: int, shape: tuple[int, int, int]) -> Iterator[tuple[FloatVolume, LabelVolume]]:
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    for number in range(count):
        rng = stream(0, "benchmark", "cost", number)
        wobble = _field(rng, shape, 6)
        radius = sum((a / size) ** 2 for a, size in zip(axes, rng.uniform(0.65, 0.85, 3), strict=True)) + 0.1 * wobble
        body, core = radius < 1, radius < rng.uniform(0.1, 0.3)
        texture = 0.08 * _field(rng, shape, 3) + 0.04 * _field(rng, shape, 1.5)
        image = np.clip((0.5 + texture + 0.15 * core) * body, 0, 1)
        yield image.astype(np.float32), body.astype(np.uint8) + core


def _field(rng: np.random.Generator, shape: tuple[int, int, int], width: float) -> npt.NDArray[np.float64]:
    field = ndimage.gaussian_filter(rng.normal(size=shape), width, mode="wrap")
    return np.asarray(field / field.std(), np.float64)


if __name__ == "__main__":
    sys.exit(main())
