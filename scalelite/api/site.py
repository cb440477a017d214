"""The web server: twisted.web's, with a short way for hot routes, deadlines for slow clients, and a drain."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Coroutine, Mapping
from itertools import count
from typing import Any
from urllib.parse import unquote_to_bytes

from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http, resource, server

from scalelite.api import replies
from scalelite.api.access_log import AccessLog
from scalelite.api.channel import NO_SNIFFING, SECURITY_HEADERS, STATUS_LINES, Channel
from scalelite.api.incoming import IncomingBody
from scalelite.api.replies import Reply, StreamedReply
from scalelite.api.streaming import stream
from scalelite.bbb.errors import BBBError
from scalelite.bbb.query import MalformedQuery
from scalelite.store.errors import StoreError

Handler = Callable[["Request"], Reply | Coroutine[Any, Any, Reply | StreamedReply]]
"""Answers a request, at once or after waiting. A BBBError it raises becomes that error's XML."""

Table = Mapping[bytes, Mapping[bytes, Handler]]
"""Path to method to handler: the routes that are answered without Klein's router."""

Receiver = Callable[["Request"], Handler | None]
"""Tells the handler that takes a request's body as it comes (`Request.incoming`); None where the body comes first."""

_CACHE_CONTROL = b"Cache-Control: max-age=0, private, must-revalidate\r\n"

_ABSOLUTE = re.compile(rb"https?://[^/]*")

_log = Logger()


