"""A release is signed as a whole: whatever changes in it later is found and named, whoever changes it."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from release_making import QUIET, Run, make_run
from typer.testing import CliRunner

from anonsynth.cli.main import app
from anonsynth.errors import InputError, UsageError, VerdictError
from anonsynth.files import UNFINISHED, sha256_file, write_bytes
from anonsynth.policies.model import load_policy
from anonsynth.privacy.chain import canonical
from anonsynth.release import build
from anonsynth.release.build import assess, write_release
from anonsynth.release.dsse import open_envelope, pae, seal
from anonsynth.release.keys import make_keys, read_key, read_public
from anonsynth.release.statement import DATASET, ENVELOPE, MANIFEST
from anonsynth.release.tree import manifest_text
from anonsynth.release.verify import verify

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_keys(tmp_path_factory.mktemp("keys")).private


@pytest.fixture(scope="module")
def made(run: Run, keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "release"
    return write_release(assess(run.settings(out), run.policy, QUIET), read_key(keys), QUIET).folder


@pytest.fixture
def release(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "release")


def faults(folder: Path, keys: Path) -> list[str]:
    return [fault.sentence for fault in verify(folder, read_public(keys.with_suffix(".pub"))).faults]


def sign_again(folder: Path, key: Ed25519PrivateKey, change: Callable[[dict], None] = lambda _: None) -> None:
    """Write manifest and statement anew, as an insider with a key would."""
    body = json.loads(open_envelope((folder / ENVELOPE).read_bytes(), key.public_key()).body)
    for name in (MANIFEST, ENVELOPE):
        (folder / name).unlink()
    (folder / MANIFEST).write_text(manifest_text(folder, {}), "utf-8")
    lines = manifest_text(folder, {}).splitlines()
    body["subject"] = [{"name": line[66:], "digest": {"sha256": line[:64]}} for line in lines]
    body["predicate"]["policy"]["sha256"] = sha256_file(folder / "policy.json")
    change(body)
    write_bytes(folder / ENVELOPE, seal(canonical(body).encode(), key))


def edit(path: Path, change: Callable[[dict], None]) -> None:
    value = json.loads(path.read_text("utf-8"))
    change(value)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")


def test_an_untouched_release_verifies_and_copies_the_scans(made: Path, keys: Path, run: Run) -> None:
    found = verify(made, read_public(keys.with_suffix(".pub")))
    assert found.faults == ()
    assert found.passed
    assert found.predicate is not None
    assert found.predicate.approvals == {"officer": "J. Doe"}
    source = run.root / "synthetic"
    names = sorted(p.relative_to(source) for p in source.rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(made / DATASET) for p in (made / DATASET).rglob("*") if p.is_file())
    assert all(sha256_file(source / name) == sha256_file(made / DATASET / name) for name in names)
    audited = json.loads((run.root / "audit" / "audit.json").read_text("utf-8"))["inputs"]["synthetic"]["sha256"]
    assert found.predicate.generated_sha256 == audited, "the gate hashes the scans in another way than audits do"


def test_nothing_private_is_in_a_release(made: Path, run: Run) -> None:
    audit = json.loads((run.root / "audit" / "audit.json").read_text("utf-8"))
    private = {audit["inputs"]["train"]["sha256"], str(run.root), "Doe_Jane_1970", "P0001", "data:image"}
    private |= {sample["nearest"] for sample in audit["samples"]}
    told = [p for p in made.rglob("*") if p.suffix in {".json", ".md", ".html", ".tsv", ".sha256"}]
    assert len(told) > 20
    for path in told:
        text = path.read_text("utf-8")
        assert not [word for word in private if word in text], path.name
    html = (made / "audit" / "report.html").read_text("utf-8")
    assert "default-src 'none'" in html
    assert not re.findall(r"https?://|<script|<img|url\(", html)


def test_every_one_of_a_hundred_changed_bytes_is_found_and_named(release: Path, keys: Path) -> None:
    rng = random.Random(8)  # noqa: S311 - a repeatable draw of places
    names = sorted(p.relative_to(release).as_posix() for p in release.rglob("*") if p.is_file())
    places = [(name, None) for name in names] + [(ENVELOPE, 0), (ENVELOPE, -1), (MANIFEST, -1)]
    places += [(rng.choice(names), None) for _ in range(100 - len(places))]
    assert len(places) == 100
    for name, place in places:
        path = release / name
        before = path.read_bytes()
        at = rng.randrange(len(before)) if place is None else place % len(before)
        changed = bytearray(before)
        changed[at] ^= rng.randrange(1, 256)
        path.write_bytes(changed)
        said = faults(release, keys)
        assert any(line.startswith(f"{name}: ") for line in said), f"byte {at} of {name}: {said}"
        path.write_bytes(before)
    assert faults(release, keys) == []


def test_no_byte_of_the_envelope_can_change(made: Path, keys: Path) -> None:
    data, public = (made / ENVELOPE).read_bytes(), read_public(keys.with_suffix(".pub"))
    assert open_envelope(data, public).fault is None
    tail = [at for at in range(len(data)) if at < 40 or at > len(data) - 300]
    for at in tail:
        for flip in (1, 2, 0x20):
            changed = bytearray(data)
            changed[at] ^= flip
            assert open_envelope(bytes(changed), public).fault is not None, at
    assert open_envelope(json.dumps(json.loads(data), indent=1).encode(), public).fault is not None


def test_added_removed_and_swapped_files_are_named(release: Path, keys: Path) -> None:
    (release / DATASET / "notes.txt").write_text("mine", "utf-8")
    assert any(line.startswith("dataset/notes.txt: it is not part") for line in faults(release, keys))
    (release / DATASET / "notes.txt").unlink()
    (release / "empty").mkdir()
    assert any(line.startswith("empty: ") for line in faults(release, keys))
    (release / "empty").rmdir()
    one, two = sorted(release.rglob("*_T1w.nii.gz"))[:2]
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    said = faults(release, keys)
    assert all(any(line.startswith(p.relative_to(release).as_posix()) for line in said) for p in (one, two))
    one.unlink()
    two.write_bytes(second)
    assert f"{one.relative_to(release).as_posix()}: it is missing" in faults(release, keys)
    one.symlink_to("/etc/hostname")
    assert any("it is a link" in line for line in faults(release, keys))


def test_a_swapped_report_and_an_edited_policy_are_named(release: Path, keys: Path) -> None:
    report = release / "audit" / "report.html"
    report.write_text(report.read_text("utf-8").replace("pass", "PASS"), "utf-8")
    edit(release / "policy.json", lambda value: value["audit"].update(min_power=0.1))
    said = faults(release, keys)
    assert "audit/report.html: its contents are not those that were signed" in said
    assert "policy.json: its contents are not those that were signed" in said
    # With a new manifest, but no key.
    (release / MANIFEST).unlink()
    (release / MANIFEST).write_text(
        "".join(x for x in manifest_text(release, {}).splitlines(keepends=True) if ENVELOPE not in x), "utf-8"
    )
    said = faults(release, keys)
    assert any(line.startswith(f"{MANIFEST}: its line of policy.json") for line in said)


def test_another_key_is_another_signature(release: Path, keys: Path) -> None:
    sign_again(release, Ed25519PrivateKey.generate())
    assert f"{ENVELOPE}: it was signed with another key" in faults(release, keys)
    envelope = json.loads((release / ENVELOPE).read_bytes())
    body = open_envelope((release / ENVELOPE).read_bytes(), read_key(keys).public_key()).body
    envelope["signatures"][0]["keyid"] = json.loads(seal(body, read_key(keys)))["signatures"][0]["keyid"]
    (release / ENVELOPE).write_text(canonical(envelope) + "\n", "utf-8")
    assert f"{ENVELOPE}: the signature does not fit" in faults(release, keys)


def _hide(name: str) -> Callable[[dict], None]:
    def change(audit: dict) -> None:
        next(f for f in audit["findings"] if f["id"] == name).update(verdict="pass")

    return change


def _flag(audit: dict) -> None:
    audit["samples"][0]["flagged"] = True


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("audit/audit.json", _flag),
        ("audit/audit.json", lambda audit: audit["findings"].pop(0)),
        ("audit/audit.json", lambda audit: audit["generated"].update(sha256="0" * 64)),
        ("audit/audit.json", lambda audit: audit["controls"][0].update(detected=1)),
        ("policy.json", lambda policy: policy["audit"].update(min_power=0.9)),
        ("policy.json", lambda policy: policy["release"]["findings"].append("membership")),
        ("policy.json", lambda policy: policy["release"]["approvals"].append("expert")),
        ("model_card.json", lambda card: card.update(prior="unheard of")),
    ],
)
def test_an_insider_with_the_key_cannot_sign_what_does_not_follow(
    release: Path, keys: Path, file: str, change: Callable[[dict], None]
) -> None:
    edit(release / file, change)
    sign_again(release, read_key(keys))
    assert any(line.startswith(f"{ENVELOPE}: ") for line in faults(release, keys)), faults(release, keys)


def test_an_edited_verdict_does_not_follow(release: Path, keys: Path) -> None:
    sign_again(release, read_key(keys))
    assert faults(release, keys) == [], "the insider's tools sign well, so that what follows is not about them"
    sign_again(release, read_key(keys), lambda body: body["predicate"].update(verdict="inconclusive"))
    assert f"{ENVELOPE}: the verdict was signed as inconclusive, and pass follows" in faults(release, keys)


def test_an_override_is_printed_everywhere_and_is_no_pass(run: Run, keys: Path, tmp_path: Path) -> None:
    settings = run.settings(tmp_path / "release", override="for <the> workshop", approvals={})
    assessed = assess(settings, run.policy, QUIET)
    assert [check.id for check in assessed.refused] == ["approval:officer"]
    folder = write_release(assessed, read_key(keys), QUIET).folder
    pages = [*folder.rglob("*.md"), *folder.rglob("*.html")]
    assert len(pages) == 5
    for page in pages:
        text = page.read_text("utf-8")
        assert text.index("RELEASED BY OVERRIDE") < text.index("# " if page.suffix == ".md" else "<h1"), page.name
        assert "for &lt;the&gt; workshop" in text
        assert "#a4161a" in text
    found = verify(folder, read_public(keys.with_suffix(".pub")))
    assert found.authentic
    assert not found.passed
    ended = RUNNER.invoke(app, ["verify", str(folder), "--key", str(keys.with_suffix(".pub")), "--json"])
    assert isinstance(ended.exception, VerdictError)
    assert json.loads(ended.stdout)["override"] == "for <the> workshop"
    assert "RELEASED BY OVERRIDE" in ended.stderr
    # Whoever has the key cannot take the override back without making the verdict a lie.
    sign_again(folder, read_key(keys), lambda body: body["predicate"].update(override=None))
    assert f"{ENVELOPE}: it was released without a pass and without an override" in faults(folder, keys)


def test_a_killed_release_begins_anew_and_a_finished_one_is_left_alone(
    run: Run, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, key = tmp_path / "release", read_key(keys)
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from anonsynth.release import build; from anonsynth.release.keys import read_key\n"
        "from release_making import QUIET, Run\n"
        "run = Run(Path(sys.argv[1])); sign = build._sign\n"
        "build._sign = lambda *a: (sign(*a), os.kill(os.getpid(), signal.SIGKILL))\n"
        "assessed = build.assess(run.settings(Path(sys.argv[2])), run.policy, QUIET)\n"
        "build.write_release(assessed, read_key(Path(sys.argv[3])), QUIET)\n"
    )
    search = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    command = [sys.executable, "-c", script, str(run.root), str(out), str(keys)]
    ended = subprocess.run(command, env={**os.environ, "PYTHONPATH": search}, capture_output=True, check=False)
    assert ended.returncode == -9, ended.stderr
    assert not out.exists()
    assert (tmp_path / ".release.partial" / UNFINISHED).is_file()
    assessed = assess(run.settings(out), run.policy, QUIET)
    assert not write_release(assessed, key, QUIET).earlier
    assert [path.name for path in tmp_path.iterdir()] == ["release"]
    assert faults(out, keys) == []
    monkeypatch.setattr(build, "_copy", None)  # would fail if anything were copied again
    assert write_release(assessed, key, QUIET).earlier
    with pytest.raises(UsageError, match="another release"):
        write_release(assess(run.settings(out, approvals={"officer": "M. Mus"}), run.policy, QUIET), key, QUIET)
    (out / "README.md").write_text("", "utf-8")
    with pytest.raises(UsageError, match="does not verify"):
        write_release(assessed, key, QUIET)


def test_what_may_not_leave_stops_the_release_whatever_the_reason(run: Run, keys: Path, tmp_path: Path) -> None:
    other = Run(shutil.copytree(run.root, tmp_path / "run"))
    settings = other.settings(tmp_path / "release", override="never mind")
    extra = other.root / "synthetic" / "patients.xlsx"
    extra.write_bytes(b"names")
    with pytest.raises(InputError, match=r"patients\.xlsx is no file that"):
        assess(settings, other.policy, QUIET)
    extra.unlink()
    extra.symlink_to("/etc/hostname")
    with pytest.raises(InputError, match="is a link"):
        assess(settings, other.policy, QUIET)
    extra.unlink()
    scan = min(other.root.glob("synthetic/sub-synth0002/anat/*_T1w.nii.gz"))
    voxels = bytearray(gzip.decompress(scan.read_bytes()))
    voxels[148:158] = b"Doe^Jane  "
    scan.write_bytes(gzip.compress(bytes(voxels), mtime=0))
    with pytest.raises(InputError, match=r"_T1w\.nii\.gz may not leave: its header holds words in 'descrip'"):
        assess(settings, other.policy, QUIET)
    voxels[148:158] = bytes(10)
    voxels[-1] ^= 1
    scan.write_bytes(gzip.compress(bytes(voxels), mtime=0))
    assessed = assess(other.settings(tmp_path / "release"), other.policy, QUIET)
    assert [check.id for check in assessed.refused] == ["audit-1-files"], "one voxel was changed after the audit"
    with pytest.raises(VerdictError, match="made on other files than those to be released; run `anonsynth audit"):
        write_release(assessed, read_key(keys), QUIET)
    assert not (tmp_path / "release").exists()


def test_the_ledger_is_asked_where_the_cohort_is_named(run: Run, tmp_path: Path) -> None:
    cohort = run.root / "Doe_Jane_1970" / "cohort"
    ledger = assess(run.settings(tmp_path / "release", cohort=cohort), run.policy, QUIET).evidence.model.ledger
    assert ledger is not None
    assert ledger.paired
    assert ledger.unprotected > 0
    assert ledger.epsilon is None
    assert ledger.statement.startswith("no guarantee: ")
    strict = load_policy("dp-standard")
    said = {c.id for c in assess(run.settings(tmp_path / "release", cohort=cohort), strict, QUIET).refused}
    assert {"prior", "guarantee", "ledger", "audit-1-thresholds", "finding:membership"} <= said


def test_the_command_line_goes_the_whole_way(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.root)
    keys, out = tmp_path / "keys", tmp_path / "release"
    assert RUNNER.invoke(app, ["keys", "new", "--out", str(keys)]).exit_code == 0
    command = ["release", "synthetic", "--audit", "audit", "--policy", "tiny.yaml", "--out", str(out)]
    command += ["--key", str(keys / "anonsynth.key")]
    refused = RUNNER.invoke(app, command)
    assert isinstance(refused.exception, VerdictError)
    assert "add --approve 'officer=NAME'" in str(refused.exception)
    ended = RUNNER.invoke(app, [*command, "--approve", "officer=J. Doe", "--json"])
    assert ended.exit_code == 0, ended.exception
    assert json.loads(ended.stdout)["verdict"] == "pass"
    check = ["verify", str(out), "--key", str(keys / "anonsynth.pub")]
    ended = RUNNER.invoke(app, [*check, "--rerun", "--json"])
    assert ended.exit_code == 0, ended.exception
    assert json.loads(ended.stdout)["rerun"]["repeated"] == []
    assert "no question of the audit was repeated" in ended.stderr


def test_openssl_and_sha256sum_agree(made: Path, keys: Path, tmp_path: Path) -> None:
    """The commands of docs/release.md, as they stand there."""
    if not (shutil.which("openssl") and shutil.which("sha256sum")):
        pytest.skip("openssl or sha256sum is not on this machine")
    text = (Path(__file__).resolve().parent.parent / "docs" / "release.md").read_text("utf-8")
    (script,) = re.findall(r"<!-- tests/test_release.py runs this block -->\n```sh\n(.*?)```", text, re.DOTALL)
    folder = shutil.copytree(made, tmp_path / "RELEASE")
    shutil.copy2(keys.with_suffix(".pub"), tmp_path / "anonsynth.pub")
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "Signature Verified Successfully" in ended.stdout
    (folder / "README.md").write_text("", "utf-8")
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode != 0


def test_the_encoding_is_that_of_the_dsse_specification() -> None:
    assert (
        pae("http://example.com/HelloWorld", b"hello world")
        == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
