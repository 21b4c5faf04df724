"""Everything that replaces an identity: a keyed digest of it (HMAC-SHA-256), the same in every file of a cohort.

Who lacks the key can neither undo nor repeat it; a plain hash of a patient number is undone by trying all numbers.
"""

from __future__ import annotations

import hmac
import secrets

__all__ = ["Keyed", "new_key"]

KEY_BYTES = 32
_EARLIEST_SHIFT = 103 * 365
_SPREAD = 20 * 365


def new_key() -> bytes:
    """Return 32 bytes of the operating system's randomness."""
    return secrets.token_bytes(KEY_BYTES)


class Keyed:
    """UIDs, pseudonyms and shifts of dates from one key."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._uids: dict[bytes, bytes] = {}

    def digest(self, purpose: str, value: bytes) -> bytes:
        """Return 32 bytes for a value; other purposes get other bytes."""
        return hmac.digest(self._key, purpose.encode("ascii") + b"\x00" + value, "sha256")

    def uid(self, value: bytes) -> bytes:
        """Return the UID that replaces another: `2.25.` and 128 bits, as ISO/IEC 9834-8 and PS3.5 B.2 allow."""
        found = self._uids.get(value)
        if found is None:
            found = self._uids[value] = b"2.25.%d" % int.from_bytes(self.digest("uid", value)[:16], "big")
        return found

    def pseudonym(self, patient: bytes) -> str:
        """Return a patient's pseudonym: P and 12 hexadecimal digits."""
        return "P" + self.digest("patient", patient)[:6].hex().upper()

    def device(self, serial: bytes) -> bytes:
        """Return the pseudonym of a device."""
        return b"D" + self.digest("device", serial)[:6].hex().upper().encode("ascii")

    def name(self, purpose: str, value: bytes) -> str:
        """Return a name for a file or folder: 16 hexadecimal digits."""
        return self.digest(f"name {purpose}", value)[:8].hex()

    def days(self, patient: bytes) -> int:
        """Return by how many days a patient's dates go back: 103 to 123 years.

        Shifted dates of today's scans lie before 1925, which BIDS takes as the sign of a shifted date, and cannot be
        mistaken for a real one. The shift follows from the key, so that nothing has to be stored.
        """
        return _EARLIEST_SHIFT + int.from_bytes(self.digest("days", patient)[:8], "big") % _SPREAD
