"""Fail when a Python module is longer than 400 lines: one concept a file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("anonsynth", "audits", "cli", "policies", "tests", "benchmarks", "tools")
LIMIT = 400


def too_long(root: Path, limit: int = LIMIT) -> Iterator[str]:
    """Yield `path: lines` of every module under `root` that is longer than `limit`."""
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            lines = len(path.read_text("utf-8").splitlines())
            if lines > limit:
                yield f"{path.relative_to(root)}: {lines} lines, at most {limit} are allowed"


if __name__ == "__main__":
    found = list(too_long(ROOT))
    print("\n".join(found) if found else f"no module is longer than {LIMIT} lines")
    sys.exit(bool(found))
