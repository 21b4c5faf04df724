"""Before training: a class map for every labelled training scan, and the prior that new ones will be drawn from.

Class maps of patients are private, so they are written into the cohort's folder, never into the model's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from anonsynth.anatomy.context import context_map
from anonsynth.anatomy.cosine_shape import load_cosines
from anonsynth.anatomy.shape import ShapeModel, fit_shape_model, load_shape_model, save_shape_model
from anonsynth.anatomy.subject import SubjectSettings
from anonsynth.anatomy.tissues import CSF, GREY, ORDER, SKULL, WHITE, split_tissues
from anonsynth.cohort.geometry import Grid, LabelVolume
from anonsynth.cohort.model import ScanRecord, Split
from anonsynth.cohort.store import Cohort, Scan
from anonsynth.errors import InputError
from anonsynth.files import replacing
from anonsynth.progress import Progress
from anonsynth.synthesis.checkpoint import load_weights, save_weights
from anonsynth.synthesis.label_source import SHAPE_FILE, LabelSource
from anonsynth.synthesis.mri_to_label import MRIToLabel, class_probabilities, train_mri_to_label
from anonsynth.synthesis.settings import PerformanceSettings, PriorChoice, TrainSettings
from anonsynth.synthesis.simulated_pairs import SimulatedPairs

__all__ = [
    "LABEL_NET_FILE",
    "class_map_maker",
    "coarser",
    "field_of_view",
    "plain_class_map",
    "prepare_class_maps",
    "usable_records",
    "write_class_map",
]

LABEL_NET_FILE = "mri_to_label.safetensors"
BRAIN_AND_BONE = (CSF, GREY, WHITE, SKULL)
LABEL_NET_VOXELS = 120_000
"""Anatomy is filled in on a grid of at most this many voxels."""


def usable_records(cohort: Cohort, source: LabelSource) -> tuple[ScanRecord, ...]:
    """Return the training scans that can be learnt from: labelled ones, or all where anatomy is filled in."""
    records = tuple(r for r in cohort.of(Split.TRAIN) if r.labelled or (source.filled and not source.tumour))
    if not records:
        raise InputError("no training scan has a label map", remedy="ingest the cohort again with --labels")
    return records


def prepare_class_maps(
    cohort: Cohort,
    records: tuple[ScanRecord, ...],
    source: LabelSource,
    model_folder: Path,
    key: str,
    settings: TrainSettings,
    performance: PerformanceSettings,
    device: torch.device,
    progress: Progress,
) -> Path:
    """Write the class maps of `records` to `COHORT/derived/<key>`; return that folder. Maps that are there are kept."""
    folder = cohort.folder / "derived" / key
    folder.mkdir(parents=True, exist_ok=True)
    if source.prior is PriorChoice.SHAPE:
        shape = _shape_model(cohort, records, source, model_folder, progress)
        maps = (_shape_class_map(cohort, record, source, shape) for record in _missing(folder, records))
    elif source.filled:
        if all((folder / f"{record.scan}.nii").exists() for record in records):
            return folder
        networks = _label_network(cohort, source, model_folder, settings, performance, device, progress)
        maps = (_filled_class_map(cohort, record, source, networks, device) for record in _missing(folder, records))
    else:
        maps = (plain_class_map(cohort, record, source) for record in _missing(folder, records))
    missing = _missing(folder, records)
    for record, classes in progress.track(
        zip(missing, maps, strict=True), total=len(records), what="class maps", done=len(records) - len(missing)
    ):
        write_class_map(folder / f"{record.scan}.nii", classes, cohort.grid)
    return folder


def class_map_maker(
    cohort: Cohort, source: LabelSource, model_folder: Path, settings: TrainSettings, device: torch.device
) -> Callable[[ScanRecord], LabelVolume]:
    """Return what makes any scan's class map as a finished model saw those of its training scans; writes nothing.

    Args:
        cohort: Where the scans are.
        source: The model's.
        model_folder: What `anonsynth train` wrote.
        settings: The model's.
        device: Where MRI → label runs, if the source needs it.

    Raises:
        InputError: If a file that this takes is missing in the model's folder.
    """
    shaped = {PriorChoice.SHAPE: load_shape_model, PriorChoice.PRIVATE: load_cosines}.get(source.prior)
    needed = SHAPE_FILE if shaped else LABEL_NET_FILE if source.filled else None
    if needed is not None and not (model_folder / needed).exists():
        raise InputError(f"the model's folder lacks {needed}", remedy="train the model again")
    if shaped:
        shape = shaped(model_folder / SHAPE_FILE)
        return lambda record: _shape_class_map(cohort, record, source, shape)
    if source.filled:
        networks = MRIToLabel.new(source.vocabulary.classes, settings)
        load_weights(model_folder / LABEL_NET_FILE, networks.generator)
        networks.generator.to(device).eval()
        return lambda record: _filled_class_map(cohort, record, source, networks, device)
    return lambda record: plain_class_map(cohort, record, source)


def coarser(grid: Grid, voxels: int) -> Grid:
    """Return a grid over the same field of view with at most about `voxels`; the shortest spacings grow first."""
    shape, extent = np.array(grid.shape), np.array(grid.extent)
    spacing = np.array(grid.spacing)
    while np.prod(shape) > voxels:
        finest = spacing.min()
        spacing = np.where(spacing < finest * 1.05, spacing * 1.05, spacing)
        shape = np.maximum(8, np.ceil(extent / spacing / 8) * 8).astype(int)
    x, y, z = (int(n) for n in shape)
    a, b, c = (float(e / n) for e, n in zip(extent, shape, strict=True))
    return Grid((x, y, z), (a, b, c)).centred()


def _missing(folder: Path, records: Iterable[ScanRecord]) -> list[ScanRecord]:
    return [record for record in records if not (folder / f"{record.scan}.nii").exists()]


def field_of_view(cohort: Cohort, record: ScanRecord) -> npt.NDArray[np.bool_]:
    """Return where a scan's field of view lies on the grid, (X, Y, Z)."""
    fov = np.zeros(cohort.info.grid.shape, bool)
    fov[tuple(slice(a, b) for a, b in zip(record.fov_low, record.fov_high, strict=True))] = True
    return fov


