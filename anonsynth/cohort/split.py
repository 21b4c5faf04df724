"""Pseudonyms and the split, by patient, from the seed alone: the order of files never matters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from anonsynth.cohort.model import Split
from anonsynth.errors import UsageError
from anonsynth.seeds import stream

__all__ = ["check_fraction", "pseudonyms", "split_patients"]


def pseudonyms(patients: Iterable[str], seed: int) -> dict[str, str]:
    """Return `P0001`, `P0002`, ... for the source's patient keys, in an order that only the seed knows.

    Args:
        patients: The source's keys, in any order.
        seed: The cohort's seed.
    """
    keys = sorted(patients)
    order = stream(seed, "pseudonyms").permutation(len(keys))
    return {keys[index]: f"P{number:04d}" for number, index in enumerate(order, start=1)}


def check_fraction(fraction: float) -> None:
    """Raise UsageError if a holdout's share is not between 0 and 1."""
    if not 0 < fraction < 1:
        msg = f"--holdout needs a share above 0 and below 1, got {fraction:g}"
        raise UsageError(msg)


def split_patients(groups: Mapping[str, str], fraction: float, seed: int) -> dict[str, Split]:
    """Draw the holdout by patient, every group giving its share.

    The holdout has round(fraction × patients) patients, at least one, and leaves at least one to train on. Groups
    get the whole part of their share first, then those with the largest remainder one more (Hamilton's method).

    Args:
        groups: Patient key → site or group.
        fraction: Share of the patients, above 0 and below 1.
        seed: The cohort's seed.

    Raises:
        UsageError: If `fraction` is not between 0 and 1.
    """
    check_fraction(fraction)
    rng = stream(seed, "split")
    members: dict[str, list[str]] = {}
    for patient in sorted(groups):
        members.setdefault(groups[patient], []).append(patient)
    total = min(max(1, round(fraction * len(groups))), len(groups) - 1)
    shares = {group: total * len(inside) / len(groups) for group, inside in members.items()}
    counts = {group: int(share) for group, share in shares.items()}
    names = sorted(members)
    luck = dict(zip(names, rng.permutation(len(names)), strict=True))
    by_remainder = sorted(names, key=lambda group: (counts[group] - shares[group], luck[group]))
    for group in by_remainder[: total - sum(counts.values())]:
        counts[group] += 1
    holdout = {
        members[group][index] for group in names for index in rng.permutation(len(members[group]))[: counts[group]]
    }
    return {patient: Split.HOLDOUT if patient in holdout else Split.TRAIN for patient in groups}
