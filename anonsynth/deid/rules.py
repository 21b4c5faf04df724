"""The allow-list: which attributes may leave, in which kinds of files, as what values, and why. All others are removed.

The table is `data/attributes.tsv`, which an officer can read. `data/e1_1.tsv` is Table E.1-1 of DICOM PS3.15 in
short; a
test holds the one against the other, and a rule's description names the table's action and the option that allows more.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from pydicom.datadict import dictionary_VM, dictionary_VR, tag_for_keyword

from anonsynth.errors import InternalError

__all__ = ["CLASSES", "Rule", "RuleDescription", "describe", "profile_row", "profile_tags", "rules_for", "table"]

CLASSES = {
    "1.2.840.10008.5.1.4.1.1.4": "m",
    "1.2.840.10008.5.1.4.1.1.4.1": "e",
    "1.2.840.10008.5.1.4.1.1.4.4": "e",
    "1.2.840.10008.5.1.4.1.1.66.4": "s",
    "1.2.840.10008.5.1.4.1.1.7": "c",
}
"""SOP classes that have an allow-list: MR, enhanced MR and legacy converted, segmentation, secondary capture."""
CLASS_NAMES = {"m": "MR", "e": "enhanced MR", "s": "segmentation", "c": "secondary capture"}


@dataclass(frozen=True, slots=True)
class Rule:
    """One attribute that may leave.

    Attributes:
        tag: Group and element as one number.
        keyword: DICOM keyword.
        classes: Letters of `CLASSES`.
        root: Whether it may stand outside sequences only.
        kind: What its values have to be: number, terms, words, uid, date and so on (`values.py`, `apply.py`).
        argument: The kind's argument: a range, a list of terms.
        otherwise: What becomes of a value that is not so: `drop`, `empty`, `fail` (the file is quarantined) or a
            constant.
        option: Option of the policy without which the value is treated as wrong; "" if none.
        why: What it is kept for.
        vrs: Value representations that the standard allows.
        most: Largest number of values.
    """

    tag: int
    keyword: str
    classes: str
    root: bool
    kind: str
    argument: str
    otherwise: str
    option: str
    why: str
    vrs: tuple[str, ...]
    most: int


@dataclass(frozen=True, slots=True)
class RuleDescription:
    """A rule in words, for the report and for whoever checks it."""

    id: str
    attribute: str
    files: str
    action: str
    otherwise: str
    reason: str
    source: str


@cache
def table() -> tuple[Rule, ...]:
    """Return every rule of the table, in its order."""
    return tuple(_rule(row) for row in _rows("attributes.tsv"))


@cache
def rules_for(letter: str) -> dict[int, Rule]:
    """Return the rules of one kind of file by tag."""
    return {rule.tag: rule for rule in table() if letter in rule.classes}


@cache
def profile_row(tag: int) -> tuple[str, str] | None:
    """Return the action of the basic profile and the options that Table E.1-1 has for a tag; None if it has none."""
    return _profile().get(tag)


def describe(rule: Rule) -> RuleDescription:
    """Put a rule into words.

    Example:
        >>> describe(rules_for("m")[0x00100020]).action
        'pseudonym'
    """
    row = profile_row(rule.tag)
    source = "not in PS3.15 Table E.1-1; verified by value" if row is None else f"PS3.15 Table E.1-1: {row[0]}"
    if row is not None and row[1] != "-":
        source += f" ({row[1]})"
    names = ", ".join(CLASS_NAMES[letter] for letter in rule.classes)
    return RuleDescription(
        id=f"{rule.tag >> 16:04X}{rule.tag & 0xFFFF:04X}",
        attribute=rule.keyword,
        files=names + (" (not in sequences)" if rule.root else ""),
        action=f"{rule.kind} {rule.argument}".strip() + (f", if the policy keeps {rule.option}" if rule.option else ""),
        otherwise={"fail": "quarantine the file", "drop": "remove"}.get(rule.otherwise, rule.otherwise),
        reason=rule.why,
        source=source,
    )


@cache
def _profile() -> dict[int, tuple[str, str]]:
    rows = (row for row in _rows("e1_1.tsv") if "X" not in row["tag"].upper())
    return {int(row["tag"], 16): (row["basic"], row["options"]) for row in rows}


def _rows(name: str) -> Iterator[dict[str, str]]:
    text = (files("anonsynth.deid") / "data" / name).read_text("utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)


def _rule(row: dict[str, str]) -> Rule:
    tag = tag_for_keyword(row["keyword"])
    if tag is None:
        msg = f"the allow-list names an unknown attribute, {row['keyword']}; reinstall anonsynth"
        raise InternalError(msg)
    kind, _, argument = row["value"].partition(" ")
    last = dictionary_VM(tag).rpartition("-")[2]
    return Rule(
        tag=tag,
        keyword=row["keyword"],
        classes=row["classes"].rstrip("^"),
        root=row["classes"].endswith("^"),
        kind=kind,
        argument=argument,
        otherwise=row["otherwise"],
        option="" if row["option"] == "-" else row["option"],
        why=row["why"],
        vrs=tuple(dictionary_VR(tag).split(" or ")),
        most=int(last) if last.isdigit() else 4096,
    )


def profile_tags() -> tuple[int, ...]:
    """Return the tags of Table E.1-1, without its repeating groups."""
    return tuple(_profile())
