"""A dataset in, a new dataset out that holds only what a rule names and whose value the rule accepts.

Elements are looked at as the bytes of the file. What may stay unchanged is passed on as these bytes, which is exact
and quick.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from anonsynth.deid.codes import coded, known_code
from anonsynth.deid.keyed import Keyed
from anonsynth.deid.moments import Moments
from anonsynth.deid.rules import Rule, rules_for
from anonsynth.deid.safe_private import SAFE_PRIVATE
from anonsynth.deid.values import CHECKS, parts, swept_number
from anonsynth.deid.words import clean
from anonsynth.errors import InputError
from anonsynth.policies.deidentification import DeidentificationRules

__all__ = ["Applied", "FileContext"]

_SAME_MEANING = frozenset({"DS", "IS", "US", "SS", "UL", "SL", "FL", "FD"})
_PRINTABLE = frozenset(range(0x20, 0x7F)) - {0x5C}
_DEEPEST = 12
_CACHED = 200_000
_SHORTEST_ID = 5
_cache: dict[tuple[int, str, bool, bytes], bytes | None] = {}


@dataclass(frozen=True, slots=True)
class FileContext:
    """What one file's values depend on beside themselves.

    Attributes:
        letter: Its kind (`rules.CLASSES`).
        options: The policy's choices.
        keyed: Where pseudonyms come from.
        moments: What becomes of its dates.
        pseudonym: Of its patient.
        names: Parts of all person names in it, in small letters.
        numbers: Its identifiers that are digits: no kept number may be one of them.
        little: Whether its numbers are little-endian.
        implicit: Whether its value representations are not written.
    """

    letter: str
    options: DeidentificationRules
    keyed: Keyed
    moments: Moments
    pseudonym: str
    names: frozenset[str]
    numbers: frozenset[bytes]
    little: bool
    implicit: bool


@dataclass
class Applied:
    """Applies the rules to one file.

    Attributes:
        context: The file.
        removed: Elements that were removed, at any depth.
        changed: Elements whose value was replaced.
    """

    context: FileContext
    removed: int = 0
    changed: int = 0
    _values: dict[str, Callable[[Rule, bytes], bytes | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        moments = self.context.moments
        self._values = {
            "uid": self._uid,
            "words": self._words,
            "text": self._text,
            "device": self._device,
            "pseudonym": lambda rule, raw: self.context.pseudonym.encode("ascii"),  # noqa: ARG005
            "name": lambda rule, raw: self.context.pseudonym.encode("ascii"),  # noqa: ARG005
            "empty": lambda rule, raw: b"",  # noqa: ARG005
            "date": lambda rule, raw: _each(moments.date, raw),  # noqa: ARG005
            "time": lambda rule, raw: _each(moments.time, raw),  # noqa: ARG005
            "datetime": lambda rule, raw: _each(moments.datetime, raw),  # noqa: ARG005
        }

    def dataset(self, source: Dataset, depth: int = 0) -> Dataset:
        """Return what may leave of a dataset.

        Raises:
            InputError: If an attribute that the file needs cannot stay.
        """
        if depth > _DEEPEST:
            raise InputError("its sequences are nested too deeply", remedy="export it again")
        rules = rules_for(self.context.letter)
        out = Dataset()
        out.set_original_encoding(self.context.implicit, self.context.little, "iso8859")
        # Reading one value makes pydicom interpret others: take all bytes as they are before the first is touched.
        for tag, element in list(source._dict.items()):
            rule = rules.get(tag)
            if rule is None or (depth and rule.root):
                kept = self._private(source, tag) if tag.is_private else False
                if kept:
                    self._keep_private(out, source, tag)
                else:
                    self.removed += 1
            elif rule.kind in {"sequence", "code", "empty-sequence"}:
                self._sequence(out, rule, source[tag], depth)
            else:
                self._element(out, rule, element)
        return out

    def _element(self, out: Dataset, rule: Rule, element: DataElement | RawDataElement | None) -> None:
        if not isinstance(element, RawDataElement):
            self._otherwise(out, rule)
            return
        vr = element.VR or rule.vrs[0]
        if vr == "UN":
            vr = rule.vrs[0]
        raw = element.value or b""
        fits = vr in rule.vrs or (rule.kind == "number" and vr in _SAME_MEANING)
        value = self._value(rule, vr, raw) if fits else None
        if value is None or (value == b"" and rule.otherwise == "fail"):
            self._otherwise(out, rule)
            return
        if value == raw.rstrip(b" \0") and vr == element.VR and value.isascii() and len(raw) - len(value) < 2:
            out._dict[element.tag] = element
            return
        self.changed += value.strip() != raw.strip(b" \0")
        out._dict[element.tag] = self._raw(element.tag, vr, value)

    def _value(self, rule: Rule, vr: str, raw: bytes) -> bytes | None:
        if rule.option and not getattr(self.context.options, rule.option):
            return None
        own = self._values.get(rule.kind)
        if own is not None:
            return own(rule, raw)
        if rule.kind == "fixed":
            return None
        key = (rule.tag, vr, self.context.little, raw)
        if key in _cache:
            value = _cache[key]
        else:
            if len(_cache) > _CACHED:
                _cache.clear()
            value = _cache[key] = CHECKS[rule.kind](rule, vr, raw, self.context.little)
        return None if value and self._is_an_identifier(vr, value) else value

    def _is_an_identifier(self, vr: str, value: bytes) -> bool:
        """Tell whether a number of the file is the number of its patient or order."""
        if vr not in {"DS", "IS"} or not self.context.numbers or len(value) < _SHORTEST_ID:
            return False
        return any(swept_number(part) in self.context.numbers for part in parts(value))

    def _otherwise(self, out: Dataset, rule: Rule) -> None:
        if rule.otherwise == "fail":
            raise InputError(f"its {rule.keyword} is missing or is no valid value", remedy="export it again")
        if rule.otherwise == "drop":
            self.removed += 1
            return
        self.changed += 1
        value = b"" if rule.otherwise == "empty" else rule.otherwise.encode("ascii")
        out._dict[BaseTag(rule.tag)] = self._raw(BaseTag(rule.tag), rule.vrs[0], value)

    def _raw(self, tag: BaseTag, vr: str, value: bytes) -> RawDataElement:
        if len(value) % 2:
            value += b"\0" if vr == "UI" else b" "
        written = None if self.context.implicit else vr
        return RawDataElement(tag, written, len(value), value, 0, self.context.implicit, self.context.little)

    def _sequence(self, out: Dataset, rule: Rule, element: DataElement, depth: int) -> None:
        items = element.value if element.VR == "SQ" else None
        kept: list[Dataset] = []
        for item in (items or ()) if rule.kind != "empty-sequence" else ():
            made = self.dataset(item, depth + 1)
            if rule.kind == "code" and not self._code(made, item, rule):
                self.removed += 1
                continue
            if len(made):
                kept.append(made)
        if not kept and rule.otherwise == "drop" and (items is None or len(items)):
            self.removed += 1
            return
        if not kept and "," in rule.otherwise:
            kept = [self._code_item(rule.otherwise)]
        out.add(DataElement(rule.tag, "SQ", Sequence(kept)))

    def _code(self, made: Dataset, item: Dataset, rule: Rule) -> bool:
        """Put a code that the dictionary knows into an item; tell whether one is there."""
        found = known_code(str(item.get("CodeValue", "")), str(item.get("CodingSchemeDesignator", "")))
        if found is None:
            if "," not in rule.otherwise:
                return False
            value, _, scheme = rule.otherwise.partition(",")
            found = known_code(value, scheme)
            self.changed += 1
        if found is not None:
            made.update(coded(*found))
        return found is not None

    def _code_item(self, code: str) -> Dataset:
        value, _, scheme = code.partition(",")
        return coded(*(known_code(value, scheme) or (value, scheme, "Unknown")))

    def _uid(self, rule: Rule, raw: bytes) -> bytes | None:  # noqa: ARG002 - one signature for all
        found = parts(raw)
        if self.context.options.uids and all(_is_uid(part) for part in found):
            return b"\\".join(found)
        return b"\\".join(self.context.keyed.uid(part) if part else b"" for part in found)

    def _words(self, rule: Rule, raw: bytes) -> bytes | None:
        found = [clean(part.decode("latin-1"), self.context.names) for part in parts(raw)]
        longest = 16 if {"SH", "CS"} & set(rule.vrs) else 64
        text = "\\".join(part[:longest].rstrip() for part in found if part)
        if rule.vrs == ("CS",):
            text = text.upper().replace("*", "")
        return text.encode("ascii") or (b"" if not raw.strip(b" \0") else None)

    def _text(self, rule: Rule, raw: bytes) -> bytes | None:  # noqa: ARG002 - one signature for all
        text = raw.strip(b" \0")
        return text if all(byte in _PRINTABLE for byte in text) else None

    def _device(self, rule: Rule, raw: bytes) -> bytes | None:
        text = raw.strip(b" \0")
        if self.context.options.device:
            return self._text(rule, raw)
        return self.context.keyed.device(text) if text else b""

    def _private(self, source: Dataset, tag: BaseTag) -> bool:
        if not self.context.options.safe_private or tag.element < 0x1000:
            return False
        return (tag.element & 0xFF) in SAFE_PRIVATE.get(_creator(source, tag), {})

    def _keep_private(self, out: Dataset, source: Dataset, tag: BaseTag) -> None:
        creator = _creator(source, tag)
        safe = SAFE_PRIVATE[creator][tag.element & 0xFF]
        element = source.get_item(tag)
        raw = element.value if isinstance(element, RawDataElement) else None
        if not isinstance(element, RawDataElement) or element.VR not in {safe.vr, "UN", None} or not raw:
            self.removed += 1
            return
        rule = Rule(tag, "", "", False, "number", f"{safe.low} {safe.high}", "drop", "", "", (safe.vr,), safe.most)
        value = CHECKS["number"](rule, safe.vr, raw, self.context.little)
        if value is None or self._is_an_identifier(safe.vr, value):
            self.removed += 1
            return
        out._dict[tag] = self._raw(tag, safe.vr, value)
        block = BaseTag(tag.group << 16 | tag.element >> 8)
        out._dict[block] = self._raw(block, "LO", creator.encode("ascii"))


def _creator(source: Dataset, tag: BaseTag) -> str:
    element = source.get_item(tag.group << 16 | tag.element >> 8)
    value = element.value if element is not None else b""
    return (value.decode("latin-1") if isinstance(value, bytes) else str(value)).strip(" \0")


def _each(change: Callable[[bytes], bytes | None], raw: bytes) -> bytes | None:
    """Change each of several values; one that cannot stay takes the others with it."""
    found = [change(part) if part else b"" for part in parts(raw)]
    return b"\\".join(part for part in found if part is not None) if all(part is not None for part in found) else None


def _is_uid(part: bytes) -> bool:
    return len(part) <= 64 and all(byte in b"0123456789." for byte in part)
