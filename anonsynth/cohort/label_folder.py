"""`--labels DIR`: label maps in NIfTI that lie apart from their images, matched by name; for DICOM the only way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from anonsynth.cohort.layout_base import label_words
from anonsynth.cohort.layout_names import label_word
from anonsynth.cohort.layout_tree import walk
from anonsynth.cohort.lookup import find_lookup
from anonsynth.cohort.nifti import NiftiVolume, stem
from anonsynth.cohort.sources import Refusal, SourceFindings, SourceScan
from anonsynth.errors import InputError

__all__ = ["attach_labels"]


def attach_labels(findings: SourceFindings, folder: Path) -> SourceFindings:
    """Give scans without a label map the one whose name is that of an image, the session or the patient.

    A name that fits two scans fits neither, and its label map is refused.

    Raises:
        InputError: If the folder of label maps does not exist.
    """
    if not folder.is_dir():
        raise InputError("the folder of label maps does not exist", remedy="check --labels", private_path=folder)
    tree = walk(folder)
    owners: dict[str, set[int]] = {}
    for index, scan in enumerate(findings.scans):
        for name in _names(scan):
            owners.setdefault(_plain(name), set()).add(index)
    scans = list(findings.scans)
    refusals = [*findings.refusals, *tree.refusals]
    for path in tree.volumes:
        found = next((hits for name in _candidates(path) if len(hits := owners.get(name, set())) == 1), set())
        if not found:
            remedy = "name it like its image, its session or its patient"
            refusals.append(Refusal(path, "the label map fits no image, or several", remedy))
            continue
        (index,) = found
        if scans[index].label is not None:
            refusals.append(Refusal(path, "the scan has a label map already", "keep one of them"))
        else:
            scans[index] = replace(scans[index], label=NiftiVolume(path))
    lookup = dict(findings.labels) | (find_lookup(folder) or find_lookup(folder.parent))
    words = findings.label_words | label_words(tree.volumes)
    return replace(findings, scans=tuple(scans), refusals=tuple(refusals), labels=lookup, label_words=words)


def _names(scan: SourceScan) -> set[str]:
    names = {scan.patient, scan.session, f"{scan.patient}_{scan.session}"}
    for _, volume in scan.modalities:
        names |= {stem(volume.path), volume.path.parent.name}
    return names - {""}


def _candidates(path: Path) -> list[str]:
    """Return the names under which a label map may be known, the fullest first."""
    name = stem(path)
    names = [name]
    while "_" in name:
        name, _, last = name.rpartition("_")
        if label_word(last) is None:
            break
        names.append(name)
    if label_word(stem(path)) == stem(path).lower() or path.parent.name not in names:
        names.append(path.parent.name)
    return [_plain(entry) for entry in names]


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())
