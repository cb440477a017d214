"""Relays a meeting's analytics from the BBB server to the front-end that asked for them, signed anew."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import jwt
import orjson
from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer

from scalelite.bbb.client import Transport, collect
from scalelite.cluster.records import CallbackURLs, Tenant
from scalelite.store.servers import ServerStore

TOKEN_LIFE = 86400
"""Seconds that our signature on a relayed report is valid."""

MAX_REPLY = 65536


class KeptCallbacks(Protocol):
    """Where callback URLs are looked up. Raises StoreError."""

    async def find(self, meeting_id: str, tenant_id: str) -> CallbackURLs: ...


class AnalyticsRelay:
    """Checks who reports, and passes the report on. `patience` bounds each delivery, in seconds."""

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        servers: ServerStore,
        callbacks: KeptCallbacks,
        transport: Transport,
        post: Callable[[bytes], IBodyProducer],
        now: Callable[[], float],
        patience: float,
    ) -> None:
        self._reactor = reactor
        self._servers = servers
        self._callbacks = callbacks
        self._transport = transport
        self._post = post
        self._now = now
        self._patience = patience

    async def relay(
        self, authorization: str, report: Mapping[str, Any], tenant: Tenant | None, secrets: Iterable[bytes]
    ) -> None:
        """Deliver `report` to the URL kept for its `meeting_id`, signing with one of `secrets` after another.

        `authorization` must be a bearer token (JWT, HS512) signed with the secret of any server of the pool;
        everything else is logged and dropped, as Scalelite does. Raises StoreError.
        """
        meeting_id = report.get("meeting_id")
        if not isinstance(meeting_id, str) or not await self._from_a_server(authorization):
            self._log.warn("an analytics report without a valid token or meeting_id was dropped")
            return
        urls = await self._callbacks.find(meeting_id, tenant.id if tenant else "")
        if not urls.analytics:
            return
        body = orjson.dumps({**report, "customer": tenant.name if tenant else "scalelite"})
        for secret in secrets:
            if await self._deliver(urls.analytics, body, secret):
                return
        self._log.warn("the analytics report of a meeting could not be delivered", meeting=meeting_id)

    async def _from_a_server(self, authorization: str) -> bool:
        kind, _, token = authorization.partition(" ")
        if kind.lower() != "bearer":
            return False
        servers = await self._servers.all()
        with _keys_of_any_length():
            return any(_signed_by(token.strip(), server.secret) for server in servers if server.secret)

    async def _deliver(self, url: str, body: bytes, secret: bytes) -> bool:
        with _keys_of_any_length():
            token = jwt.encode({"exp": int(self._now()) + TOKEN_LIFE}, secret, algorithm="HS512")
        headers = Headers(
            {
                b"Content-Type": [b"application/json"],
                b"User-Agent": [b"BigBlueButton Analytics Callback"],
                b"Authorization": [b"Bearer " + token.encode()],
            }
        )
        try:
            taken: bool = await defer.Deferred.fromCoroutine(self._post_once(url, headers, body)).addTimeout(
                self._patience, self._reactor
            )
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a client's URL must not reach the reporter
            self._log.warn("an analytics report was not taken: {error}", error=type(error).__name__)
            return False
        return taken

    async def _post_once(self, url: str, headers: Headers, body: bytes) -> bool:
        response = await self._transport(b"POST", url.encode(), headers, self._post(body))
        await collect(response, MAX_REPLY)
        return bool(200 <= response.code < 300)


def _signed_by(token: str, secret: str) -> bool:
    try:
        jwt.decode(token, secret, algorithms=["HS512"])
    except jwt.InvalidTokenError:
        return False
    return True


@contextmanager
def _keys_of_any_length() -> Iterator[None]:
    # The secrets of BBB and of front-ends are given, and shorter than PyJWT would have them.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield
