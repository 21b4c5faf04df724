"""The frames of one series, taken apart into stacks: what differs between volumes is told from what makes one up.

One series may hold several echoes, magnitude and phase, fat and water, derived maps beside what they were derived
from, and many volumes in time. Each combination is a part; a part that visits its places more than once is 4-D.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from anonsynth.cohort.dicom.geometry import SAME_PLACE, along_normal, same_orientation
from anonsynth.cohort.dicom.header import DicomHeader, Frame, SeriesInfo
from anonsynth.cohort.dicom.vocabulary import VARIANTS
from anonsynth.cohort.sources import Refusal

__all__ = ["Series", "Visits", "group_series", "orientations", "parts", "visits", "whole_copies"]


@dataclass(frozen=True, slots=True)
class Series:
    """One series with all its frames, in the order in which its files were found."""

    info: SeriesInfo
    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class Visits:
    """How often a part visits each of its places.

    Attributes:
        volumes: The part as 3-D volumes, if every place is visited equally often; else ().
        places: Number of places.
        most: Visits of the place visited most.
        doubled: Places visited more than once.
    """

    volumes: tuple[tuple[Frame, ...], ...]
    places: int
    most: int
    doubled: int


def group_series(found: Iterable[DicomHeader | Refusal]) -> tuple[list[Series], list[Refusal]]:
    """Collect headers by series, whatever folder or order they come in; pass refusals on."""
    infos: dict[tuple[str, str, int, str], SeriesInfo] = {}
    frames: dict[tuple[str, str, int, str], list[Frame]] = defaultdict(list)
    refusals: list[Refusal] = []
    for header in found:
        if isinstance(header, Refusal):
            refusals.append(header)
            continue
        infos.setdefault(header.info.key, header.info)
        frames[header.info.key].extend(header.frames)
    return [Series(infos[key], tuple(frames[key])) for key in sorted(infos)], refusals


def whole_copies(frames: Sequence[Frame]) -> tuple[tuple[Frame, ...], tuple[Frame, ...]]:
    """Part a series that is there several times as a whole into one copy and the rest.

    A single doubled image is left alone: whoever looks at it has to say which one is right.
    """
    counts = Counter((frame.instance, frame.index) for frame in frames)
    if len(counts) < 2 or len(set(counts.values())) > 1 or 1 in counts.values():
        return tuple(frames), ()
    seen: set[tuple[str, int]] = set()
    kept: list[Frame] = []
    copies: list[Frame] = []
    for frame in frames:
        key = (frame.instance, frame.index)
        (copies if key in seen else kept).append(frame)
        seen.add(key)
    return tuple(kept), tuple(copies)


def parts(frames: Iterable[Frame]) -> list[tuple[Frame, ...]]:
    """Part frames by orientation, size, component, echo and variant; in the order of the first frame of each."""
    groups: dict[tuple[object, ...], list[Frame]] = defaultdict(list)
    heads: list[Frame] = []
    for frame in frames:
        facing = next((n for n, head in enumerate(heads) if same_orientation(head, frame)), len(heads))
        if facing == len(heads):
            heads.append(frame)
        spacing = None if frame.spacing is None else tuple(round(value, 3) for value in frame.spacing)
        variant = VARIANTS.intersection(name.replace(" ", "_") for name in frame.kind[2:])
        echo = round(frame.echo, 2)
        mosaic = frame.instance if frame.mosaic else ""
        size = (frame.rows, frame.columns, frame.samples)
        groups[(facing, size, spacing, frame.component, echo, variant, mosaic)].append(frame)
    return [tuple(group) for group in groups.values()]


def orientations(frames: Iterable[Frame]) -> list[int]:
    """Return how many frames have each orientation, in the order in which the orientations are met."""
    heads: list[Frame] = []
    counts: list[int] = []
    for frame in frames:
        facing = next((n for n, head in enumerate(heads) if same_orientation(head, frame)), len(heads))
        if facing == len(heads):
            heads.append(frame)
            counts.append(0)
        counts[facing] += 1
    return counts


def visits(part: Sequence[Frame]) -> Visits:
    """Find the places of parallel frames and how often each is visited.

    Raises:
        InputError: If a frame does not say where it is.
    """
    places = list(_places(part))
    counts = [len(place) for place in places]
    doubled = sum(count > 1 for count in counts)
    volumes: tuple[tuple[Frame, ...], ...] = ()
    if len(set(counts)) == 1:
        volumes = tuple(zip(*(sorted(place, key=_turn) for place in places), strict=True))
    return Visits(volumes, len(places), max(counts), doubled)


def _places(part: Sequence[Frame]) -> Iterator[list[Frame]]:
    offsets = along_normal(part)
    place: list[Frame] = []
    last = 0.0
    for index in np.argsort(offsets, kind="stable"):
        if place and offsets[index] - last > SAME_PLACE:
            yield place
            place = []
        place.append(part[index])
        last = float(offsets[index])
    yield place


def _turn(frame: Frame) -> tuple[object, ...]:
    """Return what puts the visits of one place in the order of acquisition."""
    return (frame.moment, frame.number, frame.index, frame.path)
