"""All files in one folder, told apart by their names."""

from __future__ import annotations

from anonsynth.cohort.layout_base import Claim, Layout, LayoutOptions, build_scans, label_words
from anonsynth.cohort.layout_names import Named, group_by_name, label_word, modality_of, split_visits
from anonsynth.cohort.layout_tree import Tree
from anonsynth.cohort.lookup import find_lookup
from anonsynth.cohort.sources import Refusal, SourceFindings, known_modality

__all__ = ["FLAT"]


def _recognises(tree: Tree) -> bool:
    return any(path.parent == tree.root for path in tree.volumes)


def _read(tree: Tree, options: LayoutOptions) -> SourceFindings:
    here = [path for path in tree.volumes if path.parent == tree.root]
    refusals = [
        Refusal(path, "the file lies in a folder of an otherwise flat source", "move it, or name it in a table")
        for path in tree.volumes
        if path.parent != tree.root
    ]
    named = group_by_name(here)
    people = split_visits(entry.key for entry in named)
    words = {entry.token.lower() for entry in named if not _is_label(entry)}
    claims = []
    for entry in named:
        token = entry.token if len(words) > 1 or known_modality(entry.token) else ""
        modality = None if _is_label(entry) else modality_of(token, options.modality)
        claims.append(Claim(*people[entry.key], modality, entry.path))
    scans, doubled = build_scans(claims)
    words_seen = label_words(entry.path for entry in named if _is_label(entry))
    lookup = find_lookup(tree.root)
    return SourceFindings(FLAT.words, scans, (*tree.refusals, *refusals, *doubled), lookup, words_seen)


def _is_label(entry: Named) -> bool:
    return bool(entry.token) and label_word(entry.token) is not None


FLAT = Layout("flat", "all files in one folder", _recognises, _read)
