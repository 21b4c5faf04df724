"""Every error a user can meet, as one tree.

    AnonsynthError                exit status
    ├── UsageError                2   the command line or a policy file is wrong
    ├── InputError                3   a file or folder cannot be used
    ├── VerdictError              4   an audit did not pass, or the policy refused
    │   └── ContradictionError    4   what was measured contradicts the guarantee that is claimed
    ├── BudgetError               5   the privacy budget is exhausted
    └── InternalError             1   a promise of anonsynth's own was broken

A message is one sentence: what is wrong, where, what to do. It may name a pseudonym or a file inside a cohort that
anonsynth wrote; it never holds a patient's name, identifier, date or a source path. Source paths travel in
`InputError.private_path`, which only the private quarantine table prints.
"""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path

__all__ = [
    "AnonsynthError",
    "BudgetError",
    "ContradictionError",
    "ExitStatus",
    "InputError",
    "InternalError",
    "UsageError",
    "VerdictError",
]


class ExitStatus(IntEnum):
    """What the process tells the shell."""

    DONE = 0
    INTERNAL = 1
    USAGE = 2
    BAD_INPUT = 3
    VERDICT = 4
    BUDGET = 5
    INTERRUPTED = 130


class AnonsynthError(Exception):
    """Base of all errors that are shown to the user as one sentence."""

    status = ExitStatus.INTERNAL


class UsageError(AnonsynthError):
    """The command line or a policy file is wrong."""

    status = ExitStatus.USAGE


class InputError(AnonsynthError):
    """A source file cannot be used.

    Args:
        reason: What is wrong, in words that name no patient and no path.
        remedy: What the user can do about it.
        private_path: The source file; private, printed in `quarantine.tsv` only.
    """

    status = ExitStatus.BAD_INPUT

    def __init__(self, reason: str, *, remedy: str = "", private_path: Path | None = None) -> None:
        super().__init__(f"{reason}; {remedy}" if remedy else reason)
        self.reason = reason
        self.remedy = remedy
        self.private_path = private_path


class VerdictError(AnonsynthError):
    """An audit did not pass, or the policy refused."""

    status = ExitStatus.VERDICT


class ContradictionError(VerdictError):
    """What was measured contradicts the guarantee that is claimed; nothing that rests on it may be released."""


class BudgetError(AnonsynthError):
    """The privacy budget is exhausted."""

    status = ExitStatus.BUDGET


class InternalError(AnonsynthError):
    """A promise of anonsynth's own was broken; a bug report is welcome."""

    status = ExitStatus.INTERNAL
