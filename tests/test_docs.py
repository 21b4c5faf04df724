"""The documentation is true: its commands exist with those flags, its links lead somewhere, its example runs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from anonsynth.cli.main import app
from anonsynth.errors import ExitStatus, VerdictError

ROOT = Path(__file__).resolve().parent.parent
PAGES = (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")))
FENCE = re.compile(r"^```(?:console|bash)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
EXAMPLE = "<!-- tests/test_docs.py runs this block -->\n"


def commands(text: str) -> Iterator[list[str]]:
    """Yield the command lines of the fenced blocks, without the prompt, comments and redirections."""
    for block in FENCE.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            for part in line.removeprefix("$ ").partition(" > ")[0].split(" && "):
                words = shlex.split(part, comments=True)
                if words:
                    yield words


LINES = [
    pytest.param(words, id=f"{page.name}: {' '.join(words)}")
    for page in PAGES
    for words in commands(page.read_text("utf-8"))
]


def check_line(words: list[str]) -> None:
    """Parse a command line as the command line would, without running it."""
    group = get_command(app)
    while hasattr(group, "commands"):
        assert len(words) > 1, f"'{words[0]}' needs a command"
        words = words[1:]
        assert words[0] in group.commands, f"there is no command '{words[0]}'"
        group = group.commands[words[0]]
    group.make_context(words[0], words[1:])


@pytest.mark.parametrize("words", LINES)
def test_a_documented_command_exists_with_those_flags(words: list[str]) -> None:
    if words[0] == "anonsynth":
        with suppress(typer.Exit):  # some options answer and leave
            check_line(words)
    elif words[0] == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
        assert words[1] in targets
    elif words[0] == "python":
        assert (ROOT / words[1]).is_file()
    else:
        assert words[:2] == ["pip", "install"], f"'{words[0]}' is not checked by this test"


def test_an_unknown_flag_or_command_is_seen() -> None:
    with pytest.raises(Exception, match="No such option"):
        check_line(["anonsynth", "run", "scans", "--out", "x", "--no-such-flag"])
    with pytest.raises(AssertionError, match="no command"):
        check_line(["anonsynth", "policy", "shwo"])


@pytest.mark.parametrize("command", sorted(get_command(app).commands))  # type: ignore[attr-defined]
def test_every_commands_own_example_parses(command: str) -> None:
    module = __import__(f"anonsynth.cli.commands.{command}", fromlist=["EXAMPLE"])
    check_line(shlex.split(module.EXAMPLE.removeprefix("Example: ")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text("utf-8")):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor and file.suffix == ".md":
            assert anchor in {_anchor(line) for line in file.read_text("utf-8").splitlines()}, f"no heading #{anchor}"


def test_every_command_has_its_place_in_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    missing = [name for name in get_command(app).commands if f"`anonsynth {name}" not in text]  # type: ignore[attr-defined]
    assert missing == []


def test_every_folder_of_the_library_is_in_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    rooms = {path.parent.name for path in (ROOT / "anonsynth").rglob("__init__.py")} - {"anonsynth"}
    assert [room for room in rooms if f" {room}/ " not in text] == []


def test_every_pitfall_of_the_table_is_explained() -> None:
    text = (ROOT / "docs" / "pitfalls.md").read_text("utf-8")
    rows = re.findall(r"^\| \[(.+?)\]\(#", text, re.MULTILINE)
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert rows == headings
    assert len(rows) >= 15


def test_documentation_holds_no_unfinished_words() -> None:
    for page in PAGES:
        assert not re.search(r"\b(TODO|FIXME|TBD|lorem)\b", page.read_text("utf-8")), page.name


def test_the_researchers_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "researcher.md").read_text("utf-8")
    lines = list(commands(text.partition(EXAMPLE)[2].partition("```\n\n")[0] + "```\n"))
    assert [words[1] for words in lines] == ["simulate", "ingest", "inspect", "train", "generate", "audit"]
    monkeypatch.chdir(tmp_path)
    for words in lines:
        ended = CliRunner().invoke(app, words[1:])
        assert ended.exit_code in {ExitStatus.DONE, ExitStatus.VERDICT} or isinstance(ended.exception, VerdictError), (
            f"{' '.join(words)}: {ended.exception!r}"
        )
    written = sorted(tmp_path.glob("synthetic/sub-*/anat/*_FLAIR.nii.gz"))
    assert len(written) == 6
    for path in written:
        voxels = np.asarray(nib.Nifti1Image.from_filename(path).dataobj)
        assert np.unique(voxels).size > 50, "the grey values were lost on the way to the disk"
        assert voxels.max() <= 1
    assert (tmp_path / "audit" / "audit.json").is_file()
    assert "https://" not in (tmp_path / "audit" / "report.html").read_text("utf-8")


def _anchor(line: str) -> str:
    if not line.startswith("#"):
        return ""
    words = re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower())
    return words.replace(" ", "-")
