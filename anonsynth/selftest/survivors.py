"""Sends the seeded cohort through a policy and counts what survived, by a search that shares no code with the sweep."""

from __future__ import annotations

import base64
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pydicom

from anonsynth.cohort.dicom.quiet import quiet_pydicom
from anonsynth.deidentify import Deidentification, DeidentifySettings, deidentify
from anonsynth.policies.model import Policy
from anonsynth.progress import Progress
from anonsynth.selftest.seeded import TECHNICAL, Seeded, write_seeded

__all__ = ["Outcome", "judge", "selftest_deidentify"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a seeded cohort.

    Attributes:
        planted: Secrets by category.
        survived: Secrets that are still somewhere in the output, by category.
        uids: Source UIDs that are still there.
        written: Files that came out, of `files`.
        files: Files that went in.
        technical: Share of technical attributes that came out with their value.
        pixels_changed: Images whose pixel bytes differ.
        references: References between files that resolve, of `references_planted`.
        references_planted: References that were planted between files that may pass.
        missing: Images that may pass and did not come out.
    """

    planted: dict[str, int]
    survived: dict[str, int]
    uids: int
    written: int
    files: int
    technical: float
    pixels_changed: int
    references: int
    references_planted: int
    missing: int

    @property
    def clean(self) -> bool:
        """Whether nothing survived and nothing broke."""
        whole = self.references == self.references_planted and not self.missing and not self.pixels_changed
        return not self.survived and not self.uids and whole and self.technical >= 0.99

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"schema": "anonsynth/selftest-deidentify/1", "clean": self.clean, **asdict(self)}


def selftest_deidentify(
    folder: Path, policy: Policy, *, seed: int = 0, progress: Progress | None = None
) -> tuple[Outcome, Deidentification]:
    """Write a seeded cohort into `folder`, de-identify it there and judge the result.

    Raises:
        VerdictError: If the sweep of `deidentify` finds something itself.
    """
    seeded = write_seeded(folder / "seeded", seed=seed)
    done = deidentify(DeidentifySettings(folder / "seeded", folder / "out"), policy, progress)
    return judge(seeded, folder / "out"), done


def judge(seeded: Seeded, out: Path) -> Outcome:
    """Search an output of any tool for the secrets of a seeded cohort, and see what it broke."""
    paths = sorted(path for path in out.rglob("*") if path.is_file())
    everything = b"\0".join(str(path.relative_to(out)).encode() + b"\0" + path.read_bytes() for path in paths).lower()
    survived = Counter(kind for word, kind in seeded.secrets.items() if _there(word, everything))
    found: dict[int, pydicom.Dataset] = {}
    with quiet_pydicom():
        for path in paths:
            try:
                image = pydicom.dcmread(path)
            except pydicom.errors.InvalidDicomError:
                continue
            found[int(image.get("InstanceNumber") or 0)] = image
        kept = [
            _kept(image, seeded.overwritten.get(number, set()))
            for number, image in found.items()
            if number in seeded.pixels
        ]
        changed = sum(found[n].get("PixelData") != data for n, data in seeded.pixels.items() if n in found)
        resolved = sum(_refers(found.get(one), found.get(other)) for one, other in seeded.references)
    return Outcome(
        planted=seeded.counts,
        survived=dict(survived),
        uids=sum(uid.encode() in everything for uid in seeded.uids),
        written=len(found),
        files=seeded.files,
        technical=sum(kept) / max(1, len(kept)),
        pixels_changed=changed,
        references=resolved,
        references_planted=len(seeded.references),
        missing=len(seeded.pixels.keys() - found.keys()),
    )


def _there(word: str, everything: bytes) -> bool:
    low = word.lower()
    forms = [
        low.encode(),
        low.encode("utf-16-le"),
        low.encode("utf-16-be"),
        base64.b64encode(word.encode())[:-4].lower(),
    ]
    return any(form in everything for form in forms if len(form) > 3)


def _kept(image: pydicom.Dataset, overwritten: set[str]) -> float:
    """Return the share of technical attributes with their value; fields that a secret was planted into do not count."""
    values = [(image.get(name), value) for name, value in TECHNICAL.items() if name not in overwritten]
    return sum(_text(found) == _text(value) for found, value in values) / len(values)


def _text(value: object) -> str:
    return "\\".join(map(str, value)) if isinstance(value, list | pydicom.multival.MultiValue) else str(value)


def _refers(one: pydicom.Dataset | None, other: pydicom.Dataset | None) -> bool:
    if one is None or other is None or "ReferencedImageSequence" not in one:
        return False
    return any(item.ReferencedSOPInstanceUID == other.SOPInstanceUID for item in one.ReferencedImageSequence)
