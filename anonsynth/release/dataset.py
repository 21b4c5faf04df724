"""What of a substitute cohort may go into a release: the files that `anonsynth generate` writes, and nothing else.

A list of what is allowed, not of what is forbidden: a file that somebody put beside the scans (a spreadsheet, a log, a
thumbnail of a patient) stops the release. Headers hold no text: a NIfTI header has room for names and dates.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path

from anonsynth.cohort.layouts import find_nifti

__all__ = ["fault_of", "generated_digest", "is_allowed", "unaudited"]

TOP = frozenset(
    {
        "README.md",
        "dataset_description.json",
        "participants.json",
        "participants.tsv",
        "code/provenance.json",
        "derivatives/labels/dataset_description.json",
        "derivatives/labels/dseg.tsv",
    }
)
SCAN = re.compile(
    r"(derivatives/labels/)?(?P<who>sub-synth\d{4,5})/(?P<when>ses-style\d{2}/)?anat/"
    r"(?P=who)_(ses-style\d{2}_)?((ce|acq)-[A-Za-z0-9]+_)?(T1w|T2w|FLAIR|PDw|dseg)\.(nii\.gz|json)"
)
SIDECAR = frozenset(
    {
        "SyntheticData",
        "Modality",
        "SourceModality",
        "ContrastBolusIngredient",
        "Manual",
        "Atlas",
        "LabelRecipe",
        "StyleSeed",
        "Edits",
    }
)
HEADER = 348
TEXTS = {"data_type": (4, 14), "db_name": (14, 32), "descrip": (148, 228), "aux_file": (228, 252), "intent": (328, 344)}
"""Fields of a NIfTI-1 header that hold words; offsets in bytes."""


def is_allowed(name: str) -> bool:
    """Tell whether `anonsynth generate` writes a file of that path.

    Example:
        >>> is_allowed("sub-synth0001/anat/sub-synth0001_T1w.nii.gz"), is_allowed("notes.txt")
        (True, False)
    """
    return name in TOP or SCAN.fullmatch(name) is not None


def fault_of(path: Path) -> str | None:
    """Return why a file of a substitute cohort must not leave, one clause without a full stop, or None."""
    if path.name.endswith(".nii.gz"):
        return _nifti_fault(path)
    if path.suffix == ".json":
        try:
            value = json.loads(path.read_text("utf-8"))
        except (ValueError, RecursionError):
            return "it is no JSON"
        if not isinstance(value, dict):
            return "it holds no JSON object"
        unknown = sorted(set(value) - SIDECAR)
        if SCAN.fullmatch(f"{path.parent.parent.name}/anat/{path.name}") and unknown:
            return f"it holds '{unknown[0]}', which anonsynth does not write"
    return None


def generated_digest(root: Path, sha256_of: Callable[[Path], str]) -> str:
    """Return the hash over all generated scans as an audit computes it: `inputs.synthetic.sha256` of audit.json.

    SHA-256 of the lines `NAME SHA-256`, joined by line ends: a line for every file of a scan, images in the layout's
    order and the label map last; NAME is the participant, with the session behind `_` where there are several.

    Args:
        root: The substitute cohort.
        sha256_of: Returns a file's SHA-256.
    """
    lines = (f"{name} {sha256_of(path)}" for name, path in _volumes(root))
    return sha256("\n".join(lines).encode()).hexdigest()


def unaudited(root: Path, names: Iterable[str]) -> tuple[str, ...]:
    """Return those of the NIfTI files that an audit of `root` would not look at."""
    seen = {path.relative_to(root).as_posix() for _, path in _volumes(root)}
    return tuple(name for name in names if name.endswith(".nii.gz") and name not in seen)


def _volumes(root: Path) -> Iterator[tuple[str, Path]]:
    scans = find_nifti(root).scans
    people = Counter(scan.patient for scan in scans)
    for scan in scans:
        name = scan.patient if people[scan.patient] == 1 else f"{scan.patient}_{scan.session}"
        volumes = [source for _, source in scan.modalities] + ([scan.label] if scan.label else [])
        yield from ((name, volume.path) for volume in volumes if volume.path.is_file())


def _nifti_fault(path: Path) -> str | None:
    with path.open("rb") as raw:
        packed = raw.read(10)
    if packed[:3] != b"\x1f\x8b\x08" or packed[3] or any(packed[4:8]):
        return "its gzip header holds a name, a time or a comment"
    try:
        with gzip.open(path) as stream:
            header = stream.read(HEADER + 4)
    except (OSError, EOFError, zlib.error):
        return "it cannot be unpacked"
    if len(header) < HEADER + 4 or header[:4] != HEADER.to_bytes(4, "little"):
        return "it is no NIfTI-1 file as anonsynth writes it"
    held = next((name for name, (low, high) in TEXTS.items() if any(header[low:high])), None)
    if held:
        return f"its header holds words in '{held}'"
    return "its header is followed by an extension" if any(header[HEADER:]) else None
