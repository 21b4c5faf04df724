"""The private state of a run: everything it needs to go on after `kill -9` as if nothing had happened.

    PRIVATE/state.safetensors
        secret                     32 bytes, from the operating system, drawn once
        network/…, optimiser/…     as they were after `step` steps
        log/batches, log/patients  who took part how often

**Private**: with the secret the noise can be taken off the weights, so this folder may be read by its owner only, is
never released, and is deleted by `forget` when the weights are where they should be.

The order is what keeps the ledger honest. The file is on the disk before the run is declared, and the run's name in the
ledger is a digest of its secret. So a run that is killed

- before the file is there, has spent nothing and begins anew;
- after it, before the ledger knows: it has spent nothing, and declares the same name when it is called again;
- after that: its entry is found, and every step that is repeated has the same patients, the same noise and, on the
  same machine, the same result to the last bit. Nothing is spent twice because nothing is drawn twice.

A folder that is lost after the run was declared takes the secret with it: the next run has another name and is another
spend, as it should be. The first file also holds the weights that the run begins with: other weights with the same
noise would be a second release.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from anonsynth.errors import InputError, UsageError
from anonsynth.files import replacing
from anonsynth.privacy.dp_sgd import DPSGDSettings
from anonsynth.privacy.randomness import PrivateRandomness, new_secret
from anonsynth.privacy.sampling import Participation

__all__ = ["STATE_FILE", "PrivateRun", "forget", "open_run"]

STATE_FILE = "state.safetensors"


@dataclass
class PrivateRun:
    """A run that was begun, as far as it has come.

    Attributes:
        folder: Its private folder.
        settings: Norm, noise, rate, steps and divisor.
        patients: Pseudonyms, each once.
        networks: Whatever is trained, by name; restored in place. The private one is called "private".
        optimisers: Their optimisers, by name.
        randomness: All of its noise and coins.
        step: Finished steps.
        participation: Who took part so far.
    """

    folder: Path
    settings: DPSGDSettings
    patients: tuple[str, ...]
    networks: Mapping[str, nn.Module]
    optimisers: Mapping[str, torch.optim.Optimizer]
    randomness: PrivateRandomness = field(repr=False)
    step: int
    participation: Participation

    @property
    def name(self) -> str:
        """What the ledger calls it: names the draw of noise and nothing else."""
        return self.randomness.name

    @property
    def done(self) -> bool:
        """Whether all of its steps are finished."""
        return self.step >= self.settings.steps

    def took_part(self, drawn: Sequence[str]) -> None:
        """Count a finished step."""
        places = {patient: place for place, patient in enumerate(self.patients)}
        self.participation.batches[self.step] = len(drawn)
        for patient in drawn:
            self.participation.patients[places[patient]] += 1
        self.step += 1

    def save(self) -> None:
        """Write the state, atomically."""
        tensors: dict[str, Tensor] = {
            "secret": torch.frombuffer(bytearray(self.randomness.secret), dtype=torch.uint8),
            "log/batches": torch.from_numpy(self.participation.batches),
            "log/patients": torch.from_numpy(self.participation.patients),
        }
        for name, network in self.networks.items():
            tensors |= {f"network/{name}/{key}": value for key, value in network.state_dict().items()}
        for name, optimiser in self.optimisers.items():
            for index, state in optimiser.state_dict()["state"].items():
                tensors |= {f"optimiser/{name}/{index}/{key}": value for key, value in state.items()}
        metadata = {"step": str(self.step), "bound": _bound(self.randomness.key, self.settings, self.patients)}
        with replacing(self.folder / STATE_FILE) as temporary:
            stored = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
            temporary.write_bytes(save(stored, metadata))


def open_run(
    folder: Path,
    key: str,
    settings: DPSGDSettings,
    patients: Sequence[str],
    networks: Mapping[str, nn.Module],
    optimisers: Mapping[str, torch.optim.Optimizer],
) -> PrivateRun:
    """Begin a run, or go on with the one in `folder`; declare its `name` next. Nothing is read from patients here.

    Args:
        folder: Private; nothing else belongs in it.
        key: Hash of everything that the trained weights depend on: cohort, settings, crops, loss.
        settings: What is accounted for.
        patients: Pseudonyms.
        networks: In the state in which training begins; overwritten by the state that is found.
        optimisers: Whose state lies in tensors.

    Raises:
        UsageError: If the folder holds another run, or a patient is named twice.
        InputError: If the state cannot be read.
    """
    if len(set(patients)) != len(patients) or not patients:
        msg = "a private run needs patients, each of them named once; give all scans of a person one pseudonym"
        raise UsageError(msg)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)  # before anything is in it
    for half in folder.glob(".*.partial*"):  # what a killed process was writing
        half.unlink(missing_ok=True)
    names, path = tuple(patients), folder / STATE_FILE
    if path.exists():
        return _restored(path, key, settings, names, networks, optimisers)
    randomness = PrivateRandomness(new_secret(), key)
    nobody = Participation(np.zeros(settings.steps, np.int64), np.zeros(len(names), np.int64), settings.sampling_rate)
    run = PrivateRun(folder, settings, names, networks, optimisers, randomness, 0, nobody)
    run.save()
    return run


def forget(folder: Path) -> None:
    """Delete the private state, secret and all; the noise of the run can then be drawn by nobody again."""
    shutil.rmtree(folder, ignore_errors=True)


def _restored(
    path: Path,
    key: str,
    settings: DPSGDSettings,
    patients: tuple[str, ...],
    networks: Mapping[str, nn.Module],
    optimisers: Mapping[str, torch.optim.Optimizer],
) -> PrivateRun:
    try:
        with safe_open(path, "pt") as stored:
            metadata = stored.metadata()
            tensors: dict[str, Tensor] = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        step, bound = int(metadata["step"]), metadata["bound"]
        secret = bytes(tensors["secret"].tolist())
        batches, counts = tensors["log/batches"].numpy().copy(), tensors["log/patients"].numpy().copy()
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        raise InputError(
            f"the private state {path.name} cannot be read",
            remedy="restore it, or begin in another folder and spend anew",
        ) from None
    if bound != _bound(key, settings, patients):
        msg = (
            f"the private folder {path.parent.name} holds a run of other settings or patients, whose noise must not be "
            "used again; choose another folder"
        )
        raise UsageError(msg)
    for name, network in networks.items():
        network.load_state_dict(_below(tensors, f"network/{name}/"))
    for name, optimiser in optimisers.items():
        moments: dict[int, dict[str, Tensor]] = {}
        for place, value in _below(tensors, f"optimiser/{name}/").items():
            index, _, what = place.partition("/")
            moments.setdefault(int(index), {})[what] = value
        optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
    seen = Participation(batches, counts, settings.sampling_rate)
    return PrivateRun(path.parent, settings, patients, networks, optimisers, PrivateRandomness(secret, key), step, seen)


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _bound(key: str, settings: DPSGDSettings, patients: tuple[str, ...]) -> str:
    """Return a digest of what the noise was drawn for."""
    parts = {"key": key, "settings": settings.model_dump(mode="json"), "patients": patients}
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
