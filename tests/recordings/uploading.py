"""Makes upload tokens as a BigBlueButton server does."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any


def claims(content: bytes, record_id: str, server: str, **changes: Any) -> dict[str, Any]:
    """What a token says; `changes` of None leave a claim out."""
    now = int(time.time())
    made = {
        "aud": "scalelite-upload",
        "iss": server,
        "sub": record_id,
        "length": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "iat": now,
        "exp": now + 900,
        **changes,
    }
    return {name: value for name, value in made.items() if value is not None}


def sign(said: dict[str, Any], secret: str, algorithm: str = "HS256") -> str:
    """A token, made without any library for such."""
    signed = b".".join(_base64(json.dumps(part).encode()) for part in ({"alg": algorithm, "typ": "JWT"}, said))
    digest = {"HS256": "sha256", "HS512": "sha512"}[algorithm]
    return b".".join((signed, _base64(hmac.digest(secret.encode(), signed, digest)))).decode()


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
