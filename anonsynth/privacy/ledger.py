"""The ledger: an SQLite file in which every spend on a cohort's patients is written before the step runs.

    COHORT/ledger.sqlite
        entry(number, body, hash)      body is canonical JSON; entry 0 names the cohort; the chain is `chain`'s

It lies inside the cohort's folder: it moves, is copied and is locked away with the scans that it is about, it is not
taken for another cohort's, and ingesting the cohort again leaves it there. Zone: private.

- Rows are only ever added: triggers stop everything else, and the chain shows what goes round them.
- A spend is looked up, checked against the budget and written in one transaction that holds the file's only write lock,
  so that two processes cannot both spend the last of a budget.
- It is on the disk before `spend` returns (`synchronous=EXTRA`: what FULL does, and the journal's folder as well,
  without which a power failure could take back the last entry). After a kill it says at least what was spent.
- The same spend id is written once: a resumed run finds it.

Contract: what a version wrote, later ones read. `PRAGMA user_version` is the schema's version. SQLite's locks do not
hold on some network file systems; a ledger belongs on a local disk.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from anonsynth._version import __version__
from anonsynth.errors import InputError, UsageError
from anonsynth.privacy.chain import Row, canonical, chained, fault
from anonsynth.privacy.events import is_protected
from anonsynth.privacy.spending import Budget, Entry, History, Spend, check_budget, refuse_unprotected

__all__ = ["Checked", "Ledger"]

SCHEMA = "anonsynth/ledger/1"
VERSION = 1
NOTED = 8
"""Least number of digits of a head that was noted."""
WAIT = 60.0
"""Seconds to wait for another process that is writing."""
TABLES = {
    "entry": "CREATE TABLE entry (number INTEGER PRIMARY KEY, body TEXT NOT NULL, hash TEXT NOT NULL)",
    "no_change": (
        "CREATE TRIGGER no_change BEFORE UPDATE ON entry BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
    ),
    "no_removal": (
        "CREATE TRIGGER no_removal BEFORE DELETE ON entry BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
    ),
    # INSERT OR REPLACE deletes without asking the trigger above; its number is not the next one.
    "next_only": (
        "CREATE TRIGGER next_only BEFORE INSERT ON entry WHEN NEW.number IS NOT (SELECT COUNT(*) FROM entry) "
        "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
    ),
}


@dataclass(frozen=True, slots=True)
class Checked:
    """What looking at the whole chain found.

    Attributes:
        intact: Whether nothing is broken.
        sentence: What is broken, or that nothing is; without a full stop.
        entries: Spends in the ledger.
        head: Hash of the last entry, "" if there is none.
    """

    intact: bool
    sentence: str
    entries: int
    head: str


class Ledger:
    """The ledger in one file; nothing is read or written before it is asked for.

    Args:
        path: The file; `spend` makes it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def spend(self, spend: Spend, budget: Budget) -> Entry:
        """Write a spend, unless it is there already; return its entry. It is on the disk when this returns.

        Raises:
            BudgetError: If the budget does not hold it.
            VerdictError: If the policy asks for a guarantee and the step carries none.
            UsageError: If the id stands for something else, or the policy's δ is too large.
            InputError: If the ledger cannot be written, is broken, or is held by another process.
        """
        if not is_protected(spend.events):
            refuse_unprotected(budget, f"the {spend.step.value} step")
        with _readable(), closing(self._connect(write=True)) as connection:
            with _transaction(connection):
                if not _rows(connection):
                    _begin(connection, spend.cohort)
            with _transaction(connection):
                return _append(connection, spend, budget)

    def read(self) -> History:
        """Return everything that was spent; nothing if there is no ledger yet.

        Raises:
            InputError: If the ledger cannot be read or is broken.
        """
        if not self.path.exists():
            return History("", (), "")
        with _readable(), closing(self._connect(write=False)) as connection:
            rows = _rows(connection)
        broken = fault(rows)
        if broken:
            raise InputError(f"the cohort's ledger is broken: {broken}", remedy="`anonsynth ledger verify` says more")
        return _history(rows)

    def check(self, *, cohort: str | None = None, noted: str | None = None) -> Checked:
        """Compute the whole chain again.

        Args:
            cohort: Fingerprint of the cohort that the ledger should be about.
            noted: A head that somebody noted earlier, or its first digits: it has to be in the chain still.

        Raises:
            InputError: If there is no ledger, or it cannot be read.
            UsageError: If `noted` has too few digits to mean anything.
        """
        if noted is not None and len(noted) < NOTED:
            msg = f"a head has to be given with {NOTED} digits or more; `anonsynth ledger verify` prints it"
            raise UsageError(msg)
        if not self.path.exists():
            raise InputError(
                "there is no ledger: nothing was ever declared", remedy="name a cohort that was trained on"
            )
        with _readable(), closing(self._connect(write=False)) as connection:
            rows, made = _rows(connection), _made(connection)
        broken = _broken(rows, made, cohort, noted)
        entries = max(len(rows) - 1, 0)
        counted = f"{entries} entry" if entries == 1 else f"{entries} entries"
        sentence = f"the ledger is broken: {broken}" if broken else f"the chain of {counted} is unbroken"
        return Checked(broken is None, sentence, entries, rows[-1].hash if rows else "")

    def _connect(self, *, write: bool) -> sqlite3.Connection:
        # `rw` never makes a file, and can clean up what a killed process left; `ro` could not.
        mode = "rwc" if write else "rw"
        address = f"{self.path.absolute().as_uri()}?mode={mode}"
        connection = sqlite3.connect(address, uri=True, timeout=WAIT, isolation_level=None)
        try:
            for setting in ("synchronous = EXTRA", "fullfsync = ON", "trusted_schema = OFF"):
                connection.execute(f"PRAGMA {setting}")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.Error:
            connection.close()
            raise
        if version > VERSION:
            connection.close()
            raise InputError("the cohort's ledger was written by a newer version", remedy="update anonsynth")
        return connection


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Hold the file's only write lock from the first read to the last write; take everything back on an error."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def _readable() -> Iterator[None]:
    """Turn what SQLite says into one sentence without a path."""
    try:
        yield
    except sqlite3.Error as error:
        # The lowest byte is the kind, the rest a detail of it.
        match getattr(error, "sqlite_errorcode", 0) & 0xFF:
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                reason, remedy = "another process has held the cohort's ledger for too long", "wait and run this again"
            case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
                reason, remedy = (
                    "the cohort's ledger is damaged",
                    "restore it from a backup; nothing is spent until then",
                )
            case sqlite3.SQLITE_FULL:
                reason, remedy = "the disk is too full for the cohort's ledger", "free some room and run this again"
            case _:
                reason = "the cohort's ledger cannot be opened or written, and a step that is not in it must not run"
                remedy = "make the cohort's folder writable"
        raise InputError(reason, remedy=remedy) from None


