"""JSON Web Tokens as BBB, Scalelite and front-ends exchange them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import warnings
from collections.abc import Mapping
from typing import Any

import jwt
import orjson

_DIGESTS = {"HS256": hashlib.sha256, "HS512": hashlib.sha512}
MAX_TOKEN = 8192
"""Characters of a token that is looked at."""


def signed_token(claims: Mapping[str, Any], secret: bytes, algorithm: str, *, typed: bool = True) -> str:
    """A token, signed by HS256 or HS512; header and claims stand in this order. `typed`: the header says `JWT`."""
    header = {"typ": "JWT", "alg": algorithm} if typed else {"alg": algorithm}
    signed = b".".join((_base64(orjson.dumps(header)), _base64(orjson.dumps(dict(claims)))))
    signature = hmac.new(secret, signed, _DIGESTS[algorithm]).digest()
    return (signed + b"." + _base64(signature)).decode()


def is_signed_by(token: str, secret: str, algorithm: str) -> bool:
    """Whether `secret` signed the token, and it has not expired."""
    if len(token) > MAX_TOKEN:
        return False
    with warnings.catch_warnings():
        # Servers' secrets are given, and may be shorter than PyJWT would have them.
        warnings.simplefilter("ignore", UserWarning)
        try:
            jwt.decode(token, secret, algorithms=[algorithm])
        except jwt.InvalidTokenError:
            return False
    return True


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
