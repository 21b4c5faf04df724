"""The command line: one file per command, no logic of its own."""

if __name__ != "anonsynth.cli":  # pragma: no cover - developer guard
    msg = "import anonsynth.cli, not the top-level folder 'cli'"
    raise ImportError(msg)
