"""What a source looks like to ingest, whatever its format: scans to read later, and files that cannot be used.

Everything here is private: patient keys, session keys and paths are the source's own and stop at ingest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from anonsynth.cohort.model import LabelEntry

__all__ = [
    "RawVolume",
    "Refusal",
    "SourceFindings",
    "SourceScan",
    "VolumeSource",
    "canonical_modality",
    "known_modality",
    "modality_order",
]

_ALIASES = {
    "T1w": ("t1", "t1w", "mprage", "t1n", "spgr"),
    "T1gd": ("t1gd", "t1ce", "t1c", "t1post", "t1wgd", "t1wce", "ct1"),
    "T2w": ("t2", "t2w"),
    "FLAIR": ("flair", "t2flair", "t2f"),
    "PDw": ("pd", "pdw"),
}
_CANONICAL = {alias: name for name, aliases in _ALIASES.items() for alias in aliases}


def canonical_modality(name: str) -> str:
    """Return anonsynth's name of a modality; an unknown name keeps its letters, digits and hyphens.

    Example:
        >>> canonical_modality("t1_ce"), canonical_modality("FLAIR"), canonical_modality("adc map")
        ('T1gd', 'FLAIR', 'adcmap')
    """
    letters = "".join(character for character in name if character.isalnum())
    return _CANONICAL.get(letters.lower(), letters or "image")


def known_modality(name: str) -> str | None:
    """Return anonsynth's name of a modality that it knows, None otherwise.

    Example:
        >>> known_modality("T1"), known_modality("brain")
        ('T1w', None)
    """
    letters = "".join(character for character in name if character.isalnum())
    return _CANONICAL.get(letters.lower())


def modality_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return modalities in the order of every cohort: the known ones first, the others by name.

    Example:
        >>> modality_order({"FLAIR", "adc", "T1w"})
        ('T1w', 'FLAIR', 'adc')
    """
    known = tuple(_ALIASES)
    return tuple(sorted(names, key=lambda name: (known.index(name) if name in known else len(known), name)))


@dataclass(frozen=True, slots=True)
class RawVolume:
    """A volume as its file has it.

    Attributes:
        array: (X, Y, Z) voxels in any real dtype, the file's scaling applied.
        affine: (4, 4) float64 from voxel indices to RAS+ mm.
    """

    array: npt.NDArray[np.generic]
    affine: npt.NDArray[np.float64]


class VolumeSource(Protocol):
    """A volume that can be read when its turn comes, so memory does not grow with the cohort."""

    @property
    def path(self) -> Path:
        """The file, or the first file of a series; private."""
        ...

    def read(self) -> RawVolume:
        """Read and check the voxels; raise InputError with reason, remedy and private path."""
        ...


@dataclass(frozen=True, slots=True)
class SourceScan:
    """One acquisition session as the source has it.

    Attributes:
        patient: The source's key of the person; private.
        session: The source's key of the session, unique within the patient; private.
        modalities: (canonical modality, volume), in the source's order.
        label: The label map, if there is one.
        group: Site or group, "n/a" if unknown.
    """

    patient: str
    session: str
    modalities: tuple[tuple[str, VolumeSource], ...]
    label: VolumeSource | None = None
    group: str = "n/a"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file that cannot be used: a row of `quarantine.tsv`."""

    path: Path
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class SourceFindings:
    """What a layout reader found.

    Attributes:
        layout: The recognised layout in words, printed to the user.
        scans: Usable so far; volumes are not read yet.
        refusals: What cannot be used.
        labels: What the source says of its label values (from a lookup table), by value.
        label_words: Words in the label files' names, such as "mask" or "tumour", that hint at what a label is.
        notes: Further sentences for the user about how the source was read; no private strings.
    """

    layout: str
    scans: tuple[SourceScan, ...]
    refusals: tuple[Refusal, ...] = ()
    labels: Mapping[int, LabelEntry] = field(default_factory=dict)
    label_words: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
