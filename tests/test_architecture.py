"""The house keeps its rules: imports run one way, modules stay short, the command line stays light."""

from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
import runpy
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

FOLDERS = {
    "anonsynth": "anonsynth",
    "audits": "anonsynth.audits",
    "cli": "anonsynth.cli",
    "policies": "anonsynth.policies",
}
LEVELS = {
    "anonsynth.errors": 0,
    "anonsynth.files": 0,
    "anonsynth.seeds": 0,
    "anonsynth.progress": 0,
    "anonsynth._version": 0,
    "anonsynth.policies": 1,
    "anonsynth.cohort": 2,
    "anonsynth.anatomy": 3,
    "anonsynth.deid": 3,
    "anonsynth.privacy": 4,
    "anonsynth.synthesis": 5,
    "anonsynth.audits": 6,
    "anonsynth.release": 6,
    "anonsynth.doctor": 7,
    "anonsynth.pipeline": 7,
    "anonsynth.deidentify": 7,
    "anonsynth.selftest": 8,
    "anonsynth.cli": 9,
}
"""A module imports from its own room and from lower levels only."""


def modules() -> Iterator[tuple[str, Path]]:
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            yield ".".join([package, *(part for part in parts if part != "__init__")]), path


MODULES = dict(modules())


def room(module: str) -> str:
    return max(
        (name for name in LEVELS if module == name or module.startswith(f"{name}.")), key=len, default="anonsynth"
    )


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def wrong_way(module: str, names: Iterator[str]) -> list[str]:
    here = room(module)
    level = LEVELS.get(here, 0)
    return sorted(
        {
            name
            for name in names
            if name.startswith("anonsynth.") and room(name) != here and LEVELS.get(room(name), 0) >= max(level, 1)
        }
    )


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module: str) -> None:
    assert wrong_way(module, imported(MODULES[module])) == []


def test_the_import_rule_sees_a_wrong_import() -> None:
    assert wrong_way("anonsynth.cohort.store", iter(["anonsynth.synthesis.train", "anonsynth.files"])) == [
        "anonsynth.synthesis.train"
    ]
    assert wrong_way("anonsynth.policies.model", iter(["anonsynth.cohort.model", "anonsynth.errors"])) == [
        "anonsynth.cohort.model"
    ]
    assert wrong_way("anonsynth.audits.audit", iter(["anonsynth.cli.output", "anonsynth.synthesis.train"])) == [
        "anonsynth.cli.output"
    ]


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("anonsynth.cli")])
def test_the_command_line_imports_nothing_heavy_at_its_top(module: str) -> None:
    light = {"typer", "anonsynth", *sys.stdlib_module_names}
    for node in ast.parse(MODULES[module].read_text("utf-8")).body:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        for name in names:
            assert name.partition(".")[0] in light, f"{module} imports {name} at its top"
            if name.startswith("anonsynth."):
                assert name.startswith(("anonsynth.cli", "anonsynth.errors")), f"{module} imports {name} at its top"


def test_no_module_is_too_long() -> None:
    found = runpy.run_path(str(ROOT / "tools" / "module_length.py"))["too_long"]
    assert list(found(ROOT)) == []
    assert list(found(ROOT, limit=5)), "the check sees nothing"


def test_every_module_says_what_it_is_for() -> None:
    silent = [name for name, path in MODULES.items() if not ast.get_docstring(ast.parse(path.read_text("utf-8")))]
    assert silent == []


def _importable() -> list[str]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    names = []
    for package in settings["packages"]:
        names.append(package)
        folder = Path(importlib.import_module(package).__file__ or "").parent
        names += [f"{package}.{entry.name}" for entry in pkgutil.iter_modules([str(folder)]) if not entry.ispkg]
    return sorted(set(names))


def test_examples_in_docstrings_are_true() -> None:
    results = {name: doctest.testmod(importlib.import_module(name)) for name in _importable()}
    assert {name: result.failed for name, result in results.items() if result.failed} == {}
    assert sum(result.attempted for result in results.values()) > 5


def test_every_module_is_found_by_the_doctest_walk() -> None:
    assert sorted(MODULES) == _importable()
