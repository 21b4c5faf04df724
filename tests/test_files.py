"""Atomic writes, unfinished folders and tables."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonsynth.errors import InputError
from anonsynth.files import (
    UNFINISHED,
    begin_folder,
    finish_folder,
    is_finished,
    read_json,
    read_tsv,
    replacing,
    sha256_file,
    sha256_listing,
    write_bytes,
    write_json,
    write_text,
    write_tsv,
)

TEXT = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=20)


def test_a_write_that_fails_leaves_the_old_file_and_no_scrap(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "table.nii.gz"
    write_text(path, "old")

    def stop_halfway() -> None:
        with replacing(path) as temporary:
            assert temporary.name.endswith(".partial.nii.gz")
            temporary.write_text("half", "utf-8")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        stop_halfway()
    assert path.read_text("utf-8") == "old"
    assert [entry.name for entry in path.parent.iterdir()] == ["table.nii.gz"]


def test_a_write_replaces(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"one")
    write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_folder_says_that_it_is_not_finished(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    begin_folder(folder)
    write_json(folder / "x.json", {})
    assert (folder / UNFINISHED).is_file()
    assert not is_finished(folder, "x.json")
    finish_folder(folder)
    finish_folder(folder)
    assert is_finished(folder, "x.json")
    assert not is_finished(folder, "y.json")


def test_json_round_trip_and_its_errors(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"ε": [1, 2.5, None]})
    assert read_json(path) == {"ε": [1, 2.5, None]}
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, float("nan"))
    assert read_json(path) == {"ε": [1, 2.5, None]}
    with pytest.raises(InputError, match=r"there is no y\.json"):
        read_json(tmp_path / "y.json")
    path.write_text("{", "utf-8")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        read_json(path)


@given(rows=st.lists(st.fixed_dictionaries({"a": TEXT, "b": TEXT}), max_size=5))
def test_a_table_comes_back_as_it_was_but_for_white_space(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]]
) -> None:
    path = tmp_path_factory.mktemp("table") / "t.tsv"
    write_tsv(path, ("a", "b"), rows)
    assert read_tsv(path) == [{key: " ".join(value.split()) for key, value in row.items()} for row in rows]


def test_a_tables_cells_hold_no_tabs_and_none_is_not_available(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    write_tsv(path, ("a", "b", "c"), [{"a": "x\ty\nz", "b": None}])
    assert path.read_text("utf-8") == "a\tb\tc\nx y z\tn/a\tn/a\n"


def test_a_byte_order_mark_is_accepted_and_a_broken_table_is_told(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_bytes(b"\xef\xbb\xbfa\tb\n1\t2\n")
    assert read_tsv(path) == [{"a": "1", "b": "2"}]
    path.write_bytes(b"a\n\xff\xff\n")
    with pytest.raises(InputError, match="tab-separated") as caught:
        read_tsv(path)
    assert caught.value.private_path == path
    assert str(tmp_path) not in str(caught.value)


def test_the_hash_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_file(tmp_path / "x").startswith("ba7816bf8f01cfea")


def test_the_hash_of_a_folder_sees_names_and_sizes(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x").write_bytes(b"abc")
    before = sha256_listing(tmp_path)
    assert sha256_listing(tmp_path) == before
    (tmp_path / "b" / "x").write_bytes(b"abcd")
    longer = sha256_listing(tmp_path)
    (tmp_path / "b" / "x").rename(tmp_path / "b" / "y")
    assert len({before, longer, sha256_listing(tmp_path)}) == 3
    assert sha256_listing(tmp_path / "b" / "y") == sha256_file(tmp_path / "b" / "y")