class Request(server.Request):
    """A request. `raw_query` is the query string as it came; `note` what the access log tells of the outcome."""

    channel: Any
    content: Any
    raw_query = b""
    started = 0.0
    note: str | None = None
    #: The body, where the handler runs while it is still coming.
    incoming: IncomingBody | None = None
    _site: BalancerSite
    request_id = ""

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """The whole request is here: answer it from the table of hot routes, or leave it to Klein."""
        if self.channel.refused:
            # The end of a body that was too large came in the same segment.
            return
        if self.incoming is not None:
            self.channel.receiving = False
            self.incoming.end()
            return
        site: BalancerSite = self.channel.site
        if not self._headed(command, path, version):
            self.channel.refuse(replies.MALFORMED)
            return
        self.channel.begun = None
        self.content.seek(0, 0)
        methods = site.table.get(self.path) or site.table.get(self.plain_path())
        handler = methods.get(command) if methods is not None else None
        if handler is not None:
            self.handle(handler)
            return
        self.args = {}
        self.process()

    def _headed(self, command: bytes, path: bytes, version: bytes) -> bool:
        """Take what the request's head says; False for one that no answer can be right for."""
        if len(self.requestHeaders.getRawHeaders(b"Host") or ()) > 1:
            # RFC 9112, section 3.2: which of them was meant, nobody can know.
            return False
        self.started = time.perf_counter()
        self.method, self.uri, self.clientproto = command, path, version
        self.path, _, self.raw_query = path.partition(b"?")
        if path[:4] == b"http":
            # The absolute form, which every server must take (RFC 9112, section 3.2.2).
            self.path = _ABSOLUTE.sub(b"", self.path)
        return True

    def process(self) -> None:
        """Leave the request to Klein, but for targets that it would answer with a page of its own."""
        if self.path[:1] != b"/" or not self.method.isupper():
            # Methods know letter case (RFC 9110, section 9.1), which Klein's router does not.
            self.handle(lambda request: replies.UNSUPPORTED)
            return
        try:
            unquote_to_bytes(self.path).decode()
        except UnicodeDecodeError:
            self.handle(lambda request: replies.MALFORMED)
            return
        super().process()

    def getRequestHostname(self) -> bytes:
        """A fixed name: Klein needs one and fails on some that clients send. What they send is in `api.hosts`."""
        return b"localhost"

    def plain_path(self) -> bytes:
        """The path without doubled and trailing slashes: clients send both, real servers take both."""
        plain = self.path
        while b"//" in plain:
            plain = plain.replace(b"//", b"/")
        return plain.rstrip(b"/") or b"/"

    def handle(self, handler: Handler) -> defer.Deferred[None] | None:
        """Run `handler` and write its reply, whatever comes; a Deferred if it has to wait."""
        site: BalancerSite = self.channel.site
        self._site = site
        site.active += 1
        try:
            result = site.admit(self) or handler(self)
        except Exception:  # noqa: BLE001 - every failure is answered
            self._answered(Failure())
            return None
        if isinstance(result, Reply):
            self._answered(result)
            return None
        return defer.Deferred.fromCoroutine(result).addBoth(self._answered)

    def _answered(self, result: Reply | StreamedReply | Failure) -> defer.Deferred[None] | None:
        site: BalancerSite = self._site
        if isinstance(result, StreamedReply):
            return defer.Deferred.fromCoroutine(self._stream(result)).addBoth(self._streamed)
        reply = result if isinstance(result, Reply) else _error_reply(result, self)
        try:
            self.respond(reply)
        finally:
            site.request_done()
        return None

    def _streamed(self, result: Failure | None) -> None:
        self._site.request_done()
        if isinstance(result, Failure):
            _log.failure("an answer could not be sent", failure=result)

    def respond(self, reply: Reply) -> None:
        """Write the whole answer in one go and end the request; nothing if the client is gone."""
        if self._disconnected or self.finished:
            return
        if self.incoming is not None and not self.incoming.ended:
            self.code, self.sentLength = reply.status, len(reply.body)
            self.channel.receiving = False
            self.incoming.drop()
            self.channel.refuse(reply, self)
            return
        body = reply.body
        parts = self._head(reply, len(body))
        if self.method != b"HEAD" and reply.status not in (204, 304):
            parts.append(body)
        self.channel.transport.write(b"".join(parts))
        self.code = reply.status
        self.startedWriting = 1
        self.sentLength = len(body)
        self.finish()

    def _head(self, reply: Reply | StreamedReply, length: int | None) -> list[bytes]:
        """The parts of the status line and the headers; `length` None for an answer that comes in chunks."""
        channel = self.channel
        site: BalancerSite = channel.site
        self.request_id = site.next_request_id()
        chunked = length is None and self.clientproto == b"HTTP/1.1"
        parts = [
            STATUS_LINES[reply.status],
            site.date_header(),
            b"Content-Type: " if reply.content_type else b"", reply.content_type,
            b"\r\n" if reply.content_type else b"",
            b"Content-Length: %d\r\n" % length if length is not None
            else b"Transfer-Encoding: chunked\r\n" if chunked else b"",
            NO_SNIFFING if reply.framed else SECURITY_HEADERS,
            b"X-Request-Id: ", self.request_id.encode(),
            b"\r\nX-Runtime: ", b"%.6f" % (time.perf_counter() - self.started), b"\r\n",
        ]  # fmt: skip
        if reply.status in (204, 304):
            del parts[2:6]
        if reply.headers:
            for name, value in reply.headers:
                parts += (name, b": ", value, b"\r\n")
        if not any(name == b"Cache-Control" for name, _ in reply.headers):
            parts.append(_CACHE_CONTROL)
        if not channel.persistent or site.draining or (length is None and not chunked):
            channel.persistent = False
            parts.append(b"Connection: close\r\n")
        parts.append(b"\r\n")
        return parts

    async def _stream(self, reply: StreamedReply) -> None:
        try:
            if self._disconnected or self.finished:
                return
            self.channel.transport.write(b"".join(self._head(reply, reply.length)))
            self.code = reply.status
            self.startedWriting = 1
            if await stream(self, reply, self._site.clock, self._site.request_timeout):
                self.finish()
        finally:
            await reply.chunks.aclose()

    def gotLength(self, length: int | None) -> None:
        """The headers are here: hand the body to who takes it as it comes, or refuse at once one that is too large."""
        channel = self.channel
        receiver: Receiver | None = channel.site.receiver
        if receiver is not None and length != 0 and self._headed(channel._command, channel._path, channel._version):
            handler = receiver(self)
            if handler is not None:
                super().gotLength(0)
                self.incoming = IncomingBody(channel.transport, channel.site.clock)
                channel.receiving = True
                channel.begun = None
                self.handle(handler)
                return
        if length is not None and length > self.channel.site.max_body_size:
            self.channel.refuse(replies.TOO_LARGE)
        else:
            super().gotLength(length)

    def handleContentChunk(self, data: bytes) -> None:
        """Part of the body; one without declared length is refused once it has grown too large."""
        if self.channel.refused:
            return
        if self.incoming is not None:
            self.incoming.deliver(data)
            return
        super().handleContentChunk(data)
        if self.content.tell() > self.channel.site.max_body_size:
            self.channel.refuse(replies.TOO_LARGE)

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)
        if self.incoming is not None:
            self.incoming.lose()


