"""A plan's edits, one after the other; each leaves a record, done or refused."""

from __future__ import annotations

from collections.abc import Callable

from anonsynth.anatomy.edit_checks import EditRules
from anonsynth.anatomy.edit_plan import EditPlan
from anonsynth.anatomy.edits import (
    Edited,
    Record,
    mirror_tumour,
    move_tumour,
    remove_tumour,
    scale_tumour,
    transplant,
)
from anonsynth.anatomy.scene import ImpossibleEditError, Scene

__all__ = ["apply_edits", "rules_of"]


def rules_of(plan: EditPlan) -> EditRules:
    """Return what a plan asks of every edit."""
    return EditRules(plan.across_midline, plan.into_ventricle, plan.push, plan.tumour)


def apply_edits(
    scene: Scene, plan: EditPlan, *, other: Scene | None = None, number: int = 0, seed: int = 0, strict: bool = False
) -> tuple[Scene, list[Record]]:
    """Do a plan's edits; what cannot be done is recorded as refused and leaves the label map as it is.

    Args:
        scene: The label map.
        plan: What to do.
        other: For a transplant: the label map that the tumour goes into.
        number: Which factor of `plan.scale` is this map's turn.
        seed: Of random places.
        strict: Whether an edit that cannot be done is an error.

    Raises:
        ImpossibleEditError: If it is and one cannot be done.
    """
    steps: list[tuple[str, Callable[[Scene], Edited]]] = []
    rules = rules_of(plan)
    if plan.remove:
        steps.append(("remove", lambda it: remove_tumour(it, rules)))
    if plan.transplant and other is not None:
        host = other
        steps.append(("transplant", lambda it: transplant(host, it, rules)))
    if plan.scale:
        factor = plan.scale[number % len(plan.scale)]
        steps.append(("scale", lambda it: scale_tumour(it, factor, rules)))
    if plan.move is not None:
        steps.append(("move", lambda it: move_tumour(it, plan.shift(), rules, seed=seed)))
    if plan.mirror:
        steps.append(("mirror", lambda it: mirror_tumour(it, rules)))
    records: list[Record] = []
    for name, step in steps:
        try:
            done = step(scene)
        except ImpossibleEditError as refused:
            if strict:
                raise
            records.append({"edit": name, "refused": str(refused)})
            continue
        scene = done.scene
        records.append(done.record)
    return scene, records
