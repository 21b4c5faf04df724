"""The `anonsynth` command. Imports nothing heavy: every command imports what it needs when it runs."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from typing import NoReturn

import typer

from anonsynth.cli.commands import (
    audit,
    deidentify,
    demo,
    doctor,
    edit,
    generate,
    ingest,
    inspect,
    keys,
    ledger,
    plan,
    policy,
    release,
    run,
    selftest,
    simulate,
    train,
    verify,
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

for module in (
    doctor,
    demo,
    simulate,
    ingest,
    inspect,
    plan,
    train,
    generate,
    edit,
    audit,
    release,
    verify,
    run,
    deidentify,
):
    app.command(name=module.__name__.rpartition(".")[2], epilog=module.EXAMPLE)(module.command)
app.add_typer(policy.app, name="policy")
app.add_typer(ledger.app, name="ledger")
app.add_typer(keys.app, name="keys")
app.add_typer(selftest.app, name="selftest")


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and leave."),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error; may show private paths."),
) -> None:
    if version:
        from anonsynth._version import __version__

        typer.echo(f"anonsynth {__version__}")
        raise typer.Exit
    if debug:
        os.environ["ANONSYNTH_DEBUG"] = "1"
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(int(ExitStatus.USAGE))


def main() -> None:
    """Run the command line; one error is one sentence, and the exit status says its kind."""
    if hasattr(signal, "SIGPIPE"):  # end quietly when the reader of a pipe, such as `head`, has gone
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        app(prog_name="anonsynth")
    except AnonsynthError as error:
        _stop(f"{error}", error.status)
    except SystemExit as leave:
        if leave.code == ExitStatus.INTERRUPTED:  # typer turns Ctrl-C into an exit that says nothing
            sys.stderr.write("anonsynth: interrupted; run the same command again and it resumes\n")
        raise
    except OSError as error:
        _stop(_system_sentence(error), ExitStatus.BAD_INPUT)
    except MemoryError:
        _stop("the memory is full; choose a coarser --spacing or a smaller --shape", ExitStatus.BAD_INPUT)
    except Exception as error:  # noqa: BLE001 - the last line of defence against a traceback that shows private data
        kind = type(error).__name__
        _stop(f"internal error ({kind}); run again with `anonsynth --debug ...` to see where", ExitStatus.INTERNAL)


def _stop(sentence: str, status: ExitStatus) -> NoReturn:
    if os.environ.get("ANONSYNTH_DEBUG"):
        traceback.print_exc()
    sys.stderr.write(f"anonsynth: {sentence}\n")
    sys.exit(int(status))


def _system_sentence(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the disk is full; free some room and run the same command again, it resumes"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "a file or folder may not be read or written; check the permissions of the folders that were named"
    reason = os.strerror(error.errno).lower() if error.errno else type(error).__name__
    return f"the system refused a file operation ({reason}); `anonsynth --debug ...` shows where"


if __name__ == "__main__":
    main()
