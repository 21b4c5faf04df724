"""The layouts of NIfTI files that ingest knows. A new one is a file with a `Layout` and a line in `LAYOUTS`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from anonsynth.cohort.label_folder import attach_labels
from anonsynth.cohort.layout_base import Layout, LayoutOptions
from anonsynth.cohort.layout_bids import BIDS
from anonsynth.cohort.layout_flat import FLAT
from anonsynth.cohort.layout_folders import PATIENT_FOLDERS
from anonsynth.cohort.layout_images import IMAGES_LABELS
from anonsynth.cohort.layout_table import TABLE_WORDS, read_table
from anonsynth.cohort.layout_tree import Tree, walk
from anonsynth.cohort.patients_table import apply_patients, read_patients
from anonsynth.cohort.sources import SourceFindings
from anonsynth.errors import InputError, UsageError

__all__ = ["LAYOUTS", "LAYOUT_NAMES", "find_nifti", "holds_nifti"]

LAYOUTS: tuple[Layout, ...] = (IMAGES_LABELS, BIDS, PATIENT_FOLDERS, FLAT)
"""In the order in which they are tried."""
TABLE_SUFFIXES = (".csv", ".tsv", ".txt")
LAYOUT_NAMES = ("auto", "table", "dicom", *(layout.name for layout in LAYOUTS))


def holds_nifti(root: Path) -> bool:
    """Tell whether a source is a table or a folder with NIfTI files."""
    return root.suffix.lower() in TABLE_SUFFIXES if root.is_file() else bool(walk(root).volumes)


def find_nifti(
    root: Path,
    *,
    labels: Path | None = None,
    patients: Path | None = None,
    layout: str = "auto",
    options: LayoutOptions | None = None,
) -> SourceFindings:
    """Find the scans of a source of NIfTI files; only names and tables are read.

    Args:
        root: A folder, or a CSV or TSV table.
        labels: A folder of label maps that lie elsewhere.
        patients: A table that maps volumes to patients; by default the source's own `patients.tsv` if it has one.
        layout: A layout's name, or "auto" to recognise it.
        options: What else the user said.

    Raises:
        InputError: If the source does not exist, or no known layout fits.
        UsageError: If there is no layout of that name.
    """
    options = options or LayoutOptions()
    if not root.exists():
        raise InputError("the source does not exist", remedy="check its path", private_path=root)
    if root.is_file():
        findings, tree = read_table(root, options), None
    else:
        tree = walk(root)
        chosen = _choose(tree, layout)
        findings = chosen.read(tree, options)
    if labels is not None:
        findings = attach_labels(findings, labels)
    own = patients or _own_patients(tree)
    if own is not None:
        findings = apply_patients(findings, read_patients(own, options.group))
        findings = replace(
            findings, notes=(*findings.notes, f"patients as in {'--patients' if patients else own.name}")
        )
    return findings


def _choose(tree: Tree, layout: str) -> Layout:
    if layout != "auto":
        return _named(layout)
    found = next((known for known in LAYOUTS if known.recognises(tree)), None)
    if found is None:
        known = ", ".join(f"{entry.name} ({entry.words})" for entry in LAYOUTS)
        reason = "no NIfTI file was found" if not tree.volumes else "the layout of the source is not recognised"
        remedy = f"known are {known}, table ({TABLE_WORDS}) and dicom; force one with --layout"
        raise InputError(reason, remedy=remedy, private_path=tree.root)
    return found


def _named(layout: str) -> Layout:
    for known in LAYOUTS:
        if known.name == layout:
            return known
    msg = f"there is no layout '{layout}' for this source; known are: {', '.join(LAYOUT_NAMES)}"
    raise UsageError(msg)


def _own_patients(tree: Tree | None) -> Path | None:
    if tree is None:
        return None
    candidates: Sequence[Path] = [tree.root / "patients.tsv", tree.root / "patients.csv"]
    return next((path for path in candidates if path.is_file()), None)
