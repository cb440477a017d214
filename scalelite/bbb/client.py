"""One call to one BBB server: signed, under a deadline that covers the body, capped in size, gated per server."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, Protocol

import attrs
from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet import defer, error, protocol
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import FileBodyProducer, ResponseDone, ResponseFailed, ResponseNeverReceived
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer, IResponse

from scalelite.bbb import query, xml

Transport = Callable[[bytes, bytes, Headers, IBodyProducer | None], "defer.Deferred[IResponse]"]
"""Sends a request (method, URL, headers, body) and fires with the response once its headers are there."""


class Backend(Protocol):
    """What the client must know of a BBB server: its API root and its secret."""

    @property
    def url(self) -> str: ...
    @property
    def secret(self) -> str: ...


class BackendError(Exception):
    """A server could not be asked, or did not answer in BBB's XML."""


class NeverSent(BackendError):
    """No connection was made: the server can't have carried the call out."""


class NoAnswer(BackendError):
    """The call went out and no whole answer came back in time: the server may have carried it out."""


class BadAnswer(BackendError):
    """An answer came that is not BBB XML, or is too large: the server may have carried the call out."""


@attrs.frozen
class Timeouts:
    """Seconds for connecting, and for the whole exchange, connecting and the last byte of the body included."""

    connect: float
    exchange: float

    def hurried(self) -> Timeouts:
        """The shorter ones for a server that is known to be offline (Scalelite's rule)."""
        connect = min(self.exchange, max(0.2, self.exchange / 10))
        return Timeouts(connect, min(self.exchange, max(0.5, self.exchange / 10)))


_USER_AGENT = [b"Scalelite"]
_GET_HEADERS = Headers({b"User-Agent": _USER_AGENT})
_XML_HEADERS = Headers({b"User-Agent": _USER_AGENT, b"Content-Type": [b"application/xml"]})