def plain_class_map(cohort: Cohort, record: ScanRecord, source: LabelSource) -> LabelVolume:
    """Return labels over intensity classes of the first acquired modality."""
    scan = cohort.load(record)
    fov = field_of_view(cohort, record)
    reference = scan.image[int(np.argmax(scan.present))]
    context = context_map(reference, fov, source.vocabulary.context)
    return source.vocabulary.class_map(scan.label, context, fov)


def _shape_model(
    cohort: Cohort, records: tuple[ScanRecord, ...], source: LabelSource, model_folder: Path, progress: Progress
) -> ShapeModel:
    path = model_folder / SHAPE_FILE
    if path.exists():
        return load_shape_model(path)

    def maps() -> Iterator[tuple[LabelVolume, tuple[int, int, int], tuple[int, int, int]]]:
        for record in progress.track(records, total=len(records), what="fitting the shape prior"):
            yield plain_class_map(cohort, record, source), record.fov_low, record.fov_high

    vocabulary = source.vocabulary
    model = fit_shape_model(maps(), context=vocabulary.context, labels=len(vocabulary.labels))
    save_shape_model(model, path)
    return model


def _shape_class_map(cohort: Cohort, record: ScanRecord, source: LabelSource, shape: ShapeModel) -> LabelVolume:
    """Return a patient's labels over the context *that the shape model can express*.

    The prior draws smooth surroundings; trained on a patient's own fine context, the generator would meet at generation
    something it had never seen. (Drawn with folds as rough as the patients', as random fields, scans were worth much
    less: docs/results.md.)
    """
    classes = plain_class_map(cohort, record, source)
    label = source.vocabulary.label_map(classes)
    return source.vocabulary.class_map(label, shape.surroundings(classes), classes > 0)


