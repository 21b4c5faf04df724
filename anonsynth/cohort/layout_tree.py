"""A source folder walked once: its NIfTI files, its tables, and what could not even be listed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from anonsynth.cohort.nifti import is_nifti
from anonsynth.cohort.sources import Refusal

__all__ = ["Tree", "walk", "walk_folders"]

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

    for here, folders, files in walk_folders(root, unreadable):
        for name in sorted(files + [name for name in folders if is_nifti(Path(name))]):
            path = here / name
            if is_nifti(path):
                volumes.append(path)
            elif name.lower().endswith(FOREIGN):
                refusals.append(Refusal(path, "the format is neither NIfTI nor DICOM", "convert it to .nii.gz"))
            else:
                others.append(path)
    return Tree(root, tuple(sorted(volumes)), tuple(sorted(others)), tuple(refusals))


def walk_folders(
    root: Path, unreadable: Callable[[OSError], None] | None = None
) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yield (folder, its folders, its files) in a fixed order, hidden ones left out.

    Links to folders are followed, as data are often laid out with them, but no folder is entered twice.
    """
    entered: set[str] = set()
    for folder, folders, files in os.walk(root, onerror=unreadable, followlinks=True):
        real = os.path.realpath(folder)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Path(folder), folders, sorted(name for name in files if not name.startswith("."))
