"""BIDS: raw data with label maps beside them or under `derivatives/`; also what anonsynth itself writes."""

from __future__ import annotations

import re
from pathlib import Path

from anonsynth.cohort.layout_base import Claim, Layout, LayoutOptions, build_scans, label_words
from anonsynth.cohort.layout_table import GROUP, column, read_rows
from anonsynth.cohort.layout_tree import Tree
from anonsynth.cohort.lookup import lookup_from_tsv
from anonsynth.cohort.model import LabelEntry
from anonsynth.cohort.nifti import stem
from anonsynth.cohort.sources import Refusal, SourceFindings, canonical_modality

__all__ = ["BIDS"]

_NAME = re.compile(r"^sub-[A-Za-z0-9+]+(_[a-z]+-[A-Za-z0-9+]+)*_[A-Za-z0-9]+$", re.IGNORECASE)
LABEL_SUFFIXES = ("dseg", "mask")
NOT_ANATOMY = ("func", "dwi", "fmap", "perf", "eeg", "meg", "pet", "beh", "swi")
OTHER_SPACE = ("orig", "individual", "t1w", "t2w", "flair", "anat")


def _recognises(tree: Tree) -> bool:
    named = [path for path in tree.volumes if _NAME.match(stem(path))]
    described = (tree.root / "dataset_description.json").is_file()
    return bool(named) and (described or len(named) * 2 > len(tree.volumes))


def _read(tree: Tree, options: LayoutOptions) -> SourceFindings:
    sites = _groups(tree.root, options.group)
    claims: list[Claim] = []
    refusals = list(tree.refusals)
    labels: dict[tuple[str, str], list[tuple[tuple[int, str], Path]]] = {}
    for path in tree.volumes:
        entities, suffix = _parse(path)
        place = (entities.get("sub", ""), entities.get("ses", ""))
        if suffix in LABEL_SUFFIXES:
            rank = _label_rank(entities, suffix)
            if rank is not None:
                labels.setdefault(place, []).append(((rank, path.name), path))
        elif "derivatives" not in tree.parts(path):
            reason = _unusable(tree, path, entities, suffix)
            if reason:
                refusals.append(reason)
            else:
                modality = _modality(entities, suffix)
                claims.append(Claim(*place, modality, path, sites.get(place[0], "n/a")))
    claims, again = _first_runs(claims)
    chosen = {place: min(found)[1] for place, found in labels.items()}
    imaged = {(claim.patient, claim.session) for claim in claims}
    refusals += [
        Refusal(path, "the session has another label map", "nothing to do, or name the wanted one in a table")
        for place, found in labels.items()
        for _, path in found
        if path != chosen[place] and path.name != chosen[place].name
    ]
    for (patient, session), path in chosen.items():
        if not session and (patient, "") not in imaged:
            sessions = sorted(found for person, found in imaged if person == patient)
            session = sessions[0] if len(sessions) == 1 else session
        claims.append(Claim(patient, session, None, path))
    scans, doubled = build_scans(claims)
    words = label_words(chosen.values()) | {word for path in chosen.values() for word in _label_entity(path)}
    return SourceFindings(BIDS.words, scans, (*refusals, *again, *doubled), _lookup(tree), words)


def _parse(path: Path) -> tuple[dict[str, str], str]:
    *pairs, suffix = stem(path).split("_")
    entities = {}
    for pair in pairs:
        key, _, value = pair.partition("-")
        entities[key.lower()] = value
    return entities, suffix


def _unusable(tree: Tree, path: Path, entities: dict[str, str], suffix: str) -> Refusal | None:
    if not _NAME.match(stem(path)) or not entities.get("sub"):
        return Refusal(path, "the name is not a BIDS name", "rename it, or name it in a table")
    if set(tree.parts(path)) & set(NOT_ANATOMY) or suffix in ("bold", "dwi", "sbref", "epi"):
        return Refusal(path, "it is no anatomical image", "nothing to do; name it in a table if it is wanted")
    if suffix.endswith(("probseg", "seg")) or entities.get("desc") == "preproc":
        return Refusal(path, "it is a derived map", "nothing to do; name it in a table if it is wanted")
    return None


def _modality(entities: dict[str, str], suffix: str) -> str:
    contrast = entities.get("ce", "").lower()
    if contrast and not contrast.startswith(("none", "pre")) and canonical_modality(suffix) == "T1w":
        return "T1gd"
    return canonical_modality(suffix)


def _label_rank(entities: dict[str, str], suffix: str) -> int | None:
    """Return a number that is lowest for the label map to prefer, None for one that is of no use here."""
    space = entities.get("space", "").lower()
    brain = "brain" in (entities.get("desc", "").lower(), entities.get("label", "").lower())
    if (space and space not in OTHER_SPACE) or (brain and suffix == "mask"):
        return None
    return 0 if suffix == "dseg" else 1


def _label_entity(path: Path) -> tuple[str, ...]:
    label = _parse(path)[0].get("label", "").lower()
    return (label,) if label else ()


def _first_runs(claims: list[Claim]) -> tuple[list[Claim], list[Refusal]]:
    """Keep the first run of each modality; a second would claim its place."""
    kept: dict[tuple[str, str, str | None], Claim] = {}
    again = []
    for claim in sorted(claims, key=lambda claim: (len(claim.path.name), claim.path.name)):
        place = (claim.patient, claim.session, claim.modality)
        same_name = place in kept and stem(kept[place].path) == stem(claim.path)
        if place in kept and not same_name:
            remedy = "nothing to do; name it in a table as a session of its own if it is wanted"
            again.append(Refusal(claim.path, "the session has another image of this modality", remedy))
        else:
            kept[(*place[:2], f"{place[2]}\n{claim.path.name}") if same_name else place] = claim
    return sorted(kept.values(), key=lambda claim: claim.path), again


def _groups(root: Path, wanted: str | None) -> dict[str, str]:
    table = root / "participants.tsv"
    if not table.is_file():
        return {}
    rows = read_rows(table)
    name = wanted.lower() if wanted else column(rows, GROUP)
    key = column(rows, ("participant_id",))
    if not name or not key or column(rows, (name,)) is None:
        return {}
    return {row[key].removeprefix("sub-"): row[name] or "n/a" for row in rows}


def _lookup(tree: Tree) -> dict[int, LabelEntry]:
    tables = [path for path in tree.others if path.name.endswith("dseg.tsv")]
    tables.sort(key=lambda path: (len(tree.parts(path)), path))
    entries: dict[int, LabelEntry] = {}
    for path in tables:
        entries |= {value: entry for value, entry in lookup_from_tsv(path).items() if value not in entries}
    return entries


BIDS = Layout("bids", "BIDS", _recognises, _read)
