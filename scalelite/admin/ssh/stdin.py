"""Standard input of a session without a terminal: bytes that come when they come, read by lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred

from scalelite.admin.console import LONGEST_LINE
from scalelite.admin.table import Failed

#: Bytes that one session may read, at most.
LARGEST_INPUT: Final = 16 * 1024 * 1024


class Input:
    """Collects what comes in. `used` is told how many bytes have been read, so that more may come."""

    def __init__(self, used: Callable[[int], None]) -> None:
        self._used = used
        self._bytes = bytearray()
        self._searched = 0
        self._total = 0
        self._ended = False
        self._reader: Deferred[None] | None = None

    @property
    def waited_for(self) -> bool:
        """Whether somebody is waiting for a line."""
        return self._reader is not None

    def received(self, data: bytes) -> None:
        """More of it."""
        self._bytes += data
        self._wake()

    def end(self) -> None:
        """There is no more."""
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.callback(None)

    def _forget(self, _reader: Deferred[None]) -> None:
        self._reader = None

    async def read_line(self) -> str | None:
        """The next line without its end, None after the last one. Raises Failed for one that can't be used."""
        while True:
            end = self._bytes.find(b"\n", self._searched)
            if end >= 0 or len(self._bytes) > LONGEST_LINE or self._ended:
                return self._take(end)
            self._searched = len(self._bytes)
            self._reader = Deferred(self._forget)
            await self._reader

    def _take(self, end: int) -> str | None:
        count = end + 1 if end >= 0 else len(self._bytes)
        line = bytes(self._bytes[:count])
        del self._bytes[:count]
        self._searched = 0
        self._total += count
        self._used(count)
        if len(line) > LONGEST_LINE:
            raise Failed(f"A line of the input is longer than {LONGEST_LINE} bytes")
        if self._total > LARGEST_INPUT:
            raise Failed(f"The input is longer than {LARGEST_INPUT} bytes")
        if not line:
            return None
        try:
            return line.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise Failed("The input is not UTF-8") from None
