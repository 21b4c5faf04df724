"""A trained model's folder: what is in it, and the card that says what it is.

    MODEL/model.json                   ModelInfo
    MODEL/generator.safetensors        label → MRI: running mean of the weights, colours
    MODEL/mri_to_label.safetensors     where anatomy was filled in; trained on public anatomy only
    MODEL/shape_prior.safetensors      where the prior is the cohort's own; its guarantee is the model's
    MODEL/anatomy.safetensors          where public label maps were given: what was cut from them
    MODEL/model_card.md                for people
    MODEL/training.png, history.json   how training went

Zone: spending. A model trained without a guarantee is as private as the cohort.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from anonsynth.anatomy.priors import Guarantee
from anonsynth.cohort.model import GridInfo
from anonsynth.errors import InputError, UsageError
from anonsynth.files import UNFINISHED, begin_folder, is_untouched, read_json, sha256_file, write_text
from anonsynth.privacy.price import Price
from anonsynth.synthesis.label_source import ANATOMY_FILE, SHAPE_FILE, LabelSource
from anonsynth.synthesis.settings import GuaranteeSettings, TrainSettings

__all__ = [
    "GENERATOR_FILE",
    "MODEL_FILE",
    "Bought",
    "ModelInfo",
    "check_weights",
    "claim",
    "hash_weights",
    "open_model",
]

MODEL_FILE = "model.json"
GENERATOR_FILE = "generator.safetensors"


class Bought(BaseModel):
    """What a guarantee was bought with: everything that was released of patients.

    Attributes:
        rung: Of the ladder.
        epsilon: What all releases of this model cost together, at `delta`.
        delta: At which.
        patients: The public figure that noise and δ follow from.
        releases: Name, numbers, clipping bound, noise multiplier, ε alone and expected signal to noise of each.
        coefficients: Of the label prior.
        public: What was taken to be public, in words.
        training: DP-SGD: its settings, how many weights it trained, ε alone and expected signal to noise; None without.
        learnt: What it was that learnt from patients beside the sums, in words.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rung: int
    epsilon: float
    delta: float
    patients: int
    releases: tuple[dict[str, float | int | str], ...]
    coefficients: int
    public: tuple[str, ...]
    training: dict[str, float | int] | None = None
    learnt: str = ""


class ModelInfo(BaseModel):
    """`model.json`: everything that generation needs, and everything that was spent.

    Attributes:
        guarantee: What holds for the patients: the weakest of all steps.
        border_stray: How far a generated scan's borders stray from its label map's, in voxels.
        unprotected: What was read from private data without a mechanism, in words.
        ledger: How the guarantee stood in the cohort's ledger when training ended; "" in models from before it.
        prices: What a guarantee would have cost; informative.
        cohort_sha256: Hash of the cohort's tables that the model was trained on.
        weights_sha256: Hash of every file that generation reads: the generator, the shape prior or public anatomy if
            there is one.
        bought: What was released with a mechanism; None if nothing was. Where it is told, `patients` and `scans` are
            the public figure, and hashes and times that depend on patients are left out.
        asked: What guarantee was asked for, all of it public; with the ledger it tells the model's cohort (`pairing`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_: str = Field(default="anonsynth/model/1", alias="schema")
    anonsynth: str
    settings: TrainSettings
    settings_sha256: str
    policy: str
    modalities: tuple[str, ...]
    grid: GridInfo
    source: LabelSource
    guarantee: Guarantee
    border_stray: float
    unprotected: tuple[str, ...]
    patients: int
    scans: int
    prices: tuple[Price, ...]
    cohort_sha256: str
    weights_sha256: dict[str, str]
    seconds: float
    machine: str
    ledger: str = ""
    bought: Bought | None = None
    asked: GuaranteeSettings | None = None


def hash_weights(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file in a model's folder that generation reads, by its name."""
    files = (folder / name for name in (GENERATOR_FILE, SHAPE_FILE, ANATOMY_FILE))
    return {path.name: sha256_file(path) for path in files if path.exists()}


def check_weights(folder: Path, info: ModelInfo) -> None:
    """Raise InputError if a file that generation reads is not the one that `model.json` names."""
    if hash_weights(folder) != info.weights_sha256:
        raise InputError("the model's weights are not those that model.json names", remedy="train the model again")


def open_model(folder: Path) -> ModelInfo:
    """Open a model that `anonsynth train` wrote; raise InputError if it is none or unfinished."""
    if (folder / UNFINISHED).exists():
        raise InputError("the model is unfinished", remedy="run the same `anonsynth train` again; it resumes")
    try:
        return ModelInfo.model_validate(read_json(folder / MODEL_FILE))
    except ValidationError:
        raise InputError("model.json does not hold what it should", remedy="train the model again") from None


def claim(folder: Path, key: str) -> None:
    """Mark a folder as being filled for the training named `key`; raise UsageError if it is another model's."""
    note = folder / "training_for.txt"
    if not is_untouched(folder) and not (note.exists() and note.read_text("utf-8").strip() == key):
        msg = f"the folder {folder.name} holds something else, or a model of other settings; choose another --out"
        raise UsageError(msg)
    begin_folder(folder)
    write_text(note, key + "\n")
