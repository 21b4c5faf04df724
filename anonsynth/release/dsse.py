"""DSSE, the Dead Simple Signing Envelope (version 1.0.2): what is signed is the type and the bytes, never parsed JSON.

    PAE(type, body) = "DSSEv1" SP len(type) SP type SP len(body) SP body        lengths in bytes, decimal
    envelope        = {"payload": base64(body), "payloadType": type, "signatures": [{"keyid", "sig"}]}

The file has one form only: canonical JSON and a line end, one signature. Whatever does not look exactly like that is
refused, so that no byte of it can change unseen, not even one that no signature covers.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from anonsynth.privacy.chain import canonical
from anonsynth.release.keys import fingerprint

__all__ = ["PAYLOAD_TYPE", "Opened", "open_envelope", "pae", "seal"]

PAYLOAD_TYPE = "application/vnd.in-toto+json"


@dataclass(frozen=True, slots=True)
class Opened:
    """What an envelope says.

    Attributes:
        body: The bytes that were signed; empty where there is no envelope.
        fault: Why it is not to be believed, one clause without a full stop; None where it is.
    """

    body: bytes
    fault: str | None


def pae(kind: str, body: bytes) -> bytes:
    """Return the pre-authentication encoding.

    Example:
        >>> pae("http://example.com/HelloWorld", b"hello world")
        b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    name = kind.encode()
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(body), body)


def seal(body: bytes, key: Ed25519PrivateKey) -> bytes:
    """Return the file of an envelope around `body`."""
    return _file(body, fingerprint(key.public_key()), key.sign(pae(PAYLOAD_TYPE, body)))


def open_envelope(data: bytes, key: Ed25519PublicKey) -> Opened:
    """Open an envelope; a body with a fault is not to be believed, but may be compared with."""
    try:
        value = json.loads(data)
        (signature,) = value["signatures"]
        body, sig = (base64.b64decode(text, validate=True) for text in (value["payload"], signature["sig"]))
        named = str(signature["keyid"])
        same = _file(body, named, sig) == data
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error, RecursionError):
        return Opened(b"", "it is no DSSE envelope with one signature")
    try:
        key.verify(sig, pae(PAYLOAD_TYPE, body))
    except InvalidSignature:
        why = "it was signed with another key" if named != fingerprint(key) else "the signature does not fit"
        return Opened(body, why)
    if named != fingerprint(key):
        return Opened(body, "it names another key than the one that signed it")
    # Spaces, the order of keys, the unused last bits of base64: nothing that a signature would notice.
    return Opened(body, None if same else "it is not written as anonsynth writes it, so something in it was changed")


def _file(body: bytes, keyid: str, sig: bytes) -> bytes:
    payload, text = base64.b64encode(body).decode(), base64.b64encode(sig).decode()
    envelope = {"payload": payload, "payloadType": PAYLOAD_TYPE, "signatures": [{"keyid": keyid, "sig": text}]}
    return f"{canonical(envelope)}\n".encode()
