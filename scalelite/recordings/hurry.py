"""The database for callers that can't wait: a create, or a BBB server that reports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from sqlalchemy import Connection
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from scalelite.recordings.database import Database, DatabaseUnavailable

T = TypeVar("T")

PATIENCE: Final = 1.0
"""Seconds."""

REST: Final = 5.0
"""Seconds for which the database is not asked again after it was down, or too slow."""


class HurriedDatabase:
    """Asks the database briefly, and not at all for a while once it has failed: no thread waits for it in vain.

    What took too long may still be carried out later.
    """

    _log = Logger()

    def __init__(self, database: Database, clock: IReactorTime) -> None:
        self._database = database
        self._clock = clock
        self._rests_until = float("-inf")

    async def run(self, work: Callable[[Connection], T]) -> T:
        """As `Database.run`; DatabaseUnavailable after a second at most."""
        if self._clock.seconds() < self._rests_until:
            raise DatabaseUnavailable("the database has failed just now")
        running: Deferred[T] = Deferred.fromCoroutine(self._database.run(work))
        waiting: Deferred[T] = Deferred()
        # `running` itself is not cancelled: its thread goes on, and whatever comes of it is heard here.
        running.addCallbacks(
            lambda result: None if waiting.called else waiting.callback(result),
            lambda failure: self._late(failure) if waiting.called else waiting.errback(failure),
        )
        try:
            return await waiting.addTimeout(PATIENCE, self._clock)
        except (TimeoutError, DatabaseUnavailable) as error:
            self._rests_until = self._clock.seconds() + REST
            if isinstance(error, DatabaseUnavailable):
                raise
            raise DatabaseUnavailable(f"no answer of the database within {PATIENCE:g} s") from None

    def _late(self, failure: object) -> None:
        self._log.warn("the database failed late: {error}", error=str(getattr(failure, "value", failure)))
