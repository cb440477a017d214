"""How many sessions there may be at once."""

from __future__ import annotations

from collections import deque
from typing import Final

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime

#: Seconds for which a session waits for its turn; most commands take far less.
PATIENCE: Final = 10.0


class NoneFree(Exception):
    """There are as many sessions as there may be; `args[0]` is their number."""


class Slots:
    """A number of places, given in the order in which they are asked for."""

    def __init__(self, clock: IReactorTime, count: int) -> None:
        self._clock = clock
        self._count = count
        self._taken = 0
        self._waiting: deque[Deferred[None]] = deque()

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for a place."""
        return bool(self._waiting)

    async def take(self) -> None:
        """Take a place, once there is one. Raises NoneFree if none comes free in time."""
        if self._taken < self._count:
            self._taken += 1
            return
        if len(self._waiting) >= 5 * self._count:
            raise NoneFree(self._count)
        turn: Deferred[None] = Deferred(self._give_up)
        self._waiting.append(turn)
        try:
            await turn.addTimeout(PATIENCE, self._clock)
        except TimeoutError:
            raise NoneFree(self._count) from None

    def _give_up(self, turn: Deferred[None]) -> None:
        self._waiting.remove(turn)

    def free(self) -> None:
        """Give a place back, for whoever waits longest."""
        if self._waiting:
            self._waiting.popleft().callback(None)
        else:
            self._taken -= 1
