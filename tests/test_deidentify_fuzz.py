"""Broken and hostile files: no crash, no hang, one sentence each, and nothing outside the output folder."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import numpy as np
import pytest

from anonsynth.deidentify import DeidentifySettings, deidentify
from anonsynth.errors import VerdictError
from anonsynth.files import read_tsv
from anonsynth.policies.model import load_policy
from anonsynth.seeds import stream
from anonsynth.selftest.seeded import write_seeded

HOSTILE = (b"../../../etc/escape", b"\\\\?\\C:\\x", b"/tmp/escape\0", b"%s%n%x", b"\xff" * 16, b"\xfe\xff\x00\xe0" * 4)


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """Return a file with one to five of: flipped bytes, a huge length, a cut, a repeat, a path, deep nesting."""
    changed = bytearray(data)
    for _ in range(random.integers(1, 6)):
        if not changed:
            break
        at = int(random.integers(0, max(1, len(changed) - 16)))
        kind = int(random.integers(0, 6))
        if kind == 0:
            changed[at] ^= int(random.integers(1, 256))
        elif kind == 1:
            changed[at : at + 4] = struct.pack("<I", int(random.choice([0xFFFFFFFF, 0xFFFFFFFE, 0x7FFFFFFF, 0])))
        elif kind == 2:
            del changed[at:]
        elif kind == 3:
            changed[at:at] = changed[at : at + 200]
        elif kind == 4:
            changed[at : at + 16] = HOSTILE[int(random.integers(0, len(HOSTILE)))][:16]
        else:
            item = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
            changed[at:at] = item * int(random.choice([3, 50, 2000]))
    return bytes(changed)


def fuzz(folder: Path, count: int, seed: int) -> None:
    sources = [path.read_bytes() for path in sorted(write_seeded(folder / "seeded", patients=1).folder.rglob("*"))
               if path.is_file()]  # fmt: skip
    random = stream(seed, "fuzz")
    (folder / "in").mkdir()
    for index in range(count):
        data = mutated(sources[index % len(sources)], random)
        (folder / "in" / f"{index:04d}").write_bytes(data)
    (folder / "in" / "sound").write_bytes(max(sources, key=lambda data: data[128:132] == b"DICM" and len(data) < 5000))
    before = {path for path in folder.rglob("*") if "out" not in path.parts}
    started = time.process_time()
    try:
        deidentify(DeidentifySettings(folder / "in", folder / "work" / "out", folder / "work" / "private"),
                   load_policy("internal"))  # fmt: skip
    except VerdictError:  # bytes read as text by chance: it fails closed, and the mark stays
        assert (folder / "work" / "out" / "UNFINISHED").is_file()
    assert time.process_time() - started < max(20, count * 0.1)
    after = {path for path in folder.rglob("*") if "work" not in path.parts}
    assert after == before, "something was written outside"
    rows = read_tsv(folder / "work" / "private" / "quarantine.tsv")
    assert len(rows) > count // 4
    assert all(row["reason"] and "\n" not in row["reason"] and "Traceback" not in row["reason"] for row in rows)


def test_a_hundred_broken_files_do_no_harm(tmp_path: Path) -> None:
    fuzz(tmp_path, 100, 1)


@pytest.mark.slow
def test_five_hundred_broken_files_do_no_harm(tmp_path: Path) -> None:
    fuzz(tmp_path, 500, 2)
