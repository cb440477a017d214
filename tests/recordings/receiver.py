"""A front-end that is called back: notes what it gets, and answers, or does not, as a test says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

reactor: Any = _reactor


@attrs.frozen
class Received:
    """One request, as it came."""

    method: str
    uri: str
    headers: dict[str, str]
    body: bytes


@attrs.define
class FrontEnd:
    """`statuses` are answered one after another, the last for ever; None: no answer at all."""

    statuses: list[int | None]
    received: list[Received] = attrs.field(factory=list)
    #: What each answer has as its body.
    page: bytes = b"ok"
    location: str = ""
    port: Any = None
    number: int = 0
    #: Called with each request, before it is answered.
    on_request: Callable[[], object] = lambda: None
    _awaited: list[tuple[int, Deferred[None]]] = attrs.field(factory=list)

    def url(self, path: str = "/ready", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.number}{path}"

    async def arrived(self, count: int) -> None:
        """Wait until so many requests have come."""
        if len(self.received) < count:
            waiting: Deferred[None] = Deferred()
            self._awaited.append((count, waiting))
            await waiting

    def open(self) -> None:
        """Be there, at the port that it had before."""

        class Handler(Resource):
            isLeaf = True

            def render(self, request: Any) -> Any:
                return front_end._answer(request)

        front_end = self
        site = Site(Handler())
        site.noisy = False
        self.port = reactor.listenTCP(self.number, site, interface="127.0.0.1")
        self.number = self.port.getHost().port

    async def close(self) -> None:
        """Be gone: connections are refused."""
        if self.port is not None:
            await self.port.stopListening()
            self.port = None

    def _answer(self, request: Any) -> Any:
        headers = {k.decode().lower(): v[0].decode() for k, v in request.requestHeaders.getAllRawHeaders()}
        self.received.append(Received(request.method.decode(), request.uri.decode(), headers, request.content.read()))
        self.on_request()
        for awaited in [one for one in self._awaited if one[0] <= len(self.received)]:
            self._awaited.remove(awaited)
            # Not before this request is answered, or left open.
            reactor.callLater(0, awaited[1].callback, None)
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if status is None:
            return NOT_DONE_YET
        request.setResponseCode(status)
        if self.location:
            request.setHeader("Location", self.location)
        return self.page


@asynccontextmanager
async def front_end(*statuses: int | None) -> AsyncIterator[FrontEnd]:
    """A front-end that listens; 200 if no status is said."""
    made = FrontEnd(list(statuses) or [200])
    made.open()
    try:
        yield made
    finally:
        await made.close()
