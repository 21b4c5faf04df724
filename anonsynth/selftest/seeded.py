"""A cohort whose secrets are known: every one a word that occurs nowhere else, planted where headers hide people.

Every attribute of DICOM PS3.15 Table E.1-1 at the root and inside a sequence, attributes that the table does not
list, private
ones, file meta information, preamble, bytes behind the pixels, overlays, curves, icons, reports, PDF, names of files
and folders.
"""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    UID,
    BasicTextSRStorage,
    EncapsulatedPDFStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from anonsynth.deid.rules import profile_tags
from anonsynth.seeds import stream

__all__ = ["TECHNICAL", "Seeded", "write_seeded"]

TECHNICAL: dict[str, object] = {
    "ScanningSequence": "GR",
    "SequenceVariant": "SP",
    "MRAcquisitionType": "3D",
    "MagneticFieldStrength": "3",
    "RepetitionTime": "2300",
    "EchoTime": "2.98",
    "InversionTime": "900",
    "FlipAngle": "9",
    "NumberOfAverages": "1",
    "ImagingFrequency": "123.25",
    "ImagedNucleus": "1H",
    "EchoNumbers": "1",
    "EchoTrainLength": "1",
    "PixelBandwidth": "240",
    "PercentSampling": "100",
    "PercentPhaseFieldOfView": "100",
    "AcquisitionMatrix": [0, 16, 16, 0],
    "InPlanePhaseEncodingDirection": "ROW",
    "SAR": "0.1",
    "PatientPosition": "HFS",
    "SliceThickness": "1",
    "SpacingBetweenSlices": "1",
    "PixelSpacing": ["1", "1"],
    "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"],
    "TransmitCoilName": "Body",
    "BodyPartExamined": "BRAIN",
    "WindowCenter": "100",
    "WindowWidth": "200",
}
"""What a researcher needs of every image; all of it has to come out."""

_SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
_TEXT = {"LO", "SH", "ST", "LT", "UT", "UC", "PN", "AE", "CS", "AS", "UR", "DS", "IS"}
_UNLISTED = [
    "SequenceName",
    "ReceiveCoilName",
    "SoftwareVersions",
    "WindowCenterWidthExplanation",
    "ContrastBolusRoute",
    "ManufacturerModelName",
    "PositionReferenceIndicator",
    "ImagedNucleus",
    "RescaleType",
    "PVCRejection",
    "CodeMeaning",
    "CodeValue",
    "ScanOptions",
    "BodyPartExamined",
    "PatientOrientation",
    "ResponsiblePersonRole",
    "Laterality",
    "TriggerSourceOrType",
    "SAR",
    "EchoTime",
    "NumberOfAverages",
]
_SHORT = {"SH": 16, "CS": 16, "AE": 16, "DS": 16, "IS": 12, "AS": 4}
_FIXED = {0x00080016, 0x00080018, 0x0020000D, 0x0020000E, 0x00100010, 0x00100020, 0x7FE00010, 0x00080005}


@dataclass
class Seeded:
    """The cohort's secrets and what has to come through.

    Attributes:
        folder: Where the files are.
        secrets: Each secret's category.
        uids: Every UID of the source that identifies something.
        pixels: Pixel bytes by instance number, of the images that may pass.
        references: Instance numbers of the image that refers and of the one it refers to.
        overwritten: Technical attributes that hold a secret instead, by instance number.
        files: How many files were written.
    """

    folder: Path
    secrets: dict[str, str] = field(default_factory=dict)
    uids: set[str] = field(default_factory=set)
    pixels: dict[int, bytes] = field(default_factory=dict)
    references: list[tuple[int, int]] = field(default_factory=list)
    overwritten: dict[int, set[str]] = field(default_factory=dict)
    files: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """Secrets by category."""
        return dict(Counter(self.secrets.values()))


