"""pydicom without its voice: its warnings and log lines quote values, and values of a DICOM header are private."""

from __future__ import annotations

import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from pydicom import config
from pydicom.errors import BytesLengthException, InvalidDicomError

__all__ = ["BROKEN", "quiet_pydicom"]

BROKEN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    LookupError,
    MemoryError,
    OSError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What pydicom and its codecs raise on files that are not what they claim to be."""

_LOGGERS = ("pydicom", "pylibjpeg", "openjpeg", "jpeg_ls")


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Silence warnings and loggers of pydicom and its codecs, and let it read values the standard forbids."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(logger, logger.disabled) for logger in loggers]
    mode = config.settings.reading_validation_mode
    config.settings.reading_validation_mode = config.IGNORE
    for logger in loggers:
        logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        config.settings.reading_validation_mode = mode
        for logger, disabled in before:
            logger.disabled = disabled
