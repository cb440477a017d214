"""Who may call the REST API: a checksum as Scalelite takes it, or a signature that covers body and time as well."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Collection, Sequence
from typing import Final

from scalelite.api.management_input import Call
from scalelite.api.site import Request
from scalelite.bbb import checksum
from scalelite.bbb.errors import ChecksumError
from scalelite.store.signatures import SignatureStore

TIME_HEADER: Final = "X-Scalelite-Time"
SIGNATURE_HEADER: Final = "X-Scalelite-Signature"
WINDOW: Final = 300
"""Seconds by which a signature's time may differ from ours."""

_TIME: Final = re.compile(r"[0-9]{1,12}")


def signature(secret: bytes, method: bytes, action: str, raw_query: bytes, time: str, body: bytes) -> str:
    """HMAC-SHA256, in lower-case hex, over method, action, query and time, a line each, and the body.

    `time` in seconds since 1970. None but the body may hold a line end, so no two calls are signed alike.
    """
    signed = b"\n".join((method, action.encode(), raw_query, time.encode(), body))
    return hmac.digest(secret, signed, "sha256").hex()


class Door:
    """Checks who calls. `now`: seconds since 1970. `signed_only`: a checksum, which never expires, is not enough."""

    def __init__(
        self,
        secrets: Sequence[bytes],
        algorithms: Collection[str],
        signatures: SignatureStore,
        now: Callable[[], float],
        *,
        signed_only: bool = False,
    ) -> None:
        self._secrets = tuple(secret for secret in secrets if secret)
        self._algorithms = frozenset(algorithms)
        self._signatures = signatures
        self._now = now
        self._signed_only = signed_only

    async def admit(self, request: Request, action: str, call: Call) -> None:
        """Raise ChecksumError unless the call is signed with one of the secrets; StoreError."""
        time, signed = _header(request, TIME_HEADER), _header(request, SIGNATURE_HEADER)
        if time is not None or signed is not None:
            await self._check_signature(request, action, call.raw, time or "", signed or "")
        elif self._signed_only:
            raise ChecksumError
        else:
            checksum.verify(action, request.raw_query, call.text("checksum"), self._secrets, self._algorithms)

    async def _check_signature(self, request: Request, action: str, body: bytes, time: str, signed: str) -> None:
        if not _TIME.fullmatch(time) or not signed.isascii():
            raise ChecksumError
        matches = False
        for secret in self._secrets:
            expected = signature(secret, request.method, action, request.raw_query, time, body)
            matches = hmac.compare_digest(expected, signed) or matches
        if not matches or abs(self._now() - int(time)) > WINDOW:
            raise ChecksumError
        # A listing may be asked for again; a change counts once.
        if request.method not in (b"GET", b"HEAD") and not await self._signatures.spend(signed, 2 * WINDOW + 1):
            raise ChecksumError


def _header(request: Request, name: str) -> str | None:
    values = request.requestHeaders.getRawHeaders(name.encode())
    return values[-1].decode("latin-1").strip() if values else None