def _label_network(
    cohort: Cohort,
    source: LabelSource,
    model_folder: Path,
    settings: TrainSettings,
    performance: PerformanceSettings,
    device: torch.device,
    progress: Progress,
) -> MRIToLabel:
    """Train MRI → label on public anatomy under random contrast, or load it if that is done."""
    networks = MRIToLabel.new(source.vocabulary.classes, settings)
    path = model_folder / LABEL_NET_FILE
    if not path.exists():
        grid = coarser(cohort.grid, LABEL_NET_VOXELS)
        least, most = source.fov_slices or (cohort.grid.shape[2],) * 2
        ratio = grid.shape[2] / cohort.grid.shape[2]
        pairs = SimulatedPairs(
            grid,
            SubjectSettings(head=source.head, tumour=source.tumour),
            source.table,
            cohort.info.modalities,
            fov_slices=(max(1, round(least * ratio)), min(grid.shape[2], round(most * ratio))),
            people=settings.simulated_people,
            size=settings.batch,
            seed=settings.seed,
            progress=progress,
        )
        checkpoint = model_folder / "resume_labels.safetensors"
        train_mri_to_label(networks, pairs, settings, performance, device, checkpoint, progress)
        save_weights(path, networks.generator)
        checkpoint.unlink(missing_ok=True)
    load_weights(path, networks.generator)
    networks.generator.to(device).eval()
    return networks


def _filled_class_map(
    cohort: Cohort, record: ScanRecord, source: LabelSource, networks: MRIToLabel, device: torch.device
) -> LabelVolume:
    """Return the patient's own tumour label over anatomy that MRI → label fills in."""
    scan = cohort.load(record)
    fov = field_of_view(cohort, record)
    coarse = coarser(cohort.grid, LABEL_NET_VOXELS)
    factors = [b / a for a, b in zip(cohort.grid.shape, coarse.shape, strict=True)]
    small = np.stack([_resized(channel, factors) for channel in scan.image]).astype(np.float32)
    probability = class_probabilities(networks.generator, small, scan.present, device)
    back = [1 / factor for factor in factors]
    fine = np.stack([_resized(channel, back)[tuple(slice(n) for n in fov.shape)] for channel in probability])
    vocabulary = source.vocabulary
    tumours = [1 + vocabulary.context + i for i, entry in enumerate(vocabulary.labels) if entry.kind == "tumour"]
    # Tumour is never guessed: its label is the cohort's own.
    fine[[0, *tumours]] = -1
    own = vocabulary.class_map(scan.label, np.zeros_like(scan.label), fov)
    tumour = own > vocabulary.context
    anatomy = _with_tissues(scan, fine.argmax(0).astype(np.uint8), tumour, source, cohort)
    return np.where(fov, np.where(tumour, own, anatomy), 0).astype(np.uint8)


def _with_tissues(
    scan: Scan, coarse: LabelVolume, tumour: npt.NDArray[np.bool_], source: LabelSource, cohort: Cohort
) -> LabelVolume:
    """Split what MRI → label takes for brain or bone by the intensities of the scan's best modality."""
    classes = {value: index for value, index in source.table if value in BRAIN_AND_BONE}
    names = cohort.info.modalities
    acquired = [name for name, there in zip(names, scan.present, strict=True) if there]
    modality = next((name for name in ORDER if name in acquired), acquired[0])
    brain = np.isin(coarse, list(classes.values()))
    scalp = ~brain & (coarse > source.vocabulary.context)
    tissue = split_tissues(scan.image[names.index(modality)], modality, brain, scalp, tumour, cohort.grid.spacing)
    table = np.zeros(256, np.uint8)
    for value, index in source.table:
        table[value] = index
    return np.where(brain, table[tissue], coarse).astype(np.uint8)


def _resized(volume: npt.NDArray[np.float32], factors: list[float]) -> npt.NDArray[np.float32]:
    if min(factors) < 1:
        volume = ndimage.gaussian_filter(volume, [max(0.0, 0.5 * (1 / f - 1)) for f in factors])
    # grid_mode keeps the field of view: voxels are boxes, not points.
    resized: npt.NDArray[np.float32] = ndimage.zoom(volume, factors, order=1, grid_mode=True, mode="nearest")
    return resized


def write_class_map(path: Path, classes: LabelVolume, grid: Grid) -> None:
    """Write a class map (X, Y, Z), atomically."""
    with replacing(path) as temporary:
        nib.save(nib.Nifti1Image(classes, grid.affine), temporary)
