"""Which edits of a tumour are asked for; imports nothing heavy, because settings hold it."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from anonsynth.errors import UsageError

__all__ = ["EditPlan"]


class EditPlan(BaseModel):
    """Edits, in the order in which they are done.

    Attributes:
        remove: Take the tumour out.
        transplant: Put the tumour of another label map in.
        scale: Factors of its volume; the n-th label map takes the n-th of them, and so on in turn.
        move: `right,anterior,superior` in mm, `random`, or a region such as `left frontal`.
        mirror: Exchange it with its mirror place.
        tumour: Which tumour, the largest is 1; 0 takes all of them as one.
        across_midline: It may lie on both sides of the falx.
        into_ventricle: It may lie in a ventricle.
        push: How far it pushes anatomy aside at its edge, as a share of its radius.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    remove: bool = False
    transplant: bool = False
    scale: tuple[float, ...] = ()
    move: str | None = None
    mirror: bool = False
    tumour: int = Field(default=0, ge=0)
    across_midline: bool = False
    into_ventricle: bool = False
    push: float = Field(default=0.25, ge=0, le=0.42)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.move is not None and "," in self.move:
            self.shift()
        if any(not 0.01 <= factor <= 100 for factor in self.scale):
            raise UsageError("--tumour-scale takes factors of 0.01 to 100, such as 0.5,2")
        return self

    @property
    def empty(self) -> bool:
        """Whether nothing is asked for."""
        return not (self.remove or self.transplant or self.scale or self.move or self.mirror)

    def shift(self) -> tuple[float, float, float] | str:
        """Return where to: mm, or the name of a place."""
        text = self.move or ""
        if "," not in text:
            return text
        try:
            x, y, z = (float(part) for part in text.split(","))
        except ValueError:
            raise UsageError("--tumour-move needs three numbers in mm, such as 0,12,0, or a place") from None
        return (x, y, z)
