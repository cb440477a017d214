"""The database for callers that can't wait: a create, or a BBB server that reports."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from sqlalchemy import Connection
from twisted.internet.interfaces import IReactorTime

from scalelite.recordings.database import Database, DatabaseUnavailable

T = TypeVar("T")

PATIENCE: Final = 1.0
"""Seconds."""

REST: Final = 5.0
"""Seconds for which the database is not asked again after it was down, or too slow."""


class HurriedDatabase:
    """Asks the database briefly, and not at all for a while once it has failed.

    What took too long may have been carried out all the same.
    """

    def __init__(self, database: Database, clock: IReactorTime) -> None:
        self._database = database
        self._clock = clock
        self._rests_until = float("-inf")

    async def run(self, work: Callable[[Connection], T]) -> T:
        """As `Database.run`; DatabaseUnavailable after a second at most."""
        return await self._hurry(lambda: self._database.run(work, deadline=PATIENCE))

    async def read(self, work: Callable[[Connection], T]) -> T:
        """As `Database.read`; DatabaseUnavailable after a second at most."""
        return await self._hurry(lambda: self._database.read(work, deadline=PATIENCE))

    async def _hurry(self, ask: Callable[[], Awaitable[T]]) -> T:
        if self._clock.seconds() < self._rests_until:
            raise DatabaseUnavailable("the database has failed just now")
        try:
            return await ask()
        except DatabaseUnavailable:
            self._rests_until = self._clock.seconds() + REST
            raise
