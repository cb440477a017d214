"""Query strings and form bodies: parsing what clients send, encoding and signing what servers get."""

from __future__ import annotations

import re
from binascii import a2b_qp
from collections.abc import Mapping
from urllib.parse import quote_plus, unquote_plus

from scalelite.bbb.checksum import digest

Params = dict[str, str | None]
"""Parameter names to values, in order of first appearance; None where the name stood without `=`."""

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
MAX_PARAMETERS = 4096
_LONG = 16384


class MalformedQuery(Exception):
    """A query or form body with a broken escape, a NUL, bytes that are not UTF-8, or too many parameters."""


def parse(raw: bytes) -> Params:
    """The parameters of a raw query string or urlencoded body (UTF-8); of duplicates the last one counts.

    A bracketed name such as `a[b]` is an ordinary name. Raises MalformedQuery.
    """
    if not raw:
        return {}
    escaped = b"%" in raw
    if escaped and _BAD_ESCAPE.search(raw):
        raise MalformedQuery("broken percent-encoding")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise MalformedQuery("not UTF-8") from None
    pieces = text.split("&")
    if len(pieces) > MAX_PARAMETERS:
        raise MalformedQuery("too many parameters")
    decode = escaped or "+" in text
    unquote = unquote_plus if len(text) < _LONG else _unquote_long
    params: Params = {}
    try:
        for piece in pieces:
            name, equals, value = piece.partition("=")
            if decode:
                name = unquote(name, errors="strict")
                value = unquote(value, errors="strict")
            if name:
                params[name] = value if equals else None
    except UnicodeDecodeError:
        raise MalformedQuery("not UTF-8") from None
    if "\0" in text or (escaped and b"%00" in raw):
        raise MalformedQuery("NUL")
    return params


def _unquote_long(text: str, *, errors: str) -> str:
    """As `unquote_plus`, which takes seconds for some megabytes of escapes; quoted-printable is decoded in C."""
    raw = text.replace("+", " ").replace("=", "=3D").replace("%", "=").encode()
    return a2b_qp(raw).decode(errors=errors)


def encode(params: Mapping[str, str | None]) -> str:
    """HTML form encoding as Scalelite sends it: space as `+`, unreserved `A-Za-z0-9*-._`, a None value bare."""
    encoded = "&".join(
        [
            quote_plus(name, safe="*")
            if value is None
            else f"{quote_plus(name, safe='*')}={quote_plus(value, safe='*')}"
            for name, value in params.items()
        ]
    )
    return encoded.replace("~", "%7E") if "~" in encoded else encoded


def signed_url(base_url: str, secret: str, action: str, params: Mapping[str, str | None], algorithm: str) -> str:
    """The URL that asks the BBB server at `base_url` (its API root) for `action`, signed with its secret."""
    query = encode(params)
    checksum = digest(algorithm, action, query.encode(), secret.encode())
    separator = "" if base_url.endswith("/") else "/"
    if query:
        return f"{base_url}{separator}{action}?{query}&checksum={checksum}"
    return f"{base_url}{separator}{action}?checksum={checksum}"


def root_url(base_url: str, secret: str, algorithm: str) -> str:
    """The URL of a BBB server's index, signed over the bare secret as Scalelite's version pass does."""
    separator = "" if base_url.endswith("/") else "/"
    return f"{base_url}{separator}?checksum={digest(algorithm, '', b'', secret.encode())}"
