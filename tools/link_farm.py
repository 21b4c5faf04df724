"""Lay the four folders out as one package under build/typing, for type checkers that follow no import hook."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def link(root: Path) -> Path:
    """Make `build/typing/anonsynth` out of links to what `[tool.setuptools.package-dir]` names; return its parent."""
    settings = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    folders: dict[str, str] = settings["tool"]["setuptools"]["package-dir"]
    farm = root / "build" / "typing"
    shutil.rmtree(farm, ignore_errors=True)
    top = farm / "anonsynth"
    top.mkdir(parents=True)
    sources = {child.name: child for child in (root / folders["anonsynth"]).iterdir() if child.name != "__pycache__"}
    sources |= {name.rpartition(".")[2]: root / folder for name, folder in folders.items() if "." in name}
    for name, source in sources.items():
        try:
            (top / name).symlink_to(source)
        except OSError:  # Windows without Developer Mode
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, top / name)
    return farm


if __name__ == "__main__":
    print(link(ROOT))
