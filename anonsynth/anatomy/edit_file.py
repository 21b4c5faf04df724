"""`anonsynth edit`: edits of one label map in a file, with a sidecar that says what was done.

    OUT.nii.gz     the label map, RAS+ axes
    OUT.json       anonsynth/edit/1: the edits in order, no path and no name

What comes out is as private as what went in.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt

from anonsynth._version import __version__
from anonsynth.anatomy.edit_apply import apply_edits, rules_of
from anonsynth.anatomy.edit_plan import EditPlan
from anonsynth.anatomy.edits import Record, transplant
from anonsynth.anatomy.scene import Scene
from anonsynth.cohort.lookup import MAX_LABEL, find_lookup, lookup_from_tsv
from anonsynth.cohort.model import BRAIN_LABELS, LabelEntry
from anonsynth.cohort.nifti import NiftiVolume
from anonsynth.cohort.orient import spacing_of, to_ras
from anonsynth.cohort.sources import RawVolume
from anonsynth.errors import InputError, UsageError
from anonsynth.files import write_bytes, write_json

__all__ = ["edit_file"]


def edit_file(
    source: Path, out: Path, plan: EditPlan, donors: Sequence[Path] = (), *, labels: Path | None = None, seed: int = 0
) -> list[Record]:
    """Edit a label map and write it; return what was done. If one edit cannot be done nothing is written.

    Args:
        source: NIfTI.
        out: NIfTI, ending in .nii.gz.
        plan: The edits; transplants are done first, after `remove`.
        donors: Label maps whose tumours are put in, one after the other.
        labels: Table of what the values mean; else the one beside the file, else the simulator's values.
        seed: Of random places.

    Raises:
        ImpossibleEditError: If an edit cannot be done.
        InputError: If a file is no label map.
        UsageError: If nothing is asked for, or `out` has another ending.
    """
    if plan.empty and not donors:
        raise UsageError("no edit is asked for; give --tumour-scale, --tumour-move, --tumour-mirror or another one")
    if not out.name.endswith(".nii.gz"):
        raise UsageError("--out names the edited label map; let it end in .nii.gz")
    scene, affine = _read(source, labels)
    records: list[Record] = []
    if plan.remove:
        scene, records = apply_edits(scene, EditPlan(remove=True, tumour=plan.tumour), strict=True)
    for donor in donors:
        made = transplant(scene, _read(donor, labels)[0], rules_of(plan))
        scene, records = made.scene, [*records, made.record]
    rest = plan.model_copy(update={"remove": False, "transplant": False})
    scene, done = apply_edits(scene, rest, seed=seed, strict=True)
    records += done
    image = nib.Nifti1Image(scene.label, affine)
    image.header.set_xyzt_units("mm", "sec")
    write_bytes(out, gzip.compress(image.to_bytes(), compresslevel=6, mtime=0))
    document = {"schema": "anonsynth/edit/1", "anonsynth": __version__, "seed": seed, "Edits": records}
    write_json(out.with_name(out.name.removesuffix(".nii.gz") + ".json"), document)
    return records


def _read(path: Path, labels: Path | None) -> tuple[Scene, npt.NDArray[np.float64]]:
    raw = NiftiVolume(path).read()
    array = np.asarray(raw.array)
    if not np.array_equal(array, np.rint(array)) or array.min() < 0 or array.max() > MAX_LABEL:
        raise InputError(
            "the file holds other values than labels from 0 to 255", remedy="name a label map", private_path=path
        )
    turned = to_ras(RawVolume(array.astype(np.uint8), raw.affine))
    entries = _entries(path, labels)
    return Scene(np.ascontiguousarray(turned.array, np.uint8), spacing_of(turned.affine), entries), turned.affine


def _entries(path: Path, labels: Path | None) -> tuple[LabelEntry, ...]:
    if labels is not None:
        return tuple(lookup_from_tsv(labels).values())
    found = find_lookup(path.parent) or find_lookup(path.parent.parent)
    return tuple(found.values()) or BRAIN_LABELS
