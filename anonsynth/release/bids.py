"""A substitute cohort as a BIDS dataset (BIDS 1.10): scans as raw data, label maps as a derivative beside them.

    SYNTHETIC/dataset_description.json, README.md, participants.tsv, participants.json
    SYNTHETIC/sub-synth0001/anat/sub-synth0001_T1w.nii.gz + .json
    SYNTHETIC/derivatives/labels/dataset_description.json, dseg.tsv
    SYNTHETIC/derivatives/labels/sub-synth0001/anat/sub-synth0001_dseg.nii.gz + .json

Zone: shareable in form; it leaves only through the release gate.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from anonsynth._version import __version__
from anonsynth.cohort.geometry import FloatVolume, Grid, LabelVolume
from anonsynth.cohort.model import LabelEntry
from anonsynth.files import write_bytes, write_json, write_text, write_tsv

__all__ = ["BIDS_VERSION", "LABELS_FOLDER", "BidsWriter", "ParticipantRow"]

BIDS_VERSION = "1.10.0"
LABELS_FOLDER = Path("derivatives") / "labels"
_KNOWN = {"T1w": "T1w", "T2w": "T2w", "FLAIR": "FLAIR", "PDw": "PDw", "T1gd": "ce-gadolinium_T1w"}
IMAGE_SCALE = 4095
"""Intensities in [0, 1] are written as 12-bit integers with a slope, as scanners do; it halves the size."""


@dataclass(frozen=True, slots=True)
class ParticipantRow:
    """A row of `participants.tsv`.

    Attributes:
        participant: `sub-synth0001`.
        scans: Number of scans.
        prior: Label prior its label map was drawn from.
    """

    participant: str
    scans: int
    prior: str


@dataclass(frozen=True)
class BidsWriter:
    """Writes a substitute cohort scan by scan.

    Attributes:
        folder: The dataset.
        grid: Grid of all scans.
        modalities: Names of the image channels.
        labels: The label values.
    """

    folder: Path
    grid: Grid
    modalities: tuple[str, ...]
    labels: tuple[LabelEntry, ...]

    def image_path(self, participant: str, session: str | None, modality: str) -> Path:
        """Return where an image of a participant goes."""
        stem = "_".join(part for part in (participant, session, _suffix(modality)) if part)
        return self._anat(self.folder, participant, session) / f"{stem}.nii.gz"

    def label_path(self, participant: str, session: str | None) -> Path:
        """Return where a label map of a participant goes."""
        stem = "_".join(part for part in (participant, session, "dseg") if part)
        return self._anat(self.folder / LABELS_FOLDER, participant, session) / f"{stem}.nii.gz"

    def write_scan(
        self,
        participant: str,
        session: str | None,
        image: FloatVolume,
        label: LabelVolume,
        sidecar: dict[str, object],
    ) -> None:
        """Write one scan's images (C, X, Y, Z) in [0, 1] and label map (X, Y, Z), the label map last.

        A scan whose label map is there is complete.
        """
        for name, channel in zip(self.modalities, image, strict=True):
            path = self.image_path(participant, session, name)
            extra: dict[str, object] = {"SyntheticData": True, "Modality": "MR", "SourceModality": name}
            if name == "T1gd":
                extra["ContrastBolusIngredient"] = "GADOLINIUM"
            write_json(_sidecar(path), extra | sidecar)
            write_bytes(path, self._image_bytes(channel))
        path = self.label_path(participant, session)
        write_json(_sidecar(path), {"SyntheticData": True, "Manual": False, "Atlas": "none"} | sidecar)
        write_bytes(path, _packed(nib.Nifti1Image(label, self.grid.affine)))

    def write_tables(self, rows: Sequence[ParticipantRow], description: str) -> None:
        """Write everything that describes the dataset as a whole."""
        generated = [{"Name": "anonsynth", "Version": __version__, "Description": description}]
        common = {"BIDSVersion": BIDS_VERSION, "License": "see the release", "GeneratedBy": generated}
        write_json(
            self.folder / "dataset_description.json",
            {"Name": "Substitute cohort", "DatasetType": "raw", "Authors": ["anonsynth (generated)"]} | common,
        )
        derived = self.folder / LABELS_FOLDER
        write_json(
            derived / "dataset_description.json",
            {"Name": "Label maps of the substitute cohort", "DatasetType": "derivative"} | common,
        )
        write_text(self.folder / "README.md", _readme(len(rows), self.modalities))
        write_tsv(
            self.folder / "participants.tsv",
            ("participant_id", "synthetic", "scans", "label_prior"),
            [
                {"participant_id": row.participant, "synthetic": "true", "scans": row.scans, "label_prior": row.prior}
                for row in rows
            ],
        )
        write_json(self.folder / "participants.json", _PARTICIPANTS)
        lookup = [{"index": 0, "name": "background", "kind": "background"}]
        lookup += [{"index": entry.value, "name": entry.name, "kind": entry.kind.value} for entry in self.labels]
        write_tsv(derived / "dseg.tsv", ("index", "name", "kind"), lookup)

    def _anat(self, root: Path, participant: str, session: str | None) -> Path:
        folder = root / participant / session if session else root / participant
        return folder / "anat"

    def _image_bytes(self, channel: FloatVolume) -> bytes:
        stored = np.rint(np.clip(channel, 0, 1) * IMAGE_SCALE).astype(np.uint16)
        nifti = nib.Nifti1Image(stored, self.grid.affine)
        # A slope that is set is written as it is; nibabel does not divide the stored integers by it.
        nifti.header.set_slope_inter(1 / IMAGE_SCALE, 0)
        return _packed(nifti)


def _packed(nifti: nib.Nifti1Image) -> bytes:
    nifti.header.set_xyzt_units("mm", "sec")
    # No file name and no time in the gzip header: the same scan has the same bytes.
    return gzip.compress(nifti.to_bytes(), compresslevel=6, mtime=0)


_PARTICIPANTS = {
    "synthetic": {"Description": "Whether the participant is generated", "Levels": {"true": "does not exist"}},
    "scans": {"Description": "Number of generated scans; several scans share one label map and differ in style"},
    "label_prior": {
        "Description": "What the label map was drawn from",
        "Levels": {
            "atlas": "public atlas; no patient's label map was read",
            "shape": "shape model of the training patients' label maps; no guarantee",
        },
    },
}


def _suffix(modality: str) -> str:
    """Return BIDS' name of a modality; one that BIDS does not know is written as T1w with its name as acquisition."""
    return _KNOWN.get(modality) or f"acq-{re.sub('[^A-Za-z0-9]', '', modality) or 'image'}_T1w"


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".nii.gz") + ".json")


def _readme(count: int, modalities: Sequence[str]) -> str:
    return f"""# Substitute cohort

{count} participants that do not exist, with {", ".join(modalities)}, generated by anonsynth {__version__}.

Every image comes with the label map it was generated for, in `derivatives/labels`; `dseg.tsv` there names the values.
Intensities are relative, from 0 to 1. Scans of one participant (sessions) share a label map: split by participant.

Generated images are not evidence about any person and not for diagnosis.
"""
