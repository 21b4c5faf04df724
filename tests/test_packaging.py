"""What is installed: every package is listed, and the wheel holds nothing but anonsynth/ with all its data."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from anonsynth import __version__

ROOT = Path(__file__).resolve().parent.parent

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
SETUPTOOLS = PROJECT["tool"]["setuptools"]
DATA_SUFFIXES = {".yaml", ".json", ".j2", ".typed", ".css", ".js", ".svg", ".tsv", ".html"}


def test_every_package_is_listed() -> None:
    found = {
        ".".join([name, *init.parent.relative_to(ROOT / folder).parts])
        for name, folder in SETUPTOOLS["package-dir"].items()
        for init in (ROOT / folder).rglob("__init__.py")
    }
    assert sorted(SETUPTOOLS["packages"]) == sorted(found)
    assert SETUPTOOLS["packages"] == sorted(SETUPTOOLS["packages"])


def test_every_folder_with_modules_is_a_package() -> None:
    for folder in SETUPTOOLS["package-dir"].values():
        for module in (ROOT / folder).rglob("*.py"):
            assert (module.parent / "__init__.py").is_file(), f"{module.parent.relative_to(ROOT)} has no __init__.py"


@pytest.mark.parametrize("folder", ["audits", "cli", "policies"])
def test_a_top_level_folder_is_never_imported_by_its_own_name(folder: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", f"import {folder}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode != 0
    assert f"import anonsynth.{folder}" in ended.stderr


def test_the_version_is_written_once() -> None:
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert f"[{__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert f"version: {__version__}\n" in (ROOT / "CITATION.cff").read_text("utf-8")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names in a wheel that is built from a copy of the sources, without the network."""
    copy = tmp_path_factory.mktemp("source")
    for folder in SETUPTOOLS["package-dir"].values():
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, copy / name)
    out = copy / "out"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--wheel-dir",
            out,
            copy,
        ],
        check=True,
        capture_output=True,
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )
    (built,) = out.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        return archive.namelist()


def test_the_wheel_holds_nothing_but_anonsynth(wheel: list[str]) -> None:
    assert {name.partition("/")[0] for name in wheel} == {"anonsynth", f"anonsynth-{__version__}.dist-info"}


def test_the_wheel_holds_every_module_and_every_data_file(wheel: list[str]) -> None:
    wanted = set()
    for package, folder in SETUPTOOLS["package-dir"].items():
        place = package.replace(".", "/")
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in DATA_SUFFIXES | {".py"} and "__pycache__" not in path.parts:
                wanted.add(f"{place}/{path.relative_to(ROOT / folder).as_posix()}")
    assert wanted - set(wheel) == set()


def test_nothing_of_this_machine_is_written_in_the_sources() -> None:
    home = str(Path.home())
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if (
            path.suffix in {".py", ".md", ".toml", ".yaml", ".yml", ".json", ".j2", ".cff", ".sh", ""}
            and path.is_file()
        ):
            text = path.read_text("utf-8", errors="replace")
            assert home == "/" or f"{home}/" not in text, f"{name} names a home folder"
