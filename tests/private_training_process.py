"""A small private training that is killed and called again, in processes of its own.

Every life is a fork of a server process that has imported everything already. `benchmarks/dp_kills.py` runs it as well.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import secrets
import signal
import struct
import time
from collections import defaultdict
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from unittest import mock

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from anonsynth.privacy.dp_sgd import DPSGDSettings
from anonsynth.privacy.ledger import Ledger
from anonsynth.privacy.per_patient import Items
from anonsynth.privacy.private_run import STATE_FILE, PrivateRun, open_run
from anonsynth.privacy.private_training import PRIVATE, PrivateTask, train_privately
from anonsynth.privacy.receipt import Receipt, spend_for
from anonsynth.privacy.spending import Budget, Spend, StepKind

SCANS = "ab" * 32
PATIENTS = tuple(f"P{index:04d}" for index in range(12))
SAVE_EVERY = 3
EARLY = (0, 1, 1)
WROTE = struct.Struct("<qd")
"""A step that was made: its number, and the sum of the weights after it."""


def settings(steps: int) -> DPSGDSettings:
    return DPSGDSettings(clipping_norm=1.0, noise_multiplier=1.5, sampling_rate=0.4, steps=steps, expected_batch=4.8)


def make_network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.LeakyReLU(0.2), nn.Conv3d(4, 1, 3))


def read(patient: str, generator: torch.Generator) -> Items:
    """Make up one to three crops of a patient; which ones depends on the step."""
    index = int(patient[1:])
    return {"image": torch.randn(1 + index % 3, 1, 4, 4, 4, generator=generator) + index}


def loss(network: nn.Module, items: Items) -> Tensor:
    return network(items["image"]).pow(2).flatten(1).mean(1)


TASK = PrivateTask(read=read, loss=loss)


def begin(folder: Path, steps: int = 12, network: nn.Module | None = None) -> PrivateRun:
    network = network or make_network()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    return open_run(folder / "private", "a key", settings(steps), PATIENTS, {PRIVATE: network}, {PRIVATE: optimiser})


def declared(folder: Path, run: PrivateRun) -> Receipt:
    spend = Spend(
        id=f"{run.name} internal training",
        step=StepKind.TRAINING,
        what="a test",
        events=(run.settings.event,),
        cohort=SCANS,
        patients=len(PATIENTS),
    )
    return spend_for(Ledger(folder / "ledger.sqlite"), spend, Budget("internal"))


def weights(network: nn.Module) -> Tensor:
    return torch.cat([value.detach().reshape(-1) for value in network.state_dict().values()])


def live(folder: Path, steps: int, say: Connection) -> None:
    """Train to the end, or until somebody kills this; say at every moment how far it has come."""
    torch.set_num_threads(1)
    run = begin(folder, steps)
    say.send_bytes(b"opened")
    receipt = declared(folder, run)
    say.send_bytes(b"declared")
    log = os.open(folder / "steps.bin", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def tell(step: int) -> None:
        os.write(log, WROTE.pack(step, float(weights(run.networks[PRIVATE]).double().sum())))
        say.send_bytes(b"step")

    train_privately(TASK, run, receipt, save_every=SAVE_EVERY, tell=tell)
    os.close(log)


@dataclass(frozen=True)
class Killed:
    """What several lives and deaths left behind.

    Attributes:
        kills: Processes that were killed before their end.
        undeclared: How many of them died before the ledger knew of them.
        steps: Steps that were made in all lives together; those that were made again count again.
        short: Kills after which the ledger did not hold what had been spent.
        entries: Entries of the ledger at the end.
        drawn_twice: Steps that had two different results.
        equal: Whether the final weights are, to the last bit, those of a run that nobody killed.
    """

    kills: int
    undeclared: int
    steps: int
    short: int
    entries: int
    drawn_twice: int
    equal: bool


def kill_again_and_again(folder: Path, kills: int, steps: int, chance: random.Random) -> Killed:
    """Kill a training at random moments until it has died `kills` times or ended; let it end; look at what is left."""
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    # An optimiser imports torch._dynamo when it is made.
    context.set_forkserver_preload(["torch._dynamo", "anonsynth.privacy.private_training"])
    event = settings(steps).event
    killed = undeclared = short = 0
    done = False
    while not done:
        hear, say = context.Pipe(duplex=False)
        life = context.Process(target=live, args=(folder, steps, say))
        life.start()
        say.close()
        doomed = killed < kills
        # The first lives end before there is a secret, or before it is declared. Later ones hear of two moments for the
        # beginning and of up to six steps: some get past two checkpoints, some to none.
        heard = EARLY[killed] if killed < len(EARLY) else chance.randrange(9)
        for _ in range(heard if doomed else 0):
            try:
                hear.recv_bytes()
            except EOFError:  # it has ended
                break
        if doomed:
            time.sleep(chance.random() * 0.004)
            life.kill()
        life.join()
        if life.exitcode not in (0, -signal.SIGKILL):
            msg = f"the training ended with {life.exitcode}"
            raise RuntimeError(msg)
        done = life.exitcode == 0
        killed += not done
        entries = Ledger(folder / "ledger.sqlite").read().entries
        undeclared += not entries
        short += bool(steps_made(folder)) and not any(event in entry.events for entry in entries)
    made = steps_made(folder)
    results = defaultdict(set)
    for step, total in made:
        results[step].add(total)
    entries = Ledger(folder / "ledger.sqlite").read().entries
    return Killed(
        kills=killed,
        undeclared=undeclared,
        steps=len(made),
        short=short,
        entries=len(entries),
        drawn_twice=sum(len(totals) > 1 for totals in results.values()),
        equal=sorted(results) == list(range(1, steps + 1)) and equals_unbroken(folder, steps),
    )


def steps_made(folder: Path) -> list[tuple[int, float]]:
    path = folder / "steps.bin"
    data = path.read_bytes() if path.exists() else b""
    return list(WROTE.iter_unpack(data[: len(data) // WROTE.size * WROTE.size]))


def equals_unbroken(folder: Path, steps: int) -> bool:
    """Train without a break with the same secret in another folder, and compare the whole state."""
    state = load_file(folder / "private" / STATE_FILE)
    secret = bytes(state["secret"].tolist())
    with mock.patch.object(secrets, "token_bytes", return_value=secret):
        run = begin(folder / "unbroken", steps)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    train_privately(TASK, run, declared(folder / "unbroken", run))
    torch.set_num_threads(threads)
    unbroken = load_file(folder / "unbroken" / "private" / STATE_FILE)
    return state.keys() == unbroken.keys() and all(torch.equal(state[key], unbroken[key]) for key in state)
