"""The doctor: what is missing is named with its remedy, and nothing private is told."""

from __future__ import annotations

import getpass
import json
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from anonsynth import doctor
from anonsynth.cli.main import app
from anonsynth.doctor import State, examine
from anonsynth.errors import InputError


def by_name(folder: Path) -> dict[str, doctor.Check]:
    return {check.name: check for check in examine(folder)}


def test_this_machine_is_ready(tmp_path: Path) -> None:
    checks = by_name(tmp_path)
    assert [name for name, check in checks.items() if check.state is State.MISSING] == []
    assert {"torch", "device", "templates", "cores", "memory", "disk", "writing"} <= set(checks)
    assert checks["DICOM JPEG lossless"].detail


def test_nothing_private_is_told(tmp_path: Path) -> None:
    told = " ".join(f"{check.name} {check.detail} {check.remedy}" for check in examine(tmp_path))
    assert str(tmp_path) not in told
    assert str(Path.home()) not in told or str(Path.home()) == "/"
    for private in (getpass.getuser(), socket.gethostname()):
        assert private not in told.split()


def test_a_missing_library_is_named_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LIBRARIES", ("torch", "no-such-library"))
    check = by_name(tmp_path)["no-such-library"]
    assert (check.state, check.remedy) == (State.MISSING, "pip install anonsynth")


def test_a_missing_extra_is_optional(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "EXTRAS", {"x": ("no_such_module", "pip install x", "does x")})
    check = by_name(tmp_path)["extra x"]
    assert (check.state, check.remedy) == (State.OPTIONAL, "pip install x")


def test_a_missing_template_and_a_missing_codec_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "TEMPLATES", ("t1", "t9"))
    monkeypatch.setattr(doctor, "CODECS", {"JPEG 2000": "1.2.840.10008.1.2.4.90"})
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.is_available", False)
    checks = by_name(tmp_path)
    assert checks["templates"].state is State.MISSING
    assert "t9" in checks["templates"].detail
    assert checks["DICOM JPEG 2000"].state is State.MISSING


def test_little_room_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_FREE_GIB", 1e9)
    monkeypatch.setattr(doctor, "LEAST_MEMORY_GIB", 1e9)
    checks = by_name(tmp_path)
    assert checks["disk"].state is State.LOW
    assert checks["memory"].state is State.LOW
    assert 0.1 < float(checks["memory"].detail.split()[0]) < 1e5


def test_a_folder_that_cannot_be_written_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    assert by_name(tmp_path)["writing"].state is State.LOW


def test_the_command_prints_one_object_and_ends_with_three_when_something_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "LIBRARIES", ("no-such-library",))
    ended = CliRunner().invoke(app, ["doctor", "--json"])
    told = json.loads(ended.stdout)
    assert told["schema"] == "anonsynth/doctor/1"
    assert not told["ready"]
    assert isinstance(ended.exception, InputError)
    assert "no-such-library" in str(ended.exception)
