"""Lines of authorized_keys, made as they are needed."""

from __future__ import annotations

import base64
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.conch.ssh.common import MP, NS
from twisted.conch.ssh.keys import Key

_CURVES = {"256": ec.SECP256R1, "384": ec.SECP384R1, "521": ec.SECP521R1}


@cache
def private_key(kind: str) -> Any:
    """A private key of a kind such as `ed25519`, `ecdsa-384`, `rsa-2048`; the same one each time."""
    name, _, size = kind.partition("-")
    if name == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if name == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=int(size))
    return ec.generate_private_key(_CURVES[size]())


def conch_key(kind: str) -> Key:
    """The same for Conch's client."""
    return Key(private_key(kind))


def key_line(kind: str, comment: str) -> str:
    """A line with the public half; another `ed25519` key for each comment."""
    key = ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else private_key(kind)
    return f"{key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()} {comment}"


def dsa_line() -> str:
    """A key of the kind that is long out of use."""
    blob = NS(b"ssh-dss") + MP(2**1023 + 1) + MP(2**159 + 1) + MP(5) + MP(7)
    return f"ssh-dss {base64.b64encode(blob).decode()}"
