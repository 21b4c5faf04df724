"""FreeSurfer's numbers: which tissue a value of a public whole-head label map is, and which values a name means.

FreeSurfer's colour table numbers structures (Fischl 2012, doi:10.1016/j.neuroimage.2012.01.021); SynthSeg's public maps
(Billot et al. 2023, doi:10.1016/j.media.2023.102789) use the same numbers inside the brain and numbers from 500 on for
what lies outside it, which are not told apart here.
"""

from __future__ import annotations

__all__ = ["AIR", "TISSUES", "brightness", "tissue_of", "values_of"]

AIR = "air"
TISSUES = (AIR, "bone", "csf", "grey matter", "white matter", "soft tissue")
"""What surrounds a structure, as far as a scan shows it."""

_WHITE = (2, 7, 16, 25, 28, 41, 46, 57, 60, 77, 78, 79, 85, 251, 252, 253, 254, 255)
_GREY = (3, 8, 9, 10, 11, 12, 13, 17, 18, 26, 27, 42, 47, 48, 49, 50, 51, 52, 53, 54, 58, 59, 136, 137, 163, 164)
_FLUID = (4, 5, 14, 15, 24, 30, 31, 43, 44, 62, 63, 72, 257)
_BONE = (165,)
_CORTEX = ((1000, 1036), (2000, 2036))
_OUTSIDE = ((258, 270), (500, 600))
_BY_VALUE = (
    dict.fromkeys(_WHITE, "white matter")
    | dict.fromkeys(_GREY, "grey matter")
    | dict.fromkeys(_FLUID, "csf")
    | dict.fromkeys(_BONE, "bone")
    | {0: AIR}
)
_PAIRS = {
    "thalamus": (10, 49),
    "caudate": (11, 50),
    "putamen": (12, 51),
    "pallidum": (13, 52),
    "hippocampus": (17, 53),
    "amygdala": (18, 54),
    "accumbens": (26, 58),
    "lateral ventricle": (4, 43),
    "cerebellum cortex": (8, 47),
    "cerebral cortex": (3, 42),
}
_NAMES = (
    _PAIRS
    | {f"left {name}": (left,) for name, (left, _) in _PAIRS.items()}
    | {f"right {name}": (right,) for name, (_, right) in _PAIRS.items()}
    | {"brain stem": (16,), "brainstem": (16,), "csf": _FLUID, "grey matter": _GREY, "white matter": _WHITE}
)
# How bright fluid, grey and white matter are, by contrast, and what surrounds the brain; only the order matters.
_T1 = {AIR: 0.0, "bone": 0.1, "csf": 0.22, "soft tissue": 0.45, "grey matter": 0.55, "white matter": 0.8}
_T2 = {AIR: 0.0, "bone": 0.1, "csf": 0.9, "soft tissue": 0.4, "grey matter": 0.55, "white matter": 0.4}
_FLAIR = {AIR: 0.0, "bone": 0.1, "csf": 0.15, "soft tissue": 0.4, "grey matter": 0.65, "white matter": 0.5}
_BY_MODALITY = {"T1w": _T1, "T1gd": _T1, "T2w": _T2, "PDw": _T2, "FLAIR": _FLAIR}


def tissue_of(value: int) -> str | None:
    """Return which of `TISSUES` a value is; None if FreeSurfer does not number it, as far as is known here.

    Example:
        >>> tissue_of(17), tissue_of(507), tissue_of(99999)
        ('grey matter', 'soft tissue', None)
    """
    if any(low <= value < high for low, high in _CORTEX):
        return "grey matter"
    if any(low <= value < high for low, high in _OUTSIDE):
        return "soft tissue"
    return _BY_VALUE.get(value)


def values_of(name: str) -> tuple[int, ...]:
    """Return the values that a structure's name means; none if the name is not known.

    Example:
        >>> values_of("hippocampus"), values_of("left hippocampus"), values_of("spleen")
        ((17, 53), (17,), ())
    """
    return _NAMES.get(name, ())


def brightness(modality: str) -> dict[str, float]:
    """Return how bright each tissue is in a modality, from 0 to 1; as on T1 where the modality is not known."""
    return _BY_MODALITY.get(modality, _T1)
