"""A scripted Redis at the other end of an in-memory connection, for tests with a `task.Clock`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from scalelite.store.connection import Login, Redis
from scalelite.store.endpoints import always

PONG = b"+PONG\r\n"


class Peer(StringTransport):
    """One connection as the server sees it."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(peerAddress=UNIXAddress("peer"))
        self._clock = clock
        self.protocol: IProtocol | None = None

    def asked(self) -> bytes:
        """What has been sent since the last look."""
        data = self.value()
        self.clear()
        return data

    def say(self, data: bytes) -> None:
        """Send this to the client."""
        self.protocol.dataReceived(data)

    def hang_up(self) -> None:
        """Close the connection."""
        self.disconnected = True
        self.protocol.connectionLost(Failure(ConnectionDone()))

    def abortConnection(self) -> None:
        if not self.disconnected:
            self.disconnected = True
            self._clock.callLater(0, self.protocol.connectionLost, Failure(ConnectionAborted()))


@implementer(IStreamClientEndpoint)
class Place:
    """Where the client connects to; `peers` are the connections made so far."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.peers: list[Peer] = []
        self.refusing = False
        self.attempts = 0

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        self.attempts += 1
        if self.refusing:
            return fail(ConnectionRefusedError("refused"))
        peer = Peer(self._clock)
        peer.protocol = factory.buildProtocol(None)
        peer.protocol.makeConnection(peer)
        self.peers.append(peer)
        return succeed(peer.protocol)

    @property
    def peer(self) -> Peer:
        """The newest connection."""
        return self.peers[-1]


def redis_at(
    clock: Clock,
    place: Place,
    *,
    timeout: float = 2.0,
    login: Login | None = None,
    moved: Callable[[], Awaitable[bool]] | None = None,
) -> Redis:
    """A `Redis` that connects to this place."""
    return Redis(clock, always(place), login or Login(), timeout=timeout, moved=moved)


def connected(clock: Clock, *, timeout: float = 2.0) -> tuple[Redis, Place]:
    """A `Redis` whose connection is up."""
    place = Place(clock)
    redis = redis_at(clock, place, timeout=timeout)
    redis.startService()
    assert place.peer.asked() == b"*1\r\n$4\r\nPING\r\n"
    place.peer.say(PONG)
    return redis, place
