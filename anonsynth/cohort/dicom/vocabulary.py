"""The words that scanners and technicians use in ImageType and in descriptions, by what they mean."""

from __future__ import annotations

__all__ = [
    "AFTER_CONTRAST",
    "ANGIOGRAPHY",
    "BEFORE_CONTRAST",
    "FLAIR",
    "LOCALISER",
    "MAPS",
    "PROTON_DENSITY",
    "SUSCEPTIBILITY",
    "T1",
    "T2",
    "VARIANTS",
]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words of descriptions, lower case.
AFTER_CONTRAST = _words(
    "gd gad gado gadolinium post postgd postgad postcontrast contrast contrasted enhanced ce km c+ +c dotarem gadovist "
    "magnevist prohance multihance"
)
BEFORE_CONTRAST = _words("pre precontrast native nativ no without unenhanced nogd noncontrast nonenhanced non wo w/o")
T1 = _words("mprage mp2rage bravo fspgr spgr irspgr tfl tfl3d tfl3d1 vibe thrive lava")
T2 = _words("haste ssfse stir")
FLAIR = _words("flair flair3d 3dflair darkfluid cubeflair")
SUSCEPTIBILITY = _words("t2* t2star t2s swi swan susceptibility medic hemo haemo venobold venbold")
PROTON_DENSITY = _words("pd pdw proton protondensity")
ANGIOGRAPHY = _words("tof mra angio angiography")
LOCALISER = _words(
    "localizer localiser localizers localisers loc scout scouts survey topogram 3plane 3pl 3ploc aahead aahscout"
)

# Values of ImageType, upper case, blanks as underscores.
MAPS = _words(
    "ADC FA COLFA TRACE TRACEW EXP ISO AD RD MD TENSOR CBF CBV RCBF RCBV RELCBF RELCBV MTT TTP TMAX PBP GBP KTRANS VE "
    "T1_MAP T2_MAP T2STAR_MAP T2_STAR_MAP R2_MAP R2STAR_MAP R2_STAR_MAP PARAMETRIC_MAP FIELD_MAP B0_MAP B1_MAP "
    "MAP QUANT MIP MNIP MINIP MAX_IP MIN_IP SUBTRACTION SUB PROJECTION_IMAGE RESAMPLED_PROJECTION"
)
VARIANTS = MAPS | _words("WATER FAT W F IN_PHASE OUT_PHASE OPP_PHASE IP OP")
"""What parts the volumes of a Dixon or subtraction series, or a map from the images it was computed from."""