class _Writer:
    def __init__(self, folder: Path, seed: int) -> None:
        self.made = Seeded(folder)
        self.random = stream(seed, "selftest", "deidentify")
        self.number = 0

    def secret(self, category: str, length: int = 12) -> str:
        """Return a new word of at most `length` letters."""
        while True:
            word = "".join(self.random.choice(_SYLLABLES, 6))[: min(length, 12)].capitalize()
            if word not in self.made.secrets:
                self.made.secrets[word] = category
                return word

    def uid(self) -> str:
        """Return a UID as a vendor makes them."""
        uid = f"1.3.12.2.1107.5.2.{self.random.integers(10**4, 10**5)}.{self.random.integers(10**14, 10**15)}"
        self.made.uids.add(uid)
        return uid

    def value(self, category: str, vr: str) -> object | None:
        """Return a secret value of a VR; None if the VR cannot hold one."""
        if vr in {"AS", "AT", "US", "SS", "UL", "SL", "FL", "FD", "OF", "OD", "OL", "OV", "SV", "UV"}:
            return None
        if vr in _TEXT:
            word = self.secret(category, _SHORT.get(vr, 12))
            return word.upper() if vr == "CS" else word
        if vr == "UI":
            return self.uid()
        if vr in {"DA", "DT", "TM"}:
            year, month, day = (self.random.integers(*span) for span in ((1930, 2024), (1, 13), (1, 29)))
            date = f"{year}{month:02d}{day:02d}"
            return {"DA": date, "DT": f"{date}1017{self.random.integers(10, 60)}", "TM": "101733.250000"}[vr]
        if vr == "SQ":
            item = Dataset()
            item.CodeMeaning = self.secret(category)
            item.PatientName = self.secret(category)
            return Sequence([item])
        return self.secret(category).encode("ascii")


def write_seeded(folder: Path, *, seed: int = 0, patients: int = 2, slices: int = 4) -> Seeded:
    """Write a seeded cohort.

    Args:
        folder: Where to; created.
        seed: Of the secrets.
        patients: Each with a sweep over Table E.1-1 and one file of every kind.
        slices: Of the plain series.
    """
    writer = _Writer(folder, seed)
    with disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(patients):
            _patient(writer, slices)
    _forget_what_was_overwritten(writer.made)
    return writer.made


def _forget_what_was_overwritten(made: Seeded) -> None:
    """Drop secrets and UIDs that another one took the place of: they stand in no file, so nothing could miss them."""
    paths = [path for path in made.folder.rglob("*") if path.is_file()]
    parts = [str(path.relative_to(made.folder)).encode() + b"\0" + path.read_bytes() for path in paths]
    everything = b"\0".join(parts).lower()
    made.secrets = {word: kind for word, kind in made.secrets.items() if word.lower().encode() in everything}
    made.uids = {uid for uid in made.uids if uid.encode() in everything}


def _patient(writer: _Writer, slices: int) -> None:
    person = (writer.secret("name"), writer.secret("name"), writer.secret("id"))
    place = writer.made.folder / f"{person[0]}_{writer.secret('folder name')}" / writer.secret("folder name")
    study, series, frame = writer.uid(), writer.uid(), writer.uid()
    common = (person, study, series, frame)
    first = None
    for index in range(slices):
        image = _image(writer, common, index)
        if first is not None:
            image.ReferencedImageSequence = Sequence([_reference(first)])
            writer.made.references.append((int(image.InstanceNumber), int(first.InstanceNumber)))
        first = first or image
        _save(writer, image, place, implicit=index % 2 == 1)
    _save(writer, _unlisted(writer, _image(writer, common, 0)), place)
    _save(writer, _private(writer, _image(writer, common, 1)), place)
    _save(writer, _bulky(writer, _image(writer, common, 2)), place)
    for nested in (False, True):
        for image in _table_sweep(writer, common, nested=nested):
            _save(writer, image, place)
    _save(writer, _enhanced(writer, common), place)
    _save(writer, _segmentation(writer, common), place)
    for image in _not_allowed(writer, common):
        _save(writer, image, place, keeps=False)
    _malformed(writer, place)


def _image(writer: _Writer, common: tuple[tuple[str, str, str], str, str, str], index: int) -> Dataset:
    person, study, series, frame = common
    writer.number += 1
    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID = MRImageStorage, writer.uid()
    image.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    image.StudyDate = image.SeriesDate = image.AcquisitionDate = image.ContentDate = "20190721"
    image.StudyTime, image.AcquisitionTime, image.SeriesTime = "101733", "102000.500000", "101900"
    image.AccessionNumber, image.Modality, image.Manufacturer = writer.secret("id"), "MR", "SIEMENS"
    image.InstitutionName, image.ReferringPhysicianName = writer.secret("institution"), writer.secret("name")
    image.SeriesDescription = f"t1 mprage sag {writer.secret('description')}"
    image.PatientName, image.PatientID = f"{person[0]}^{person[1]}", person[2]
    image.PatientBirthDate, image.PatientSex, image.PatientAge = "19470312", "F", "093Y"
    image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, series, frame
    image.StudyID, image.SeriesNumber, image.InstanceNumber = writer.secret("id"), "3", str(writer.number)
    image.ImagePositionPatient = ["0", "0", str(index)]
    image.PositionReferenceIndicator = ""
    for name, value in TECHNICAL.items():
        setattr(image, name, value)
    return _pixels(writer, image, 16)


