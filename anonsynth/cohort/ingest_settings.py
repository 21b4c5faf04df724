"""What the user asked of ingest, and a hash that tells whether a folder was begun with the same request."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from anonsynth.cohort.grid_inference import MAX_VOXELS
from anonsynth.cohort.layout_tree import walk_folders
from anonsynth.errors import InputError, UsageError
from anonsynth.files import UNFINISHED, begin_folder, is_untouched, read_json, sha256_file, write_json
from anonsynth.policies.model import Policy

__all__ = ["IngestSettings", "claim_folder", "settings_hash"]

SETTINGS = "settings.json"
OWN = ("survey", "scans", "cohort.json", "scans.tsv", "quarantine.tsv", "duplicates.tsv", SETTINGS, UNFINISHED)
CODE = 2
"""Raised when the same settings would give other voxels, so that an unfinished cohort is not half of each."""


@dataclass(frozen=True, slots=True)
class IngestSettings:
    """What to ingest, and how.

    Attributes:
        sources: Folders or tables.
        out: The cohort's folder.
        labels: Folder of label maps that lie apart from the images.
        patients: Table that maps volumes to patients.
        layout: A name of `LAYOUT_NAMES`; "auto" recognises it.
        shape: Grid in voxels; inferred if None.
        spacing: Voxel size in mm; inferred if None.
        max_voxels: Largest inferred grid.
        holdout: Share of the patients that is never trained on.
        seed: Of pseudonyms and split.
        modality: Name of a single modality that the files do not name.
        group: Column of the site or group over which the holdout is balanced.
        force: Discard the cohort in `out`, finished or not, and begin anew.
    """

    sources: tuple[Path, ...]
    out: Path
    labels: Path | None = None
    patients: Path | None = None
    layout: str = "auto"
    shape: tuple[int, int, int] | None = None
    spacing: tuple[float, float, float] | None = None
    max_voxels: int = MAX_VOXELS
    holdout: float = 0.2
    seed: int = 0
    modality: str | None = None
    group: str | None = None
    force: bool = False


def settings_hash(settings: IngestSettings, policy: Policy) -> str:
    """Return the SHA-256 of the settings, the policy's rules, and the names and sizes of all source files.

    Raises:
        InputError: If a source does not exist.
    """
    asked = asdict(settings) | {"sources": len(settings.sources), "labels": None, "patients": None, "code": CODE}
    for left_out in ("out", "force"):
        del asked[left_out]
    digest = hashlib.sha256(json.dumps([asked, policy.cohort.model_dump(mode="json")], sort_keys=True).encode())
    folders = [*settings.sources, *([settings.labels] if settings.labels else [])]
    for folder in folders:
        for line in _listing(folder):
            digest.update(line.encode("utf-8", "surrogateescape") + b"\n")
    if settings.patients is not None:
        if not settings.patients.is_file():
            raise InputError("the patients table does not exist", remedy="check --patients")
        digest.update(sha256_file(settings.patients).encode())
    return digest.hexdigest()


def claim_folder(settings: IngestSettings, key: str) -> None:
    """Make the cohort's folder ready to be filled or resumed.

    Raises:
        UsageError: If the folder holds something else, or a cohort of other settings and `force` is not set.
    """
    out = settings.out
    if any(out.resolve().is_relative_to(source.resolve()) for source in settings.sources):
        msg = "--out lies within a source; name a folder outside it"
        raise UsageError(msg)
    if out.exists() and not out.is_dir():
        msg = "--out names a file; name a folder"
        raise UsageError(msg)
    theirs = read_json(out / SETTINGS).get("settings_sha256") if (out / SETTINGS).is_file() else None
    if theirs is None and not is_untouched(out):
        msg = "the folder that --out names holds something else; name a new one"
        raise UsageError(msg)
    if theirs not in (None, key) and (out / "scans").exists() and not settings.force:
        msg = "the folder holds a cohort of other settings or sources; choose another --out, or discard it with --force"
        raise UsageError(msg)
    if settings.force or theirs not in (None, key):
        _discard(out)
    begin_folder(out)
    write_json(out / SETTINGS, {"schema": "anonsynth/ingest-settings/1", "settings_sha256": key})


def _discard(out: Path) -> None:
    for name in OWN:
        path = out / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _listing(root: Path) -> Iterator[str]:
    if not root.exists():
        raise InputError("the source does not exist", remedy="check its path", private_path=root)
    if root.is_file():
        yield sha256_file(root)
        return
    for folder, _, files in walk_folders(root):
        for name in files:
            path = folder / name
            size = path.stat().st_size if path.exists() else -1
            yield f"{path.relative_to(root).as_posix()}\t{size}"
