"""What this machine can do: versions, codecs, extras, room. Holds no path, no name, nothing of a patient."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from anonsynth._version import __version__

__all__ = ["Check", "State", "examine"]

GIB = 1024**3
LEAST_FREE_GIB = 2.0
LEAST_MEMORY_GIB = 3.5
LIBRARIES = ("torch", "numpy", "scipy", "nibabel", "pydicom", "highdicom", "scikit-image", "pydantic", "safetensors")
CODECS = {
    "JPEG lossless": "1.2.840.10008.1.2.4.70",
    "JPEG-LS": "1.2.840.10008.1.2.4.80",
    "JPEG 2000": "1.2.840.10008.1.2.4.90",
    "RLE": "1.2.840.10008.1.2.5",
}
EXTRAS = {
    "dcm2niix": ("dcm2niix", "pip install 'anonsynth[dcm2niix]'", "compares DICOM geometry with dcm2niix"),
}
TEMPLATES = ("t1", "gm", "wm")


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    OPTIONAL = "optional"
    """Absent, and nothing but an extra needs it."""
    LOW = "low"
    """Present, but large cohorts may not fit."""
    MISSING = "missing"
    """Something needed is not there."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor.

    Attributes:
        name: What was looked at.
        state: How it stands.
        detail: A version, a number with its unit, or what is absent.
        remedy: What to do, empty if nothing.
    """

    name: str
    state: State
    detail: str
    remedy: str = ""


def examine(folder: Path) -> tuple[Check, ...]:
    """Look at everything anonsynth needs.

    Args:
        folder: Where output would be written; only its free room and whether it can be written are told.
    """
    return (*_software(), _device(), *_codecs(), *_extras(), _templates(), *_room(folder))


def _software() -> Iterator[Check]:
    yield Check("anonsynth", State.OK, __version__)
    new_enough = sys.version_info >= (3, 11)
    yield Check(
        "Python",
        State.OK if new_enough else State.MISSING,
        f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "" if new_enough else "install Python 3.11 or newer",
    )
    for name in LIBRARIES:
        try:
            yield Check(name, State.OK, version(name))
        except PackageNotFoundError:
            yield Check(name, State.MISSING, "not installed", "pip install anonsynth")


def _device() -> Check:
    try:
        import torch
    except ImportError:
        return Check("device", State.MISSING, "PyTorch cannot be imported", "pip install --force-reinstall torch")
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / GIB
        return Check("device", State.OK, f"{torch.cuda.get_device_name(0)}, {memory:.0f} GiB")
    if torch.backends.mps.is_available():
        return Check("device", State.OK, "Apple GPU")
    return Check("device", State.OK, f"CPU, {torch.get_num_threads()} threads (no GPU was found; none is needed)")


def _codecs() -> Iterator[Check]:
    from pydicom.pixels.decoders.base import get_decoder

    for name, syntax in CODECS.items():
        decoder = get_decoder(syntax)
        if decoder.is_available:
            yield Check(f"DICOM {name}", State.OK, ", ".join(decoder.available_plugins))
        else:
            remedy = "pip install --force-reinstall anonsynth"
            yield Check(f"DICOM {name}", State.MISSING, "no decoder is installed", remedy)


def _extras() -> Iterator[Check]:
    for name, (module, line, use) in EXTRAS.items():
        present = find_spec(module) is not None
        detail = version(module) if present else f"not installed; {use}"
        yield Check(f"extra {name}", State.OK if present else State.OPTIONAL, detail, "" if present else line)


def _templates() -> Check:
    absent = [name for name in TEMPLATES if not _template(name)]
    if absent:
        remedy = "pip install --force-reinstall nilearn"
        return Check("templates", State.MISSING, f"absent from nilearn: {', '.join(absent)}", remedy)
    return Check("templates", State.OK, "ICBM152 T1, grey and white matter, from the nilearn package")


def _template(name: str) -> bool:
    if find_spec("nilearn") is None:
        return False
    data = files("nilearn.datasets") / "data" / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"
    return data.is_file()


def _room(folder: Path) -> Iterator[Check]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Check("cores", State.OK, str(cores))
    memory = _memory_gib()
    enough = memory >= LEAST_MEMORY_GIB
    yield Check(
        "memory",
        State.OK if enough else State.LOW,
        f"{memory:.1f} GiB",
        "" if enough else "the demo needs 4 GB; choose a coarser --spacing for your own data",
    )
    free = shutil.disk_usage(folder).free / GIB
    roomy = free >= LEAST_FREE_GIB
    remedy = "" if roomy else f"free {LEAST_FREE_GIB:.0f} GiB, or write --out to another disk"
    yield Check("disk", State.OK if roomy else State.LOW, f"{free:.0f} GiB free here", remedy)
    yield _writing(folder)


def _writing(folder: Path) -> Check:
    try:
        with tempfile.TemporaryFile(dir=folder) as stream:
            stream.write(b"anonsynth")
    except OSError:
        return Check("writing", State.LOW, "this folder cannot be written", "name another folder with --out")
    return Check("writing", State.OK, "this folder can be written")


def _memory_gib(limits: Mapping[str, int] | None = None) -> float:
    """Return the memory that may be used: the machine's, or the container's limit if that is less."""
    found = _limits() if limits is None else limits
    return min(found.values()) / GIB


def _limits() -> dict[str, int]:
    limits = {"machine": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")}
    for place in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limits["container"] = int(Path(place).read_text("utf-8"))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return limits