def _pixels(writer: _Writer, image: Dataset, size: int) -> Dataset:
    image.SamplesPerPixel, image.PhotometricInterpretation, image.Rows, image.Columns = 1, "MONOCHROME2", size, size
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    frames = int(image.get("NumberOfFrames") or 1)
    image.PixelData = writer.random.integers(0, 4096, frames * size * size, dtype=np.uint16).tobytes()
    return image


def _put(target: Dataset, tag: BaseTag, vr: str, value: object) -> None:
    """Set an element; a number that is none is put there as bytes, since pydicom would refuse it."""
    if vr in {"DS", "IS"} and isinstance(value, str):
        raw = value.encode("ascii").ljust(len(value) + len(value) % 2)
        target._dict[tag] = RawDataElement(tag, vr, len(raw), raw, 0, False, True)
    else:
        target.add_new(tag, vr, value)


def _reference(image: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    return item


def _unlisted(writer: _Writer, image: Dataset) -> Dataset:
    """Plant secrets in attributes that Table E.1-1 does not list, and in fields for terms and numbers."""
    for name in _UNLISTED:
        tag = Tag(name)
        writer.made.overwritten.setdefault(int(image.InstanceNumber), set()).add(name)
        _put(image, tag, dictionary_VR(tag), writer.value("not in table", dictionary_VR(tag)))
    image.ImageType = ["ORIGINAL", "PRIMARY", "M", writer.secret("not in table").upper()]
    return image


def _private(writer: _Writer, image: Dataset) -> Dataset:
    block = image.private_block(0x0029, writer.secret("private"), create=True)
    inner = Dataset()
    inner.PatientName = writer.secret("private")
    for element, vr in ((0x10, "LO"), (0x11, "UN"), (0x12, "OB"), (0x13, "PN"), (0x14, "LT")):
        block.add_new(element, vr, writer.value("private", vr))
    block.add_new(0x15, "SQ", Sequence([inner]))
    known = image.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    known.add_new(0x0C, "IS", "1000")
    known.add_new(0x0E, "LO", writer.secret("private"))
    return image


def _bulky(writer: _Writer, image: Dataset) -> Dataset:
    """Plant secrets in overlays, curves, icons and padding."""
    for tag, vr in ((0x60000010, "US"), (0x60000011, "US")):
        image.add_new(tag, vr, 16)
    image.add_new(0x60000022, "LO", writer.secret("overlay"))
    image.add_new(0x60001500, "LO", writer.secret("overlay"))
    image.add_new(0x60003000, "OW", writer.secret("overlay").encode("ascii").ljust(32, b"\0"))
    image.add_new(0x50003000, "OW", writer.secret("curve").encode("ascii"))
    icon = Dataset()
    icon.Rows = icon.Columns = 4
    icon.add_new(0x7FE00010, "OB", writer.secret("icon").encode("ascii").ljust(16, b"\0"))
    image.IconImageSequence = Sequence([icon])
    image.add_new(0xFFFCFFFC, "OB", writer.secret("padding").encode("ascii"))
    return image


def _table_sweep(writer: _Writer, common: tuple[tuple[str, str, str], str, str, str], *, nested: bool) -> list[Dataset]:
    category = "table, nested" if nested else "table, root"
    image = _image(writer, common, 0)
    target = image
    if nested:
        target = _reference(image)
        image.ReferencedImageSequence = Sequence([target])
    for number in profile_tags():
        tag = BaseTag(number)
        if number in _FIXED or not dictionary_has_tag(tag) or tag.group < 8 or (nested and number == 0x00081155):
            continue
        vr = dictionary_VR(tag).split(" or ")[0]
        value = writer.value(category, vr)
        if value is not None:
            _put(target, tag, vr, value)
    return [image]


def _enhanced(writer: _Writer, common: tuple[tuple[str, str, str], str, str, str]) -> Dataset:
    image = _image(writer, common, 0)
    image.SOPClassUID, image.NumberOfFrames = EnhancedMRImageStorage, 3
    frames = []
    for index in range(3):
        content, item, timing = Dataset(), Dataset(), Dataset()
        content.FrameComments, content.StackID = writer.secret("frame"), writer.secret("frame")
        content.FrameAcquisitionDateTime, content.DimensionIndexValues = "20190721102000", [1, index + 1]
        content.FrameLabel = writer.secret("frame")
        timing.RepetitionTime, timing.FlipAngle = "2300", "9"
        item.FrameContentSequence = Sequence([content])
        item.MRTimingAndRelatedParametersSequence = Sequence([timing])
        frames.append(item)
    image.PerFrameFunctionalGroupsSequence = Sequence(frames)
    return _pixels(writer, image, 16)


def _segmentation(writer: _Writer, common: tuple[tuple[str, str, str], str, str, str]) -> Dataset:
    image = _image(writer, common, 0)
    image.SOPClassUID, image.Modality, image.NumberOfFrames = SegmentationStorage, "SEG", 1
    image.SegmentationType, image.MaximumFractionalValue = "FRACTIONAL", 255
    segment, code = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "85756007", "SCT", writer.secret("segment")
    segment.SegmentNumber, segment.SegmentLabel = 1, writer.secret("segment")
    segment.SegmentDescription, segment.SegmentAlgorithmType = writer.secret("segment"), "MANUAL"
    segment.SegmentedPropertyTypeCodeSequence = Sequence([code])
    segment.SegmentedPropertyCategoryCodeSequence = Sequence([code])
    segment.TrackingID, segment.TrackingUID = writer.secret("segment"), writer.uid()
    image.SegmentSequence = Sequence([segment])
    image.ContentCreatorName = writer.secret("name")
    return _pixels(writer, image, 16)


def _not_allowed(writer: _Writer, common: tuple[tuple[str, str, str], str, str, str]) -> list[Dataset]:
    capture, burned, report, document = (_image(writer, common, 0) for _ in range(4))
    capture.SOPClassUID = SecondaryCaptureImageStorage
    capture.PixelData = writer.secret("burned in").encode("ascii").ljust(512, b"\0")
    burned.BurnedInAnnotation = "YES"
    report.SOPClassUID, report.Modality = BasicTextSRStorage, "SR"
    item = Dataset()
    item.TextValue = f"Seen by {writer.secret('report')}"
    report.ContentSequence = Sequence([item])
    document.SOPClassUID, document.Modality = EncapsulatedPDFStorage, "DOC"
    document.EncapsulatedDocument = b"%PDF-1.4 " + writer.secret("PDF").encode("ascii")
    return [capture, burned, report, document]


def _malformed(writer: _Writer, place: Path) -> None:
    for cut in (40, 200, 700):
        source = next(path for path in sorted(place.iterdir()) if path.stat().st_size > 1000)
        (place / f"{writer.secret('file name')}.dcm").write_bytes(source.read_bytes()[:cut])
        writer.made.files += 1
    (place / f"{writer.secret('file name')}.txt").write_text(f"Call {writer.secret('stray text')}.\n", "utf-8")
    (place / f"{writer.secret('file name')}").write_bytes(b"")
    writer.made.files += 2


def _save(writer: _Writer, image: Dataset, place: Path, *, implicit: bool = False, keeps: bool = True) -> None:
    """Write a file with secrets in its name, preamble, file meta information and behind its end."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    meta.SourceApplicationEntityTitle = writer.secret("file meta")
    meta.PrivateInformationCreatorUID = UID(writer.uid())
    meta.PrivateInformation = writer.secret("file meta").encode("ascii")
    image.file_meta = meta
    image.preamble = writer.secret("preamble").encode("ascii").ljust(128, b"\0")
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{writer.secret('file name')}{'.dcm' if not implicit else ''}"
    dcmwrite(path, image, enforce_file_format=True)
    with path.open("ab") as stream:
        stream.write(writer.secret("trailing bytes").encode("ascii"))
    if keeps:
        writer.made.pixels[int(image.InstanceNumber)] = image.PixelData
    writer.made.files += 1
