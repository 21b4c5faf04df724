"""Ed25519 keys (RFC 8032): made once, the private one readable by its owner only, known by their fingerprint.

A key's fingerprint is the SHA-256 of its public half in DER (SubjectPublicKeyInfo), in hexadecimal:

    openssl pkey -pubin -in anonsynth.pub -outform DER | sha256sum

Zone: private (the key file); the public half and the fingerprint are for everybody.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from anonsynth.errors import InputError, UsageError
from anonsynth.files import write_bytes

__all__ = [
    "PASSPHRASE",
    "PRIVATE_FILE",
    "PUBLIC_FILE",
    "NewKeys",
    "fingerprint",
    "make_keys",
    "read_key",
    "read_public",
]

PASSPHRASE = "ANONSYNTH_KEY_PASSPHRASE"  # noqa: S105 - the name of a variable
PRIVATE_FILE, PUBLIC_FILE = "anonsynth.key", "anonsynth.pub"


@dataclass(frozen=True, slots=True)
class NewKeys:
    """A pair of keys on the disk.

    Attributes:
        private: PKCS #8 in PEM, mode 0600.
        public: SubjectPublicKeyInfo in PEM.
        fingerprint: Of the public key.
        encrypted: Whether a passphrase protects the private one.
        text: The public key in PEM.
    """

    private: Path
    public: Path
    fingerprint: str
    encrypted: bool
    text: str


def make_keys(folder: Path, passphrase: str | None = None) -> NewKeys:
    """Make a pair of keys in `folder`.

    Raises:
        UsageError: If there are keys already: what they signed would not be verified by new ones.
    """
    private, public = folder / PRIVATE_FILE, folder / PUBLIC_FILE
    if private.exists() or public.exists():
        raise UsageError(f"the folder {folder.name} holds keys already; name another --out")
    folder.mkdir(parents=True, exist_ok=True)
    key = Ed25519PrivateKey.generate()
    protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        protection = serialization.BestAvailableEncryption(passphrase.encode())
    data = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)
    # Never readable by others, not even for a moment: the mode is given when the file is made.
    with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    text = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    write_bytes(public, text)
    return NewKeys(private, public, fingerprint(key.public_key()), bool(passphrase), text.decode())


def fingerprint(key: Ed25519PublicKey) -> str:
    """Return the SHA-256 of a public key in DER, 64 hexadecimal digits."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def read_key(path: Path, passphrase: str | None = None) -> Ed25519PrivateKey:
    """Read a private key.

    Raises:
        InputError: If it is none, others may read it, or the passphrase is wrong or missing.
    """
    data = _bytes(path, "private key")
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise InputError(f"the private key {path.name} may be read by others", remedy="chmod 600 it")
    try:
        key = serialization.load_pem_private_key(data, passphrase.encode() if passphrase else None)
    except TypeError:
        told = "has no passphrase, and one was given" if passphrase else "needs its passphrase"
        remedy = f"{'unset' if passphrase else 'give it in'} {PASSPHRASE}"
        raise InputError(f"the private key {path.name} {told}", remedy=remedy) from None
    except (ValueError, UnsupportedAlgorithm):
        reason = f"{path.name} is no private key, or the passphrase is wrong"
        raise InputError(reason, remedy="make one with `anonsynth keys new`") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{path.name} is no Ed25519 key", remedy="make one with `anonsynth keys new`")
    return key


def read_public(path: Path) -> Ed25519PublicKey:
    """Read a public key.

    Raises:
        InputError: If it is none.
    """
    try:
        key = serialization.load_pem_public_key(_bytes(path, "public key"))
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        reason = f"{path.name} is no Ed25519 public key in PEM"
        raise InputError(reason, remedy=f"ask whoever released for their {PUBLIC_FILE}")
    return key


def _bytes(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise InputError(f"the {what} {path.name} cannot be read", remedy="name its file with --key") from None
