"""The port of a node: opened, closed so that it refuses, and opened again."""

from __future__ import annotations

import socket
from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred, DeferredLock, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IReactorSSL, IReactorTCP
from twisted.internet.protocol import ServerFactory

from scalelite.simulator.faults import FaultSet
from scalelite.simulator.http import Connection, Site

__all__ = ["Listener"]


class _Factory(ServerFactory):
    noisy = False

    def __init__(self, site: Site) -> None:
        self._site = site

    def buildProtocol(self, addr: object) -> Connection:
        return Connection(self._site)


@attrs.define(eq=False)
class Listener:
    """Listens for `site`. `port` 0 is replaced by the one that was given.

    While closed the port stays reserved, so that opening it again cannot fail.
    """

    reactor: IReactorTCP
    site: Site
    host: str
    port: int
    tls: FaultSet | None = None
    refusing: Callable[[], bool] = bool
    connections: set[Connection] = attrs.field(factory=set)
    _wanted: bool = False
    _listening: IListeningPort | None = None
    _reserved: socket.socket | None = None
    _switching: DeferredLock = attrs.field(factory=DeferredLock)
    _all_gone: Deferred[None] | None = None

    @property
    def listening(self) -> bool:
        """Whether connections are accepted at this moment."""
        return self._listening is not None

    @property
    def settled(self) -> bool:
        """Whether the port is as it should be."""
        return self.listening == (self._wanted and not self.refusing())

    async def open(self) -> None:
        """Listen; raises CannotListenError if the port is taken."""
        self._wanted = True
        await self.switch()

    async def close(self) -> None:
        """Stop listening and reset every connection."""
        self._wanted = False
        await self.switch()

    def release(self) -> None:
        """Give the port up for good."""
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None

    async def switch(self) -> None:
        """Bring the port into the state it should be in."""
        await self._switching.acquire()
        try:
            if self.settled:
                return
            if self._listening is None:
                self._listen()
            else:
                await self._deafen()
        finally:
            self._switching.release()

    def _listen(self) -> None:
        factory = _Factory(self.site)
        if self.tls is None:
            self._listening = self.reactor.listenTCP(self.port, factory, interface=self.host, backlog=1024)
        else:
            from scalelite.simulator.tls import CertificateShow

            assert IReactorSSL.providedBy(self.reactor)
            ssl_reactor: IReactorSSL = self.reactor
            show = CertificateShow(self.host, self.tls)
            # The interface still names only the old kind of context factory; the reactor takes both.
            self._listening = ssl_reactor.listenSSL(
                self.port,
                factory,
                show,  # type: ignore[arg-type]
                interface=self.host,
                backlog=1024,
            )
        self.port = self._listening.getHost().port  # type: ignore[attr-defined]

    async def _deafen(self) -> None:
        assert self._listening is not None
        listening, self._listening = self._listening, None
        await maybeDeferred(listening.stopListening)
        # Not before: Linux lets nobody bind a port that somebody listens on.
        self._reserve()
        if self.connections:
            self._all_gone = Deferred()
            self.reset_connections()
            await self._all_gone

    def _reserve(self) -> None:
        # Bound without listening, a port refuses like a free one.
        if self._reserved is None:
            family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
            self._reserved = socket.socket(family, socket.SOCK_STREAM)
            self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._reserved.bind((self.host, self.port))

    def reset_connections(self) -> None:
        """Send a reset to every peer."""
        for connection in list(self.connections):
            connection.abort()

    def connected(self, connection: Connection) -> None:
        """A peer has connected."""
        self.connections.add(connection)

    def disconnected(self, connection: Connection) -> None:
        """A peer is gone."""
        self.connections.discard(connection)
        if not self.connections and self._all_gone is not None:
            waiting, self._all_gone = self._all_gone, None
            waiting.callback(None)
