"""Keeps the recordings from a database whose tables are not as they must be, and brings those about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from scalelite.recordings.database import Database, thread_pool
from scalelite.recordings.examination import UnsuitableDatabase
from scalelite.recordings.upgrade import Upgrade, found_in
from scalelite.store.errors import StoreError

#: Seconds before the second try, and at most before any other one.
FIRST_DELAY: Final = 0.5
MAX_DELAY: Final = 30.0

_log = Logger()


class SchemaService(Service):
    """Holds `database` until its tables are there; tries again, ever more slowly, as long as they are not.

    `upgrade` makes an upgrade, which is told what to call once the tables are there; None where another process, or
    the operator, does that.
    """

    def __init__(
        self, reactor: Any, database: Database, upgrade: Callable[[Callable[[], None]], Upgrade] | None
    ) -> None:
        self._reactor = reactor
        self._database = database
        self._make_upgrade = upgrade
        self._upgrade: Upgrade | None = None
        # A thread of its own: an upgrade may take minutes, and those of the database are for requests.
        self._threads = thread_pool(1, "schema")
        self._delay = FIRST_DELAY
        self._timer: Any = None
        self._trying: Deferred[None] | None = None
        self._told = ""
        #: Whether the tables are there, whatever else is lacking.
        self._usable = False

    def startService(self) -> None:
        super().startService()
        self._database.hold()
        self._threads.start()
        self._try()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    @property
    def working(self) -> bool:
        """Whether the tables are being looked at or made just now."""
        return self._trying is not None

    async def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        pool = self._reactor.getThreadPool()
        if self._upgrade is not None:
            await deferToThreadPool(self._reactor, pool, self._upgrade.cancel)
        if self._trying is not None:
            await self._trying
        await deferToThreadPool(self._reactor, pool, self._threads.stop)

    def _try(self) -> None:
        self._timer = None
        self._trying = Deferred.fromCoroutine(self._attempt())

    async def _attempt(self) -> None:
        problem: str | None
        try:
            problem = await deferToThreadPool(self._reactor, self._threads, self._work)
        except UnsuitableDatabase as error:
            self._usable = False
            problem = str(error)
        except StoreError as error:
            problem = str(error)
        except Exception:  # noqa: BLE001 - whatever it is, the next try may do better
            _log.failure("the database's tables could not be made")
            problem = "its tables could not be made"
        self._trying = self._upgrade = None
        if not self.running:
            return
        if problem is None:
            self._can_be_used()
            if not self._database.complete:
                # Somebody else will have to do the rest.
                self._timer = self._reactor.callLater(MAX_DELAY, self._try)
            return
        self._tell(problem)
        if not self._usable:
            self._database.hold(problem)
        self._timer = self._reactor.callLater(self._delay, self._try)
        self._delay = min(MAX_DELAY, 2 * self._delay)

    def _can_be_used(self) -> None:
        if self.running:
            self._usable = True
            self._database.release()

    def _is_complete(self) -> None:
        self._database.complete = True

    def _tell(self, problem: str) -> None:
        if problem == self._told:
            _log.debug("the database is still not as it should be: {problem}", problem=problem)
            return
        self._told = problem
        if self._usable:
            _log.error("the database could not be upgraded to its end: {problem}", problem=problem)
        else:
            _log.critical("RECORDINGS CANNOT BE USED: {problem}", problem=problem)

    def _work(self) -> str | None:
        """What is wrong with the tables, in words, after all that could be done; in a thread."""
        found = found_in(self._database.engine)
        if found.usable:
            self._reactor.callFromThread(self._can_be_used)
        if not found.current and self._make_upgrade is not None:
            self._upgrade = self._make_upgrade(lambda: self._reactor.callFromThread(self._can_be_used))
            found = self._upgrade.run()
        if found.current:
            self._reactor.callFromThread(self._is_complete)
        if found.usable:
            return None
        return f"the database is {found.text}; `scalelite db:upgrade` makes its tables"
