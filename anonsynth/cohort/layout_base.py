"""What every layout of NIfTI files has in common: its options, and scans built out of named files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from anonsynth.cohort.layout_names import label_word
from anonsynth.cohort.layout_tree import Tree
from anonsynth.cohort.nifti import NiftiVolume
from anonsynth.cohort.sources import Refusal, SourceFindings, SourceScan

__all__ = ["Claim", "Layout", "LayoutOptions", "build_scans", "label_words"]


@dataclass(frozen=True, slots=True)
class LayoutOptions:
    """What the user said about the source.

    Attributes:
        modality: Name of a single modality that the files do not name.
        group: Column of the source's own table that holds the site or group.
    """

    modality: str | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """One way to keep NIfTI files.

    Attributes:
        name: What `--layout` calls it.
        words: What it is, for people.
        recognises: Tells whether a folder is kept this way.
        read: Finds the scans; nothing is read but names and tables.
    """

    name: str
    words: str
    recognises: Callable[[Tree], bool]
    read: Callable[[Tree, LayoutOptions], SourceFindings]


@dataclass(frozen=True, slots=True)
class Claim:
    """A file that claims a place in a scan.

    Attributes:
        patient: The source's key of the person.
        session: The source's key of the session.
        modality: Canonical modality, or None for a label map.
        path: The file.
        group: Site or group.
    """

    patient: str
    session: str
    modality: str | None
    path: Path
    group: str = "n/a"


def build_scans(claims: Iterable[Claim]) -> tuple[tuple[SourceScan, ...], tuple[Refusal, ...]]:
    """Put claims together as scans.

    Two files that claim one place are both refused, for nobody knows which is meant; a label map without an image is
    refused too.
    """
    places: dict[tuple[str, str], dict[str | None, list[Claim]]] = {}
    for claim in claims:
        places.setdefault((claim.patient, claim.session), {}).setdefault(claim.modality, []).append(claim)
    scans: list[SourceScan] = []
    refusals: list[Refusal] = []
    for (patient, session), slots in sorted(places.items()):
        slots[None] = _without_brain_masks(slots.get(None, []))
        single = {modality: found[0] for modality, found in slots.items() if len(found) == 1}
        for modality, found in slots.items():
            refusals += [_doubled(claim, modality) for claim in found if len(found) > 1]
        label = single.pop(None, None)
        images = tuple((claim.modality or "", NiftiVolume(claim.path)) for claim in single.values())
        if images:
            group = next((claim.group for claim in single.values() if claim.group != "n/a"), "n/a")
            volume = NiftiVolume(label.path) if label else None
            scans.append(SourceScan(patient, session, images, volume, group))
        elif label:
            remedy = "add the image under the same name, or remove the label map"
            refusals.append(Refusal(label.path, "the label map has no image", remedy))
    return tuple(scans), tuple(refusals)


def label_words(paths: Iterable[Path]) -> frozenset[str]:
    """Return the label words that occur in the names of label files."""
    return frozenset(word for path in paths if (word := label_word(path.name.split(".")[0])))


def _without_brain_masks(labels: list[Claim]) -> list[Claim]:
    """Leave a brain mask out where another label map is there, which says more."""
    others = [claim for claim in labels if "brain" not in claim.path.name.lower()]
    return others if others and len(labels) > 1 else labels


def _doubled(claim: Claim, modality: str | None) -> Refusal:
    what = "label map" if modality is None else "image of one modality"
    return Refusal(claim.path, f"more than one {what} claims this place in a scan", "keep one, or name both in a table")
