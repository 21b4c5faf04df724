"""How `run` and `demo` end: the verdict in one sentence, the report's place and what each stage took."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anonsynth.cli.output import emit, say, table

if TYPE_CHECKING:
    from anonsynth.pipeline import RunResult

__all__ = ["refuse", "tell"]


def tell(result: RunResult, *, json: bool) -> None:
    """Print how the whole way ended."""
    if json:
        stages = [{"name": t.name, "seconds": t.seconds, "earlier": t.earlier} for t in result.times]
        emit(
            {
                "schema": "anonsynth/run-result/1",
                "verdict": result.verdict,
                "sentence": result.sentence,
                "report": str(result.report),
                "stages": stages,
            }
        )
    else:
        rows = [(t.name, f"{t.seconds:.1f} s", "earlier" if t.earlier else "now") for t in result.times]
        table("Stages", ("stage", "time", "when"), rows)
    if all(time.earlier for time in result.times):
        say("All is done; nothing was left to do.")
    say(f"Verdict: {result.sentence}")
    say(f"Report (shows real scans, keep it private): {result.report}")


def refuse(result: RunResult) -> None:
    """End with exit status 4.

    Raises:
        VerdictError: Always.
    """
    from anonsynth.errors import VerdictError

    msg = f"the verdict is '{result.verdict}', not a pass; the report says why"
    raise VerdictError(msg)
