"""What a cohort holds, counted: for the table of `anonsynth inspect`. Private: it describes real patients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from anonsynth.cohort.model import LabelEntry, Split
from anonsynth.cohort.store import Cohort
from anonsynth.files import read_tsv
from anonsynth.progress import Progress

__all__ = ["CohortSummary", "LabelSummary", "inspect_rows", "summarise"]


@dataclass(frozen=True, slots=True)
class LabelSummary:
    """How large a label is.

    Attributes:
        entry: The label.
        scans: Labelled scans that have it.
        volumes: 5th percentile, median and 95th percentile (mL) over those scans.
    """

    entry: LabelEntry
    scans: int
    volumes: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class CohortSummary:
    """A cohort in numbers.

    Attributes:
        patients: Patients on either side of the split.
        scans: Scans on either side of the split.
        missing: Scans that lack each modality.
        labelled: Scans with a label map.
        empty: Label maps without a label.
        labels: One entry per label of the cohort.
        groups: Patients of each site or group on either side of the split; empty if no group is known.
        reasons: How many files were refused for each reason.
    """

    patients: Mapping[Split, int]
    scans: Mapping[Split, int]
    missing: Mapping[str, int]
    labelled: int
    empty: int
    labels: tuple[LabelSummary, ...]
    groups: Mapping[str, Mapping[Split, int]]
    reasons: Mapping[str, int]

    def as_json(self, cohort: Cohort) -> dict[str, Any]:
        """Return the summary and the cohort's own document as JSON."""
        counts = asdict(self)
        counts["labels"] = [
            {**label.entry.model_dump(mode="json"), "scans": label.scans, "volumes_ml": list(label.volumes)}
            for label in self.labels
        ]
        return {"cohort": cohort.info.model_dump(mode="json", by_alias=True), **counts}


def inspect_rows(cohort: Cohort, summary: CohortSummary) -> list[tuple[str, str]]:
    """Return the summary as rows (what, how much) for people."""
    info = cohort.info
    grid = "×".join(map(str, info.grid.shape)) + " voxels of " + "×".join(f"{s:g}" for s in info.grid.spacing) + " mm"
    rows = [("layout", info.layout), ("grid", f"{grid}, {'given' if info.grid_given else 'inferred from the cohort'}")]
    rows += [(split.value, f"{summary.patients[split]} patients, {summary.scans[split]} scans") for split in Split]
    for name, count in summary.missing.items():
        rows.append((name, f"missing in {count} of {info.scans} scans" if count else "in every scan"))
    rows.append(("label maps", f"{summary.labelled} of {info.scans} scans, {summary.empty} of them empty"))
    for label in summary.labels:
        low, middle, high = label.volumes
        kind = f"{label.entry.value}, {label.entry.kind}"
        rows.append(
            (
                f"  {label.entry.name} ({kind})",
                f"in {label.scans} scans, median {middle:.1f} mL ({low:.1f} to {high:.1f})",
            )
        )
    for name, sides in summary.groups.items():
        rows.append((f"group {name}", ", ".join(f"{sides[split]} {split}" for split in Split)))
    rows.append(("quarantined", str(info.quarantined)))
    rows += [(f"  {count} ×", reason) for reason, count in summary.reasons.items()]
    if info.merged_duplicates:
        rows.append(("merged", f"{info.merged_duplicates} identifiers were somebody else's"))
    return rows


def summarise(cohort: Cohort, progress: Progress) -> CohortSummary:
    """Count a cohort; label maps are read one scan at a time."""
    volumes: dict[int, list[float]] = {entry.value: [] for entry in cohort.info.labels}
    labelled = [record for record in cohort.records if record.labelled]
    empty = 0
    for record in progress.track(labelled, total=len(labelled), what="measuring labels"):
        counts = np.bincount(cohort.load(record).label.ravel(), minlength=256)
        empty += not counts[1:].any()
        for value, measured in volumes.items():
            if counts[value]:
                measured.append(float(counts[value]) * cohort.grid.voxel_volume / 1000)
    return CohortSummary(
        patients={split: len(cohort.patients(split)) for split in Split},
        scans={split: len(cohort.of(split)) for split in Split},
        missing={
            name: sum(name not in record.modalities for record in cohort.records) for name in cohort.info.modalities
        },
        labelled=len(labelled),
        empty=empty,
        labels=tuple(
            LabelSummary(entry, len(volumes[entry.value]), _spread(volumes[entry.value]))
            for entry in cohort.info.labels
        ),
        groups=_groups(cohort),
        reasons=_reasons(cohort),
    )


def _spread(values: list[float]) -> tuple[float, float, float]:
    low, middle, high = np.percentile(values or [0.0], [5, 50, 95])
    return (float(low), float(middle), float(high))


def _groups(cohort: Cohort) -> dict[str, dict[Split, int]]:
    sides = {record.patient: (record.group, record.split) for record in cohort.records}
    names = sorted({group for group, _ in sides.values()})
    if names in ([], ["n/a"]):
        return {}
    return {name: {split: list(sides.values()).count((name, split)) for split in Split} for name in names}


def _reasons(cohort: Cohort) -> dict[str, int]:
    table = cohort.folder / "quarantine.tsv"
    counts: dict[str, int] = {}
    for row in read_tsv(table) if table.is_file() else ():
        counts[row["reason"]] = counts.get(row["reason"], 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))
