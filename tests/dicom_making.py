"""Hand-made DICOM for the tests: classic series, enhanced multi-frame files, and what goes wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from openjpeg.utils import encode_array
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    MRImageStorage,
    generate_uid,
)

IDENTITY = np.eye(3)


def rotation(angles: Sequence[float]) -> np.ndarray:
    """Return a (3, 3) rotation by angles (radians) about x, y and z; its columns are row, column and normal."""
    (a, b, c) = angles
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


@dataclass
class Made:
    """A series to be written: voxels and geometry, and how its header departs from the ordinary.

    Attributes:
        shape: (columns, rows, slices).
        spacing: mm along (columns, rows, slices).
        turn: (3, 3) rotation in LPS+.
        origin: LPS+ mm of voxel (0, 0, 0).
        tags: Header values by keyword, over the defaults.
        change: Called for each slice with (dataset, slice index) before it is written.
        order: Slice index of each file in turn; the instance number counts files.
        decimals: Decimals of the written positions; None for all.
        syntax: Transfer syntax.
        seed: Of the voxels.
    """

    shape: tuple[int, int, int] = (12, 10, 8)
    spacing: tuple[float, float, float] = (1.0, 1.2, 2.5)
    turn: np.ndarray = field(default_factory=lambda: IDENTITY)
    origin: tuple[float, float, float] = (-20.0, -30.0, 40.0)
    tags: dict[str, object] = field(default_factory=dict)
    change: Callable[[Dataset, int], None] = lambda dataset, index: None  # noqa: ARG005
    order: Sequence[int] | None = None
    decimals: int | None = None
    syntax: str = ExplicitVRLittleEndian
    study: str = field(default_factory=generate_uid)
    series: str = field(default_factory=generate_uid)
    seed: int = 0

    @property
    def array(self) -> np.ndarray:
        """(columns, rows, slices) uint16 voxels."""
        return np.random.default_rng(self.seed).integers(0, 4000, self.shape, dtype=np.uint16)

    def world(self, voxel: Sequence[float]) -> np.ndarray:
        """Return the LPS+ mm of a voxel."""
        return np.asarray(self.origin) + self.turn @ (np.asarray(self.spacing) * np.asarray(voxel))

    def position(self, index: int) -> list[float]:
        """Return the position of a slice as the header states it."""
        exact = self.world((0, 0, index))
        return [float(f"{value:.10g}") if self.decimals is None else round(value, self.decimals) for value in exact]

    def cosines(self) -> list[float]:
        """Return ImageOrientationPatient."""
        return [float(f"{value:.12g}") for value in (*self.turn[:, 0], *self.turn[:, 1])]

    def write(self, folder: Path, *, prefix: str = "", suffix: str = ".dcm") -> list[Path]:
        """Write a classic series, one file a slice; return the files."""
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        order = list(range(self.shape[2])) if self.order is None else list(self.order)
        for number, index in enumerate(order, start=1):
            dataset = self._dataset(MRImageStorage)
            dataset.InstanceNumber = number
            dataset.ImagePositionPatient = self.position(index)
            dataset.ImageOrientationPatient = self.cosines()
            dataset.PixelSpacing = [self.spacing[1], self.spacing[0]]
            dataset.SliceThickness = self.spacing[2]
            self._pixels(dataset, self.array[:, :, index].T)
            self._override(dataset)
            self.change(dataset, index)
            files.append(save(dataset, folder / f"{prefix}{number:03d}{suffix}", self.syntax))
        return files

    def write_enhanced(
        self,
        folder: Path,
        *,
        change_frame: Callable[[Dataset, int], None] = lambda frame, index: None,  # noqa: ARG005
    ) -> Path:
        """Write one enhanced multi-frame file with the frames in `order`."""
        folder.mkdir(parents=True, exist_ok=True)
        order = list(range(self.shape[2])) if self.order is None else list(self.order)
        dataset = self._dataset(EnhancedMRImageStorage)
        dataset.InstanceNumber = 1
        dataset.NumberOfFrames = len(order)
        shared = Dataset()
        shared.PixelMeasuresSequence = [
            _item(
                PixelSpacing=[self.spacing[1], self.spacing[0]],
                SliceThickness=2.0,
                SpacingBetweenSlices=self.spacing[2],
            )
        ]
        shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=self.cosines())]
        dataset.SharedFunctionalGroupsSequence = [shared]
        pointers = [_item(DimensionIndexPointer=0x00209056), _item(DimensionIndexPointer=0x00209057)]
        for pointer in pointers:
            pointer.FunctionalGroupPointer = 0x00209111
        dataset.DimensionIndexSequence = pointers
        frames = []
        for index in order:
            frame = Dataset()
            content = _item(StackID="1", InStackPositionNumber=index + 1, DimensionIndexValues=[1, index + 1])
            frame.FrameContentSequence = [content]
            frame.PlanePositionSequence = [_item(ImagePositionPatient=self.position(index))]
            frame.MREchoSequence = [_item(EffectiveEchoTime=3.0)]
            kind = _item(FrameType=["ORIGINAL", "PRIMARY", "M", "NONE"], ComplexImageComponent="MAGNITUDE")
            frame.MRImageFrameTypeSequence = [kind]
            change_frame(frame, index)
            frames.append(frame)
        dataset.PerFrameFunctionalGroupsSequence = frames
        self._pixels(dataset, np.stack([self.array[:, :, index].T for index in order]))
        self._override(dataset)
        return save(dataset, folder / "enhanced", self.syntax)

    def _dataset(self, sop_class: str) -> Dataset:
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.SOPClassUID = sop_class
        dataset.SOPInstanceUID = generate_uid()
        dataset.StudyInstanceUID = self.study
        dataset.SeriesInstanceUID = self.series
        dataset.SeriesNumber = 3
        dataset.Modality = "MR"
        dataset.Manufacturer = "SIEMENS"
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
        dataset.PatientID = "somebody"
        dataset.PatientName = "Secret^Name"
        dataset.SeriesDescription = "t1 mprage sag"
        dataset.ScanningSequence = "GR"
        dataset.MRAcquisitionType = "3D"
        dataset.EchoTime = 3.0
        dataset.RepetitionTime = 2000.0
        dataset.AcquisitionNumber = 1
        return dataset

    def _override(self, dataset: Dataset) -> None:
        for keyword, value in self.tags.items():
            if value is None:
                del dataset[keyword]
            else:
                setattr(dataset, keyword, value)

    def _pixels(self, dataset: Dataset, pixels: np.ndarray) -> None:
        dataset.Rows, dataset.Columns = pixels.shape[-2:]
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
        order = ">" if self.syntax == ExplicitVRBigEndian else "<"
        dataset.PixelData = pixels.astype(f"{order}u2").tobytes()
        dataset["PixelData"].VR = "OW"


def save(dataset: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    """Write a dataset, compressed if the transfer syntax says so."""
    native = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = syntax if syntax in native else ExplicitVRLittleEndian
    if syntax == JPEG2000Lossless:
        # pydicom encodes it through pylibjpeg only, which is not a dependency; its codec alone is.
        frame = np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.Rows, dataset.Columns)
        dataset.PixelData = encapsulate([encode_array(frame, photometric_interpretation=2)])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = syntax
    elif syntax not in native:
        dataset.compress(syntax, generate_instance_uid=False)
    dataset.save_as(path, enforce_file_format=True)
    return path


def _item(**values: object) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item
