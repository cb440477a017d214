"""The store in memory: fakeredis behind an endpoint that needs no socket and no thread.

For trying things out where no redis-server is installed. Nothing is kept, and only this process sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import fakeredis
import redis
from fakeredis._clients._tcp_server import encode_reply
from fakeredis._socket import FakeSocket
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from scalelite.store.errors import StoreError


class _Session(FakeSocket):
    """fakeredis's side of one connection; replies are handed on as they are made."""

    def __init__(self, server: fakeredis.FakeServer, write: Callable[[bytes], None]) -> None:
        super().__init__(server, 0, client_class=redis.Redis)
        self._write = write

    def put_response(self, msg: Any) -> None:
        self._write(encode_reply(msg, 2))

    def _decode_error(self, error: Any) -> Any:
        # As it is: the inherited one makes an exception of redis-py of it, which loses the error's first word.
        return error

    def _blocking(self, timeout: Any, func: Callable[[bool], Any], shape: Any = None) -> Any:
        # Never waits: there is nobody else to wait for in one reactor.
        result = func(True)
        return result if shape is None else shape(result)


@implementer(IAddress)
class _Address:
    """The peer of an in-memory connection."""


@implementer(ITransport)
class _Transport:
    """The client's transport. Replies are delivered in a later reactor turn, as a socket would."""

    disconnecting = False
    _log = Logger()

    def __init__(self, clock: IReactorTime, server: fakeredis.FakeServer, protocol: IProtocol) -> None:
        self._clock = clock
        self._protocol = protocol
        self._replies: list[bytes] = []
        self._requests: list[bytes] = []
        self._session = _Session(server, self._replies.append)
        self._busy = False
        self._closed = False

    def write(self, data: bytes) -> None:
        if self._closed:
            return
        self._requests.append(data)
        if not self._busy:
            self._busy = True
            self._clock.callLater(0, self._serve)

    def _serve(self) -> None:
        self._busy = False
        if self._closed:
            return
        requests, self._requests = self._requests, []
        try:
            self._session.sendall(b"".join(requests))
        except Exception:  # noqa: BLE001 - fakeredis's parser is unusable after any fault of its own
            self._log.failure("the store in memory failed")
            self.abortConnection()
            return
        replies = b"".join(self._replies)
        self._replies.clear()
        if replies:
            self._protocol.dataReceived(replies)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def getPeer(self) -> _Address:
        return _Address()

    def getHost(self) -> _Address:
        return _Address()

    def loseConnection(self) -> None:
        self._close(ConnectionDone())

    def abortConnection(self) -> None:
        self._close(ConnectionAborted())

    def _close(self, reason: Exception) -> None:
        if not self._closed:
            self._closed = True
            self.disconnecting = True
            self._session.close()
            self._clock.callLater(0, self._protocol.connectionLost, Failure(reason))


@implementer(IStreamClientEndpoint)
class MemoryEndpoint:
    """Connects to a Redis of this process; every connection made through it sees the same data."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._server = fakeredis.FakeServer(version=(7,))

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        protocol = protocolFactory.buildProtocol(_Address())
        if protocol is None:
            raise StoreError("the connection was not wanted")
        protocol.makeConnection(_Transport(self._clock, self._server, protocol))
        return succeed(protocol)
