"""The whole way: does only what is missing, survives a kill, refuses other settings, and tells the verdict."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from anonsynth import pipeline
from anonsynth.errors import InputError, UsageError
from anonsynth.files import begin_folder, finish_folder, write_json
from anonsynth.pipeline import DemoSettings, RunSettings, Stage, demo, run
from anonsynth.policies.model import Policy
from anonsynth.progress import Progress

VERDICT = {"verdict": "inconclusive"}
DOCUMENTS = {"ingest": "cohort/cohort.json", "train": "model/m", "generate": "synthetic/s", "audit": "audit/audit.json"}


@contextlib.contextmanager
def quiet() -> Iterator[Progress]:
    with Progress(quiet=True) as shown:
        yield shown


class House:
    """Stages that only write their document, note that they worked, and can be told to stop half-way."""

    def __init__(self) -> None:
        self.worked: list[str] = []
        self.stop_in: str | None = None

    def stages(self, settings: RunSettings, policy: Policy) -> tuple[Stage, ...]:
        assert policy.id
        return tuple(self.stage(name, settings.out / place) for name, place in DOCUMENTS.items())

    def stage(self, name: str, document: Path) -> Stage:
        def work(progress: Progress) -> str:
            assert isinstance(progress, Progress)
            begin_folder(document.parent)
            self.worked.append(name)
            write_json(document, VERDICT)
            if self.stop_in == name:
                raise KeyboardInterrupt
            finish_folder(document.parent)
            return f"{name} said so"

        return Stage(name, document.parent, document.name, work)


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> House:
    built = House()
    monkeypatch.setattr(pipeline, "_stages", built.stages)
    return built


def settings(folder: Path, **changed: object) -> RunSettings:
    (folder / "src").mkdir(exist_ok=True)
    (folder / "src" / "scan.nii").write_bytes(b"scan")
    (folder / "other.tsv").write_bytes(b"patient")
    return RunSettings(**{"sources": (folder / "src",), "out": folder / "out", **changed})


def silent(text: str) -> None:
    assert "\n" not in text


def test_the_first_call_does_everything_and_the_second_nothing(house: House, tmp_path: Path) -> None:
    first = run(settings(tmp_path), quiet, silent)
    assert house.worked == list(DOCUMENTS)
    assert (first.verdict, first.sentence) == ("inconclusive", "audit said so")
    assert not any(time.earlier for time in first.times)
    heard: list[str] = []
    second = run(settings(tmp_path), quiet, heard.append)
    assert house.worked == list(DOCUMENTS)
    assert all(time.earlier for time in second.times)
    assert second.sentence == first.sentence
    assert heard[0].endswith("ingest: done")
    assert heard[1].strip() == "ingest said so"


@pytest.mark.parametrize("stopped", DOCUMENTS)
def test_a_run_that_was_stopped_goes_on_where_it_was(house: House, tmp_path: Path, stopped: str) -> None:
    house.stop_in = stopped
    with pytest.raises(KeyboardInterrupt):
        run(settings(tmp_path), quiet, silent)
    before = len(house.worked)
    house.stop_in = None
    run(settings(tmp_path), quiet, silent)
    names = list(DOCUMENTS)
    assert house.worked[before:] == names[names.index(stopped) :]


def test_a_stage_whose_folder_was_deleted_is_done_again(house: House, tmp_path: Path) -> None:
    run(settings(tmp_path), quiet, silent)
    (tmp_path / "out" / "model" / "m").unlink()
    run(settings(tmp_path), quiet, silent)
    assert house.worked == [*DOCUMENTS, "train"]


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 1},
        {"count": 3},
        {"policy": "research-exchange"},
        {"shape": (8, 8, 8)},
        {"labels": "src"},
        {"patients": "other.tsv"},
    ],
)
def test_other_settings_are_refused_by_name(house: House, tmp_path: Path, changed: dict[str, object]) -> None:
    run(settings(tmp_path), quiet, silent)
    (key,) = changed
    value = tmp_path / str(changed[key]) if key in {"labels", "patients"} else changed[key]
    with pytest.raises(UsageError, match=f"holds another run .its {key} differ.; name another folder"):
        run(settings(tmp_path, **{key: value}), quiet, silent)
    assert house.worked == list(DOCUMENTS)


def test_sources_that_grew_are_another_run(house: House, tmp_path: Path) -> None:
    run(settings(tmp_path), quiet, silent)
    (tmp_path / "src" / "more.nii").touch()
    with pytest.raises(UsageError, match="sources differ"):
        run(settings(tmp_path), quiet, silent)
    assert house.worked == list(DOCUMENTS)


def test_a_source_that_does_not_exist_is_told_before_anything_is_written(house: House, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a source does not exist") as caught:
        run(settings(tmp_path, sources=(tmp_path / "Doe_Jane",)), quiet, silent)
    assert "Doe" not in str(caught.value)
    assert house.worked == []
    assert not (tmp_path / "out").exists()


def test_other_settings_are_welcome_while_nothing_is_done(house: House, tmp_path: Path) -> None:
    house.stop_in = "ingest"
    with pytest.raises(KeyboardInterrupt):
        run(settings(tmp_path), quiet, silent)
    house.stop_in = None
    run(settings(tmp_path, count=3), quiet, silent)
    assert json.loads((tmp_path / "out" / "run.json").read_text("utf-8"))["settings"]["count"] == 3


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"device": "gpu"}, "choose auto, cpu, cuda"),
        ({"spacing": (1, 0, 1)}, "sizes above 0 mm"),
        ({"shape": (8, 8, 9)}, "multiples of 4"),
        ({"shape": (8, 8, 0)}, "multiples of 4"),
    ],
)
def test_what_a_late_stage_would_refuse_is_refused_at_once(
    tmp_path: Path, changed: dict[str, object], told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        settings(tmp_path, **changed)


def test_another_device_is_the_same_run(house: House, tmp_path: Path) -> None:
    run(settings(tmp_path), quiet, silent)
    run(settings(tmp_path, device="cpu"), quiet, silent)
    assert house.worked == list(DOCUMENTS)


def test_a_folder_that_holds_something_else_is_left_alone(house: House, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(UsageError, match="holds something else"):
        run(settings(tmp_path), quiet, silent)
    assert house.worked == []


@pytest.mark.usefixtures("house")
def test_the_record_holds_no_source_path(tmp_path: Path) -> None:
    private = tmp_path / "Doe_Jane"
    private.mkdir()
    (private / "Doe.tsv").touch()
    run(settings(tmp_path, sources=(private,), patients=private / "Doe.tsv", labels=private), quiet, silent)
    text = (tmp_path / "out" / "run.json").read_text("utf-8")
    assert "Doe" not in text
    assert json.loads(text)["schema"] == "anonsynth/run/1"
    assert set(json.loads(text)["done"]) == set(DOCUMENTS)


@pytest.mark.usefixtures("house")
@pytest.mark.parametrize("text", ["{", "[]", '{"settings": {}}', '{"settings": {}, "done": {"ingest": 3}}'])
def test_a_record_that_is_broken_is_told(tmp_path: Path, text: str) -> None:
    run(settings(tmp_path), quiet, silent)
    (tmp_path / "out" / "run.json").write_text(text, "utf-8")
    with pytest.raises(InputError, match=r"run\.json"):
        run(settings(tmp_path), quiet, silent)


def test_the_demo_simulates_first(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def simulating(_: DemoSettings, source: Path) -> Stage:
        return house.stage("simulate", source / "participants.tsv")

    monkeypatch.setattr(pipeline, "_simulating", simulating)
    result = demo(DemoSettings(out=tmp_path / "d"), quiet, silent)
    assert house.worked == ["simulate", *DOCUMENTS]
    assert result.report == tmp_path / "d" / "audit" / "report.html"
    with pytest.raises(UsageError, match="its simulated differ"):
        demo(DemoSettings(out=tmp_path / "d", patients=60), quiet, silent)


@pytest.mark.usefixtures("house")
def test_a_finished_run_answers_without_the_heavy_libraries(tmp_path: Path) -> None:
    run(settings(tmp_path), quiet, silent)
    for folder, document in (("model", "model.json"), ("synthetic", "participants.tsv")):
        (tmp_path / "out" / folder / document).touch()
    code = (
        "import sys; from anonsynth.cli.main import app\n"
        f"sys.argv = ['anonsynth', 'run', {str(tmp_path / 'src')!r}, '--out', {str(tmp_path / 'out')!r}]\n"
        "try: app()\n"
        "except Exception as error: print(type(error).__name__)\n"
        "print([name for name in ('torch', 'numpy', 'nibabel') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-2:] == ["VerdictError", "[]"]
    assert "All is done" in ended.stderr
