"""`anonsynth verify`: is this release what was signed, and does its verdict follow from what it publishes?

It needs the release and a public key that came another way; no patient, no model, no network. Everything in the folder
is taken for hostile: no link is followed, no path is believed, every document is checked against its schema before a
value of it is used. Each fault names its file. Reading: `verify` collects faults; nothing stops at the first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import BaseModel, ValidationError

from anonsynth.errors import AnonsynthError
from anonsynth.files import sha256_file
from anonsynth.policies.model import Policy
from anonsynth.release.dataset import fault_of, generated_digest, is_allowed, unaudited
from anonsynth.release.dsse import open_envelope
from anonsynth.release.facts import ModelFacts
from anonsynth.release.gate import Evidence, judge, verdict_of
from anonsynth.release.keys import fingerprint
from anonsynth.release.public_audit import PublicAudit
from anonsynth.release.statement import (
    AUDIT_FILE,
    CARD_FILE,
    DATASET,
    ENVELOPE,
    MANIFEST,
    POLICY_FILE,
    SBOM_FILE,
    Predicate,
    Statement,
    audit_folder,
    is_expected,
)
from anonsynth.release.tree import list_files, read_manifest

__all__ = ["RERUN", "Fault", "Verified", "verify"]

RERUN = (
    "no question of the audit was repeated: each compares generated scans with patients, who are not here; the "
    "verdicts were computed again from the published numbers"
)
_Document = TypeVar("_Document", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is not as it was signed; `file` is a path in the release, printable."""

    file: str
    what: str

    @property
    def sentence(self) -> str:
        """The fault in one sentence, without a full stop."""
        return f"{self.file}: {self.what}"


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found.

    Attributes:
        faults: Everything that is wrong; empty for an authentic release.
        files: Files that were looked at.
        key: Fingerprint of the public key.
        predicate: What was signed; None where it cannot be read. Not to be believed where there are faults.
    """

    faults: tuple[Fault, ...]
    files: int
    key: str
    predicate: Predicate | None

    @property
    def authentic(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong and the gate was open without an override."""
        said = self.predicate
        return self.authentic and said is not None and said.verdict == "pass" and said.override is None


