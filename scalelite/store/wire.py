"""txredisapi's protocol as this program uses it: commands out, replies to their callers in order.

Of txredisapi only the parser of replies is taken. Its pool and handler cost more than the command itself, queue
without limit of time while Redis is down, and give up for ever after a refused password.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

import hiredis
import txredisapi
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from scalelite.store.endpoints import Login
from scalelite.store.errors import StoreReplyError, StoreUnavailable

Argument = str | bytes | int | float

# Typed here, because hiredis's own stub describes a tuple of one item.
pack: Final[Callable[[tuple[Argument, ...]], bytes]] = hiredis.pack_command  # type: ignore[assignment]

# After these the connection leads to the wrong server, or is no longer logged in.
_STALE: Final = frozenset({"READONLY", "NOAUTH", "MASTERDOWN"})


class Call:
    """A command, or several in one write, that waits for its replies; settled once `deferred` is None."""

    __slots__ = ("deferred", "expected", "payload", "replies", "started")

    def __init__(self, payload: bytes, started: float, expected: int = 1) -> None:
        self.payload = payload
        self.started = started
        self.expected = expected
        self.replies: list[Any] | None = None if expected == 1 else []
        self.deferred: Deferred[Any] | None = Deferred()


class _Nested:
    """The first error found inside a list reply, in place of that reply."""

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error


class Wire(txredisapi.HiredisProtocol):  # type: ignore[misc]
    """One connection to a Redis or Sentinel: commands out, replies to their callers in order.

    `finished` fires when the connection is lost, or has been retired: it takes no new calls, but those under way
    may still be answered. `gone` fires once it is lost.
    """

    def __init__(self, clock: IReactorTime) -> None:
        super().__init__(convertNumbers=False)
        self._clock = clock
        self.waiting: deque[Call] = deque()
        self.finished: Deferred[None] = Deferred()
        self.gone: Deferred[None] = Deferred()
        self.heard = 0.0
        self.retired = False
        self.reason: BaseException = ConnectionDone()

    def connectionMade(self) -> None:
        self.heard = self._clock.seconds()
        if isinstance(self.transport.getPeer(), IPv4Address | IPv6Address):
            self.transport.setTcpNoDelay(True)
            self.transport.setTcpKeepAlive(True)

    def send(self, call: Call) -> None:
        """Write the call's commands."""
        self.waiting.append(call)
        self.transport.write(call.payload)

    def ask(self, *args: Argument) -> Deferred[Any]:
        """Send one command outside the queue of `Redis`; it has no deadline of its own."""
        call = Call(pack(args), self._clock.seconds())
        answer = call.deferred
        assert answer is not None
        if self.connected:
            self.send(call)
        else:
            call.deferred = None
            answer.errback(StoreUnavailable(f"the connection to Redis was lost: {self.reason}"))
        return answer

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:
        self.heard = self._clock.seconds()
        try:
            super().dataReceived(data)
        except txredisapi.InvalidData as error:
            self.fall(error)

    def tryConvertData(self, data: Any) -> Any:
        # Twice as quick as the inherited one, which also lets an error inside a list pass as a value.
        if type(data) is bytes:
            return _text(data)
        if type(data) is not list:
            return data
        try:
            return [item.decode() if type(item) is bytes else _convert(item) for item in data]
        except UnicodeDecodeError:
            pass
        except txredisapi.ResponseError as error:
            return _Nested(error)
        try:
            return [_convert(item) for item in data]
        except txredisapi.ResponseError as error:
            return _Nested(error)

    def replyReceived(self, reply: Any) -> None:
        if not self.waiting:
            self.fall(txredisapi.InvalidData("a reply nobody asked for"))
            return
        call = self.waiting[0]
        if call.replies is not None:
            call.replies.append(reply)
            if len(call.replies) < call.expected:
                return
            reply = next((item for item in call.replies if isinstance(item, _ERRORS)), call.replies)
        self.waiting.popleft()
        deferred = call.deferred
        if deferred is not None:
            call.deferred = None
            if isinstance(reply, _ERRORS):
                self._refuse(deferred, reply)
            else:
                deferred.callback(reply)
        if self.retired and not self.waiting:
            self.transport.abortConnection()

    def _refuse(self, deferred: Deferred[Any], reply: Exception | _Nested) -> None:
        cause = reply.error if isinstance(reply, _Nested) else reply
        error = StoreReplyError(str(cause))
        if error.code in _STALE:
            self.retire(error)
        deferred.errback(error)

    def retire(self, reason: BaseException) -> None:
        """Take no more calls; close once the last one is answered."""
        if self.retired:
            return
        self.retired = True
        self.reason = reason
        if not self.waiting:
            self.transport.abortConnection()
        self._finish()

    def fall(self, reason: BaseException) -> None:
        """Drop the connection now; what is under way fails."""
        self.retired = True
        self.reason = reason
        self.transport.abortConnection()
        self._finish()

    def connectionLost(self, why: Failure) -> None:
        super().connectionLost(why)
        if isinstance(self.reason, ConnectionDone):
            self.reason = why.value or self.reason
        self.retired = True
        self._finish()
        error = StoreUnavailable(f"the connection to Redis was lost: {self.reason}")
        waiting, self.waiting = self.waiting, deque()
        for call in waiting:
            deferred, call.deferred = call.deferred, None
            if deferred is not None:
                deferred.errback(error)
        self.gone.callback(None)

    def _finish(self) -> None:
        if not self.finished.called:
            self.finished.callback(None)


_ERRORS: Final = (txredisapi.RedisError, _Nested)


def _text(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _convert(item: Any) -> Any:
    """One element of a list reply. Raises the error that it is, or holds."""
    if isinstance(item, bytes):
        return _text(item)
    if isinstance(item, list):
        return [_convert(inner) for inner in item]
    if isinstance(item, txredisapi.ResponseError):
        raise item
    return item


class WireFactory(Factory):
    """Makes the `Wire` of one attempt to connect."""

    noisy = False

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock

    def buildProtocol(self, addr: IAddress | None) -> Wire:
        return Wire(self._clock)


async def open_wire(clock: IReactorTime, endpoint: IStreamClientEndpoint, login: Login) -> Wire:
    """Connect and log in. Raises StoreError, or what the endpoint raises; has no deadline of its own."""
    wire = cast(Wire, await endpoint.connect(WireFactory(clock)))
    try:
        await _log_in(wire, login)
    except BaseException as error:
        wire.fall(error)
        raise
    return wire


async def _log_in(wire: Wire, login: Login) -> None:
    if login.password is not None:
        await _authenticate(wire, login.username, login.password)
    if login.db:
        await wire.ask("SELECT", login.db)
    if login.master:
        role = await wire.ask("ROLE")
        if role[0] != "master":
            raise StoreUnavailable(f"the server named by Sentinel is a {role[0]}")
    # A server that is still loading its data, or wants a password, is not up.
    await wire.ask("PING")


async def _authenticate(wire: Wire, username: str | None, password: str) -> None:
    if username is None:
        await wire.ask("AUTH", password)
        return
    try:
        await wire.ask("AUTH", username, password)
    except StoreReplyError as error:
        # redis-rb 4 takes URLs that put any user name before the password of the default user, and so do
        # servers older than Redis 6, which know no user names.
        if error.code != "WRONGPASS" and "wrong number of arguments" not in str(error):
            raise
        try:
            await wire.ask("AUTH", password)
        except StoreReplyError:
            raise error from None
