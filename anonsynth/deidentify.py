"""`anonsynth deidentify`: a folder of DICOM in, a folder that may leave out, swept for whatever was removed.

source ─▶ rules ─▶ OUT ─▶ sweep ─▶ OUT/deidentification.json
└▶ PRIVATE: vault, quarantine.tsv, journal
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from anonsynth._version import __version__
from anonsynth.audits.harvest import Secrets
from anonsynth.audits.leak_sweep import Sweep, SweepResult
from anonsynth.cohort.dicom.discovery import list_files
from anonsynth.deid.folder import FolderResult, deidentify_folder
from anonsynth.deid.rules import describe, table
from anonsynth.deid.safe_private import SAFE_PRIVATE
from anonsynth.deid.statement import profile_codes
from anonsynth.deid.vault import Vault, open_vault, save_vault, secret_from
from anonsynth.errors import InputError, UsageError, VerdictError
from anonsynth.files import (
    begin_folder,
    finish_folder,
    is_finished,
    is_untouched,
    read_json,
    sha256_listing,
    write_json,
)
from anonsynth.policies.model import Policy
from anonsynth.progress import Progress

__all__ = ["NOT_COVERED", "REPORT", "Deidentification", "DeidentifySettings", "deidentify"]

REPORT = "deidentification.json"
NOT_COVERED = (
    "Faces: a whole head can be recognised from the pixels, which are not changed.",
    "Text in pixels is not looked for; files whose header hints at it are quarantined.",
    "A scan can be matched with another scan of the same person.",
    "Values shorter than four characters, and words of the public list, are not swept for.",
)
_VAULT = "vault"
_KEY = "key"


@dataclass(frozen=True, slots=True)
class DeidentifySettings:
    """What to de-identify.

    Attributes:
        source: Folder of DICOM; private.
        out: Folder for what may leave.
        private: Folder for vault, quarantine and journal; None for `OUT-private` beside it.
        key_file: File whose bytes open the vault; None for the passphrase of the environment.
    """

    source: Path
    out: Path
    private: Path | None = None
    key_file: Path | None = None

    @property
    def beside(self) -> Path:
        """The private folder."""
        return self.private or self.out.with_name(self.out.name + "-private")


@dataclass(frozen=True, slots=True)
class Deidentification:
    """What was done.

    Attributes:
        document: What `deidentification.json` holds.
        private: Where the private files are.
        vault: Whether a vault was written.
        resumed: Whether everything had been done before.
    """

    document: dict[str, Any]
    private: Path
    vault: bool
    resumed: bool


def deidentify(settings: DeidentifySettings, policy: Policy, progress: Progress | None = None) -> Deidentification:
    """De-identify a folder and sweep the result.

    Raises:
        UsageError: If folders lie in each other, or the output was made with other settings.
        InputError: If nothing can be read.
        VerdictError: If the sweep found something; the output keeps its mark of being unfinished.
    """
    _check_folders(settings)
    secret = secret_from(settings.key_file)
    out, private = settings.out, settings.beside
    inputs = {"source": sha256_listing(settings.source), "policy": _digest(policy)}
    if (
        is_finished(out, REPORT)
        and (private / "inputs.json").is_file()
        and read_json(private / "inputs.json") == inputs
    ):
        return Deidentification(read_json(out / REPORT), private, (private / _VAULT).exists(), resumed=True)
    _check_resumable(out, private, inputs)
    private.mkdir(parents=True, exist_ok=True, mode=0o700)
    vault = _vault(private, secret)
    if secret is not None:
        save_vault(private / _VAULT, vault, secret)
    write_json(private / "inputs.json", inputs)
    begin_folder(out)
    try:
        result = deidentify_folder(settings.source, out, private, policy, vault, progress)
    finally:
        if secret is not None:
            save_vault(private / _VAULT, vault, secret)
    if not result.written:
        raise InputError("no file could be de-identified", remedy=f"see {private.name}/quarantine.tsv for the reasons")
    secrets = _harvest(settings.source, progress)
    sweep = Sweep(secrets)
    swept = sweep.folder(out)
    document = _document(policy, result, swept)
    # The report's own sentences share words with many a header; what they hold without any result is no leak.
    own = set(sweep.file(_bytes(_document(policy, FolderResult(), SweepResult({}, 0, 0, 0, ()))), REPORT))
    hits = (*swept.hits, *(hit for hit in sweep.file(_bytes(document), REPORT) if hit not in own))
    if hits:
        write_json(private / "hits.json", [asdict(hit) for hit in hits])
        msg = f"{len(hits)} values that were to be removed are still in the output, which must not leave; see hits.json"
        raise VerdictError(msg)
    write_json(out / REPORT, document)
    finish_folder(out)
    (private / _KEY).unlink(missing_ok=True)
    return Deidentification(document, private, secret is not None, resumed=False)


def _check_folders(settings: DeidentifySettings) -> None:
    source, out, private = (path.resolve() for path in (settings.source, settings.out, settings.beside))
    if not source.exists():
        raise InputError("the source does not exist", remedy="name a folder of DICOM files")
    for one, other in ((source, out), (out, source), (out, private), (private, out), (source, private)):
        if one == other or one in other.parents:
            msg = "source, output and private folder must not lie in each other; name three separate folders"
            raise UsageError(msg)
    if settings.key_file is not None and out in settings.key_file.resolve().parents:
        msg = "the key file lies in the output folder; keep it where nothing leaves"
        raise UsageError(msg)


def _check_resumable(out: Path, private: Path, inputs: dict[str, str]) -> None:
    """Refuse a folder that somebody else filled, or that other settings made."""
    if is_untouched(out):
        return
    before = read_json(private / "inputs.json") if (private / "inputs.json").is_file() else {}
    if before.get("policy") != inputs["policy"]:
        msg = "the output folder was made by other settings or another tool; name an empty one"
        raise UsageError(msg)
    if not (private / _VAULT).is_file() and not (private / _KEY).is_file():
        msg = "the key of this output is gone, so that new files would get other pseudonyms; name an empty folder"
        raise UsageError(msg)


def _vault(private: Path, secret: bytes | None) -> Vault:
    """Return the vault; without a secret the key lies in the private folder until the run is over."""
    if secret is not None:
        return open_vault(private / _VAULT, secret)
    path = private / _KEY
    if path.is_file():
        return Vault(bytes.fromhex(path.read_text("ascii")))
    vault = Vault()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as stream:
        stream.write(vault.key.hex())
    return vault


def _harvest(source: Path, progress: Progress | None) -> Secrets:
    secrets = Secrets()
    paths = [path for path in list_files([source]) if isinstance(path, Path)]
    for path in progress.track(paths, total=len(paths), what="what to look for") if progress is not None else paths:
        try:
            name = path.relative_to(source).as_posix() if path != source else path.name
            secrets.add_file(path.read_bytes(), name)
        except OSError:
            continue  # it is quarantined as unreadable
    return secrets


def _document(policy: Policy, result: FolderResult, swept: SweepResult) -> dict[str, Any]:
    rules = [asdict(describe(rule)) for rule in table()]
    private = [
        {
            "creator": creator,
            "element": f"{low:02X}",
            "attribute": safe.name,
            "action": f"number {safe.low} {safe.high}",
        }
        for creator, elements in SAFE_PRIVATE.items()
        for low, safe in elements.items()
    ]
    return {
        "schema": "anonsynth/deidentification/1",
        "software": f"anonsynth {__version__}",
        "policy": policy.model_dump(mode="json", include={"id", "version", "deidentification"}),
        "options": [{"code": code, "meaning": meaning} for code, meaning in profile_codes(policy.deidentification)],
        "files": {
            "written": result.written,
            "duplicates": result.duplicates,
            "quarantined": len(result.quarantined),
            "reasons": result.reasons,
        },
        "patients": len(result.patients),
        "sweep": {
            "searched": swept.searched,
            "too_short": swept.too_short,
            "files": swept.files,
            "bytes": swept.bytes,
            "hits": len(swept.hits),
        },
        "not_covered": list(NOT_COVERED),
        "rules": rules,
        "safe_private": private if policy.deidentification.safe_private else [],
    }


def _bytes(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode("utf-8")


def _digest(policy: Policy) -> str:
    return hashlib.sha256(policy.model_dump_json(include={"id", "version", "deidentification"}).encode()).hexdigest()
