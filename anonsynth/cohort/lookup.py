"""What a source says of its label values: `dseg.tsv`, `labels.tsv`, or a Decathlon or nnU-Net `dataset.json`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from anonsynth.cohort.model import LabelEntry, LabelKind
from anonsynth.errors import InputError
from anonsynth.files import read_tsv

__all__ = ["dataset_json", "find_lookup", "label_kind", "lookup_from_json", "lookup_from_tsv", "name_labels"]

TABLES = ("dseg.tsv", "labels.tsv", "label.tsv")

_TUMOUR_PARTS = (
    "tumour",
    "tumor",
    "lesion",
    "oedema",
    "edema",
    "necro",
    "enhanc",
    "glioma",
    "metasta",
    "cancer",
    "wmh",
)
MAX_LABEL = 255


def label_kind(name: str) -> LabelKind:
    """Tell by its name whether a label is anatomy or tumour.

    Example:
        >>> label_kind("peritumoral edema").value, label_kind("white matter").value
        ('tumour', 'anatomy')
    """
    lower = name.lower()
    return LabelKind.TUMOUR if any(part in lower for part in _TUMOUR_PARTS) else LabelKind.ANATOMY


def lookup_from_tsv(path: Path) -> dict[int, LabelEntry]:
    """Read a table with columns index (or value, label) and name; 0 and values above 255 are left out.

    Raises:
        InputError: If the table cannot be read or lacks the columns.
    """
    entries: dict[int, LabelEntry] = {}
    for row in read_tsv(path):
        lower = {(key or "").strip().lower(): (value or "").strip() for key, value in row.items()}
        index = next((lower[key] for key in ("index", "value", "label", "id") if lower.get(key)), "")
        name = next((lower[key] for key in ("name", "label", "structure", "abbreviation") if lower.get(key)), "")
        if not index.removeprefix("-").isdigit() or not name:
            reason = "the label lookup table needs the columns index and name, with whole numbers"
            raise InputError(reason, remedy="correct the table", private_path=path)
        _add(entries, int(index), name)
    return entries


def find_lookup(folder: Path) -> dict[int, LabelEntry]:
    """Return what a folder's `dataset.json`, `dseg.tsv` or `labels.tsv` says; {} if there is none."""
    entries = lookup_from_json(dataset_json(folder))
    for name in TABLES:
        if (folder / name).is_file():
            entries |= lookup_from_tsv(folder / name)
    return entries


def dataset_json(folder: Path) -> Mapping[str, Any]:
    """Return `dataset.json` of a Decathlon or nnU-Net data set, {} if there is none that can be read."""
    try:
        value = json.loads((folder / "dataset.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def lookup_from_json(document: Mapping[str, Any]) -> dict[int, LabelEntry]:
    """Read `labels` of a `dataset.json`: {"1": "anterior"} in the Decathlon, {"anterior": 1} in nnU-Net v2."""
    entries: dict[int, LabelEntry] = {}
    labels = document.get("labels")
    if isinstance(labels, dict) and any(isinstance(value, list) for value in labels.values()):
        return entries  # nnU-Net's regions overlap, so they do not name single values
    for key, value in labels.items() if isinstance(labels, dict) else ():
        if str(key).isdigit():
            _add(entries, int(key), str(value))
        elif isinstance(value, int):
            _add(entries, value, str(key))
    return entries


def name_labels(
    values: Iterable[int], known: Mapping[int, LabelEntry], words: frozenset[str], tumour_words: frozenset[str]
) -> tuple[LabelEntry, ...]:
    """Return an entry for each value that occurs, sorted.

    Args:
        values: Values that occur in the label maps, without 0.
        known: The source's lookup table, by value.
        words: Words in the label files' names.
        tumour_words: The words that speak of a tumour by themselves.
    """
    present = sorted(set(values))
    tumour = bool(words & tumour_words) or (len(present) == 1 and bool(words & {"mask", "seg"}))
    kind = LabelKind.TUMOUR if tumour else LabelKind.ANATOMY
    if kind is LabelKind.TUMOUR and len(present) == 1:
        return (known.get(present[0]) or LabelEntry(value=present[0], name="tumour", kind=kind),)
    return tuple(known.get(value) or LabelEntry(value=value, name=f"label-{value}", kind=kind) for value in present)


def _add(entries: dict[int, LabelEntry], value: int, name: str) -> None:
    if 1 <= value <= MAX_LABEL:
        entries[value] = LabelEntry(value=value, name=name, kind=label_kind(name))
