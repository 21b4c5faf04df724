"""Which contrast a series has: from its description where that says something, else from its timing.

The answer is one of a few fixed names and never the description's own words: modality names leave the building with
the substitute cohort, and people write names and dates into descriptions.
"""

from __future__ import annotations

import re

from anonsynth.cohort.dicom import vocabulary
from anonsynth.cohort.dicom.header import SeriesInfo
from anonsynth.cohort.sources import canonical_modality

__all__ = ["UNKNOWN", "recognise_contrast", "tokens"]

UNKNOWN = "MR"

_WORD = re.compile(r"[+]c\b|\bc[+]|w/o|t2\*|[a-z0-9]+")
_FIELD_MAP = re.compile(r"field.?map|\bfmap|b0.?map")
_PLANE = "(?:[23]d|ax|axial|sag|sagittal|cor|coronal|tra)?"
_T1_WORD = re.compile(rf"{_PLANE}t1")
_T2_WORD = re.compile(rf"{_PLANE}t2(?!f|s$|s?tar|\*)")

# Echo and repetition times (ms) that part the contrasts of spin echo sequences at 1.5 to 3 T.
_LONG_ECHO = 60.0
_LONG_REPETITION = 1800.0
_FLAIR_INVERSION = (1500.0, 3000.0)
# A gradient echo with a longer echo than this is weighted by T2*.
_STAR_ECHO = 9.0


def recognise_contrast(info: SeriesInfo, echo: float = 0.0) -> str:
    """Return T1w, T1gd, T2w, FLAIR, PDw, T2starw, angio, fieldmap, epi or, if nothing tells, MR.

    Args:
        info: The series.
        echo: Echo time of the volume in ms, 0 if unknown; parts the two halves of a PD and T2 double echo.

    Example:
        >>> from dataclasses import replace
        >>> info = SeriesInfo("", "", 0, "", "", "MR", "", "ax t1 post gd", False, frozenset(), "", 0, 0, 0)
        >>> recognise_contrast(info), recognise_contrast(replace(info, description="t2_tirm_dark-fluid"))
        ('T1gd', 'FLAIR')
    """
    said = tokens(info.description)
    base = _named(said, info.description, echo) or _timed(info, echo)
    return "T1gd" if base == "T1w" and _contrast_given(info, said) else base


def tokens(description: str) -> frozenset[str]:
    """Return the words of a lower-case description: letters and digits, and signs such as +c."""
    return frozenset(_WORD.findall(description.replace("_", " ")))


def _named(said: frozenset[str], description: str, echo: float) -> str:
    known = {canonical_modality(word) for word in said}
    t1 = bool(said & vocabulary.T1) or any(map(_T1_WORD.match, said))
    t2 = bool(said & vocabulary.T2) or any(map(_T2_WORD.match, said))
    if said & vocabulary.ANGIOGRAPHY:
        return "angio"
    if _FIELD_MAP.search(description):
        return "fieldmap"
    if "FLAIR" in known or said & vocabulary.FLAIR or re.search(r"dark.?fluid", description):
        return "T1w" if t1 and not t2 else "FLAIR"
    if said & vocabulary.SUSCEPTIBILITY or "t2 star" in description.replace("_", " "):
        return "T2starw"
    proton = bool(said & vocabulary.PROTON_DENSITY)
    if proton and t2:
        return "T2w" if echo >= _LONG_ECHO else "PDw"
    if t1 and not t2:
        return "T1gd" if "T1gd" in known else "T1w"
    if t2 and not t1:
        return "T2w"
    return "PDw" if proton and not t1 else ""


def _timed(info: SeriesInfo, echo: float) -> str:
    if "EP" in info.sequence:
        return "epi"
    if not echo or not info.tr:
        return UNKNOWN
    gradient = "GR" in info.sequence and "SE" not in info.sequence
    if gradient:
        return "T1w" if echo < _STAR_ECHO else "T2starw"
    if _FLAIR_INVERSION[0] <= info.ti <= _FLAIR_INVERSION[1] and echo >= _LONG_ECHO:
        return "FLAIR"
    if info.tr < _LONG_REPETITION:
        return "T1w" if echo < _LONG_ECHO else "T2w"
    return "T2w" if echo >= _LONG_ECHO else "PDw"


def _contrast_given(info: SeriesInfo, said: frozenset[str]) -> bool:
    """Tell whether a T1-weighted series was taken after contrast; a "pre" in the description outweighs the agent."""
    if said & vocabulary.BEFORE_CONTRAST:
        return False
    return info.contrast_agent or bool(said & vocabulary.AFTER_CONTRAST)
