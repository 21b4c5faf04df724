"""List the benchmarks with their first line and the command that runs each: `make bench`."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main(python: str) -> None:
    """Print one paragraph for each script in benchmarks/."""
    for path in sorted((ROOT / "benchmarks").glob("*.py")):
        source = path.read_text("utf-8")
        if "__main__" in source:  # the others are shared by several benchmarks
            text = ast.get_docstring(ast.parse(source)) or ""
            print(f"{python} benchmarks/{path.name} --help\n    {text.partition(chr(10))[0]}\n")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "python")
