"""Which files are de-identified at all: kinds that have an allow-list and show no sign of text in their pixels."""

from __future__ import annotations

from pydicom._uid_dict import UID_dictionary
from pydicom.dataset import Dataset

from anonsynth.cohort.dicom.values import text, whole, words
from anonsynth.deid.rules import CLASSES
from anonsynth.errors import InputError
from anonsynth.policies.deidentification import DeidentificationRules

__all__ = ["letter_of"]

_SCREEN = frozenset({"SCREEN SAVE", "SCREEN_SAVE", "SCREENSAVE", "SCREENSHOT", "SCREEN CAPTURE", "REPORT", "DOSE_INFO"})
_MASKED = "mask the text in its pixels, or leave it out"
_MAX_OVERLAY_GROUP = 0x601E


def letter_of(source: Dataset, rules: DeidentificationRules) -> str:
    """Return the letter of a file's kind.

    Raises:
        InputError: If it is of a kind without an allow-list, or its header says that its pixels may show text.
    """
    uid = text(source, "SOPClassUID")
    letter = CLASSES.get(uid)
    if letter is None:
        if not uid:
            raise InputError(
                "it is no DICOM object that has a SOP class", remedy="nothing to do unless it should be one"
            )
        name = UID_dictionary[uid][0] if uid in UID_dictionary else "a private or unknown SOP class"
        raise InputError(f"there is no allow-list for its kind ({name})", remedy="leave it out")
    if letter == "c" and not rules.secondary_capture:
        raise InputError("it is a secondary capture, where names are burned in", remedy=_MASKED)
    burned = text(source, "BurnedInAnnotation").upper()
    if burned not in {"", "NO"} or (letter == "c" and burned != "NO"):
        raise InputError("its header says, or does not deny, that text is burned into its pixels", remedy=_MASKED)
    if letter in "me" and _looks_like_a_capture(source):
        raise InputError("it is a capture of a screen or a colour image, which may show text", remedy=_MASKED)
    if _overlay_in_pixels(source):
        raise InputError("an overlay lies in unused bits of its pixel data", remedy="export it without overlays")
    return letter


def _looks_like_a_capture(source: Dataset) -> bool:
    captured = bool(set(words(source, "ImageType")) & _SCREEN) or bool(text(source, "ConversionType"))
    return captured or whole(source, "SamplesPerPixel", 1) != 1


def _overlay_in_pixels(source: Dataset) -> bool:
    """Tell whether a retired overlay stands in the bits of pixels: a bit position, or an overlay without data."""
    for group in range(0x6000, _MAX_OVERLAY_GROUP + 1, 2):
        if (group, 0x0010) in source and (group, 0x3000) not in source:
            return True
    return False
