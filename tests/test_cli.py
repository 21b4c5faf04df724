"""The command line: quick help with an example, exit statuses, one sentence per error, one object with --json."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from anonsynth import errors
from anonsynth.cli import output
from anonsynth.cli.main import app
from anonsynth.cli.outcome import refuse, tell
from anonsynth.errors import ExitStatus, VerdictError
from anonsynth.pipeline import RunResult, StageTime

COMMANDS = (
    "audit",
    "deidentify",
    "demo",
    "doctor",
    "edit",
    "generate",
    "ingest",
    "inspect",
    "keys",
    "plan",
    "ledger",
    "policy",
    "release",
    "run",
    "selftest",
    "simulate",
    "train",
    "verify",
)
POLICY_COMMANDS = ("check", "diff", "explain", "list", "show")
LEDGER_COMMANDS = ("show", "verify")
HELP_SECONDS = 0.6


def anonsynth(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "anonsynth.cli.main", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "200", **environment},
    )


def failing(statement: str, *, debug: bool = False) -> subprocess.CompletedProcess[str]:
    """Run `anonsynth doctor` with a doctor that does `statement`."""
    code = (
        "import sys, anonsynth.doctor, anonsynth.errors as errors\n"
        f"def examine(folder): {statement}\n"
        "anonsynth.doctor.examine = examine\n"
        "from anonsynth.cli.main import main\n"
        f"sys.argv = ['anonsynth', *{['--debug'] if debug else []}, 'doctor']\n"
        "main()"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_help_is_quick() -> None:
    # Processor time, not the clock: the tests may share the cores with others. The best of three counts.
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert anonsynth("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) < HELP_SECONDS


@pytest.mark.parametrize(
    "arguments", [["--help"], ["train", "--help"], ["run", "--help"], ["policy", "list"], ["ledger", "show", "--help"]]
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from anonsynth.cli.main import app\n"
        f"sys.argv = ['anonsynth', *{arguments}]\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "sys.stderr.write(str([n for n in ('torch', 'numpy', 'nibabel', 'pydicom', 'scipy') if n in sys.modules]))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stderr.endswith("[]")


def test_every_command_of_the_first_way_is_there() -> None:
    assert set(COMMANDS) == set(get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "command",
    [
        *([name] for name in COMMANDS),
        *(["policy", name] for name in POLICY_COMMANDS),
        *(["ledger", name] for name in LEDGER_COMMANDS),
        ["keys", "new"],
    ],
)
def test_every_commands_help_shows_an_example_of_itself(command: list[str]) -> None:
    ended = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "300"})
    assert ended.exit_code == 0
    assert f"Example: anonsynth {' '.join(command)}" in ended.stdout
    assert "being written" not in ended.stdout


def test_help_says_that_nothing_is_sent_and_what_the_statuses_mean() -> None:
    told = " ".join(anonsynth("--help").stdout.split())
    assert "Nothing is ever sent over the network" in told
    assert "130 interrupted" in told


def test_no_command_shows_the_help_and_is_wrong_usage() -> None:
    for arguments in ([], ["--debug"]):
        ended = anonsynth(*arguments)
        assert ended.returncode == ExitStatus.USAGE
        assert "Usage: anonsynth" in ended.stdout + ended.stderr


def test_the_version() -> None:
    assert anonsynth("--version").stdout == "anonsynth 0.1.0\n"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [(["trian"], "Did you mean 'train'"), (["run", "--polcy", "x"], "--policy"), (["policy", "shwo"], "show")],
)
def test_a_slip_of_the_finger_is_understood(arguments: list[str], hint: str) -> None:
    ended = anonsynth(*arguments)
    assert ended.returncode == ExitStatus.USAGE
    assert hint in ended.stderr
    assert ended.stdout == ""


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--shape", "1,2", "three whole numbers"),
        ("--shape", "1.5,2,2", "three whole numbers"),
        ("--spacing", "a", "three numbers"),
        ("-n", "0", "greater than or equal to 1"),
        ("--seed", "-1", "greater than or equal to 0"),
    ],
)
def test_a_wrong_value_is_wrong_usage(tmp_path: Path, option: str, value: str, told: str) -> None:
    ended = anonsynth("run", str(tmp_path), "--out", str(tmp_path / "o"), option, value)
    assert ended.returncode == ExitStatus.USAGE
    assert told in ended.stderr
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("statement", "status"),
    [
        ("raise errors.UsageError('one sentence')", 2),
        ("raise errors.InputError('one sentence')", 3),
        ("raise errors.VerdictError('one sentence')", 4),
        ("raise errors.BudgetError('one sentence')", 5),
        ("raise errors.InternalError('one sentence')", 1),
    ],
)
def test_each_error_is_one_sentence_and_its_status(statement: str, status: int) -> None:
    ended = failing(statement)
    assert (ended.returncode, ended.stderr, ended.stdout) == (status, "anonsynth: one sentence\n", "")


@pytest.mark.parametrize(
    ("statement", "status", "sentence"),
    [
        ("raise ValueError('/home/Doe^Jane')", 1, "internal error (ValueError)"),
        ("raise PermissionError(13, 'no', '/home/Doe^Jane')", 3, "check the permissions"),
        ("raise OSError(28, 'no', '/home/Doe^Jane')", 3, "the disk is full"),
        ("raise OSError(5, 'no', '/home/Doe^Jane')", 3, "input/output error"),
        ("raise OSError('/home/Doe^Jane')", 3, "OSError"),
        ("raise MemoryError", 3, "the memory is full"),
        ("raise KeyboardInterrupt", 130, "interrupted; run the same command again"),
    ],
)
def test_what_was_not_foreseen_shows_no_traceback_and_no_private_string(
    statement: str, status: int, sentence: str
) -> None:
    ended = failing(statement)
    assert ended.returncode == status
    assert sentence in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert "Doe" not in ended.stderr


def test_debug_shows_the_traceback() -> None:
    ended = failing("raise ValueError('detail')", debug=True)
    assert ended.returncode == ExitStatus.INTERNAL
    assert "Traceback" in ended.stderr
    assert "detail" in ended.stderr


def test_an_interrupt_ends_with_130(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, time, anonsynth.doctor\n"
        # A shell lets its background jobs, and their children, ignore Ctrl-C; this process sits at a terminal.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        # One system call tells that it is there: open() may swallow an interrupt that comes while it works.
        f"def examine(folder): os.mkdir({str(tmp_path / 'there')!r}); time.sleep(90)\n"
        "anonsynth.doctor.examine = examine\n"
        "from anonsynth.cli.main import main\n"
        "sys.argv = ['anonsynth', 'doctor']\n"
        "main()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "there").exists():
            assert process.poll() is None
        told = _pressing_ctrl_c(process)
    assert process.returncode == ExitStatus.INTERRUPTED
    assert told.strip().splitlines()[-1] == "anonsynth: interrupted; run the same command again and it resumes"


def _pressing_ctrl_c(process: subprocess.Popen[str]) -> str:
    """Press it as a person does: once more if nothing happens, as Python loses one that falls into a finaliser."""
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=15)[1]
    process.kill()
    return process.communicate()[1]


def test_a_reader_that_has_gone_is_no_error() -> None:
    line = f"{sys.executable} -m anonsynth.cli.main policy explain internal | true; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert ended.returncode in {0, 128 + signal.SIGPIPE}
    assert ended.stderr == ""


@pytest.mark.parametrize(
    "arguments", [["doctor"], ["policy", "list"], ["policy", "check", "internal"], ["policy", "explain", "internal"]]
)
def test_json_is_exactly_one_versioned_object(arguments: list[str]) -> None:
    ended = anonsynth(*arguments, "--json")
    assert ended.returncode == 0
    assert ended.stdout.count("\n") == 1
    assert json.loads(ended.stdout)["schema"].startswith("anonsynth/")


def test_a_policy_goes_out_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(anonsynth("policy", "show", "internal").stdout, "utf-8")
    assert anonsynth("policy", "check", str(path)).returncode == 0
    path.write_text(path.read_text("utf-8").replace("duplicates", "duplicate"), "utf-8")
    ended = anonsynth("policy", "check", str(path))
    assert ended.returncode == ExitStatus.USAGE
    assert "did you mean 'duplicates'" in ended.stderr


RESULT = RunResult(
    "fail", "FAIL: 3 copies were found.", Path("out/audit/report.html"), (StageTime("audit", 2.5, False),)
)


def test_a_run_ends_with_verdict_report_and_times(capsys: pytest.CaptureFixture[str]) -> None:
    tell(RESULT, json=False)
    told = capsys.readouterr()
    assert "2.5 s" in told.out
    assert "Verdict: FAIL: 3 copies were found." in told.err
    assert "out/audit/report.html" in told.err.replace("\n", "")
    tell(RESULT, json=True)
    assert json.loads(capsys.readouterr().out)["stages"] == [{"name": "audit", "seconds": 2.5, "earlier": False}]


def test_a_verdict_that_is_no_pass_ends_with_four() -> None:
    with pytest.raises(VerdictError, match="'fail', not a pass; the report says why"):
        refuse(RESULT)
    assert VerdictError.status == 4


def test_talk_goes_to_stderr_and_an_object_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    output.say("hello [not markup]")
    output.emit({"schema": "x/1", "ε": 1})
    with output.progress() as shown:
        shown.step("work", 1, 1, "loss 0.1")
    told = capsys.readouterr()
    assert told.out == '{"schema": "x/1", "ε": 1}\n'
    assert "hello [not markup]" in told.err
    assert "work: 1/1 loss 0.1" in told.err


def test_statuses_are_those_of_the_errors() -> None:
    assert [int(status) for status in errors.ExitStatus] == [0, 1, 2, 3, 4, 5, 130]
