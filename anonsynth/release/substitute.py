"""`anonsynth generate`: a substitute cohort from a model, resumable, one scan in memory at a time."""

from __future__ import annotations

from pathlib import Path

from anonsynth.errors import UsageError
from anonsynth.files import (
    begin_folder,
    finish_folder,
    is_finished,
    is_untouched,
    read_json,
    sha256_file,
    write_json,
)
from anonsynth.progress import Progress
from anonsynth.release.bids import BidsWriter, ParticipantRow
from anonsynth.synthesis.generate import generate_patients
from anonsynth.synthesis.model import MODEL_FILE, open_model
from anonsynth.synthesis.settings import GenerateSettings

__all__ = ["PROVENANCE_FILE", "generate"]

PROVENANCE_FILE = "provenance.json"
PROVENANCE_FOLDER = "code"


def generate(settings: GenerateSettings, progress: Progress, *, device: str = "auto") -> Path:
    """Write the substitute cohort; return its folder.

    Called again with the same settings it resumes, or returns at once if the cohort is finished.

    Raises:
        UsageError: If the folder holds a substitute cohort of other settings, or something else.
        InputError: If the model is unfinished or broken.
    """
    info = open_model(settings.model)
    provenance = settings.out / PROVENANCE_FOLDER / PROVENANCE_FILE
    wanted: dict[str, object] = {
        "schema": "anonsynth/provenance/1",
        "count": settings.count,
        "styles": settings.styles,
        "seed": settings.seed,
        "model_sha256": sha256_file(settings.model / MODEL_FILE),
        "weights_sha256": info.weights_sha256,
        "label_prior": info.source.prior.value,
        "guarantee": info.guarantee.value,
    }
    if settings.edits is not None:
        wanted["edits"] = settings.edits.model_dump(mode="json")
    _claim(settings.out, provenance, wanted)
    if is_finished(settings.out, f"{PROVENANCE_FOLDER}/{PROVENANCE_FILE}"):
        return settings.out
    writer = BidsWriter(settings.out, info.grid.grid, info.modalities, info.source.vocabulary.labels)
    sessions = [None] if settings.styles == 1 else [f"ses-style{n:02d}" for n in range(1, settings.styles + 1)]
    names = {index: f"sub-synth{index:04d}" for index in range(1, settings.count + 1)}
    missing = [i for i, name in names.items() if not all(writer.label_path(name, s).exists() for s in sessions)]
    patients = generate_patients(
        settings.model,
        missing,
        styles=settings.styles,
        seed=settings.seed,
        device_name=device,
        edits=settings.edits,
    )
    for patient in progress.track(
        patients, total=settings.count, what="generating", done=settings.count - len(missing)
    ):
        for session, scan in zip(sessions, patient.scans, strict=True):
            sidecar: dict[str, object] = {"LabelRecipe": patient.recipe, "StyleSeed": scan.style_seed}
            if settings.edits is not None:
                sidecar["Edits"] = list(patient.edits)
            writer.write_scan(names[patient.index], session, scan.image, patient.label, sidecar)
    rows = [ParticipantRow(name, settings.styles, info.source.prior.value) for name in names.values()]
    writer.write_tables(rows, f"conditional GAN, label maps from the {info.source.prior.value} prior")
    finish_folder(settings.out)
    return settings.out


def _claim(folder: Path, provenance: Path, wanted: dict[str, object]) -> None:
    if provenance.exists():
        if read_json(provenance) != wanted:
            msg = f"the folder {folder.name} holds a substitute cohort of other settings; choose another --out"
            raise UsageError(msg)
        return
    if not is_untouched(folder):
        msg = f"the folder {folder.name} holds something else; choose another --out"
        raise UsageError(msg)
    begin_folder(folder)
    write_json(provenance, wanted)
