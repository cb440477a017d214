"""The payload by which BBB reports learning records: encrypted for the server that runs the meeting."""

from __future__ import annotations

import base64
import hashlib

import orjson
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


def plain_payload(endpoint: str, *, username: str | None = None, password: str | None = None, token: str = "") -> bytes:
    """The JSON inside: where learning records go and how BBB logs in there, by password or by token."""
    if username:
        return orjson.dumps({"lrs_endpoint": endpoint, "lrs_username": username, "lrs_password": password})
    return orjson.dumps({"lrs_endpoint": endpoint, "lrs_token": token})


def encrypt(payload: bytes, server_secret: str, salt: bytes, prefix: bytes) -> str:
    """AES-256-CBC under a key derived from the server's secret, as `meta_secret-lrs-payload` carries it.

    Salt and prefix are eight random bytes each; takes some milliseconds of CPU (PBKDF2, 10,000 rounds).
    """
    derived = hashlib.pbkdf2_hmac("sha256", server_secret.encode(), salt, 10000, 48)
    padder = padding.PKCS7(128).padder()
    padded = padder.update(payload) + padder.finalize()
    encryptor = Cipher(algorithms.AES(derived[:32]), modes.CBC(derived[32:])).encryptor()
    return base64.b64encode(prefix + salt + encryptor.update(padded) + encryptor.finalize()).decode()
