"""Kill private training at random moments, and see that the ledger held and nothing was spent twice.

    python benchmarks/dp_kills.py [--kills 50] [--steps 120] [--seed 0]

A small network is trained with a guarantee by a process of its own, which is killed (SIGKILL) as soon as it has got as
far as a drawn moment: before its secret is on the disk, before it is declared, within a step, while its state is being
written. It is called again until it has died that often, and then left to end. Exit status 0 only if after each kill
the ledger held at least what had been spent, if it holds the run once, if no step had two results, and if the whole
final state is to the last bit that of a run that nobody killed.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from private_training_process import Killed, kill_again_and_again


def main() -> int:
    """Kill, look, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        chance = random.Random(options.seed)  # noqa: S311 - when to kill, not a secret
        seen = kill_again_and_again(Path(folder), options.kills, options.steps, chance)
    names = {
        "kills": "processes that were killed",
        "undeclared": "  of them before the run was declared",
        "steps": f"steps made in all lives (the run has {options.steps})",
        "short": "kills after which the ledger said less than was spent",
        "entries": "entries in the ledger at the end",
        "drawn_twice": "steps that had two different results",
        "equal": "final state equals that of an unbroken run to the last bit",
    }
    for key, value in asdict(seen).items():
        print(f"{names[key]:62s} {value}")
    print(f"{'seconds':62s} {time.monotonic() - started:.0f}")
    wanted = Killed(options.kills, seen.undeclared, seen.steps, 0, 1, 0, equal=True)
    return 0 if seen == wanted else 1


if __name__ == "__main__":
    sys.exit(main())
