"""One client's connection: what twisted.web does with it, with our refusals and our care for slow clients."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web import http

from scalelite.api import replies
from scalelite.api.replies import Reply

if TYPE_CHECKING:
    from scalelite.api.site import BalancerSite, Request

MAX_LINE = 128 * 1024
"""Bytes of a request line or header: queries of create carry whole welcome texts."""

STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
NO_SNIFFING = b"X-Content-Type-Options: nosniff\r\n"
SECURITY_HEADERS = NO_SNIFFING + b"X-Frame-Options: SAMEORIGIN\r\n"


class Channel(http.HTTPChannel):
    """One client's connection. The site's sweep ends it when its client is too slow."""

    site: BalancerSite
    transport: Any
    MAX_LENGTH = MAX_LINE
    totalHeadersSize = MAX_LINE
    refused = False
    #: Whether a handler takes the body that is coming: it looks to the client's pace itself.
    receiving = False
    #: When the first byte of a request came that is not complete yet.
    begun: float | None = None
    #: When the connection was last idle.
    idle_since = 0.0

    def connectionMade(self) -> None:
        site: BalancerSite = self.site
        super().connectionMade()
        self.idle_since = site.now
        if len(site.channels) >= site.max_connections or site.draining:
            self.transport.abortConnection()
            return
        site.channels.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.site.channel_gone(self)
        super().connectionLost(reason)

    def dataReceived(self, data: bytes) -> None:
        if self.refused:
            return
        if self.begun is None and not self._handlingRequest and not self.receiving:
            self.begun = self.site.now
        super().dataReceived(data)

    def requestDone(self, request: Request) -> None:
        self.idle_since = self.site.now
        super().requestDone(request)

    def lineLengthExceeded(self, line: bytes) -> None:
        self.refuse(replies.URI_TOO_LONG)

    def _respondToBadRequestAndDisconnect(self) -> None:
        # twisted.web's own answer is bare text; every answer of ours is BBB's XML.
        self.refuse(replies.URI_TOO_LONG if self._receivedHeaderSize > self.totalHeadersSize else replies.MALFORMED)

    def _send100Continue(self) -> None:
        if not self.refused:
            super()._send100Continue()

    def refuse(self, reply: Reply, request: Request | None = None) -> None:
        """Answer before the end of a request, and take no more: what the client still sends is thrown away.

        `request` is told in the access log, where there is one already.
        """
        if self.refused:
            return
        self.refused = True
        self.persistent = False
        self.begun = self.site.now
        head = (
            b"%b%bContent-Type: %b\r\nContent-Length: %d\r\n%b%bConnection: close\r\n\r\n"
            % (
                STATUS_LINES[reply.status], self.site.date_header(), reply.content_type, len(reply.body),
                SECURITY_HEADERS, b"".join(b"%b: %b\r\n" % header for header in reply.headers),
            )
        )  # fmt: skip
        self.transport.write(head + reply.body)
        if request is None:
            self.site.log_refusal(self.transport.getPeer(), reply)
        else:
            self.site.log(request)
        # Closing now would reset the connection while the client still sends, and lose our answer with it.
        self.transport.loseWriteConnection()
        self.clearLineBuffer()

    def sweep(self, now: float, request_timeout: float, idle_timeout: float) -> None:
        """Close the connection if its client has been too slow, in seconds, with a request or with the next one."""
        if (self.requests and self._handlingRequest and not self.refused) or self.receiving:
            return
        if self.begun is not None:
            if now - self.begun > request_timeout:
                self.transport.abortConnection()
        elif now - self.idle_since > idle_timeout + request_timeout:
            # Asked to close, but the client does not take what was still to be sent.
            self.transport.abortConnection()
        elif now - self.idle_since > idle_timeout:
            self.loseConnection()
