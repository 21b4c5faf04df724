"""One folder per patient, perhaps with a folder per visit, each with one file per modality and a mask."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from anonsynth.cohort.layout_base import Claim, Layout, LayoutOptions, build_scans, label_words
from anonsynth.cohort.layout_names import LABEL_WORDS, is_visit, label_word, modality_of, split_visits
from anonsynth.cohort.layout_tree import Tree
from anonsynth.cohort.lookup import find_lookup
from anonsynth.cohort.nifti import stem
from anonsynth.cohort.sources import Refusal, SourceFindings, known_modality

__all__ = ["PATIENT_FOLDERS"]

GENERIC = frozenset({"anat", "nifti", "nii", "mri", "mr", "images", "image", "scan", "scans", "data", "volumes"})
SITE_CHILDREN = 3
"""A top folder with more differently named folders than this on average is a site, not a patient with visits."""


def _recognises(tree: Tree) -> bool:
    return bool(tree.volumes) and sum(len(tree.parts(path)) > 1 for path in tree.volumes) * 2 > len(tree.volumes)


def _read(tree: Tree, options: LayoutOptions) -> SourceFindings:
    folders: dict[tuple[str, ...], list[Path]] = {}
    refusals = list(tree.refusals)
    for path in tree.volumes:
        if path.parent == tree.root:
            refusals.append(Refusal(path, "the file lies outside every patient's folder", "move it into one"))
        else:
            folders.setdefault(tree.parts(path.parent), []).append(path)
    level, sites = _patient_level(folders)
    people = split_visits(parts[level] for parts in folders)
    claims: list[Claim] = []
    labels: list[Path] = []
    for parts, paths in folders.items():
        patient, visit = people[parts[level]]
        session = "_".join(part for part in (visit, *parts[level + 1 :]) if part and not _says_what(part))
        inherited = next((part for part in reversed(parts[level + 1 :]) if _says_what(part) == "meaning"), "")
        group = parts[level - 1] if sites else "n/a"
        for path, own in zip(paths, _distinct(paths, parts[-1]), strict=True):
            word = inherited if inherited and not _meant(own) else own
            is_label = label_word(word) is not None
            labels += [path] if is_label else []
            modality = None if is_label else modality_of(word, options.modality)
            claims.append(Claim(patient, session, modality, path, group))
    scans, doubled = build_scans(claims)
    notes = ("top folders taken as sites",) if sites else ()
    words = label_words(labels) | {part.lower() for parts in folders for part in parts} & LABEL_WORDS
    lookup = find_lookup(tree.root)
    return SourceFindings(PATIENT_FOLDERS.words, scans, (*refusals, *doubled), lookup, words, notes)


def _patient_level(folders: Iterable[tuple[str, ...]]) -> tuple[int, bool]:
    """Return how deep the patients' folders lie, and whether the folders above them are sites.

    Folders are visits, and the ones above them patients, where they are few, are named alike everywhere, or are named
    as visits or modalities are.
    """
    paths = list(folders)
    level = 0
    while all(len(parts) > level + 1 for parts in paths) and len({parts[level] for parts in paths}) == 1 < len(paths):
        level += 1
    if not all(len(parts) > level + 1 for parts in paths):
        return level, False
    children = {parts[: level + 2] for parts in paths}
    tops, names = {parts[level] for parts in paths}, [parts[-1] for parts in children]
    telling = any(_says_what(name) or is_visit(name) for name in names)
    sites = not telling and len(set(names)) == len(names) > SITE_CHILDREN * len(tops)
    return (level + 1, True) if sites else (level, False)


def _says_what(part: str) -> str:
    """Tell a folder that only says what its files are ("meaning", or "nothing") from one that names a visit ("")."""
    if known_modality(part) or part.lower() in LABEL_WORDS:
        return "meaning"
    return "nothing" if part.lower() in GENERIC else ""


def _meant(name: str) -> bool:
    last = name.replace("-", "_").rpartition("_")[2]
    return bool(known_modality(name) or known_modality(last) or label_word(name))


def _distinct(paths: Sequence[Path], folder: str) -> list[str]:
    """Return what tells the files of one folder apart: their names without what they share at the start."""
    names = [stem(path) for path in paths]
    if len(names) == 1:
        name = names[0].removeprefix(folder).strip("_-. ")
        return [name if _meant(name) else ""]
    same = [len(set(letters)) == 1 for letters in zip(*names, strict=False)]
    shared = names[0][: (*same, False).index(False)]
    start = max(shared.rfind(separator) for separator in "_-. ") + 1
    return [name[start:] for name in names]


PATIENT_FOLDERS = Layout("patient-folders", "one folder per patient", _recognises, _read)
