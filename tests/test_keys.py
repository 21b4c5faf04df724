"""Keys nobody else can read, manifests that lead nowhere else, and a bill of what is installed."""

from __future__ import annotations

import hashlib
import json
import stat
from importlib.metadata import version
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from typer.testing import CliRunner

from anonsynth.cli.main import app
from anonsynth.errors import InputError, UsageError
from anonsynth.release.dataset import is_allowed
from anonsynth.release.keys import PASSPHRASE, fingerprint, make_keys, read_key, read_public
from anonsynth.release.sbom import bill_of_materials
from anonsynth.release.tree import list_files, read_manifest

ZERO = "0" * 64


def test_a_key_is_its_owners_alone_and_signs_what_its_public_half_verifies(tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "keys")
    assert stat.S_IMODE(keys.private.stat().st_mode) == 0o600
    key, public = read_key(keys.private), read_public(keys.public)
    public.verify(key.sign(b"x"), b"x")
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert fingerprint(public) == keys.fingerprint == hashlib.sha256(der).hexdigest()
    with pytest.raises(UsageError, match="holds keys already"):
        make_keys(tmp_path / "keys")
    keys.private.chmod(0o640)
    with pytest.raises(InputError, match="may be read by others; chmod 600"):
        read_key(keys.private)


def test_a_passphrase_is_needed_where_there_is_one(tmp_path: Path) -> None:
    closed, bare = make_keys(tmp_path / "closed", "open sesame"), make_keys(tmp_path / "bare")
    assert b"ENCRYPTED" in closed.private.read_bytes()
    assert fingerprint(read_key(closed.private, "open sesame").public_key()) == closed.fingerprint
    with pytest.raises(InputError, match=f"needs its passphrase; give it in {PASSPHRASE}"):
        read_key(closed.private)
    with pytest.raises(InputError, match="the passphrase is wrong"):
        read_key(closed.private, "sesame")
    with pytest.raises(InputError, match="has no passphrase"):
        read_key(bare.private, "sesame")


def test_other_keys_are_refused(tmp_path: Path) -> None:
    pem = generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    other = tmp_path / "rsa.key"
    other.write_bytes(pem)
    other.chmod(0o600)
    with pytest.raises(InputError, match="no Ed25519 key"):
        read_key(other)
    with pytest.raises(InputError, match="no Ed25519 public key"):
        read_public(other)
    with pytest.raises(InputError, match="cannot be read"):
        read_public(tmp_path / "nobody.pub")


def test_the_command_prints_the_public_half_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSPHRASE, "open sesame")
    ended = CliRunner().invoke(app, ["keys", "new", "--out", str(tmp_path / "keys"), "--json"])
    told = json.loads(ended.stdout)
    assert told["encrypted"]
    assert told["public_key"] == (tmp_path / "keys" / "anonsynth.pub").read_text("utf-8")
    assert "PRIVATE" not in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"{ZERO}  /etc/passwd\n", "outside"),
        (f"{ZERO}  a/../../b\n", "outside"),
        (f"{ZERO}  a//b\n", "outside"),
        (f"{ZERO}  C:/b\n", "outside"),
        (f"{ZERO}  b\n{ZERO}  a\n", "line 2 is out of order"),
        (f"{ZERO}  a\n{ZERO}  a\n", "line 2 is out of order or there twice"),
        (f"{ZERO[1:]}  a\n", "line 1 is not"),
        (f"{ZERO}  a", "line end"),
    ],
)
def test_a_manifest_names_files_inside_once(text: str, why: str) -> None:
    said = read_manifest(text)
    assert isinstance(said, str)
    assert why in said


def test_links_are_listed_and_never_followed(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "patient.nii").write_bytes(b"x")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "in").symlink_to(tmp_path / "private")
    (folder / "file").write_bytes(b"y")
    assert list_files(folder).files == ("file",)
    assert list_files(folder).odd == (("in", "a link"),)
    with pytest.raises(InputError, match="not a link"):
        list_files(folder / "in")


@pytest.mark.parametrize(
    "name",
    [
        "sub-synth0001/anat/sub-synth0002_T1w.nii.gz",
        "sub-Doe/anat/sub-Doe_T1w.nii.gz",
        "sub-synth0001/anat/sub-synth0001_T1w.nii",
        "sub-synth0001/func/sub-synth0001_T1w.nii.gz",
        "sub-synth0001/anat/../../code/provenance.json",
        ".DS_Store",
        "code/train.log",
    ],
)
def test_only_what_generate_writes_may_leave(name: str) -> None:
    assert not is_allowed(name)
    assert is_allowed("derivatives/labels/sub-synth0001/ses-style01/anat/sub-synth0001_ses-style01_dseg.json")
    assert is_allowed("sub-synth0001/anat/sub-synth0001_ce-gadolinium_T1w.nii.gz")


def test_the_bill_lists_what_is_needed_and_no_place() -> None:
    bill = bill_of_materials()
    parts = {part["name"]: part for part in bill["components"]}
    assert parts["jsonschema"]["version"] == version("jsonschema")
    assert {"numpy", "torch", "attrs"} <= set(parts), "requirements of requirements too"
    assert "pytest" not in parts
    assert parts["numpy"]["purl"] == f"pkg:pypi/numpy@{version('numpy')}"
    known = {part["bom-ref"] for part in bill["components"]} | {bill["metadata"]["component"]["bom-ref"]}
    for entry in bill["dependencies"]:
        assert {entry["ref"], *entry["dependsOn"]} <= known
    assert bill == bill_of_materials()
    assert "file://" not in json.dumps(bill)
