"""The learning-record payload can be opened by who knows the server's secret."""

from __future__ import annotations

import base64
import hashlib

import orjson
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from scalelite.cluster.lrs import encrypt, plain_payload


def decrypt(value: str, server_secret: str) -> bytes:
    """What BBB does with the parameter."""
    data = base64.b64decode(value, validate=True)
    salt, ciphertext = data[8:16], data[16:]
    derived = hashlib.pbkdf2_hmac("sha256", server_secret.encode(), salt, 10000, 48)
    decryptor = Cipher(algorithms.AES(derived[:32]), modes.CBC(derived[32:])).decryptor()
    padded = decryptor.update(ciphertext) + decryptor.finalize()
    assert padded[-1] in range(1, 17)
    assert padded.endswith(bytes([padded[-1]]) * padded[-1])
    return padded[: -padded[-1]]


def test_the_payload_opens_with_the_servers_secret() -> None:
    payload = plain_payload("https://lrs.example/xAPI", token="t" * 100)
    value = encrypt(payload, "schlüssel", b"saltsalt", b"prefix!!")
    assert base64.b64decode(value).startswith(b"prefix!!saltsalt")
    assert orjson.loads(decrypt(value, "schlüssel")) == {
        "lrs_endpoint": "https://lrs.example/xAPI",
        "lrs_token": "t" * 100,
    }


def test_a_user_name_is_preferred_to_a_token() -> None:
    payload = orjson.loads(plain_payload("https://lrs.example", username="u", password="p", token="t"))
    assert payload == {"lrs_endpoint": "https://lrs.example", "lrs_username": "u", "lrs_password": "p"}


def test_salt_and_prefix_make_equal_payloads_differ() -> None:
    assert encrypt(b"x", "s", b"saltsalt", b"prefix!!") != encrypt(b"x", "s", b"saltsalu", b"prefix!!")
