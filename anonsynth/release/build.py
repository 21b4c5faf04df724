"""`anonsynth release`: look at everything, ask the gate, then write the release in one go or not at all.

Zone: private in (the audit, the model, the ledger), shareable out; the only place that writes what leaves. It is filled
beside its place and renamed when it is whole: after `kill -9` there is no half release, and the next call begins anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anonsynth._version import __version__
from anonsynth.errors import InputError, UsageError, VerdictError
from anonsynth.files import UNFINISHED, begin_folder, finish_folder, sha256_file, write_bytes, write_json, write_text
from anonsynth.policies.model import Policy
from anonsynth.privacy.chain import canonical
from anonsynth.progress import Progress
from anonsynth.release.dataset import fault_of, generated_digest, is_allowed, unaudited
from anonsynth.release.documents import banner, pages, report
from anonsynth.release.dsse import seal
from anonsynth.release.facts import ModelFacts
from anonsynth.release.gate import Check, Evidence, judge, verdict_of
from anonsynth.release.model_facts import model_facts
from anonsynth.release.public_audit import Verdict, publish, read_audit
from anonsynth.release.sbom import bill_of_materials
from anonsynth.release.statement import (
    AUDIT_FILE,
    CARD_FILE,
    DATASET,
    ENVELOPE,
    MANIFEST,
    POLICY_FILE,
    SBOM_FILE,
    PolicyNamed,
    Predicate,
    Sha256,
    Statement,
    Subject,
    audit_folder,
)
from anonsynth.release.tree import copy_hashed, list_files, manifest_text
from anonsynth.release.verify import verify

__all__ = ["Assessment", "ReleaseSettings", "Released", "assess", "refuse", "write_release"]


@dataclass(frozen=True, slots=True)
class ReleaseSettings:
    """What to release.

    Attributes:
        synthetic: The substitute cohort that `anonsynth generate` wrote.
        audits: Audits of it; the worst answer of all counts.
        model: The model that made it.
        out: The release's folder; must not exist.
        cohort: The cohort it was trained on, whose ledger is asked; needed where the policy limits ε.
        override: Why to release although the gate refuses.
        approvals: Names by role.
    """

    synthetic: Path
    audits: tuple[Path, ...]
    model: Path
    out: Path
    cohort: Path | None
    override: str | None
    approvals: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Assessment:
    """What the gate says, before anything is written.

    Attributes:
        settings: As given.
        policy: The resolved policy.
        evidence: What was judged.
        checks: Every question and its answer.
        hashes: SHA-256 of every file of the substitute cohort.
    """

    settings: ReleaseSettings
    policy: Policy
    evidence: Evidence
    checks: tuple[Check, ...]
    hashes: dict[str, str]

    @property
    def verdict(self) -> Verdict:
        """The worst of all checks."""
        return verdict_of(self.checks)

    @property
    def refused(self) -> tuple[Check, ...]:
        """The checks that are no pass."""
        return tuple(check for check in self.checks if check.verdict != "pass")

    @property
    def override(self) -> str | None:
        """The reason of an override that is needed; None where the gate is open anyway."""
        return self.settings.override if self.refused else None


@dataclass(frozen=True, slots=True)
class Released:
    """A release on the disk; `earlier` if it was there already."""

    folder: Path
    files: int
    earlier: bool = False


def assess(settings: ReleaseSettings, policy: Policy, progress: Progress) -> Assessment:
    """Look at everything and ask the gate; nothing is written.

    Raises:
        InputError: If something may not leave, is unfinished or cannot be read; no override helps there.
        UsageError: If an override has no reason.
    """
    if settings.override is not None and not settings.override.strip():
        raise UsageError("--override-reason needs a reason; it is printed on every page")
    names = _allowed(settings.synthetic, progress)
    shown = progress.track(names, total=len(names), what="hashing")
    hashes = {name: sha256_file(settings.synthetic / name) for name in shown}
    audits = tuple(publish(*read_audit(folder), policy.release.count_step) for folder in settings.audits)
    provenance = settings.synthetic / "code" / "provenance.json"
    evidence = Evidence(
        audits=audits,
        model=model_facts(settings.model, provenance, settings.cohort, policy),
        generated_sha256=_digest(settings.synthetic, hashes),
        unaudited=unaudited(settings.synthetic, names),
        approvals={role: name for role, name in settings.approvals.items() if role in policy.release.approvals},
    )
    return Assessment(settings, policy, evidence, judge(evidence, policy), hashes)


def refuse(assessed: Assessment) -> None:
    """Raise VerdictError if the gate refuses and there is no override."""
    if assessed.refused and assessed.override is None:
        first, more = assessed.refused[0].says, len(assessed.refused) - 1
        also = f" (and {more} more)" if more else ""
        raise VerdictError(f"the gate of policy '{assessed.policy.id}' refuses: {first}{also}")


def write_release(assessed: Assessment, key: Ed25519PrivateKey, progress: Progress) -> Released:
    """Write and sign the release, unless it is there already.

    Raises:
        VerdictError: If the gate refuses and there is no override.
        UsageError: If the folder is something else.
        InputError: If a file changed since it was looked at.
    """
    refuse(assessed)
    settings = assessed.settings
    if settings.out.exists():
        return _earlier(assessed, key)
    work = settings.out.with_name(f".{settings.out.name}.partial")
    _clear(work)
    begin_folder(work)
    known = _copy(assessed, work, progress)
    predicate = _predicate(assessed)
    write_text(work / POLICY_FILE, _policy_text(assessed.policy))
    _write_pages(assessed, predicate, work)
    files = _sign(predicate, work, key, known)
    finish_folder(work)
    _settle(work)
    work.rename(settings.out)
    _settle(settings.out.parent)
    return Released(settings.out, files)


def _allowed(root: Path, progress: Progress) -> tuple[str, ...]:
    listing = list_files(root)
    if UNFINISHED in listing.files:
        raise InputError("the substitute cohort is unfinished", remedy="run the same `anonsynth generate` again")
    for name, what in listing.odd:
        raise InputError(f"{name} in the substitute cohort is {what}", remedy="only plain files are released")
    if "code/provenance.json" not in listing.files:
        reason = "the substitute cohort says nothing of how it was made (code/provenance.json)"
        raise InputError(reason, remedy="only what `anonsynth generate` wrote is released")
    for name in progress.track(listing.files, total=len(listing.files), what="looking at what may leave"):
        if not is_allowed(name):
            reason = f"{name} is no file that `anonsynth generate` writes"
            raise InputError(reason, remedy="take it out of the substitute cohort")
        why = fault_of(root / name)
        if why is not None:
            raise InputError(f"{name} may not leave: {why}", remedy="generate again")
    return listing.files


def _digest(root: Path, hashes: Mapping[str, str]) -> str:
    return generated_digest(root, lambda path: hashes[path.relative_to(root).as_posix()])


def _earlier(assessed: Assessment, key: Ed25519PrivateKey) -> Released:
    out = assessed.settings.out
    other = UsageError(f"the folder {out.name} is there already and is another release; choose another --out")
    if not (out / ENVELOPE).is_file():
        raise UsageError(f"the folder {out.name} holds something else; choose another --out")
    found = verify(out, key.public_key())
    if found.predicate is None or not found.authentic:
        raise UsageError(f"the folder {out.name} holds a release that does not verify; choose another --out")
    wanted = _predicate(assessed)
    if found.predicate.model_copy(update={"released": wanted.released}) != wanted:
        raise other
    return Released(out, found.files, earlier=True)


def _clear(work: Path) -> None:
    """Take away what a killed call left; never a folder that is not ours."""
    if not work.exists():
        return
    ours = (work / UNFINISHED).is_file() or (work / ENVELOPE).is_file() or not any(work.iterdir())
    if work.is_symlink() or not ours:
        raise UsageError(f"{work.name} is in the way and not ours; take it away")
    shutil.rmtree(work)


def _copy(assessed: Assessment, work: Path, progress: Progress) -> dict[str, str]:
    """Copy the substitute cohort; return the hashes of the copies by their path in the release."""
    known = {}
    names = tuple(assessed.hashes)
    for name in progress.track(names, total=len(names), what="copying"):
        source, target = assessed.settings.synthetic / name, work / DATASET / name
        if name == "README.md" and assessed.override is not None:
            write_text(target, banner(assessed.override) + source.read_text("utf-8"))
            continue
        known[f"{DATASET}/{name}"] = copy_hashed(source, target)
        if known[f"{DATASET}/{name}"] != assessed.hashes[name]:
            raise InputError(f"{name} changed while it was released", remedy="let nothing write there, and run again")
    return known


def _policy_text(policy: Policy) -> str:
    return json.dumps(policy.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"


def _predicate(assessed: Assessment) -> Predicate:
    policy = hashlib.sha256(_policy_text(assessed.policy).encode()).hexdigest()
    return Predicate(
        anonsynth=__version__,
        released=datetime.now(UTC).date().isoformat(),
        policy=PolicyNamed(id=assessed.policy.id, version=assessed.policy.version, sha256=policy),
        verdict=assessed.verdict,
        checks=assessed.checks,
        override=assessed.override,
        approvals=dict(assessed.evidence.approvals),
        generated_sha256=assessed.evidence.generated_sha256,
        audits=tuple(audit_folder(number) for number in range(1, len(assessed.evidence.audits) + 1)),
    )


def _write_pages(assessed: Assessment, predicate: Predicate, work: Path) -> None:
    policy, evidence = assessed.policy, assessed.evidence
    model: ModelFacts = evidence.model
    for folder, audit in zip(predicate.audits, evidence.audits, strict=True):
        write_json(work / folder / AUDIT_FILE, audit.model_dump(mode="json", by_alias=True))
        write_text(work / folder / "report.html", report(audit, predicate))
    write_json(work / CARD_FILE, model.model_dump(mode="json", by_alias=True))
    write_json(work / SBOM_FILE, bill_of_materials())
    terms = {
        "title": policy.title,
        "description": policy.description,
        "licence": policy.release.licence,
        "intended_use": policy.release.intended_use,
    }
    scans = evidence.audits[0].generated.scans if evidence.audits else 0
    for name, text in pages(predicate, model, terms, scans).items():
        write_text(work / name, text)


def _sign(predicate: Predicate, work: Path, key: Ed25519PrivateKey, known: dict[str, str]) -> int:
    lines = manifest_text(work, known).splitlines(keepends=True)
    write_text(work / MANIFEST, "".join(line for line in lines if line[66:-1] != UNFINISHED))
    named = [line.rstrip("\n").split("  ", 1) for line in (work / MANIFEST).read_text("utf-8").splitlines()]
    named.append([sha256_file(work / MANIFEST), MANIFEST])
    subjects = tuple(Subject(name=name, digest=Sha256(sha256=digest)) for digest, name in named)
    statement = Statement(subject=subjects, predicate=predicate)
    body = canonical(statement.model_dump(mode="json", by_alias=True)).encode()
    write_bytes(work / ENVELOPE, seal(body, key))
    return len(subjects) + 1


def _settle(folder: Path) -> None:
    """Have the folder's entries on the disk, where the system can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
