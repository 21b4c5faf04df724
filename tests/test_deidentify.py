"""De-identification: nothing that was planted comes out, what research needs does, and the checks can fail."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_making import Made
from typer.testing import CliRunner

from anonsynth.cli.main import app
from anonsynth.deid.keyed import Keyed
from anonsynth.deid.moments import Moments
from anonsynth.deid.one_file import deidentify_bytes
from anonsynth.deid.rules import CLASSES, profile_row, rules_for, table
from anonsynth.deid.vault import PASSPHRASE, Vault, open_vault, save_vault
from anonsynth.deid.words import clean
from anonsynth.deidentify import REPORT, Deidentification, DeidentifySettings, deidentify
from anonsynth.errors import InputError, UsageError
from anonsynth.files import read_tsv
from anonsynth.policies.model import Policy, load_policy
from anonsynth.selftest.seeded import Seeded, write_seeded
from anonsynth.selftest.survivors import Outcome, judge

POLICY = load_policy("research-exchange")
SECRET = b"a passphrase that is long"


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    return write_seeded(tmp_path_factory.mktemp("seeded") / "in", seed=7)


@pytest.fixture(scope="module")
def done(seeded: Seeded) -> Deidentification:
    return deidentify(DeidentifySettings(seeded.folder, seeded.folder.with_name("out")), POLICY)


@pytest.fixture(scope="module")
def outcome(seeded: Seeded, done: Deidentification) -> Outcome:
    assert done.document["files"]["written"]
    return judge(seeded, seeded.folder.with_name("out"))


def images(folder: Path) -> Iterator[pydicom.Dataset]:
    for path in sorted(folder.rglob("*.dcm")):
        yield pydicom.dcmread(path)


def test_nothing_that_was_planted_comes_out(outcome: Outcome) -> None:
    assert sum(outcome.planted.values()) >= 1500
    assert outcome.survived == {}
    assert outcome.uids == 0


def test_what_research_needs_comes_out(outcome: Outcome) -> None:
    assert outcome.technical == 1
    assert outcome.pixels_changed == 0
    assert outcome.missing == 0
    assert outcome.references == outcome.references_planted > 0


def test_the_judge_sees_survivors_in_a_plain_copy(seeded: Seeded, tmp_path: Path) -> None:
    shutil.copytree(seeded.folder, tmp_path / "copy")
    copied = judge(seeded, tmp_path / "copy")
    assert copied.survived == copied.planted
    assert copied.uids == len(seeded.uids)
    assert copied.references == copied.references_planted
    assert not copied.clean


def test_what_cannot_pass_is_quarantined_with_a_reason(seeded: Seeded, done: Deidentification) -> None:
    rows = read_tsv(done.private / "quarantine.tsv")
    assert len(rows) == seeded.files - done.document["files"]["written"]
    reasons = " ".join(done.document["files"]["reasons"])
    for kind in ("secondary capture", "burned into", "Encapsulated PDF", "Basic Text SR", "SOP class"):
        assert kind in reasons
    assert not [word for word in seeded.secrets if word.lower() in reasons.lower()]


def test_the_report_holds_every_rule_and_what_is_not_covered(done: Deidentification, seeded: Seeded) -> None:
    assert not done.resumed
    report = json.loads((seeded.folder.with_name("out") / REPORT).read_text("utf-8"))
    assert len(report["rules"]) == len(table())
    assert all(rule["reason"] and rule["source"] for rule in report["rules"])
    assert any("Faces" in sentence for sentence in report["not_covered"])
    assert report["sweep"]["hits"] == 0
    assert report["sweep"]["searched"]["name"] > 50


def test_every_file_says_how_it_was_de_identified(done: Deidentification, seeded: Seeded) -> None:
    codes = set()
    assert done.document["files"]["written"] == len(list(images(seeded.folder.with_name("out"))))
    for image in images(seeded.folder.with_name("out")):
        assert image.PatientIdentityRemoved == "YES"
        assert image.LongitudinalTemporalInformationModified == "MODIFIED"
        assert image.preamble == b"\0" * 128
        assert set(image.file_meta.dir()) <= {
            "FileMetaInformationGroupLength", "FileMetaInformationVersion", "ImplementationClassUID",
            "ImplementationVersionName", "MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID",
        }  # fmt: skip
        codes |= {item.CodeValue for item in image.DeidentificationMethodCodeSequence}
    assert codes == {item["code"] for item in done.document["options"]}
    assert not codes & {"113101", "113102", "113103", "113104"}, "nobody looked at pixels"


def test_the_allow_list_is_nowhere_laxer_than_the_standards_table() -> None:
    retains = {"uid": "uids", "date": "modified-dates", "time": "modified-dates", "datetime": "modified-dates"}
    options = {"characteristics", "descriptors", "device", "institution"}
    for rule in table():
        row = profile_row(rule.tag)
        if row is None:
            continue
        basic, optional = row
        if rule.option in options:
            assert rule.option in optional, rule.keyword
        elif rule.kind in retains:
            assert "U" in basic or retains[rule.kind] in optional or rule.option, rule.keyword
        elif rule.kind in {"sequence", "words", "code"}:
            assert "U" in basic or "descriptors" in optional, rule.keyword
        else:
            assert rule.kind in {"empty", "empty-sequence", "name", "pseudonym", "device"}, rule.keyword


def test_a_policy_without_options_keeps_no_person_and_no_date(tmp_path: Path) -> None:
    bare = Policy.model_validate(
        {"id": "bare", "title": "Bare", "description": "x",
         "deidentification": {"dates": "remove", "descriptors": False}}
    )  # fmt: skip
    tags: dict[str, object] = {"PatientSex": "F", "PatientAge": "045Y", "SeriesDescription": "t1", "ContentDate":
        "20190721",
                               "StudyDate": "20190721", "AcquisitionDate": "20190721"}  # fmt: skip
    (path,) = Made(shape=(8, 8, 1), tags=tags).write(tmp_path)
    image = pydicom.dcmread(_opened(deidentify_bytes(path.read_bytes(), bare, Keyed(b"k" * 32)).data))
    assert image.PatientSex == ""
    assert "PatientAge" not in image
    assert "SeriesDescription" not in image
    assert image.StudyDate == ""
    assert image.ContentDate == "19000101"
    assert "AcquisitionDate" not in image
    assert image.LongitudinalTemporalInformationModified == "REMOVED"
    kept = pydicom.dcmread(_opened(deidentify_bytes(path.read_bytes(), POLICY, Keyed(b"k" * 32)).data))
    assert (kept.PatientSex, kept.PatientAge, kept.SeriesDescription) == ("F", "045Y", "t1")


@pytest.mark.parametrize("letter", sorted(set(CLASSES.values())))
def test_every_kind_of_file_keeps_what_tells_its_geometry(letter: str) -> None:
    kept = {rule.keyword for rule in rules_for(letter).values()}
    assert kept >= {"ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns", "BitsStored"}


def test_dates_keep_their_intervals_and_no_time_of_day() -> None:
    moments = Moments("shift", 40000, (10 * 3600 + 17 * 60 + 33) * 1_000_000)
    one, other = moments.date(b"20190721"), moments.date(b"20200120")
    assert one is not None
    assert other is not None
    assert np.datetime64(f"{other[:4].decode()}-{other[4:6].decode()}-{other[6:].decode()}") - np.datetime64(
        f"{one[:4].decode()}-{one[4:6].decode()}-{one[6:].decode()}"
    ) == np.timedelta64(183)
    assert moments.time(b"101733") == b"120000"
    assert moments.time(b"102000.500000") == b"120227.500000"
    assert moments.time(b"231733") is None, "half a day from the study's start: not of this examination"
    assert moments.date(b"Smith") is None
    assert moments.datetime(b"20190721102000.5+0200") == one + b"120227.500000"
    assert Moments("remove", 0, 0).date(b"20190721") is None


def test_replacements_depend_on_the_key_and_on_nothing_else() -> None:
    one, again, other = Keyed(b"a" * 32), Keyed(b"a" * 32), Keyed(b"b" * 32)
    assert one.uid(b"1.2.3") == again.uid(b"1.2.3") != other.uid(b"1.2.3")
    assert one.uid(b"1.2.3").startswith(b"2.25.")
    assert len(one.uid(b"1.2.3")) <= 64
    assert one.pseudonym(b"4711") == again.pseudonym(b"4711") != one.pseudonym(b"4712")
    assert len({one.days(b"%d" % number) for number in range(50)}) > 45


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("t1_mprage_sag_Mustermann", "t1 mprage sag"),
        ("HeadMatrix 32ch", "HeadMatrix 32ch"),
        ("Brain w/o Contrast Dr. Oetker 1971-03-12", "Brain Contrast"),
        ("Größe T2", "T2"),
        ("", ""),
    ],
)
def test_descriptions_keep_words_of_the_list_only(text: str, kept: str) -> None:
    assert clean(text) == kept


def test_a_word_of_the_list_goes_where_it_is_somebodys_name() -> None:
    assert clean("Head of Brain", frozenset({"head"})) == "Brain"


def test_the_vault_gives_the_same_pseudonyms_again_and_opens_with_its_secret_only(tmp_path: Path) -> None:
    vault = Vault(patients={"P1": {"PatientName": "Mustermann^Erika"}})
    save_vault(tmp_path / "vault", vault, SECRET)
    data = (tmp_path / "vault").read_bytes()
    assert b"Mustermann" not in data
    assert vault.key not in data
    assert vault.key.hex().encode() not in data
    assert "Mustermann" not in repr(vault)
    assert open_vault(tmp_path / "vault", SECRET) == vault
    with pytest.raises(InputError, match="cannot be opened"):
        open_vault(tmp_path / "vault", b"another passphrase")
    (tmp_path / "vault").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(InputError, match="cannot be opened"):
        open_vault(tmp_path / "vault", SECRET)


def test_a_run_with_a_vault_resumes_and_takes_new_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSPHRASE, SECRET.decode())
    Made(shape=(8, 8, 3), tags={"PatientName": "Mustermann^Erika", "PatientID": "4711002"}).write(tmp_path / "in")
    settings = DeidentifySettings(tmp_path / "in", tmp_path / "out")
    first = deidentify(settings, POLICY)
    assert first.vault
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*.dcm")}
    assert deidentify(settings, POLICY).resumed
    next((tmp_path / "out").rglob("*.dcm")).unlink()
    (tmp_path / "out" / REPORT).unlink()
    deidentify(settings, POLICY)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*.dcm")} == before
    Made(shape=(8, 8, 2), tags={"PatientID": "4711002", "PatientName": "Mustermann^Erika"}).write(tmp_path / "in" / "b")
    assert deidentify(settings, POLICY).document["patients"] == 1
    vault = open_vault(tmp_path / "out-private" / "vault", SECRET)
    (identity,) = vault.patients.values()
    assert identity["PatientName"] == "Mustermann^Erika"
    assert not [path for path in (tmp_path / "out").rglob("*") if "vault" in path.name]


def test_folders_in_each_other_and_other_settings_are_refused(tmp_path: Path) -> None:
    Made(shape=(8, 8, 2)).write(tmp_path / "in")
    for out, private in (("in/out", None), (".", None), ("out", "out/private")):
        settings = DeidentifySettings(tmp_path / "in", tmp_path / out, tmp_path / private if private else None)
        with pytest.raises(UsageError, match="must not lie in each other"):
            deidentify(settings, POLICY)
    deidentify(DeidentifySettings(tmp_path / "in", tmp_path / "out"), POLICY)
    with pytest.raises(UsageError, match="other settings"):
        deidentify(DeidentifySettings(tmp_path / "in", tmp_path / "out"), load_policy("internal"))
    Made(shape=(8, 8, 2)).write(tmp_path / "in" / "new")
    with pytest.raises(UsageError, match="key of this output is gone"):
        deidentify(DeidentifySettings(tmp_path / "in", tmp_path / "out"), POLICY)


def test_an_identifier_in_a_number_field_does_not_pass(tmp_path: Path) -> None:
    (path,) = Made(shape=(8, 8, 1), tags={"PatientID": "0471100", "EchoTime": "471100", "SAR": "0471100"}).write(
        tmp_path
    )
    image = pydicom.dcmread(_opened(deidentify_bytes(path.read_bytes(), POLICY, Keyed(b"k" * 32)).data))
    assert not image.EchoTime
    assert "SAR" not in image


def test_the_commands_say_what_was_done(tmp_path: Path) -> None:
    Made(shape=(8, 8, 2), tags={"PatientName": "Mustermann^Erika"}).write(tmp_path / "in")
    ended = CliRunner().invoke(app, ["deidentify", str(tmp_path / "in"), str(tmp_path / "out"), "--json"])
    assert ended.exit_code == 0, ended.exception
    assert json.loads(ended.stdout)["files"]["written"] == 2
    assert "Faces" in ended.stderr
    assert "No vault was kept" in ended.stderr
    assert "Mustermann" not in ended.output
    ended = CliRunner().invoke(app, ["selftest", "deidentify", "--json"])
    assert ended.exit_code == 0, ended.output
    assert json.loads(ended.stdout)["clean"]


def _opened(data: bytes) -> pydicom.filebase.DicomBytesIO:
    return pydicom.filebase.DicomBytesIO(data)