def _error_reply(failure: Failure, request: Request) -> Reply:
    error = failure.value
    if isinstance(error, BBBError):
        request.note = error.message_key
        return replies.error_reply(error)
    if isinstance(error, MalformedQuery):
        return replies.MALFORMED
    if isinstance(error, StoreError):
        _log.error("the store failed a request: {error}", error=error)
        return replies.STORE_FAILED
    _log.failure("a request failed unexpectedly", failure=failure)
    return replies.UNEXPECTED


class BalancerSite(server.Site):
    """Serves the table of hot routes and, for the rest, Klein's resource.

    `receiver` finds the handlers that take bodies as they come. `admit` may refuse any request with a reply.
    `request_timeout` and `idle_timeout` in seconds: for a request to arrive, and for a kept connection to be used
    again.
    """

    protocol = Channel  # type: ignore[assignment]  # no HTTP/2: BBB's clients don't speak it
    requestFactory = Request

    def __init__(
        self,
        klein_resource: resource.Resource,
        table: Table,
        access_log: AccessLog,
        clock: IReactorTime,
        *,
        receiver: Receiver | None = None,
        admit: Callable[[Request], Reply | None] = lambda request: None,
        max_body_size: int,
        max_connections: int,
        request_timeout: float,
        idle_timeout: float,
    ) -> None:
        # Our own sweep replaces twisted.web's timer on each connection: it costs nothing per request.
        super().__init__(klein_resource, timeout=None, parsePOSTFormSubmission=False)
        self.table = table
        self.receiver = receiver
        self.admit = admit
        self.max_body_size = max_body_size
        self.max_connections = max_connections
        self.channels: set[Channel] = set()
        self.active = 0
        self.draining = False
        self._access_log = access_log
        self.clock = clock
        self.request_timeout = request_timeout
        self._idle_timeout = idle_timeout
        self._sweeper = LoopingCall(self._sweep)
        self._sweeper.clock = clock
        self._drained: defer.Deferred[None] | None = None
        self._emptied: defer.Deferred[None] | None = None
        self._ids = count(1)
        self._id_prefix = os.urandom(6).hex()
        self.now = clock.seconds()
        self._date = (0, b"")

    def startFactory(self) -> None:
        self._sweeper.start(1.0)

    def stopFactory(self) -> None:
        if self._sweeper.running:
            self._sweeper.stop()

    def log(self, request: http.Request) -> None:
        """Write one line into the access log."""
        if isinstance(request, Request):
            self._access_log.write(request, time.perf_counter() - request.started)

    def log_refusal(self, peer: Any, reply: Reply) -> None:
        """Write one line about something that never became a request."""
        self._access_log.write_refusal(getattr(peer, "host", "-"), reply.status, len(reply.body))

    def flush_log(self) -> None:
        """Write the access log's buffered lines."""
        self._access_log.flush()

    def next_request_id(self) -> str:
        """An id that no other request of this or another process has."""
        return f"{self._id_prefix}-{next(self._ids):x}"

    def date_header(self) -> bytes:
        """The Date header, made once a second."""
        second = int(time.time())
        if self._date[0] != second:
            self._date = (second, b"Date: " + http.datetimeToString(second) + b"\r\n")
        return self._date[1]

    def channel_gone(self, channel: Channel) -> None:
        """A client's connection is closed."""
        self.channels.discard(channel)
        if self._emptied is not None and not self.channels:
            emptied, self._emptied = self._emptied, None
            emptied.callback(None)

    def request_done(self) -> None:
        """A request has been answered."""
        self.active -= 1
        if self._drained is not None and not self.active:
            drained, self._drained = self._drained, None
            drained.callback(None)

    async def drain(self, seconds: float) -> bool:
        """Take no more requests; wait up to `seconds` for those under way. Whether all of them got their answer."""
        self.draining = True
        until = self.clock.seconds() + seconds
        for channel in list(self.channels):
            if not channel._handlingRequest and channel.begun is None:
                channel.loseConnection()
        if self.active:
            self._drained = defer.Deferred()
            try:
                await self._drained.addTimeout(seconds, self.clock)
            except defer.TimeoutError:
                self._drained = None
        all_answered = not self.active
        for channel in list(self.channels):
            channel.loseConnection()
        # An answer is written by the reactor's next turns, and a client may take its time to read it.
        if self.channels:
            self._emptied = defer.Deferred()
            try:
                await self._emptied.addTimeout(max(1.0, until - self.clock.seconds()), self.clock)
            except defer.TimeoutError:
                self._emptied = None
        return all_answered

    def _sweep(self) -> None:
        self.now = self.clock.seconds()
        for channel in list(self.channels):
            channel.sweep(self.now, self.request_timeout, self._idle_timeout)
