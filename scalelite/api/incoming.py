"""A body that is taken as it comes in, no faster than it is used, and never held as a whole."""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.defer import Deferred, TimeoutError

HELD: Final = 256 * 1024
"""Bytes that may wait; then nothing more is read from the client. What is read at once comes on top."""


class BodyLost(Exception):
    """The client went away before the body's end."""


class BodyStalled(Exception):
    """The client sends nothing more, though its connection stands."""


class IncomingBody:
    """The pieces of one body. `transport` can be paused."""

    def __init__(self, transport: Any, clock: Any) -> None:
        self._transport = transport
        self._clock = clock
        self._pieces: list[bytes] = []
        self._size = 0
        self._paused = False
        self._lost = False
        self._dropped = False
        self._waiting: Deferred[None] | None = None
        #: Whether all of it has come.
        self.ended = False

    def deliver(self, data: bytes) -> None:
        """A piece has come."""
        if self._dropped:
            return
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= HELD and not self._paused:
            self._paused = True
            self._transport.pauseProducing()
        self._wake()

    def end(self) -> None:
        """All has come."""
        self.ended = True
        self._wake()

    def lose(self) -> None:
        """The client is gone."""
        self._lost = True
        self._wake()

    def drop(self) -> None:
        """Nobody wants the rest: it is to be thrown away as it comes."""
        self._dropped = True
        self._take()

    async def read(self, patience: float) -> bytes:
        """All that waits; b"" after the end. Raises BodyLost, and BodyStalled after `patience` seconds without a byte.

        What came before a loss is handed out first.
        """
        while not self._pieces and not self.ended:
            if self._lost:
                raise BodyLost
            self._waiting = Deferred()
            try:
                await self._waiting.addTimeout(patience, self._clock)
            except TimeoutError:
                raise BodyStalled from None
            finally:
                self._waiting = None
        return self._take()

    def _take(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        if self._paused:
            self._paused = False
            if not self._lost:
                self._transport.resumeProducing()
        return data

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)
