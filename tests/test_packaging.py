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
    # From the project's root the folder is found by its own name, unless the caller's Python leaves that place out.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [sys.executable, "-c", f"import {folder}"]
    ended = subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, check=False)
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
    home = f"{Path.home()}/"
    folders = [
        ROOT / name for name in (*SETUPTOOLS["package-dir"].values(), "tests", "tools", "docs", "benchmarks", ".ci")
    ]
    files = [path for folder in folders for path in folder.rglob("*")] + list(ROOT.glob("*.*"))
    text_suffixes = DATA_SUFFIXES | {".py", ".md", ".toml", ".cff", ".sh", ""}
    read = [path for path in files if path.is_file() and path.suffix in text_suffixes]
    assert len(read) > 50
    assert [path.name for path in read if home != "//" and home in path.read_text("utf-8", errors="replace")] == []


def test_a_machine_without_a_new_python_is_told_what_to_do(tmp_path: Path) -> None:
    for name in ("bash", "cat", "env"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    old = tmp_path / "python3"
    old.write_text("#!/usr/bin/env bash\nexit 1\n", "utf-8")  # a Python that fails the check for its version
    old.chmod(0o755)
    script = ROOT / "tools" / "find_python.sh"
    ended = subprocess.run(["bash", script], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "Python 3.11 or newer" in ended.stderr
    assert "python3-venv" in ended.stderr
    ended = subprocess.run(
        ["bash", script],
        env={"PATH": str(tmp_path), "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.strip() == sys.executable


def test_the_server_runs_what_the_readme_says() -> None:
    lines = [line.strip() for line in (ROOT / ".ci" / "run").read_text("utf-8").splitlines()]
    assert "make test" in lines
    assert "make lint" in lines
    subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=True)
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
