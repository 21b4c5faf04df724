"""`run.json`: the settings of a run and its finished stages, so that the same call resumes and another one is refused.

Zone: private. It holds no path and no name all the same: sources are hashes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from anonsynth.errors import InputError, UsageError
from anonsynth.files import is_untouched, read_json, write_json

__all__ = ["Done", "RunRecord"]

RECORD = "run.json"
FIRST_USED = {"guarantee": "train"}
"""Settings that may still change while the stage that first needs them is not done: an ε that was refused as too small
for the cohort is asked for again on the same cohort, whose ledger remembers."""


class Done(BaseModel):
    """A finished stage: how long it took and what it said."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seconds: float
    said: str = ""


class RunRecord:
    """What was asked for, and the stages that are done; `done` grows as stages end, `save` writes it.

    Args:
        path: `OUT/run.json`.
        settings: What was asked for, JSON-able, without a private string.
        done: The finished stages.
    """

    def __init__(self, path: Path, settings: dict[str, Any], done: dict[str, Done]) -> None:
        self._path, self._settings, self.done = path, settings, done

    @classmethod
    def open(cls, out: Path, settings: dict[str, Any]) -> RunRecord:
        """Open the record of `out`, or begin one; other settings are welcome while no stage that needs them is done.

        Raises:
            UsageError: If `out` holds something else, or a run with other settings.
            InputError: If the record is broken.
        """
        path = out / RECORD
        if not path.is_file():
            if not is_untouched(out):
                msg = "the folder named with --out holds something else; name a new or empty folder"
                raise UsageError(msg)
            return cls(path, settings, {})
        try:
            found = read_json(path)
            before, done = found["settings"], {name: Done(**entry) for name, entry in found["done"].items()}
        except (KeyError, TypeError, AttributeError, ValidationError):
            raise InputError("run.json does not hold what it should", remedy="name another folder") from None
        differing = sorted(key for key in {*before, *settings} if before.get(key) != settings.get(key))
        differing = [key for key in differing if (FIRST_USED[key] in done if key in FIRST_USED else done)]
        if differing:
            msg = (
                f"the folder named with --out holds another run (its {', '.join(differing)} differ); "
                "name another folder, or give the same settings and sources to resume"
            )
            raise UsageError(msg)
        return cls(path, settings, done)

    def save(self) -> None:
        """Write the record."""
        done = {name: entry.model_dump() for name, entry in self.done.items()}
        write_json(self._path, {"schema": "anonsynth/run/1", "settings": self._settings, "done": done})
