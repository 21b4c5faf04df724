"""A folder of files: each in its own try, what cannot be handled on a list with its reason, the rest goes on.

What was done stands in a journal beside the vault, under keyed names, so that a killed run goes on where it was.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from anonsynth.cohort.dicom.discovery import list_files
from anonsynth.cohort.sources import Refusal
from anonsynth.deid.keyed import Keyed
from anonsynth.deid.one_file import Deidentified, deidentify_bytes
from anonsynth.deid.vault import Vault
from anonsynth.errors import InputError
from anonsynth.files import write_tsv
from anonsynth.policies.model import Policy
from anonsynth.progress import Progress

__all__ = ["FolderResult", "deidentify_folder"]

_LARGEST = 4 << 30
_DONE = "done"
_REMEDY = "give this user the right to read it"


@dataclass
class FolderResult:
    """What became of a folder.

    Attributes:
        written: Files that were written, in this run or before.
        resumed: Of these, the ones written before.
        duplicates: Files that another file's copy stands for.
        quarantined: Path, reason and remedy of what was not written; private.
        removed: Elements removed in this run.
        changed: Elements replaced in this run.
        patients: Pseudonyms.
    """

    written: int = 0
    resumed: int = 0
    duplicates: int = 0
    quarantined: list[tuple[Path, str, str]] = field(default_factory=list)
    removed: int = 0
    changed: int = 0
    patients: set[str] = field(default_factory=set)

    @property
    def reasons(self) -> dict[str, int]:
        """How often each reason occurs."""
        return dict(Counter(reason for _, reason, _ in self.quarantined).most_common())


def deidentify_folder(
    source: Path, out: Path, private: Path, policy: Policy, vault: Vault, progress: Progress | None = None
) -> FolderResult:
    """De-identify every file below `source` into `out`.

    Args:
        source: Folder or file; private.
        out: Folder for what may leave.
        private: Folder for the journal and the list of what was not written.
        policy: Whose options hold.
        vault: Key, and where identities are noted.
        progress: Where to show how far it is.
    """
    keyed = Keyed(vault.key)
    result = FolderResult()
    journal = _Journal(private / "journal.tsv")
    found = list(list_files([source]))
    files = progress.track(found, total=len(found), what="de-identify") if progress is not None else found
    with journal:
        for entry in files:
            if isinstance(entry, Refusal):
                result.quarantined.append((entry.path, entry.reason, entry.remedy))
                continue
            try:
                _one(entry, source, out, policy, keyed, vault, journal, result)
            except InputError as error:
                result.quarantined.append((entry, error.reason, error.remedy))
            except OSError:
                result.quarantined.append((entry, "the file cannot be read", _REMEDY))
    rows = [{"file": str(path), "reason": reason, "remedy": remedy} for path, reason, remedy in result.quarantined]
    write_tsv(private / "quarantine.tsv", ("file", "reason", "remedy"), rows)
    return result


def _one(
    path: Path,
    source: Path,
    out: Path,
    policy: Policy,
    keyed: Keyed,
    vault: Vault,
    journal: _Journal,
    result: FolderResult,
) -> None:
    state = path.stat()
    if state.st_size > _LARGEST:
        raise InputError("it is larger than 4 GiB", remedy="divide it, as a concatenation")
    name = os.fsencode(path.relative_to(source)) if path != source else b"."
    token = keyed.digest("journal", name + f"\0{state.st_size}\0{state.st_mtime_ns}".encode()).hex()[:32]
    done = journal.done.get(token)
    if done is not None and (out / done).is_file():
        result.patients.add(done.partition("/")[0])
        result.written += 1
        result.resumed += 1
        return
    made = deidentify_bytes(path.read_bytes(), policy, keyed)
    vault.patients.setdefault(made.pseudonym, made.identity)
    target = out / made.path
    if made.path in journal.paths and target.exists():
        if target.read_bytes() != made.data:
            raise InputError(
                "another file has the same SOP instance UID and other contents", remedy="keep one of the two"
            )
        result.duplicates += 1
        return
    _write(target, made)
    journal.add(token, made.path)
    result.written += 1
    result.removed += made.removed
    result.changed += made.changed
    result.patients.add(made.pseudonym)


def _write(target: Path, made: Deidentified) -> None:
    """Write beside the place and rename into it; the folder's mark says until the end that the disk may not have it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".", suffix=".partial", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(made.data)
        os.chmod(name, 0o644)  # noqa: PTH101
        os.replace(name, target)  # noqa: PTH105
    except BaseException:
        os.unlink(name)  # noqa: PTH108
        raise


class _Journal:
    """Which sources are done: a line each, a keyed name and the place of the result."""

    def __init__(self, path: Path) -> None:
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        pairs = (line.split("\t") for line in lines)
        self.done = {pair[0]: pair[1] for pair in pairs if len(pair) == 3 and pair[2] == _DONE}
        self.paths = set(self.done.values())
        self._path = path

    def __enter__(self) -> Self:
        self._stream = self._path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def add(self, token: str, path: str) -> None:
        """Note that a source is done."""
        self._stream.write(f"{token}\t{path}\t{_DONE}\n")
        self._stream.flush()
        self.paths.add(path)
