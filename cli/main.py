"""The `anonsynth` command. Imports nothing heavy: every command imports what it needs when it runs."""

from __future__ import annotations

import os
import sys

import typer

from anonsynth.cli.commands import (
    audit,
    demo,
    doctor,
    generate,
    ingest,
    inspect,
    policy,
    run,
    simulate,
    train,
)
from anonsynth.errors import AnonsynthError, ExitStatus

__all__ = ["app", "main"]

EPILOG = (
    "Exit status: 0 done and every verdict a pass · 1 internal error · 2 wrong usage · 3 bad input · "
    "4 a verdict is not a pass, or the policy refused · 5 privacy budget exhausted · 130 interrupted. "
    "Nothing is ever sent over the network."
)

app = typer.Typer(
    name="anonsynth",
    help="Give a research partner an MRI cohort that contains none of your patients, and the evidence for it.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for module in (doctor, demo, simulate, ingest, inspect, train, generate, audit, run):
    app.command(name=module.__name__.rpartition(".")[2], epilog=module.EXAMPLE)(module.command)
app.add_typer(policy.app, name="policy")


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and leave."),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error; may show private paths."),
) -> None:
    if version:
        from anonsynth._version import __version__

        typer.echo(f"anonsynth {__version__}")
        raise typer.Exit
    if debug:
        os.environ["ANONSYNTH_DEBUG"] = "1"


def main() -> None:
    """Run the command line; one error is one sentence, and the exit status says its kind."""
    try:
        app()
    except AnonsynthError as error:
        _stop(f"{error}", error.status)
    except KeyboardInterrupt:
        _stop("interrupted; run the same command again and it resumes", ExitStatus.INTERRUPTED)
    except BrokenPipeError:
        os._exit(141)
    except Exception as error:  # noqa: BLE001 - the last line of defence against a traceback that shows private data
        kind = type(error).__name__
        _stop(f"internal error ({kind}); run again with `anonsynth --debug ...` to see where", ExitStatus.INTERNAL)


def _stop(sentence: str, status: ExitStatus) -> None:
    if os.environ.get("ANONSYNTH_DEBUG"):
        raise  # called from an except clause only
    sys.stderr.write(f"anonsynth: {sentence}\n")
    sys.exit(int(status))


if __name__ == "__main__":
    main()
