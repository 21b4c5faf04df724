"""One file: read, judged, rewritten by the rules. Nothing is in the result but what the rules let through."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import pydicom
from pydicom._uid_dict import UID_dictionary
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from anonsynth._version import __version__
from anonsynth.cohort.dicom.quiet import BROKEN, quiet_pydicom
from anonsynth.deid.apply import Applied, FileContext
from anonsynth.deid.keyed import Keyed
from anonsynth.deid.moments import Moments, seconds_of
from anonsynth.deid.pixels import PixelBytes, find_pixels
from anonsynth.deid.refuse import letter_of
from anonsynth.deid.statement import profile_statement
from anonsynth.deid.values import swept_number
from anonsynth.errors import InputError
from anonsynth.policies.deidentification import Dates
from anonsynth.policies.model import Policy

__all__ = ["Deidentified", "deidentify_bytes"]

IMPLEMENTATION = "2.25.258612734586024150412934872014985620914"
"""UID of this implementation in the file meta information; made once at random."""

_AGAIN = "copy the file again from where it came from"
_NAMES = ("PatientName", "OtherPatientNames", "PatientBirthName", "ReferringPhysicianName", "OperatorsName")
_NUMBERS = ("PatientID", "AccessionNumber", "StudyID", "OtherPatientIDs")


@dataclass(frozen=True, slots=True)
class Deidentified:
    """A file that may leave.

    Attributes:
        data: Its bytes.
        path: Its place below the output folder, of pseudonyms only.
        pseudonym: Its patient.
        identity: What the vault keeps of the patient: identifier, issuer, name, birth date; private.
        kind: Letter of its kind.
        removed: Elements that were removed.
        changed: Elements whose value was replaced.
    """

    data: bytes
    path: str
    pseudonym: str
    identity: dict[str, str]
    kind: str
    removed: int
    changed: int


def deidentify_bytes(data: bytes, policy: Policy, keyed: Keyed) -> Deidentified:
    """Return what may leave of a DICOM file.

    Args:
        data: The file.
        policy: Whose options hold.
        keyed: Where pseudonyms come from.

    Raises:
        InputError: With the reason why it is quarantined, which holds no value of the file.
    """
    try:
        with quiet_pydicom():
            return _deidentify(data, policy, keyed)
    except InputError:
        raise
    except BROKEN as error:
        raise InputError("it is broken, or no DICOM", remedy=_AGAIN) from error


def _deidentify(data: bytes, policy: Policy, keyed: Keyed) -> Deidentified:
    if len(data) < 16:
        raise InputError("it is no DICOM file", remedy="nothing to do unless it should be one")
    if DeflatedExplicitVRLittleEndian.encode("ascii") in data[:1024]:
        raise InputError("it is deflated, and could unpack to any size", remedy="convert it to explicit little-endian")
    stream = BytesIO(data)
    source = pydicom.dcmread(stream, stop_before_pixels=True, force=True)
    judged = _twin(source)
    letter = letter_of(judged, policy.deidentification)
    implicit, little = source.original_encoding
    if implicit is None or little is None:
        raise InputError("it does not say how it is written", remedy=_AGAIN)
    view = memoryview(data)
    pixels = find_pixels(view, stream.tell(), judged, implicit=implicit, little=little)
    syntax = _syntax(source, pixels, implicit=implicit, little=little)
    person = _person(source)
    context = _context(source, policy, keyed, letter, person)
    applied = Applied(context)
    out = applied.dataset(source)
    _complete(out, policy, context)
    result = _written(out, syntax, pixels.element(view, "<" if little else ">"), implicit=implicit, little=little)
    study, series, instance = (
        str(out[name].value) for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    )
    folder = [context.pseudonym, "study-" + keyed.name("study", study.encode())[:8]]
    folder.append("series-" + keyed.name("series", series.encode())[:8])
    path = "/".join([*folder, keyed.name("file", instance.encode()) + ".dcm"])
    identity = {
        name: _text(source, name) for name in ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate")
    }
    return Deidentified(result, path, context.pseudonym, identity, letter, applied.removed, applied.changed)


def _context(source: FileDataset, policy: Policy, keyed: Keyed, letter: str, person: bytes) -> FileContext:
    options = policy.deidentification
    implicit, little = source.original_encoding
    days = keyed.days(person) if options.dates is Dates.SHIFT else 0
    start = seconds_of(_raw(source, "StudyTime"))
    names = {part.lower() for name in _NAMES for part in _words(_raw(source, name))}
    numbers = {swept_number(_raw(source, name)) for name in _NUMBERS}
    return FileContext(
        letter=letter,
        options=options,
        keyed=keyed,
        moments=Moments(options.dates.value, days, start),
        pseudonym=keyed.pseudonym(person),
        names=frozenset(names),
        numbers=frozenset(number for number in numbers if len(number) > 4),
        little=bool(little),
        implicit=bool(implicit),
    )


def _person(source: Dataset) -> bytes:
    """Return what tells the patient: identifier and issuer; without one, name and birth date; else the study."""
    identifier = _raw(source, "PatientID").strip(b" \0")
    if identifier:
        return b"id\0" + identifier + b"\0" + _raw(source, "IssuerOfPatientID").strip(b" \0")
    name = _raw(source, "PatientName").strip(b" \0")
    if name:
        return b"name\0" + name + b"\0" + _raw(source, "PatientBirthDate").strip(b" \0")
    return b"study\0" + _raw(source, "StudyInstanceUID").strip(b" \0")


def _complete(out: Dataset, policy: Policy, context: FileContext) -> None:
    """Add what every de-identified file says of itself, and what has to be there."""
    for name in (
        "StudyDate",
        "StudyTime",
        "AccessionNumber",
        "ReferringPhysicianName",
        "StudyID",
        "PatientBirthDate",
        "PatientSex",
    ):
        if name not in out:
            setattr(out, name, "")
    if "PatientID" not in out:
        out.PatientID = context.pseudonym
    if "PatientName" not in out:
        out.PatientName = context.pseudonym
    out.update(profile_statement(policy, __version__))


def _syntax(source: FileDataset, pixels: PixelBytes, *, implicit: bool, little: bool) -> str:
    """Return the transfer syntax, which has to be one of the standard and to agree with how the pixels are stored."""
    plain = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    stated = source.file_meta.get("TransferSyntaxUID") if hasattr(source, "file_meta") else None
    syntax = str(stated or plain)
    if not pixels.encapsulated:
        return str(plain)
    if syntax not in UID_dictionary or UID_dictionary[syntax][1] != "Transfer Syntax" or syntax == plain or implicit:
        raise InputError("its transfer syntax is unknown", remedy="convert it to a transfer syntax of the standard")
    return syntax


def _written(out: Dataset, syntax: str, pixels: bytes, *, implicit: bool, little: bool) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = out.SOPClassUID
    meta.MediaStorageSOPInstanceUID = out.SOPInstanceUID
    meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    meta.ImplementationClassUID = pydicom.uid.UID(IMPLEMENTATION)
    meta.ImplementationVersionName = "ANONSYNTH"
    head = DicomBytesIO()
    write_file_meta_info(head, meta, enforce_standard=True)
    body = DicomBytesIO()
    body.is_implicit_VR = implicit
    body.is_little_endian = little
    write_dataset(body, out)
    return b"".join((b"\0" * 128, b"DICM", head.getvalue(), body.getvalue(), pixels))


def _raw(source: Dataset, name: str) -> bytes:
    """Return an element's bytes."""
    element = source.get_item(name) if name in source else None
    value = element.value if element is not None else None
    return value if isinstance(value, bytes) else str(value or "").encode("utf-8", "surrogateescape")


def _twin(source: Dataset) -> Dataset:
    """Return a dataset with the same elements: looking at one there leaves the bytes here as they were read."""
    twin = Dataset()
    for tag in source.keys():  # noqa: SIM118 - iterating over a dataset would read its values
        twin._dict[tag] = source._dict[tag]
    return twin


def _text(source: Dataset, name: str) -> str:
    return _raw(source, name).strip(b" \0").decode("utf-8", "replace")


def _words(raw: bytes) -> list[str]:
    return "".join(character if character.isalnum() else " " for character in raw.decode("latin-1")).split()
