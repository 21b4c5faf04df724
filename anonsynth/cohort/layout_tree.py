"""A source folder walked once: its NIfTI files, its tables, and what could not even be listed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from anonsynth.cohort.nifti import is_nifti
from anonsynth.cohort.sources import Refusal

__all__ = ["Tree", "walk"]

FOREIGN = (".mgz", ".mgh", ".nrrd", ".nhdr", ".mha", ".mhd", ".mnc", ".hdr", ".img", ".npy", ".tif", ".tiff")


@dataclass(frozen=True, slots=True)
class Tree:
    """What a folder holds.

    Attributes:
        root: The folder.
        volumes: Every file that is named as NIfTI, sorted.
        others: Every other file, sorted.
        refusals: Folders that cannot be listed, and images of other formats.
    """

    root: Path
    volumes: tuple[Path, ...]
    others: tuple[Path, ...]
    refusals: tuple[Refusal, ...]

    def under(self, folder: str) -> tuple[Path, ...]:
        """Return the volumes below one folder of the root."""
        return tuple(path for path in self.volumes if path.is_relative_to(self.root / folder))

    def parts(self, path: Path) -> tuple[str, ...]:
        """Return a path's parts below the root."""
        return path.relative_to(self.root).parts


def walk(root: Path) -> Tree:
    """List a folder, deep, in a fixed order; hidden files and folders are passed over."""
    volumes: list[Path] = []
    others: list[Path] = []
    refusals: list[Refusal] = []

    def unreadable(error: OSError) -> None:
        remedy = "check its permissions, or leave it out of the source"
        refusals.append(Refusal(Path(error.filename), "the folder cannot be read", remedy))

    for folder, folders, files in os.walk(root, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        here = Path(folder)
        for name in sorted(files + [name for name in folders if is_nifti(Path(name))]):
            path = here / name
            if name.startswith("."):
                continue
            if is_nifti(path):
                volumes.append(path)
            elif name.lower().endswith(FOREIGN):
                refusals.append(Refusal(path, "the format is neither NIfTI nor DICOM", "convert it to .nii.gz"))
            else:
                others.append(path)
    return Tree(root, tuple(sorted(volumes)), tuple(sorted(others)), tuple(refusals))
