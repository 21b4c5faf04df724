"""What file names say: modality, label, patient, visit. Shared by every layout that has nothing but names to go by."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from anonsynth.cohort.nifti import stem
from anonsynth.cohort.sources import canonical_modality, known_modality

__all__ = [
    "LABEL_WORDS",
    "TUMOUR_WORDS",
    "Named",
    "group_by_name",
    "is_visit",
    "label_word",
    "modality_of",
    "natural_key",
    "split_visits",
]

TUMOUR_WORDS = frozenset({"tumour", "tumor", "lesion", "lesions", "tumours", "tumors"})
LABEL_WORDS = TUMOUR_WORDS | {
    "mask", "masks", "seg", "segm", "segmentation", "segmentations", "label", "labels", "labelmap", "dseg", "gt",
    "roi", "annotation", "annotations", "tissue", "tissues", "parc", "parcellation", "aseg", "aparc", "truth",
}  # fmt: skip
_SEPARATORS = re.compile(r"[\s_.\-]+")
_VISIT = re.compile(
    r"""[\s_.\-](
        (19|20)\d\d[\-_.]?(0[1-9]|1[0-2])[\-_.]?([0-2]\d|3[01])     # a date
        | (ses|session|visit|timepoint|tp|followup|fu)[\-_.]?\w{1,8}
        | (v|mr|m|y)\d{1,3} | baseline | bl | pre | post
        | left | right | lh | rh | [lr]                               # two crops of one scan
    )$""",
    re.IGNORECASE | re.VERBOSE,
)
_BRATS_VISIT = re.compile(r"(?<=-\d{5})-\d{3}$")
COMMON = 0.5


@dataclass(frozen=True, slots=True)
class Named:
    """A file with what its name says.

    Attributes:
        path: The file.
        key: What is left of the name: patient and visit.
        token: The last word, where it is a modality, a label, or common to most keys; "" otherwise.
    """

    path: Path
    key: str
    token: str


def label_word(name: str) -> str | None:
    """Return the word of a name that says the file is a label map.

    Example:
        >>> label_word("case1_tumor-mask"), label_word("case1_t1")
        ('mask', None)
    """
    words = [word.lower() for word in _SEPARATORS.split(name)]
    return next((word for word in reversed(words) if word in LABEL_WORDS), None)


def modality_of(token: str, default: str | None) -> str:
    """Return the modality that a token names; `default` (or "image") for an empty one."""
    known = known_modality(token)
    if known or not token:
        return known or canonical_modality(default or "image")
    words = [word for word in _SEPARATORS.split(token) if word]
    return next((name for word in reversed(words) if (name := known_modality(word))), canonical_modality(token))


def group_by_name(paths: Iterable[Path]) -> list[Named]:
    """Split every name into key and token.

    A last word counts as a token when it is a known modality or label word, or when it follows at least half of all
    keys (and two of them) and is not a number, as `1000_SS` and `1001_SS` do.
    """
    names = {path: stem(path) for path in paths}
    ends = {path: _last_words(name) for path, name in names.items()}
    keys = {key for key, _ in ends.values()}
    counts = Counter(token.lower() for _, token in ends.values())
    found = []
    for path, (key, token) in ends.items():
        frequent = counts[token.lower()] >= max(2.0, COMMON * len(keys)) and not token.isdigit() and not is_visit(token)
        meant = bool(key) and (known_modality(token) or label_word(token) or frequent)
        found.append(Named(path, key, token) if meant else Named(path, names[path], ""))
    return found


def split_visits(keys: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return (patient, session) for each key: a trailing date, visit or side is the session.

    To count two visits as one person is the safe side. If it would leave a single patient, the word was a prefix of
    numbered names and every key is a patient.

    Example:
        >>> split_visits(["A1_20010203", "A1_20050607", "B2"])["A1_20050607"]
        ('A1', '20050607')
    """
    split = {key: _split_visit(key) for key in keys}
    if len(split) > 1 and len({patient for patient, _ in split.values()}) == 1:
        return {key: (key, "") for key in split}
    return split


def is_visit(word: str) -> bool:
    """Tell whether a word is a date, a visit or a side.

    Example:
        >>> is_visit("ses-02"), is_visit("19960909"), is_visit("flair")
        (True, True, False)
    """
    return _VISIT.fullmatch(f"_{word}") is not None


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """Return a sort key that puts `case2` before `case10`."""
    parts = re.findall(r"\d+|\D+", name)
    return tuple((0, int(part)) if part.isdigit() else (1, part.lower()) for part in parts)


def _split_visit(key: str) -> tuple[str, str]:
    session: list[str] = []
    patient = key
    while match := (_VISIT.search(patient) or _BRATS_VISIT.search(patient)):
        if match.start() == 0:
            break
        session.insert(0, patient[match.start() :].strip(" _.-"))
        patient = patient[: match.start()]
    return patient, "_".join(session)


def _last_words(name: str) -> tuple[str, str]:
    """Split `case_t1_ce` into ("case", "t1_ce") and `case_t1` into ("case", "t1")."""
    places = [match.span() for match in _SEPARATORS.finditer(name)]
    for start, end in reversed(places[-2:]):
        if start and known_modality(name[end:]) and not _longer_modality(name, places, end):
            return name[:start], name[end:]
    if places and places[-1][0] and places[-1][1] < len(name):
        start, end = places[-1]
        return name[:start], name[end:]
    return name, ""


def _longer_modality(name: str, places: list[tuple[int, int]], end: int) -> bool:
    earlier = [stop for _, stop in places if stop < end]
    return bool(earlier) and known_modality(name[earlier[-1] :]) is not None
