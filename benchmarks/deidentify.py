"""De-identification, measured: what survives of seeded secrets, what breaks, how many files a second on one core.

    python benchmarks/deidentify.py [--slices 300] [--size 256] [--policy internal]

Validity is measured where `dciodvfy` (dicom3tools) is on the path: errors in the output that the source does not have.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pydicom

from anonsynth.deidentify import DeidentifySettings, deidentify
from anonsynth.policies.model import Policy, load_policy
from anonsynth.selftest.seeded import write_seeded
from anonsynth.selftest.survivors import judge


def speed(folder: Path, policy: Policy, slices: int, size: int) -> float:
    """Return files per second of CPU for a series of `slices` images, sweep and report included."""
    seeded = write_seeded(folder / "one", seed=1, patients=1, slices=1)
    path = next(path for path in sorted(seeded.folder.rglob("*.dcm")) if path.stat().st_size > 1500)
    template = pydicom.dcmread(path, stop_before_pixels=True)
    random = np.random.default_rng(0)
    (folder / "many").mkdir()
    for index in range(slices):
        template.SOPInstanceUID = template.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{index + 1}"
        template.Rows = template.Columns = size
        template.InstanceNumber = str(index + 1)
        template.SOPClassUID = template.file_meta.MediaStorageSOPClassUID = pydicom.uid.MRImageStorage
        pixels = random.integers(0, 4096, size * size, dtype=np.uint16).tobytes()
        template["PixelData"] = pydicom.DataElement(0x7FE00010, "OW", pixels)
        template.save_as(folder / "many" / f"{index}.dcm")
    started = time.process_time()
    done = deidentify(DeidentifySettings(folder / "many", folder / "many-out"), policy)
    return float(done.document["files"]["written"] / (time.process_time() - started))


def errors(path: Path) -> set[str]:
    """Return the kinds of errors that dciodvfy finds in a file."""
    ended = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
    return {line.partition("<")[0] for line in (ended.stdout + ended.stderr).splitlines() if line.startswith("Error")}


def validity(source: Path, out: Path) -> tuple[int, int]:
    """Return how many images have errors that their source does not have, of how many."""
    before = {_number(path): errors(path) for path in source.rglob("*") if path.is_file()}
    worse = [path for path in out.rglob("*.dcm") if errors(path) - before.get(_number(path), set())]
    return len(worse), len(list(out.rglob("*.dcm")))


def _number(path: Path) -> int:
    try:
        return int(pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["InstanceNumber"]).InstanceNumber)
    except (pydicom.errors.InvalidDicomError, AttributeError, ValueError, EOFError):
        return 0


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--policy", default="internal")
    given = parser.parse_args()
    policy = load_policy(given.policy)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        seeded = write_seeded(folder / "seeded")
        deidentify(DeidentifySettings(folder / "seeded", folder / "out"), policy)
        outcome = judge(seeded, folder / "out")
        print(f"survivors {sum(outcome.survived.values())} of {sum(outcome.planted.values())}, old UIDs {outcome.uids}")
        print(f"references {outcome.references} of {outcome.references_planted}, other pixels {outcome.pixels_changed}")
        print(f"technical attributes kept {outcome.technical:.1%}, files {outcome.written} of {outcome.files}")
        if shutil.which("dciodvfy"):
            print("files with new dciodvfy errors: {} of {}".format(*validity(folder / "seeded", folder / "out")))
        print(f"{speed(folder, policy, given.slices, given.size):.0f} files/s on one core, sweep included")


if __name__ == "__main__":
    main()