class BBBClient:
    """Calls BBB servers. Every call ends within its deadline, whatever the server does.

    `transports` gives the transport for a connect time-out in seconds (an Agent fixes its own when it is made).
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        transports: Callable[[float], Transport],
        *,
        timeouts: Timeouts,
        algorithm: str,
        max_answer_size: int,
        per_server: int,
    ) -> None:
        self._reactor = reactor
        self._normal = (transports(timeouts.connect), timeouts)
        hurried = timeouts.hurried()
        self._hurried = (transports(hurried.connect), hurried)
        self._algorithm = algorithm
        self._max_answer_size = max_answer_size
        self._per_server = per_server
        self._gates: dict[str, _Gate] = {}
        self._turns = _Turns(reactor)
        self.in_flight = 0

    async def call(
        self,
        server: Backend,
        action: str,
        params: Mapping[str, str | None],
        *,
        body: bytes = b"",
        hurried: bool = False,
        repeatable: bool = True,
        in_turn: bool = False,
    ) -> xml.Answer:
        """Ask `server` for `action`: GET, or POST of `body` (XML) if there is one.

        A GET is repeated once if its connection ends before any answer, unless it is not `repeatable`: one that
        must not be carried out twice. Of many answers that come at once, those asked for `in_turn` are parsed one in
        each turn of the reactor, so that they don't hold up other requests.

        Returns the parsed answer, SUCCESS or not; the HTTP status does not matter (BBB's own rule).
        Raises NeverSent, NoAnswer or BadAnswer.
        """
        url = query.signed_url(server.url, server.secret, action, params, self._algorithm)
        status, content = await self._exchange(server.url, url.encode(), body, hurried=hurried, repeatable=repeatable)
        if in_turn:
            await self._turns.take()
        return self._parsed(server.url, action, status, content)

    async def index(self, server: Backend) -> xml.Answer:
        """Ask for the server's API root, which tells its version. Raises as `call` does."""
        url = query.root_url(server.url, server.secret, self._algorithm)
        status, content = await self._exchange(server.url, url.encode(), b"", hurried=False, repeatable=True)
        return self._parsed(server.url, "index", status, content)

    def _parsed(self, host: str, action: str, status: int, content: bytes) -> xml.Answer:
        try:
            return xml.parse(content)
        except xml.NotBBB as fault:
            self._log.warn(
                "{host} answered {action} with no BBB XML: HTTP {status}, {size} bytes, {fault}",
                host=host, action=action, status=status, size=len(content), fault=str(fault),
            )  # fmt: skip
            raise BadAnswer(str(fault)) from None

    async def _exchange(
        self, host: str, url: bytes, body: bytes, *, hurried: bool, repeatable: bool
    ) -> tuple[int, bytes]:
        transport, timeouts = self._hurried if hurried else self._normal
        gate = self._gates.get(host)
        if gate is None:
            gate = self._gates[host] = _Gate(self._per_server)
        deadline = _Deadline(self._reactor, timeouts.exchange)
        self.in_flight += 1
        repeated = False
        try:
            if gate.full:
                await deadline.over(gate.wait())
            else:
                gate.active += 1
            try:
                try:
                    response = await deadline.over(_send(transport, url, body))
                except ResponseNeverReceived as fault:
                    # Most often a kept connection that the server had just closed.
                    if body or not repeatable or deadline.expired or _given_up(fault) or _certificate_refused(fault):
                        raise
                    repeated = True
                    response = await deadline.over(_send(transport, url, body))
                deadline.answering = True
                return response.code, await deadline.over(collect(response, self._max_answer_size))
            finally:
                gate.leave()
                if not gate.active and not gate.waiting:
                    self._gates.pop(host, None)
        except BackendError:
            raise
        except Exception as fault:
            raise _named(fault, deadline, repeated=repeated) from fault
        finally:
            self.in_flight -= 1
            deadline.stop()


def _named(fault: Exception, deadline: _Deadline, *, repeated: bool) -> BackendError:
    """The BackendError that tells what `fault` means for whether the server did what it was asked."""
    if isinstance(fault, ValueError):
        # Its text would quote the whole URL, checksum included.
        return NeverSent("the server's URL can't be used")
    if deadline.expired:
        reason = f"no whole answer within {deadline.seconds:g} s"
    else:
        reason = f"{type(fault).__name__}: {fault}" if str(fault) else type(fault).__name__
    if _certificate_refused(fault):
        return NeverSent(f"its certificate was refused: {reason}")
    if isinstance(fault, _NOT_CONNECTED) and not deadline.answering and not repeated:
        return NeverSent(reason)
    return NoAnswer(reason)


_NOT_CONNECTED = (
    error.ConnectError,
    error.ConnectingCancelledError,
    error.DNSLookupError,
    error.UnsupportedAddressFamily,
    # Waiting for a turn or for a connection; a wait for an answer ends as ResponseNeverReceived.
    defer.CancelledError,
)


def _given_up(fault: ResponseNeverReceived) -> bool:
    """Whether we ended the connection ourselves: the time was up, or whoever asked wants no answer any more."""
    return any(isinstance(reason.value, defer.CancelledError) for reason in fault.reasons)


def _certificate_refused(fault: Exception) -> bool:
    """Whether TLS ended by our own refusal, with the request still in our buffer; not merely cut off."""
    if not isinstance(fault, ResponseNeverReceived | ResponseFailed):
        return False
    return any(
        isinstance(reason.value, VerificationError)
        or (isinstance(reason.value, SSL.Error) and "certificate" in str(reason.value))
        for reason in fault.reasons
    )


def _send(transport: Transport, url: bytes, body: bytes) -> defer.Deferred[IResponse]:
    if body:
        return transport(b"POST", url, _XML_HEADERS, FileBodyProducer(BytesIO(body)))
    return transport(b"GET", url, _GET_HEADERS, None)


class _Deadline:
    """Bounds several waits, one after another, by one moment in time."""

    def __init__(self, reactor: IReactorTime, seconds: float) -> None:
        self.seconds = seconds
        self.expired = False
        #: Whether the head of an answer has come.
        self.answering = False
        self._current: defer.Deferred[Any] | None = None
        self._call = reactor.callLater(seconds, self._expire)

    def over(self, wait: defer.Deferred[Any]) -> defer.Deferred[Any]:
        """`wait` itself, which is cancelled if the time runs out before it has fired."""
        self._current = wait
        return wait

    def _expire(self) -> None:
        self.expired = True
        if self._current is not None:
            self._current.cancel()

    def stop(self) -> None:
        if not self.expired:
            self._call.cancel()


class _Turns:
    """Lets callers go on one after another, one in each turn of the reactor."""

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._waiting: deque[defer.Deferred[None]] = deque()

    def take(self) -> defer.Deferred[None]:
        """Fires in a turn of the caller's own."""
        turn: defer.Deferred[None] = defer.Deferred()
        self._waiting.append(turn)
        if len(self._waiting) == 1:
            self._reactor.callLater(0, self._next)
        return turn

    def _next(self) -> None:
        turn = self._waiting.popleft()
        if self._waiting:
            self._reactor.callLater(0, self._next)
        turn.callback(None)


class _Gate:
    """How many exchanges with one server may be under way at once; the others wait in line."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.active = 0
        self.waiting: deque[defer.Deferred[None]] = deque()

    @property
    def full(self) -> bool:
        return self.active >= self.limit

    def wait(self) -> defer.Deferred[None]:
        turn: defer.Deferred[None] = defer.Deferred(self.waiting.remove)
        self.waiting.append(turn)
        return turn

    def leave(self) -> None:
        if self.waiting:
            self.waiting.popleft().callback(None)
        else:
            self.active -= 1


def collect(response: IResponse, limit: int) -> defer.Deferred[bytes]:
    """The whole body of `response`; fails with BadAnswer, and drops the connection, beyond `limit` bytes."""
    collector = _Collector(limit)
    if isinstance(response.length, int) and response.length > limit:
        collector.refuse(response.length)
    response.deliverBody(collector)
    return collector.done


class _Collector(protocol.Protocol):
    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._parts: list[bytes] = []
        self._refused = False
        self.done: defer.Deferred[bytes] = defer.Deferred(self._cancel)

    def connectionMade(self) -> None:
        if self._refused:
            self._drop()

    def refuse(self, size: int) -> None:
        self._refused = True
        self._parts.clear()
        self.done.errback(BadAnswer(f"the answer is too large: {size} bytes, at most {self._limit} are taken"))

    def dataReceived(self, data: bytes) -> None:
        if self._refused:
            return
        self._size += len(data)
        if self._size > self._limit:
            self.refuse(self._size)
            self._drop()
        else:
            self._parts.append(data)

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        if self.done.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(b"".join(self._parts))
        else:
            self.done.errback(reason)

    def _cancel(self, _: defer.Deferred[bytes]) -> None:
        self._refused = True
        self._drop()

    def _drop(self) -> None:
        # Twisted's stand-in transport has no abortConnection; this closes the socket without reading on.
        if self.transport is not None:
            self.transport.loseConnection()
