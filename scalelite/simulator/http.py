"""A small HTTP/1.1 server that can also misbehave: it hands out the bare connection."""

from __future__ import annotations

from collections.abc import Callable
from http.client import responses as REASONS
from typing import Protocol as Shape

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime, ITCPTransport, ITransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

__all__ = ["Connection", "Request", "Response", "Site", "head_of"]

MAX_REQUEST_LINE = 8192
"""nginx's `large_client_header_buffers`: a longer request line is answered 414."""
MAX_HEAD = 65536
MAX_BODY = 64 * 1024 * 1024


class BadRequest(Exception):
    """The peer does not speak HTTP, or too much of it; the argument is the status to answer."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@attrs.define(eq=False)
class Request:
    """One request. `path` and `query` are raw; header names are lower case."""

    method: str
    target: bytes
    path: str
    query: bytes
    headers: dict[bytes, bytes]
    body: bytes = b""

    @property
    def media_type(self) -> str:
        """The content type without its parameters, in lower case."""
        return self.headers.get(b"content-type", b"").partition(b";")[0].strip().decode("latin-1").lower()


@attrs.define(eq=False)
class Response:
    """One answer. `headers` is complete but for Server, Content-Type, Content-Length and Connection.

    `verdict` is what goes into the log of requests.
    """

    body: bytes = b""
    status: int = 200
    content_type: str = "text/xml;charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()
    verdict: str = "ok"


class Site(Shape):
    """What answers the requests of a listening port."""

    def connected(self, connection: Connection) -> None:
        """A peer has connected."""

    def disconnected(self, connection: Connection) -> None:
        """A peer is gone."""

    def handle(self, connection: Connection, request: Request) -> None:
        """A request is complete: `connection.send` an answer, now or later."""


def head_of(response: Response, *, length: int | None = None, close: bool = False) -> bytes:
    """Status line and headers; `length` None leaves out Content-Length."""
    lines = [f"HTTP/1.1 {response.status} {REASONS.get(response.status, 'Unknown')}\r\nServer: nginx\r\n"]
    if response.content_type:
        lines.append(f"Content-Type: {response.content_type}\r\n")
    lines += [f"{name}: {value}\r\n" for name, value in response.headers]
    if length is not None:
        lines.append(f"Content-Length: {length}\r\n")
    lines.append("Connection: close\r\n\r\n" if close else "\r\n")
    return "".join(lines).encode("utf-8")


class Connection(Protocol):
    """One peer. Requests are answered one after the other, pipelined ones too."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.served = 0
        self.closing = False
        self.gone = False
        self.pending: IDelayedCall | None = None
        self._head_only = False
        self._buffer = bytearray()
        self._busy = False
        self._advancing = False
        self._request: Request | None = None
        self._need = 0

    def _tcp(self) -> ITCPTransport:
        transport: ITransport | None = self.transport
        assert transport is not None
        return transport  # type: ignore[return-value]

    @property
    def peer(self) -> str:
        """The address of the peer, without port; empty if it has none."""
        return str(getattr(self._tcp().getPeer(), "host", ""))

    def connectionMade(self) -> None:
        """The transport is there."""
        self._tcp().setTcpNoDelay(True)
        self.site.connected(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The peer went, or was sent, away: what was still to be sent is dropped."""
        self.gone = True
        self.cancel_pending()
        self.site.disconnected(self)

    def cancel_pending(self) -> None:
        """Drop an answer that was going to be sent later."""
        if self.pending is not None and self.pending.active():
            self.pending.cancel()
        self.pending = None

    def later(self, clock: IReactorTime, seconds: float, function: Callable[..., object], *args: object) -> None:
        """Do something for this peer in `seconds`, if it is still there then."""
        self.cancel_pending()
        self.pending = clock.callLater(seconds, function, *args)

    def abort(self) -> None:
        """Send the peer a TCP reset."""
        if not self.gone:
            self._tcp().abortConnection()

    def stop_reading(self) -> None:
        """Leave what the peer sends in the kernel, for ever."""
        self._busy = True
        self._tcp().pauseProducing()  # type: ignore[attr-defined]

    def write(self, data: bytes) -> None:
        """Raw bytes to the peer, if it is still there."""
        if not self.gone:
            self._tcp().write(data)

    def finish(self, *, close: bool = False) -> None:
        """The answer is out: go on with the next request, or close."""
        if close or self.closing:
            if not self.gone:
                self._tcp().loseConnection()
            return
        self._busy = False
        if not self._advancing:
            self._advance()

    def send(self, response: Response) -> None:
        """Send a whole answer."""
        body = response.body
        head = head_of(response, length=len(body), close=self.closing)
        self.write(head if self._head_only else head + body)
        self.finish()

    def dataReceived(self, data: bytes) -> None:
        """Bytes from the peer."""
        self._buffer += data
        if not self._busy and not self._advancing:
            self._advance()

    def _advance(self) -> None:
        self._advancing = True
        try:
            while not self._busy and not self.gone and self._buffer:
                request = self._take()
                if request is None:
                    return
                self._busy = True
                self.served += 1
                self.site.handle(self, request)
        except BadRequest as error:
            self.closing = True
            page = f"<html>\r\n<head><title>{error.status} {REASONS[error.status]}</title></head></html>\r\n"
            self.send(Response(page.encode(), error.status, "text/html"))
        finally:
            self._advancing = False

    def _take(self) -> Request | None:
        request = self._request
        buffer = self._buffer
        if request is None:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(buffer) > MAX_HEAD:
                    raise BadRequest(431)
                return None
            request = self._parse_head(bytes(buffer[:end]))
            del buffer[: end + 4]
            if self._need and request.headers.get(b"expect", b"").lower() == b"100-continue":
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._need < 0:
            body = self._dechunk()
            if body is None:
                self._request = request
                return None
            request.body = body
        elif self._need:
            if len(buffer) < self._need:
                self._request = request
                return None
            request.body = bytes(buffer[: self._need])
            del buffer[: self._need]
        self._request = None
        self._need = 0
        return request

    def _parse_head(self, head: bytes) -> Request:
        lines = head.split(b"\r\n")
        if len(lines[0]) > MAX_REQUEST_LINE:
            raise BadRequest(414)
        words = lines[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            raise BadRequest(400)
        headers: dict[bytes, bytes] = {}
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        path, _, query = words[1].partition(b"?")
        wish = headers.get(b"connection", b"").lower()
        self.closing = wish == b"close" or (words[2] == b"HTTP/1.0" and wish != b"keep-alive")
        self._need = 0
        if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
            self._need = -1
        elif b"content-length" in headers:
            if not headers[b"content-length"].isdigit():
                raise BadRequest(400)
            self._need = int(headers[b"content-length"])
            if self._need > MAX_BODY:
                raise BadRequest(413)
        method = words[0].decode("latin-1")
        self._head_only = method == "HEAD"
        return Request(method, words[1], path.decode("latin-1"), query, headers)

    def _dechunk(self) -> bytes | None:
        chunks = bytearray()
        at = 0
        while True:
            line_end = self._buffer.find(b"\r\n", at)
            if line_end < 0:
                break
            try:
                size = int(bytes(self._buffer[at:line_end]).partition(b";")[0], 16)
            except ValueError as error:
                raise BadRequest(400) from error
            if size < 0 or len(chunks) + size > MAX_BODY:
                raise BadRequest(413)
            start = line_end + 2
            if len(self._buffer) < start + size + 2:
                break
            chunks += self._buffer[start : start + size]
            at = start + size + 2
            if size == 0:
                del self._buffer[:at]
                return bytes(chunks)
        if len(self._buffer) > MAX_BODY + MAX_HEAD:
            raise BadRequest(413)
        return None
