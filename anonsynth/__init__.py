"""anonsynth: substitute cohorts for MRI, with the evidence of how much of the patients is still in them."""

from anonsynth._version import __version__

__all__ = ["__version__"]
