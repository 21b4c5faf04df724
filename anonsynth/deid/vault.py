"""The vault: the key, and which pseudonym is whom. One encrypted file that lies apart from what leaves.

AES-256-GCM under a key that scrypt derives from a passphrase or a key file. Without the vault nobody can trace a
pseudonym back or give a new patient of the same cohort fitting ones; the de-identified files lose nothing else with it.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from anonsynth.deid.keyed import new_key
from anonsynth.errors import InputError, UsageError
from anonsynth.files import write_bytes

__all__ = ["PASSPHRASE", "Vault", "open_vault", "save_vault", "secret_from"]

PASSPHRASE = "ANONSYNTH_VAULT_PASSPHRASE"  # noqa: S105 - the name of a variable, not a secret
_MAGIC = b"anonsynth-vault-1\n"
_SALT = 16
_NONCE = 12
_SHORTEST = 12
_COST = 2**16


@dataclass
class Vault:
    """What the vault holds; private.

    Attributes:
        key: From which all pseudonyms follow.
        patients: Identity of each pseudonym.
    """

    key: bytes = field(default_factory=new_key, repr=False)
    patients: dict[str, dict[str, str]] = field(default_factory=dict, repr=False)


def secret_from(key_file: Path | None) -> bytes | None:
    """Return the key file's bytes or the passphrase of the environment, which open the vault; None if neither.

    Raises:
        UsageError: If it is too short to protect anything.
    """
    secret = key_file.read_bytes() if key_file is not None else os.environ.get(PASSPHRASE, "").encode("utf-8")
    if not secret and key_file is None:
        return None
    if len(secret) < _SHORTEST:
        msg = f"the passphrase or key file of the vault has fewer than {_SHORTEST} bytes; choose a longer one"
        raise UsageError(msg)
    return secret


def open_vault(path: Path, secret: bytes) -> Vault:
    """Open a vault, or make a new one if there is no file.

    Raises:
        InputError: If the secret is another one, or the file was changed.
    """
    if not path.exists():
        return Vault()
    data = path.read_bytes()
    body = data[len(_MAGIC) :]
    try:
        if not data.startswith(_MAGIC):
            raise ValueError
        salt, nonce, sealed = body[:_SALT], body[_SALT : _SALT + _NONCE], body[_SALT + _NONCE :]
        value = json.loads(AESGCM(_derived(secret, salt)).decrypt(nonce, sealed, _MAGIC))
        return Vault(bytes.fromhex(value["key"]), dict(value["patients"]))
    except (InvalidTag, ValueError, KeyError):
        raise InputError(
            "the vault cannot be opened", remedy="give the passphrase it was made with, or its backup"
        ) from None


def save_vault(path: Path, vault: Vault, secret: bytes) -> None:
    """Write the vault atomically, with new salt and nonce, readable by its owner only."""
    salt, nonce = secrets.token_bytes(_SALT), secrets.token_bytes(_NONCE)
    text = json.dumps({"key": vault.key.hex(), "patients": vault.patients}).encode("utf-8")
    write_bytes(path, _MAGIC + salt + nonce + AESGCM(_derived(secret, salt)).encrypt(nonce, text, _MAGIC))
    path.chmod(0o600)


def _derived(secret: bytes, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, n=_COST, r=8, p=1).derive(secret)
