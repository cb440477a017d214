"""How a server of a given version checks the checksum of a request (BBB API: security model)."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Collection
from urllib.parse import quote_plus, unquote_plus

__all__ = ["ALGORITHMS", "check", "digest", "parse_query", "without_checksum"]

ALGORITHMS = ("sha1", "sha256", "sha384", "sha512")
"""Every algorithm a BBB server knows; which one a checksum was made with shows in its length."""

_BY_LENGTH = {40: "sha1", 64: "sha256", 96: "sha384", 128: "sha512"}
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
MISSING = "You must provide the checksum"
WRONG = "Checksums do not match"


def digest(call: str, query: bytes, secret: str, algorithm: str = "sha1") -> str:
    """The checksum, in lower-case hex, of a call with the raw `query` (without checksum and `?`)."""
    return hashlib.new(algorithm, call.encode() + query + secret.encode()).hexdigest()


def parse_query(raw: bytes) -> dict[str, str]:
    """Parameters of a raw query or form body; the first of several values counts."""
    found: dict[str, str] = {}
    for part in raw.decode("utf-8", "replace").split("&"):
        if part:
            name, _, value = part.partition("=")
            if "%" in part or "+" in part:
                name, value = unquote_plus(name), unquote_plus(value)
            found.setdefault(name, value)
    return found


def without_checksum(raw: bytes, checksum: str) -> bytes:
    """The query as it was signed: the checksum is cut out literally, wherever it stands."""
    parameter = b"checksum=" + checksum.encode()
    return raw.replace(b"&" + parameter, b"").replace(parameter + b"&", b"").replace(parameter, b"")


def check(
    call: str,
    query: bytes,
    form: bytes | None,
    *,
    secret: str,
    allowed: Collection[str],
    newest: bool,
    sorted_form: bool,
    any_case: bool,
) -> str | None:
    """What is wrong with the checksum of a request, or None.

    `form` is the body of a form POST. `sorted_form`: versions before 3.0 sign an all-in-body request over the sorted
    and re-encoded body; later ones sign the query string alone, here an empty one. `newest`: two checksums are
    refused. `any_case`: upper-case hex is accepted.
    """
    if not secret:
        return None
    query = _CONTROL.sub(b"", query)
    given = [part[9:] for part in query.split(b"&") if part.startswith(b"checksum=")]
    in_form = form is not None and not query
    signed: bytes | None = None
    if form is not None:
        if query and parse_query(query).keys() & parse_query(form).keys():
            return WRONG
        if in_form:
            given = [part[9:] for part in form.split(b"&") if part.startswith(b"checksum=")]
            signed = _sorted_form(form) if sorted_form else b""
    if not given or not given[0]:
        return MISSING
    if newest and len(given) > 1:
        return WRONG
    checksum = given[0].decode("latin-1")
    algorithm = _BY_LENGTH.get(len(checksum))
    if algorithm is None or algorithm not in allowed:
        return WRONG
    if signed is None:
        signed = without_checksum(query, checksum)
    if any_case:
        checksum = checksum.lower()
    expected = digest(call, signed, secret, algorithm)
    return None if hmac.compare_digest(expected.encode(), checksum.encode("latin-1")) else WRONG


def _sorted_form(form: bytes) -> bytes:
    params = parse_query(form)
    params.pop("checksum", None)
    return "&".join(f"{quote_plus(name)}={quote_plus(params[name])}" for name in sorted(params)).encode()
