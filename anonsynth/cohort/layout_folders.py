"""One folder per patient, perhaps with a folder per visit, each with one file per modality and a mask."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from anonsynth.cohort.layout_base import Claim, Layout, LayoutOptions, build_scans, label_words
from anonsynth.cohort.layout_names import label_word, modality_of, split_visits
from anonsynth.cohort.layout_tree import Tree
from anonsynth.cohort.lookup import dataset_json, lookup_from_json
from anonsynth.cohort.nifti import stem
from anonsynth.cohort.sources import Refusal, SourceFindings, known_modality

__all__ = ["PATIENT_FOLDERS"]


def _recognises(tree: Tree) -> bool:
    return bool(tree.volumes) and sum(len(tree.parts(path)) > 1 for path in tree.volumes) * 2 > len(tree.volumes)


def _read(tree: Tree, options: LayoutOptions) -> SourceFindings:
    folders: dict[Path, list[Path]] = {}
    refusals = list(tree.refusals)
    for path in tree.volumes:
        if path.parent == tree.root:
            refusals.append(Refusal(path, "the file lies outside every patient's folder", "move it into one"))
        else:
            folders.setdefault(path.parent, []).append(path)
    people = split_visits(tree.parts(folder)[0] for folder in folders)
    claims: list[Claim] = []
    labels: list[Path] = []
    for folder, paths in folders.items():
        top, *below = tree.parts(folder)
        patient, visit = people[top]
        session = "_".join(part for part in (visit, *below) if part)
        for path, word in zip(paths, _distinct(paths, folder.name), strict=True):
            is_label = label_word(word) is not None
            labels += [path] if is_label else []
            claims.append(Claim(patient, session, None if is_label else modality_of(word, options.modality), path))
    scans, doubled = build_scans(claims)
    lookup = lookup_from_json(dataset_json(tree.root))
    return SourceFindings(PATIENT_FOLDERS.words, scans, (*refusals, *doubled), lookup, label_words(labels))


def _distinct(paths: Sequence[Path], folder: str) -> list[str]:
    """Return what tells the files of one folder apart: their names without what they share at the start."""
    names = [stem(path) for path in paths]
    shared = os.path.commonprefix(names) if len(names) > 1 else ""
    while shared and shared[-1] not in "_-. ":
        shared = shared[:-1]
    if len(names) == 1:
        name = names[0].removeprefix(folder).strip("_-. ")
        last = name.replace("-", "_").rpartition("_")[2]
        meant = known_modality(name) or known_modality(last) or label_word(name)
        return [name if meant else ""]
    return [name[len(shared) :] for name in names]


PATIENT_FOLDERS = Layout("patient-folders", "one folder per patient", _recognises, _read)
