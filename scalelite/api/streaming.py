"""Sends an answer piece by piece, no faster than its client takes it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

from scalelite.api.replies import StreamedReply
from scalelite.store.errors import StoreError

_log = Logger()


class Stalled(Exception):
    """The client takes nothing more, though its connection stands."""


@implementer(IPushProducer)
class Pump:
    """Moves chunks into a channel; waits while the channel's buffer is full, up to `patience` seconds.

    What is not sent yet is one chunk, and what the channel buffers of it.
    """

    def __init__(self, channel: Any, clock: Any, patience: float) -> None:
        self._channel = channel
        self._clock = clock
        self._patience = patience
        # A client may still have to take the answer to its request before.
        self._paused = bool(channel._waitingForTransport)
        self._stopped = False
        self._waiting: Deferred[None] | None = None

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self._wake()

    def stopProducing(self) -> None:
        """The client is gone."""
        self._stopped = True
        self._wake()

    async def send(self, chunks: AsyncIterator[bytes], framed: Callable[[bytes], bytes]) -> int | None:
        """Send all chunks, each as `framed` says; how many bytes, or None if the client went away.

        Raises Stalled, and what `chunks` raises.
        """
        sent = 0
        self._channel.registerProducer(self, True)
        try:
            await self._room()
            async for chunk in chunks:
                if self._stopped:
                    return None
                if chunk:
                    self._channel.transport.write(framed(chunk))
                    sent += len(chunk)
                await self._room()
                if self._stopped:
                    return None
        finally:
            self._channel.unregisterProducer()
        return sent

    async def _room(self) -> None:
        while self._paused and not self._stopped:
            self._waiting = Deferred()
            try:
                await self._waiting.addTimeout(self._patience, self._clock)
            except TimeoutError:
                raise Stalled from None
            finally:
                self._waiting = None

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)


async def stream(request: Any, reply: StreamedReply, clock: Any, patience: float) -> bool:
    """Send the body of a reply whose head is sent; whether the request can be finished.

    What goes wrong on the way can be told to the client only by breaking the connection.
    """
    if request.method == b"HEAD":
        return True
    channel = request.channel
    chunked = reply.length is None and request.clientproto == b"HTTP/1.1"
    try:
        sent = await Pump(channel, clock, patience).send(reply.chunks, _as_chunk if chunked else _as_is)
    except Stalled:
        request.note = "stalled"
        channel.transport.abortConnection()
        return False
    except Exception as error:  # noqa: BLE001
        request.note = "broken off"
        if isinstance(error, StoreError):
            _log.error("the store failed within an answer: {error}", error=error)
        else:
            _log.failure("an answer broke off unexpectedly")
        channel.transport.abortConnection()
        return False
    if sent is None or request._disconnected:
        return False
    request.sentLength = sent
    if chunked:
        channel.transport.write(b"0\r\n\r\n")
    return True


def _as_chunk(data: bytes) -> bytes:
    """HTTP's chunked coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def _as_is(data: bytes) -> bytes:
    """For answers whose end is told otherwise: by Content-Length, or by closing."""
    return data
