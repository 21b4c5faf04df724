"""What a source knows about people: names, identifiers, dates, UIDs and free text of its headers and file names.

These values are the secrets that `leak_sweep` looks for. Words that are public (names of attributes, terms of the
standard,
the list of words that descriptions may keep) are no secrets; what is too short to be told from chance is counted,
not used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom._dicom_dict import DicomDictionary
from pydicom._uid_dict import UID_dictionary
from pydicom.dataset import Dataset
from pydicom.sr._snomed_dict import mapping

from anonsynth.cohort.dicom.quiet import BROKEN, quiet_pydicom
from anonsynth.deid.codes import meanings
from anonsynth.deid.pixels import find_pixels
from anonsynth.deid.rules import table
from anonsynth.deid.safe_private import SAFE_PRIVATE
from anonsynth.deid.words import clean, vocabulary
from anonsynth.errors import InputError

__all__ = ["Secrets", "harvest"]

_TEXT = frozenset({"LO", "SH", "ST", "LT", "UT", "UC", "AE", "UR", "CS", "PN", "DS", "IS", "AS"})
_BULK = frozenset({"OB", "OW", "UN"})
_IDS = frozenset({0x00100020, 0x00080050, 0x00200010, 0x00101000, 0x00181000})
_RUNS = re.compile(rb"[\x20-\x7e\x80-\xff]{6,64}")
_DECIMAL = re.compile(r"[-+]?\d*\.\d+(?:[eE][-+]?\d+)?|\b\d{1,6}\b")
_LETTERS = re.compile(r"[^\W\d_]{4}")
_DIGITS = re.compile(r"\d{7}")
_CODECS = frozenset({"openjpeg", "kakadu", "jasper", "charls", "dcmtk", "created"})
"""What compressors write into their streams."""
_WORDS = re.compile(r"\w+")
_NUMBER = re.compile(r"[-+0-9.eE\\ ]*")
_DATE = re.compile(r"(?:18|19|20)\d\d(?:0\d|1[0-2])(?:[0-2]\d|3[01])")
_SHORTEST_NAME = 4
_SHORTEST_WORD = 5
_SHORTEST_DIGITS = 6
_LONGEST_BULK = 1 << 20


@dataclass
class Secrets:
    """The secrets of a source by kind; private.

    Attributes:
        values: Kind and values: name, id, text, date, time, uid, file name, bytes.
        too_short: Values that are too short, or too common as words, to be told from chance; they are not looked for.
    """

    values: dict[str, set[str]] = field(default_factory=dict)
    too_short: int = 0
    _seen: set[tuple[int, str, bytes]] = field(default_factory=set, repr=False)

    def add_file(self, data: bytes, relative: str) -> None:
        """Add what a file and its name know; a file that is no DICOM adds its printable text."""
        for part in relative.replace("\\", "/").split("/"):
            self._words_of("file name", part)
        try:
            with quiet_pydicom():
                self._dicom(data)
        except (*BROKEN, InputError):
            self._runs(data[:_LONGEST_BULK])

    def counts(self) -> dict[str, int]:
        """Return how many values of each kind are looked for."""
        return {kind: len(values) for kind, values in sorted(self.values.items())}

    def _dicom(self, data: bytes) -> None:
        stream = BytesIO(data)
        dataset = pydicom.dcmread(stream, stop_before_pixels=True, force=True)
        end = stream.tell()
        meta = getattr(dataset, "file_meta", None)
        if meta is not None:
            self._dataset(meta)
        self._runs(dataset.preamble or b"")
        implicit, little = dataset.original_encoding
        raw = dict(dataset._dict)
        try:
            pixels = find_pixels(memoryview(data), end, dataset, implicit=bool(implicit), little=bool(little))
            self._runs(data[pixels.stop : pixels.stop + _LONGEST_BULK])
        except (*BROKEN, InputError):
            self._runs(data[end : end + _LONGEST_BULK])
        dataset._dict.update(raw)
        self._dataset(dataset)

    def _dataset(self, dataset: Dataset) -> None:
        for tag, element in list(dataset._dict.items()):
            value = element.value
            vr = element.VR or (DicomDictionary[int(tag)][0] if int(tag) in DicomDictionary else "UN")
            if isinstance(value, bytes) and vr != "SQ":
                key = (int(tag) if int(tag) in _IDS else 0, vr, value)
                if key not in self._seen:
                    self._seen.add(key)
                    self._value(int(tag), vr, value)
            elif vr == "SQ":
                for item in dataset[tag].value or ():
                    self._dataset(item)
            elif value is not None:
                self._value(int(tag), vr, str(value).encode("utf-8", "surrogateescape"))

    def _value(self, tag: int, vr: str, raw: bytes) -> None:
        if vr in _BULK:
            self._runs(raw[:_LONGEST_BULK])
            return
        text = _decoded(raw).strip(" \0")
        if tag in _IDS:
            self._add("id", text, _SHORTEST_WORD)
        elif vr == "UI":
            for uid in set(text.split("\\")) - UID_dictionary.keys():
                self._add("uid", uid, 8)
        elif vr in {"DA", "DT"}:
            self._dates(text)
        elif vr == "TM":
            self._time(text)
        elif vr == "PN":
            self._name(text)
        elif vr in _TEXT and not (vr in {"DS", "IS", "AS"} and _NUMBER.fullmatch(text)):
            for part in text.split("\\"):
                self._words_of("text", part)

    def _time(self, text: str) -> None:
        """Add a time with fractions of a second; without them every second of a day is somebody's."""
        if len(text.rstrip("0")) > 9 and "." in text:
            self._add("time", text, 9)

    def _dates(self, text: str) -> None:
        for part in text.split("\\"):
            digits = part.replace(".", "")[:8]
            if _DATE.fullmatch(digits):
                self._add("date", digits, 8)
            else:
                self._words_of("text", part)

    def _name(self, text: str) -> None:
        for part in _WORDS.findall(text.replace("_", " ")):
            self._add("name", part, _SHORTEST_NAME)
        self._add("name", text, 6)

    def _runs(self, raw: bytes) -> None:
        """Add the words of printable runs; decimal numbers are none, nor are bytes that merely look printable."""
        for run in _RUNS.findall(raw):
            text = _DECIMAL.sub(" ", _decoded(run))
            if sum(map(str.isascii, text)) * 3 >= len(text) * 2 and (_LETTERS.search(text) or _DIGITS.search(text)):
                self._words_of("bytes", text)

    def _words_of(self, kind: str, text: str) -> None:
        """Add the words of a text that are not public, and the whole text if it holds one."""
        text = text.strip()
        words = [word for word in _WORDS.findall(text.replace("_", " ")) if _is_secret(word)]
        if kind == "bytes":  # a public word and one byte of what stands beside it
            words = [word for word in words if not {word[1:].lower(), word[:-1].lower()} & _public()]
        for word in words:
            self._add(kind, word, _SHORTEST_WORD)
        if words and len(text) <= 64:
            self._add(kind, text, 8)

    def _add(self, kind: str, text: str, shortest: int) -> None:
        short_digits = kind not in {"id", "date"} and text.isdigit() and len(text) < _SHORTEST_DIGITS
        common = text.lower() in _public()
        if common or len(text) < shortest or short_digits:
            self.too_short += 1
            return
        self.values.setdefault(kind, set()).add(text)

    def items(self) -> Iterator[tuple[str, str]]:
        """Yield kind and value of every secret, each value once."""
        seen: set[str] = set()
        for kind, values in self.values.items():
            for value in values - seen:
                yield kind, value
            seen |= values


def harvest(source: Path) -> Secrets:
    """Return the secrets of every file below a folder."""
    secrets = Secrets()
    for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
        if path.is_file():
            secrets.add_file(path.read_bytes(), path.relative_to(source).as_posix() if path != source else path.name)
    return secrets


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _is_secret(word: str) -> bool:
    low = word.lower()
    if low in _public() or clean(word) == word:
        return False
    return len(word) >= _SHORTEST_WORD and not (word.isdigit() and len(word) < _SHORTEST_DIGITS)


@cache
def _public() -> frozenset[str]:
    """Return words that stand in the standard or in the allow-list, in small letters."""
    texts = [f"{name} {keyword}" for _, _, name, _, keyword in DicomDictionary.values()]
    texts += [f"{uid[0]} {uid[4]}" for uid in UID_dictionary.values()]
    texts += list(meanings().values()) + [code for _, code in meanings()]
    texts += [*mapping["SRT"], *SAFE_PRIVATE]
    texts += [f"{rule.argument.replace('|', ' ')} {rule.why} {rule.otherwise}" for rule in table()]
    return (
        frozenset(word.lower() for text in texts for word in _WORDS.findall(text.replace("_", " ")))
        | vocabulary()
        | _CODECS
    )
