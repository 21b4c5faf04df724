"""Who is who: duplicates found among the surveyed scans, and what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from anonsynth.cohort.duplicates import ALIKE_VOXELS, alike_pairs, correlation, groups, thumbnail
from anonsynth.cohort.foreground import body_mask
from anonsynth.cohort.geometry import FloatVolume
from anonsynth.cohort.normalise import normalise
from anonsynth.cohort.sources import SourceScan
from anonsynth.cohort.survey import ScanSurvey, read_image

__all__ = ["Identities", "SameImage", "find_same_images", "settle_identities"]


@dataclass(frozen=True, slots=True)
class SameImage:
    """One image that two scans hold.

    Attributes:
        first: Number of one scan.
        second: Number of the other, larger.
        volumes: The image's place among the volumes of either.
        exact: Whether every voxel is equal.
        similarity: Correlation of the voxels.
    """

    first: int
    second: int
    volumes: tuple[int, int]
    exact: bool
    similarity: float


@dataclass(frozen=True, slots=True)
class Identities:
    """Patients after duplicates were settled.

    Attributes:
        patient: Scan number → key of the person.
        dropped: Scans that another scan holds entirely.
        shared: Scans of identifiers that share an image with another identifier.
        merged: How many identifiers turned out to be somebody else's.
    """

    patient: Mapping[int, str]
    dropped: frozenset[int]
    shared: frozenset[int]
    merged: int


def find_same_images(scans: Sequence[SourceScan], surveys: Sequence[ScanSurvey]) -> tuple[SameImage, ...]:
    """Compare every volume with every other: by hash, by fingerprint, and the few alike ones by their voxels."""
    places = [(scan, volume) for scan, survey in enumerate(surveys) for volume in range(len(survey.volumes))]
    if not places:
        return ()
    vectors = np.stack([surveys[scan].volumes[volume].vector for scan, volume in places])
    hashes = [surveys[scan].volumes[volume].content for scan, volume in places]
    pairs = set(alike_pairs(vectors)) | _equal(hashes)
    found = []
    for i, j in sorted(pairs):
        (first, a), (second, b) = places[i], places[j]
        if first == second:
            continue
        exact = hashes[i] == hashes[j]
        similarity = (
            1.0
            if exact
            else correlation(_small(scans[first], surveys[first], a), _small(scans[second], surveys[second], b))
        )
        if similarity >= ALIKE_VOXELS:
            found.append(SameImage(first, second, (a, b), exact, similarity))
    return tuple(found)


def settle_identities(
    scans: Sequence[SourceScan], surveys: Sequence[ScanSurvey], same: Sequence[SameImage]
) -> Identities:
    """Make one patient of identifiers that share an image, and find the scans that are held twice."""
    keys = sorted({scan.patient for scan in scans})
    across = [(scans[pair.first].patient, scans[pair.second].patient) for pair in same]
    person = groups(keys, across)
    dropped: set[int] = set()
    shared_volumes: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for pair in same:
        shared_volumes.setdefault((pair.first, pair.second), []).append(pair.volumes)
    for (first, second), volumes in sorted(shared_volumes.items()):
        held = (len({a for a, _ in volumes}), len({b for _, b in volumes}))
        whole = (held[0] == len(surveys[first].volumes), held[1] == len(surveys[second].volumes))
        if {first, second} & dropped or not any(whole):
            continue
        if all(whole):
            dropped.add(first if surveys[second].has_label and not surveys[first].has_label else second)
        else:
            dropped.add(first if whole[0] else second)
    twice = {key for a, b in across if a != b for key in (a, b)}
    return Identities(
        patient={number: person[scan.patient] for number, scan in enumerate(scans)},
        dropped=frozenset(dropped),
        shared=frozenset(number for number, scan in enumerate(scans) if scan.patient in twice),
        merged=len(keys) - len(set(person.values())),
    )


def _equal(hashes: Sequence[str]) -> set[tuple[int, int]]:
    first: dict[str, int] = {}
    return {
        (known, number) for number, value in enumerate(hashes) if (known := first.setdefault(value, number)) != number
    }


def _small(scan: SourceScan, survey: ScanSurvey, volume: int) -> FloatVolume:
    modality = survey.volumes[volume].modality
    source = next(source for name, source in scan.modalities if name == modality)
    raw = read_image(source)
    return thumbnail(normalise(raw.array, body_mask(raw.array), source.path), raw.affine)
