"""The tokens by which BBB servers upload recordings: JSON Web Tokens (HS256), signed with the server's own secret.

A token names the server, and what is uploaded down to its SHA-256: it is of no use for any other recording or content.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import attrs
import jwt

from scalelite.cluster.records import Server

AUDIENCE: Final = "scalelite-upload"
#: Seconds from `iat` to `exp` at most.
MAX_LIFE: Final = 3600
#: Seconds by which a server's clock may be ahead of ours.
LEEWAY: Final = 300

_MAX_TOKEN: Final = 4096
_RECORD_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,200}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_NOT_VALID: Final = "the token is not one of a server of the pool, signed with its secret"


class BadToken(Exception):
    """A token that opens nothing; the text, which the client may read, says why."""


@attrs.frozen
class Upload:
    """What a server uploads: the tar of a recording. `length` in bytes, `sha256` in hexadecimal digits."""

    server_id: str
    record_id: str
    length: int
    sha256: str

    @property
    def id(self) -> str:
        """Names the upload in URLs and files; the same for the same content, so that a repetition finds it."""
        text = "\n".join((self.server_id, self.record_id, str(self.length), self.sha256))
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def read_token(token: str, servers: Iterable[Server], now: float) -> Upload:
    """What the token allows; `now` in seconds since 1970. Raises BadToken.

    Claims: `aud`, `iss` (the server's id or URL), `sub` (the record id), `length`, `sha256`, `iat`, `exp`.
    """
    for server in _issuers(token, servers):
        claims = _decoded(token, server.secret)
        if claims is not None:
            return _checked(claims, server.id, now)
    raise BadToken(_NOT_VALID)


def _issuers(token: str, servers: Iterable[Server]) -> list[Server]:
    """The servers that may have made the token: those that it names."""
    claims = _decoded(token, None) or {}
    issuer = claims.get("iss")
    if not isinstance(issuer, str) or not issuer:
        return []
    url = plain_url(issuer)
    return [
        server
        for server in servers
        if server.secret and (server.id == issuer or (url is not None and url == plain_url(server.url)))
    ]


def plain_url(text: str) -> str | None:
    """A server's URL in the form in which all its spellings are equal: without `/bigbluebutton/api`. None: no URL."""
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    path = parts.path.rstrip("/").removesuffix("/api").removesuffix("/bigbluebutton")
    standard = port is None or port == {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{parts.hostname}{'' if standard else f':{port}'}{path}"


def _decoded(token: str, secret: str | None) -> Mapping[str, Any] | None:
    """The claims of a token that `secret` signed, or that anyone did; None if there are none. Time is not looked at."""
    if len(token) > _MAX_TOKEN:
        return None
    options: Any = {"verify_signature": secret is not None, "verify_exp": False, "verify_iat": False}
    options |= {"verify_aud": False, "verify_nbf": False, "verify_iss": False, "verify_sub": False}
    with warnings.catch_warnings():
        # Servers' secrets are given, and may be shorter than PyJWT would have them.
        warnings.simplefilter("ignore", UserWarning)
        try:
            return jwt.decode(token, secret or "", algorithms=["HS256"], options=options)
        except jwt.InvalidTokenError:
            return None


def _checked(claims: Mapping[str, Any], server_id: str, now: float) -> Upload:
    issued, expires = _whole(claims, "iat"), _whole(claims, "exp")
    if claims.get("aud") != AUDIENCE:
        raise BadToken(f"the token's aud must be {AUDIENCE}")
    if expires - issued > MAX_LIFE:
        raise BadToken(f"the token may be valid for {MAX_LIFE} s at most")
    if not issued - LEEWAY <= now < expires:
        raise BadToken("the token is not valid now; are both machines' clocks right?")
    record_id, sha256 = claims.get("sub"), claims.get("sha256")
    if not isinstance(record_id, str) or not _RECORD_ID.fullmatch(record_id):
        raise BadToken("the token's sub must be a record id")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise BadToken("the token's sha256 must be 64 hexadecimal digits in lower case")
    length = _whole(claims, "length")
    if length < 1:
        raise BadToken("there is nothing to upload")
    return Upload(server_id, record_id, length, sha256)


def _whole(claims: Mapping[str, Any], name: str) -> int:
    value = claims.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadToken(f"the token's {name} must be a whole number")
    return value
