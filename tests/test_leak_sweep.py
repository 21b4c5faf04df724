"""The sweep finds what is planted in every form it names, and nothing where nothing is."""

from __future__ import annotations

import base64
import gzip
import io
import json
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from anonsynth.audits.harvest import Secrets
from anonsynth.audits.leak_sweep import Sweep
from anonsynth.deid.keyed import Keyed
from anonsynth.deid.one_file import deidentify_bytes
from anonsynth.errors import InputError
from anonsynth.policies.model import load_policy
from anonsynth.seeds import stream
from anonsynth.selftest.seeded import write_seeded

NAMES = [f"{first}^{second}" for first in ("Grotewohl", "Ødegård", "Müßiggang", "Xantippe", "Vrchlický")
         for second in ("Zbigniew", "Fjóla")]  # fmt: skip


def secrets() -> Secrets:
    made = Secrets()
    made.values = {"name": {*NAMES, *(part for name in NAMES for part in name.split("^"))},
                   "id": {"4711002", "PAT-0815X"}, "date": {"19470312"}, "uid": {"1.2.826.0.1.99.4711"}}  # fmt: skip
    return made


def wrapped(text: str) -> dict[str, bytes]:
    """Return ways in which a text hides in a file."""
    raw = text.encode("utf-8")
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.txt", b"see " + raw)
    return {
        "plain": b"see " + raw + b" there",
        "latin": b"see " + text.encode("latin-1", "replace"),
        "utf16": text.encode("utf-16-le"),
        "utf16be": text.upper().encode("utf-16-be"),
        "base64": base64.b64encode(b"xy" + raw + b"z"),
        "json": json.dumps({"k": text}).encode(),
        "gzip": gzip.compress(b"see " + raw),
        "zip": zipped.getvalue(),
        "pdf": b"%PDF-1.4 stream\n" + zlib.compress(b"BT " + raw + b" ET"),
        "upper": b"\x00\x01" + text.upper().encode("utf-8") + b"\xff",
    }


def test_fifty_of_fifty_planted_secrets_are_found() -> None:
    sweep = Sweep(secrets())
    planted, missed = 0, []
    for number, name in enumerate(NAMES[:5]):
        for way, data in wrapped(name).items():
            noise = stream(number, way).integers(0, 256, 1000, dtype=np.uint8).tobytes()
            whole = data if way in {"gzip", "zip", "pdf"} else noise + data
            if way == "latin" and "?" in data.decode("latin-1"):
                whole = noise + name.split("^")[0].encode("utf-8") + b" "
            planted += 1
            if not any(hit.kind == "name" for hit in sweep.file(whole, "a.bin")):
                missed.append((name, way))
    assert (missed, planted) == ([], 50)


@pytest.mark.parametrize(
    "text", ["1947-03-12", "12.03.1947", "03/12/1947", "19470312", "19470312101500", "id 4711002.", "PAT-0815X",
             "1.2.826.0.1.99.4711", "Zbigniew Grotewohl", "grotewohl, zbigniew", "Odegard"]
)  # fmt: skip
def test_dates_identifiers_and_names_are_found_in_their_usual_forms(text: str) -> None:
    assert Sweep(secrets()).file(f'{{"a": "{text}"}}'.encode(), "a.json")


def test_a_secret_in_a_file_name_is_found(tmp_path: Path) -> None:
    (tmp_path / "Grotewohl").mkdir()
    (tmp_path / "Grotewohl" / "1.dcm").write_bytes(b"nothing")
    (hit,) = {(hit.kind, hit.place) for hit in Sweep(secrets()).folder(tmp_path).hits}
    assert hit == ("name", "name")


def test_a_hit_does_not_tell_the_secret() -> None:
    hits = Sweep(secrets()).file(b"Grotewohl", "a")
    assert hits
    assert "rotewohl" not in repr(hits)


def test_noise_numbers_and_longer_words_raise_no_alarm() -> None:
    sweep = Sweep(secrets())
    noise = stream(0, "noise").integers(0, 256, 2_000_000, dtype=np.uint8).tobytes()
    assert sweep.file(noise, "noise.bin") == []
    assert sweep.file(b"0.4711002 2.25.19470312 14711002 94711002", "numbers.txt") == []


def test_a_seeded_file_is_full_of_hits_and_its_result_of_none(tmp_path: Path) -> None:
    seeded = write_seeded(tmp_path / "in", seed=3, patients=1, slices=2)
    source = [path for path in seeded.folder.rglob("*") if path.is_file()]
    made = Secrets()
    for path in source:
        made.add_file(path.read_bytes(), path.relative_to(seeded.folder).as_posix())
    known = {value.lower() for _, value in made.items()}
    silent = {"icon", "curve"}  # a word of pixels among zeros is found as bytes, with what stands beside it
    missed = [word for word, kind in seeded.secrets.items()
              if kind not in silent and not any(word.lower() in value for value in known)]  # fmt: skip
    assert len(missed) <= 0.01 * len(seeded.secrets)
    sweep, hits, clean = Sweep(made), 0, 0
    for path in source:
        data = path.read_bytes()
        hits += len(sweep.file(data, "a")) > 0
        try:
            clean += sweep.file(deidentify_bytes(data, load_policy("internal"), Keyed(b"k" * 32)).data, "a") == []
        except InputError:
            continue
    assert hits >= len(source) - 2, "an empty file and one that is cut off before any value"
    assert clean == len(seeded.pixels)
