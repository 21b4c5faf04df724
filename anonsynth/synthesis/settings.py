"""What can be set in training and generation: what changes the result apart from what changes only the speed."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from anonsynth.anatomy.edit_plan import EditPlan

__all__ = ["GenerateSettings", "GuaranteeSettings", "PerformanceSettings", "PriorChoice", "TrainSettings"]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PriorChoice(StrEnum):
    """What new label maps are drawn from."""

    AUTO = "auto"
    ATLAS = "atlas"
    SHAPE = "shape"
    PRIVATE = "private"


class TrainSettings(_Frozen):
    """Everything that changes the trained weights.

    Attributes:
        steps: Optimisation steps of the label → MRI networks.
        label_steps: Optimisation steps of the MRI → label network, where anatomy has to be filled in.
        simulated_people: People simulated to train MRI → label on; no patient is among them.
        batch: Scans in a step; each is of another patient where there are enough.
        seed: The one seed that all randomness flows from.
        prior: Label prior; `auto` takes the first that fits the cohort and the policy allows.
        width: Channels of the generator at half resolution.
        style: Length of the style code: principal axes of the tissues' median intensities.
        rate: Adam's learning rate for the generator at the start, a third of it for the discriminator and ten times
            as much for the tissues' median intensities and grain; all fall to a tenth over the run along a cosine.
        l1_weight: Weight of the reconstruction loss, once for the painted and once for the finished image.
        grain_weight: Weight of the loss that matches each tissue's grain.
        matching_weight: Weight of the feature-matching loss.
        crop_voxels: Largest crop seen in a step; larger grids are trained in crops with their coordinates.
        ema_decay: Decay of the running mean of the weights that generation uses.
        anatomy: SHA-256 of the public label maps that were given, if there are any.
    """

    steps: int = Field(default=500, ge=1)
    label_steps: int = Field(default=400, ge=1)
    simulated_people: int = Field(default=32, ge=1)
    batch: int = Field(default=2, ge=1)
    seed: int = Field(default=0, ge=0)
    prior: PriorChoice = PriorChoice.AUTO
    width: int = Field(default=24, ge=8, multiple_of=8)
    style: int = Field(default=8, ge=1)
    rate: float = Field(default=1e-3, gt=0)
    l1_weight: float = Field(default=30.0, ge=0)
    grain_weight: float = Field(default=100.0, ge=0)
    matching_weight: float = Field(default=10.0, ge=0)
    crop_voxels: int = Field(default=65_536, ge=4096)
    ema_decay: float = Field(default=0.99, ge=0, lt=1)
    anatomy: str | None = None

    def told(self) -> dict[str, object]:
        """Return the settings as JSON, for hashes; what is not set is left out, so that older hashes still hold."""
        return self.model_dump(mode="json", exclude_none=True)


class GuaranteeSettings(_Frozen):
    """What a guarantee is asked for, and what may be told without one because it is public anyway.

    Attributes:
        rung: Of the ladder (`synthesis/rungs.py`).
        epsilon: What the training may cost a patient; None at rung 0, which reads none.
        delta: At which; the policy's, or 1/(10·patients), if left out.
        patients: A public figure for the number of training patients; None if it may not be told.
        modalities: Their names, if they are public.
        labels: Their values, if they are public.
        private_steps: Steps of DP-SGD at rungs 3 and 4.
    """

    rung: int = Field(default=1, ge=0)
    epsilon: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    delta: float | None = Field(default=None, gt=0, lt=1)
    patients: int | None = Field(default=None, ge=1)
    modalities: tuple[str, ...] | None = None
    labels: tuple[int, ...] | None = None
    private_steps: int = Field(default=200, ge=1)

    def undeclared(self, *, public_patients: bool) -> tuple[tuple[str, str], ...]:
        """Return what a model would tell though nobody has said that it is public, each with the remedy.

        Args:
            public_patients: Whether the policy says that the number of training patients is known anyway.
        """
        told = []
        if self.modalities is None:
            told.append(("which modalities occur", "give --modalities, if that is public"))
        if self.labels is None:
            told.append(("which labels occur", "give --public-labels, if that is public"))
        if self.rung > 0 and self.patients is None and not public_patients:
            told.append(("the number of patients", "give a round figure with --public-patients"))
        return tuple(told)


class PerformanceSettings(_Frozen):
    """What changes how fast and where the same result is made, within rounding.

    Attributes:
        device: `auto`, `cpu` or `cuda`.
        checkpoint_seconds: Least time between two checkpoints.
    """

    device: str = "auto"
    checkpoint_seconds: float = Field(default=30.0, ge=0)


class GenerateSettings(_Frozen):
    """Everything that changes the substitute cohort.

    Attributes:
        model: Folder that `anonsynth train` wrote.
        out: Folder of the substitute cohort.
        count: Substitute patients.
        styles: Scans a substitute patient gets: one label map, several style codes, written as sessions.
        seed: The one seed that all randomness flows from.
        edits: Edits of every drawn tumour; None for none.
    """

    model: Path
    out: Path
    count: int = Field(default=50, ge=1, le=99_999)
    styles: int = Field(default=1, ge=1, le=99)
    seed: int = Field(default=0, ge=0)
    edits: EditPlan | None = None
