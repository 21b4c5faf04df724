"""One file per question put to a substitute cohort, and the report."""

if __name__ != "anonsynth.audits":  # pragma: no cover - developer guard
    msg = "import anonsynth.audits, not the top-level folder 'audits'"
    raise ImportError(msg)