@dataclass(slots=True)
class _Look:
    """The state of one look at a release."""

    root: Path
    hashes: dict[str, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def fault(self, file: str, what: str) -> None:
        fault = Fault(_shown(file), what)
        if fault not in self.faults:
            self.faults.append(fault)


def verify(root: Path, key: Ed25519PublicKey) -> Verified:
    """Check a release.

    Args:
        root: Its folder.
        key: The public key of whoever should have signed it.

    Raises:
        InputError: If `root` is no folder.
    """
    listing = list_files(root)
    look = _Look(root)
    for name, what in listing.odd:
        look.fault(name, f"it is {what}, and a release holds plain files only")
    for name in listing.files:
        try:
            look.hashes[name] = sha256_file(root / name)
        except OSError:
            look.fault(name, "it cannot be read")
    statement = _statement(look, key)
    signed = {s.name: s.digest.sha256 for s in statement.subject} if statement else {}
    if statement and len(signed) != len(statement.subject):
        look.fault(ENVELOPE, "it names a file twice")
    _compare(look, signed)
    if statement:
        _places(look, statement.predicate)
        _judge_again(look, statement.predicate)
    return Verified(
        tuple(look.faults), len(listing.files), fingerprint(key), statement.predicate if statement else None
    )


def _statement(look: _Look, key: Ed25519PublicKey) -> Statement | None:
    if ENVELOPE not in look.hashes:
        look.fault(ENVELOPE, "it is missing, so that nothing is signed")
        return None
    opened = open_envelope((look.root / ENVELOPE).read_bytes(), key)
    if opened.fault is not None:
        look.fault(ENVELOPE, opened.fault)
    if not opened.body:
        return None
    try:
        return Statement.model_validate_json(opened.body)
    except ValidationError as error:
        look.fault(ENVELOPE, f"what is signed is no statement of a release ({_place(error)})")
        return None


def _manifest(look: _Look) -> dict[str, str]:
    """Return what the manifest says; empty, with a fault, where it says nothing."""
    said: dict[str, str] | str = "it is missing"
    if MANIFEST in look.hashes:
        try:
            said = read_manifest((look.root / MANIFEST).read_bytes().decode("utf-8"))
        except UnicodeDecodeError:
            said = "it is no UTF-8 text"
    if isinstance(said, str):
        look.fault(MANIFEST, said)
        return {}
    return said


def _compare(look: _Look, signed: Mapping[str, str]) -> None:
    """Compare files, manifest and statement, each with each; without a statement the manifest is all there is."""
    manifest = _manifest(look)
    wanted = signed or {**manifest, MANIFEST: look.hashes.get(MANIFEST, "")}
    for name in sorted({*wanted, *look.hashes} - {ENVELOPE}):
        if name not in look.hashes:
            look.fault(name, "it is missing")
        elif name not in wanted:
            look.fault(name, "it is not part of what was signed")
        elif look.hashes[name] != wanted[name]:
            look.fault(name, "its contents are not those that were signed")
    if signed and manifest:
        for name in sorted({*manifest, *signed} - {MANIFEST}):
            if manifest.get(name) != signed.get(name):
                look.fault(MANIFEST, f"its line of {_shown(name)} is not what was signed")


def _places(look: _Look, predicate: Predicate) -> None:
    """Look whether every file has a place in a release, and whether those of the dataset may be there."""
    for name in look.hashes:
        inside = name.removeprefix(f"{DATASET}/")
        if inside == name:
            if not is_expected(name, predicate.audits):
                look.fault(name, "a release has no such file")
        elif not is_allowed(inside):
            look.fault(name, "`anonsynth generate` writes no such file")
        else:
            why = fault_of(look.root / name)
            if why is not None:
                look.fault(name, why)


def _judge_again(look: _Look, predicate: Predicate) -> None:
    """Ask the gate again, of the published documents, and compare its answers with those that were signed."""
    before = len(look.faults)
    policy = _read(look, POLICY_FILE, Policy)
    model = _read(look, CARD_FILE, ModelFacts)
    audits = [_read(look, f"{folder}/{AUDIT_FILE}", PublicAudit) for folder in predicate.audits]
    if predicate.audits != tuple(audit_folder(number) for number in range(1, len(audits) + 1)):
        look.fault(ENVELOPE, "it names its audits in another way than anonsynth does")
    _bill(look)
    if policy is None or model is None or None in audits or len(look.faults) > before:
        return
    if any(fault.file.startswith(DATASET) for fault in look.faults):
        return  # which scans they are is answered already, and a broken table is not read
    if predicate.policy.sha256 != look.hashes[POLICY_FILE] or predicate.policy.id != policy.id:
        look.fault(POLICY_FILE, "it is not the policy that was signed")
    try:
        digest, blind = _scans(look)
    except AnonsynthError:
        look.fault(DATASET, "its scans are not laid out as BIDS")
        return
    if digest != predicate.generated_sha256:
        look.fault(DATASET, "its scans and label maps are not those that the gate saw")
    evidence = Evidence(tuple(a for a in audits if a), model, digest, blind, predicate.approvals)
    for what in _differences(predicate, judge(evidence, policy)):
        look.fault(ENVELOPE, what)


def _scans(look: _Look) -> tuple[str, tuple[str, ...]]:
    root = look.root / DATASET
    names = [name.removeprefix(f"{DATASET}/") for name in look.hashes if name.startswith(f"{DATASET}/")]
    digest = generated_digest(root, lambda path: look.hashes.get(path.relative_to(look.root).as_posix(), ""))
    return digest, unaudited(root, names)


def _differences(predicate: Predicate, again: tuple[Any, ...]) -> Iterator[str]:
    said = {check.id: check for check in predicate.checks}
    for check in again:
        signed = said.pop(check.id, None)
        if signed is None:
            yield f"the policy asks for '{check.id}' and no answer was signed"
        elif signed.verdict != check.verdict:
            why = f": {check.says}" if check.verdict != "pass" else ""
            yield f"'{check.id}' was signed as {signed.verdict}, and {check.verdict} follows from the numbers{why}"
        elif signed.says != check.says:
            yield f"'{check.id}' was signed in other words than follow from the numbers"
    for name in said:
        yield f"'{name}' was signed, and the policy does not ask for it"
    verdict = verdict_of(again)
    if predicate.verdict != verdict:
        yield f"the verdict was signed as {predicate.verdict}, and {verdict} follows"
    if (predicate.override is None) != (verdict == "pass"):
        yield "it was released without a pass and without an override" if verdict != "pass" else "its override is idle"


def _read(look: _Look, name: str, kind: type[_Document]) -> _Document | None:
    if name not in look.hashes:
        look.fault(name, "it is missing")
        return None
    try:
        return kind.model_validate_json((look.root / name).read_bytes())
    except ValidationError as error:
        look.fault(name, f"it does not fit its schema ({_place(error)})")
        return None


def _bill(look: _Look) -> None:
    if SBOM_FILE not in look.hashes:
        look.fault(SBOM_FILE, "it is missing")
        return
    try:
        value = json.loads((look.root / SBOM_FILE).read_bytes())
        fits = value["bomFormat"] == "CycloneDX" and value["specVersion"] == "1.6" and bool(value["components"])
    except (ValueError, KeyError, TypeError, RecursionError):
        fits = False
    if not fits:
        look.fault(SBOM_FILE, "it is no CycloneDX 1.6 document")


def _shown(name: str) -> str:
    """Return a path that can be printed: no control letters that move the cursor or colour the terminal."""
    return name.encode("unicode_escape").decode("ascii")


def _place(error: ValidationError) -> str:
    first = error.errors()[0]
    place = "/".join(map(str, first["loc"])) or "the top"
    return f"at {place}: {first['type'].replace('_', ' ')}"
