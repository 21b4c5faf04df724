"""Policies: what may be kept, spent and released; YAML with a schema."""

if __name__ != "anonsynth.policies":  # pragma: no cover - developer guard
    msg = "import anonsynth.policies, not the top-level folder 'policies'"
    raise ImportError(msg)
