"""The BBB checksum: a plain hash over call name, raw query and secret. Source: BBB API, Scalelite."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterable
from hmac import compare_digest
from typing import Final

from scalelite.bbb.errors import ChecksumError

ALGORITHMS: Final[dict[str, Callable[[bytes], hashlib._Hash]]] = {
    "SHA1": lambda data: hashlib.sha1(data, usedforsecurity=False),
    "SHA256": hashlib.sha256,
    "SHA384": hashlib.sha384,
    "SHA512": hashlib.sha512,
}
"""Algorithm names as `LOADBALANCER_CHECKSUM_ALGORITHM` spells them, weakest first."""

BY_LENGTH: Final = {40: "SHA1", 64: "SHA256", 96: "SHA384", 128: "SHA512"}
"""The caller names no algorithm: the length of the hex digest tells it."""

_HEX = re.compile(r"[0-9a-f]+\Z")


def digest(algorithm: str, action: str, query: bytes, secret: bytes) -> str:
    """The lower-case hex checksum of `action` called with the raw `query` (without `checksum=`)."""
    return ALGORITHMS[algorithm](action.encode() + query + secret).hexdigest()


def without_checksum(raw_query: bytes, value: str) -> bytes:
    """`raw_query` as the caller signed it: every `checksum=value` cut out with one neighbouring `&`.

    The cut is literal, on undecoded bytes: leftmost match first, the ampersand before it preferred to
    the one behind it. `value` must be hex digits.
    """
    parameter = b"checksum=" + value.encode()
    first = raw_query.find(parameter)
    if first < 0:
        return raw_query
    if first + len(parameter) == len(raw_query) and raw_query[first - 1 : first] == b"&":
        return raw_query[: first - 1]
    return re.sub(b"&%b|%b&|%b" % (parameter, parameter, parameter), b"", raw_query)


def verify(
    action: str, raw_query: bytes, value: str | None, secrets: Iterable[bytes], accepted: Collection[str]
) -> None:
    """Raise ChecksumError unless `value` signs `action` and `raw_query` with one of `secrets`.

    `accepted` are the algorithm names allowed. Empty secrets never match: they would let anyone sign.
    Comparison takes constant time and is case-sensitive, as in Scalelite.
    """
    algorithm = BY_LENGTH.get(len(value)) if value else None
    if value is None or algorithm is None or algorithm not in accepted or not _HEX.match(value):
        raise ChecksumError
    signed = action.encode() + without_checksum(raw_query, value)
    hasher = ALGORITHMS[algorithm]
    for secret in secrets:
        if secret and compare_digest(hasher(signed + secret).hexdigest(), value):
            return
    raise ChecksumError
