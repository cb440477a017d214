"""Changes of rows and files together: in threads that may wait, a few at once, each within a deadline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Connection
from twisted.internet.defer import Deferred, DeferredSemaphore, TimeoutError, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from scalelite.recordings.database import Database
from scalelite.recordings.storage import StorageError

#: Changes that are under way at once: each holds a connection meanwhile.
AT_ONCE: Final = 2
#: Seconds that one may take, waiting for its turn included.
PATIENCE: Final = 60.0

_log = Logger()


class FileWork:
    """Runs work that waits for files as well as for the database."""

    def __init__(self, reactor: Any, database: Database) -> None:
        self._reactor = reactor
        self._database = database
        self._turns = DeferredSemaphore(AT_ONCE)

    async def run(self, record_id: str, work: Callable[[Connection], None], done: Callable[[], None]) -> None:
        """Run `work` in a transaction, in its turn, in a thread of the reactor's own pool; then call `done`.

        Raises what `work` raises, and StorageError if it takes too long: what has begun by then is finished, `done`
        called after it, and what has not is left.
        """
        outcome: Deferred[None] = Deferred()
        turn = self._turns.run(lambda: self._in_turn(outcome, work))

        def land(result: Failure | None) -> None:
            done()
            if not outcome.called:
                outcome.callback(result)
            elif isinstance(result, Failure):
                _log.error("a change of {record_id} failed late: {error}", record_id=record_id, error=result.value)

        turn.addBoth(land)
        try:
            await outcome.addTimeout(PATIENCE, self._reactor)
        except TimeoutError:
            raise StorageError(f"the files of {record_id} were not changed within {PATIENCE:g} s") from None

    def _in_turn(self, outcome: Deferred[None], work: Callable[[Connection], None]) -> Deferred[None]:
        if outcome.called:
            return succeed(None)
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._database.run_here, work)
