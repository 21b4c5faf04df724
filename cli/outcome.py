"""How `run` and `demo` end: the verdict in one sentence, the report's place and what each stage took."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anonsynth.cli.output import emit, say, table

if TYPE_CHECKING:
    from anonsynth.pipeline import RunResult

__all__ = ["refuse", "tell"]

MEANING = {
    "pass": "no generated scan lies nearer to a training patient than chance allows, and copies would have been found",
    "fail": "the audit found generated scans that lie too near to training patients, or could not find planted copies",
    "inconclusive": "nothing was found, but the audit could not have seen a leak of the size the policy cares about",
}


def tell(result: RunResult, *, json: bool) -> None:
    """Print how the whole way ended."""
    if json:
        stages = [{"name": t.name, "seconds": t.seconds, "earlier": t.earlier} for t in result.times]
        emit(
            {
                "schema": "anonsynth/run-result/1",
                "verdict": result.verdict,
                "reasons": list(result.reasons),
                "report": str(result.report),
                "stages": stages,
            }
        )
    else:
        rows = [(t.name, f"{t.seconds:.1f} s", "earlier" if t.earlier else "now") for t in result.times]
        table("Stages", ("stage", "time", "when"), rows)
    if all(time.earlier for time in result.times):
        say("All is done; nothing was left to do.")
    say(sentence(result))
    say(f"Report (shows real scans, keep it private): {result.report}")


def sentence(result: RunResult) -> str:
    """Return the verdict in one sentence."""
    return f"Verdict: {result.verdict}: {MEANING.get(result.verdict, 'see the report')}."


def refuse(result: RunResult) -> None:
    """End with exit status 4.

    Raises:
        VerdictError: Always; with the reasons.
    """
    from anonsynth.errors import VerdictError

    reasons = " ".join(result.reasons) or "the report says why."
    msg = f"the verdict is '{result.verdict}', not a pass: {reasons}"
    raise VerdictError(msg)