def _begin(connection: sqlite3.Connection, cohort: str) -> None:
    """Make the table and the first entry, which binds the chain to the cohort."""
    for statement in TABLES.values():
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {VERSION}")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    first = {"schema": SCHEMA, "cohort": cohort, "anonsynth": __version__, "time": now}
    _insert(connection, chained(None, canonical(first)))


def _append(connection: sqlite3.Connection, spend: Spend, budget: Budget) -> Entry:
    rows = _rows(connection)
    broken = fault(rows)
    if broken:
        raise InputError(f"the cohort's ledger is broken: {broken}", remedy="nothing may be spent on the cohort")
    history = _history(rows)
    found = history.find(spend.id)
    if found is not None:
        if not found.is_of(spend, budget):
            msg = "the ledger holds this spend id with another event, step, policy or cohort, and a step has one cost"
            raise UsageError(msg)
        return found
    check_budget(history, spend, budget)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    entry = Entry(**dict(spend), policy=budget.policy, anonsynth=__version__, time=now)
    _insert(connection, chained(rows[-1], canonical(entry.model_dump(mode="json"))))
    return entry


def _insert(connection: sqlite3.Connection, row: Row) -> None:
    connection.execute("INSERT INTO entry (number, body, hash) VALUES (?, ?, ?)", (row.number, row.body, row.hash))


def _made(connection: sqlite3.Connection) -> dict[str, str]:
    return dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall())


def _rows(connection: sqlite3.Connection) -> list[Row]:
    if "entry" not in _made(connection):  # a process was killed before its first commit: nothing was spent
        return []
    return [Row(*row) for row in connection.execute("SELECT number, body, hash FROM entry ORDER BY number")]


def _history(rows: Sequence[Row]) -> History:
    """Read an unbroken chain.

    Raises:
        InputError: If an entry is none that this version knows.
    """
    if not rows:
        return History("", (), "")
    try:
        first = json.loads(rows[0].body)
        entries = tuple(Entry.model_validate_json(row.body) for row in rows[1:])
        return History(str(first["cohort"]), entries, rows[-1].hash)
    except (ValueError, KeyError, TypeError, ValidationError):
        raise InputError(
            "the cohort's ledger holds an entry that this version does not know", remedy="update anonsynth"
        ) from None


def _broken(rows: Sequence[Row], made: dict[str, str], cohort: str | None, noted: str | None) -> str | None:
    """Return what is broken, in one sentence without a full stop, or None."""
    if not rows:
        return "it holds no first entry: nothing was ever declared, or it was emptied"
    found = fault(rows) or _unreadable(rows)
    if found:
        return found
    if made != TABLES:
        return "its rules against change are not those that it was made with"
    if noted and not any(row.hash.startswith(noted.lower()) for row in rows):
        return "the head that was noted is not in it: entries were cut off at the end, or it was written anew"
    if cohort is not None and _history(rows).fingerprint != cohort:
        return "it is about other scans: the cohort was ingested again since, or the ledger is another cohort's"
    return None


def _unreadable(rows: Sequence[Row]) -> str | None:
    try:
        _history(rows)
    except InputError as error:
        return error.reason
    return None
