"""The database: SQLAlchemy connections in threads of their own, so that no query ever holds up the reactor."""

from __future__ import annotations

import socket
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, Generic, TypeVar

import psycopg
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from scalelite.recordings.engines import reading
from scalelite.recordings.fetching import Fetch, fetch
from scalelite.store.errors import StoreError, StoreUnavailable

T = TypeVar("T")
#: Work that tells which connection, SQLAlchemy's or a driver's, it uses; and None in the end.
_Work = Callable[[Callable[[Any], None]], T]

#: Calls that may wait for a thread. More would only wait until their deadline.
MOST_WAITING: Final = 256
#: Seconds beyond the deadline after which the connection of a call that is still in its thread is broken off.
BREAKING_OFF: Final = 1.0


class DatabaseError(StoreError):
    """The database answered with an error."""


class DatabaseUnavailable(StoreUnavailable):
    """The database is down, did not answer within its deadline, was lost on the way, or cannot be used as it is.

    Whether work that was under way has been committed is not known.
    """


class Database(Service):
    """Runs work on connections of `engine`, in a pool of threads as large as the engine's.

    `timeout`, in seconds, bounds each call unless it says otherwise: waiting for a thread and a connection, and the
    work. As a service it starts and stops its threads.

    It may be held: until `release`, work waits, or is refused at once where a reason was given.
    """

    def __init__(self, reactor: Any, engine: Engine, threads: int, timeout: float = 10.0) -> None:
        self._reactor = reactor
        self.engine = engine
        self._reader = reading(engine)
        #: Whether the database is known to be as the newest revision leaves it, tenants' recordings filled in.
        self.complete = False
        self._timeout = timeout
        self._most = threads + MOST_WAITING
        self._threads = thread_pool(threads, "database")
        self._calls: set[_Call[Any]] = set()
        self._refusal: str | None = None
        self._free = threading.Event()
        self._free.set()
        self._waiting: set[Deferred[None]] = set()

    def startService(self) -> None:
        super().startService()
        self._threads.start()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        self.hold("the program is stopping")
        # Work in progress has its deadline, after which its connection is broken off.
        stopped: Deferred[None] = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._threads.stop)
        return stopped.addCallback(lambda _: self.engine.dispose())

    def hold(self, reason: str | None = None) -> None:
        """Let no work begin until `release`: it waits, or is refused with DatabaseUnavailable and this reason."""
        self._refusal = reason
        self._free.clear()
        if reason is not None:
            self._wake()

    def release(self) -> None:
        """Let work begin."""
        self._refusal = None
        self._free.set()
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for deferred in waiting:
            deferred.callback(None)

    async def run(self, work: Callable[[Connection], T], *, deadline: float | None = None) -> T:
        """The result of `work`, called in a thread within a transaction that commits when it returns.

        `deadline`, in seconds, instead of the database's. Raises what `work` raises; errors of the database as
        DatabaseError or DatabaseUnavailable.
        """
        return await self._in_thread(partial(transact, self.engine, work), deadline)

    async def read(self, work: Callable[[Connection], T], *, deadline: float | None = None) -> T:
        """`run`, in a transaction that only reads, and sees one state of the database; it never waits for writers."""
        return await self._in_thread(partial(transact, self._reader, work), deadline)

    async def fetch(self, work: Callable[[Fetch], T], *, deadline: float | None = None) -> T:
        """`read`, on the driver's own connection."""
        return await self._in_thread(partial(_fetch, self.engine, work), deadline)

    def run_here(self, work: Callable[[Connection], T]) -> T:
        """`run`, in the thread that calls: for threads and processes that may wait. The work has no deadline.

        Its statements have.
        """
        return self._here(self.engine, work)

    def read_here(self, work: Callable[[Connection], T]) -> T:
        """`read`, in the thread that calls."""
        return self._here(self._reader, work)

    def _here(self, engine: Engine, work: Callable[[Connection], T]) -> T:
        # Not waited for by those that are refused anyway.
        if self._refusal is None:
            self._free.wait(self._timeout)
        self._demand_free()
        return transact(engine, work)

    def _demand_free(self) -> None:
        if not self._free.is_set():
            raise DatabaseUnavailable(self._refusal or "the database's tables have not been checked yet")

    async def _in_thread(self, work: _Work[T], deadline: float | None) -> T:
        if len(self._calls) + len(self._waiting) >= self._most:
            raise DatabaseUnavailable("too many calls wait for the database")
        limit = self._reactor.seconds() + (self._timeout if deadline is None else deadline)
        if not self._free.is_set() and self._refusal is None:
            await self._until_free(limit - self._reactor.seconds())
        self._demand_free()
        call = _Call(self._reactor, work)
        self._calls.add(call)
        # Until the thread has let go of it, and not only until its deadline.
        deferToThreadPool(self._reactor, self._threads, call.run).addBoth(self._over, call)
        return await call.result(limit - self._reactor.seconds())

    async def _until_free(self, seconds: float) -> None:
        waiting: Deferred[None] = Deferred()
        self._waiting.add(waiting)
        timer = self._reactor.callLater(seconds, self._give_up, waiting)
        await waiting
        if timer.active():
            timer.cancel()

    def _give_up(self, waiting: Deferred[None]) -> None:
        self._waiting.discard(waiting)
        waiting.callback(None)

    def _over(self, outcome: Any, call: _Call[Any]) -> None:
        self._calls.discard(call)
        call.over(outcome)


class _Call(Generic[T]):
    """One piece of work on its way through a thread. All but `run` is called in the reactor's thread."""

    def __init__(self, reactor: Any, work: _Work[T]) -> None:
        self._reactor = reactor
        self._work = work
        self._lock = threading.Lock()
        self._abandoned = False
        self._connection: Any = None
        self._result: Deferred[T] | None = None
        self._timer: Any = None

    def run(self) -> T:
        """Do the work, in the thread that calls."""
        if self._abandoned:
            raise DatabaseUnavailable("nobody waits for it any more")
        return self._work(self._holds)

    def _holds(self, connection: Any) -> None:
        with self._lock:
            if connection is not None and self._abandoned:
                raise DatabaseUnavailable("nobody waits for it any more")
            self._connection = connection

    async def result(self, seconds: float) -> T:
        """What it comes to. Raises DatabaseUnavailable after that time."""
        self._result = Deferred()
        self._timer = self._reactor.callLater(max(0.0, seconds), self._too_late)
        return await self._result

    def _too_late(self) -> None:
        with self._lock:
            self._abandoned = True
            began = self._connection is not None
        self._timer = self._reactor.callLater(BREAKING_OFF, self._break_off)
        waiting = "did not answer in time" if began else "had no free connection in time"
        self._answer(Failure(DatabaseUnavailable(f"the database {waiting}")))

    def _break_off(self) -> None:
        with self._lock:
            if self._connection is not None:
                break_off(self._connection)

    def over(self, outcome: Any) -> None:
        """The thread has let go of it."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._answer(outcome)

    def _answer(self, outcome: Any) -> None:
        waiting, self._result = self._result, None
        if waiting is not None:
            waiting.callback(outcome)


def transact(
    engine: Engine,
    work: Callable[[Connection], T],
    holds: Callable[[Any], None] = lambda connection: None,
) -> T:
    """The result of `work` in a transaction of `engine`. Raises as `Database.run` does.

    `holds` is told the connection before it is used, and None before it is given back.
    """
    try:
        with engine.connect() as connection:
            holds(connection)
            try:
                with connection.begin():
                    return work(connection)
            finally:
                holds(None)
    except (SQLAlchemyError, psycopg.Error, sqlite3.Error) as error:
        raise translated(error) from error


def _fetch(engine: Engine, work: Callable[[Fetch], T], holds: Callable[[Any], None]) -> T:
    try:
        return fetch(engine, work, holds)
    except (SQLAlchemyError, psycopg.Error, sqlite3.Error) as error:
        raise translated(error) from error


def break_off(connection: Any) -> None:
    """Make what another thread does on this connection, SQLAlchemy's or a driver's, fail at once."""
    driver: Any = connection.connection.dbapi_connection if isinstance(connection, Connection) else connection
    if isinstance(driver, sqlite3.Connection):
        driver.interrupt()
        return
    with suppress(psycopg.Error, OSError), socket.socket(fileno=socket.dup(driver.pgconn.socket)) as link:
        link.shutdown(socket.SHUT_RDWR)


def translated(error: Exception) -> StoreError:
    """Our error for SQLAlchemy's or a driver's, without statement and parameters, which may be secret."""
    if isinstance(error, PoolTimeout):
        return DatabaseUnavailable("no free connection to the database")
    original: BaseException | None = error
    lost = isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError, sqlite3.OperationalError))
    if isinstance(error, DBAPIError):
        original = error.orig
        lost = error.connection_invalidated or isinstance(error, (OperationalError, InterfaceError))
    elif isinstance(error, SQLAlchemyError):
        # Most often what follows from a lost connection, which was seen before.
        if isinstance(error.__context__, (SQLAlchemyError, psycopg.Error, sqlite3.Error)):
            return translated(error.__context__)
        return DatabaseError(type(error).__name__)
    if isinstance(original, sqlite3.OperationalError):
        # Faulty statements and missing tables have this class as well, and this code.
        lost = getattr(original, "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR
    if isinstance(original, psycopg.errors.ProgramLimitExceeded):
        # Class 54: a value that no index takes, a statement that is too complex. The driver counts it among the others.
        lost = False
    reason = _reason(original)
    return DatabaseUnavailable(reason) if lost else DatabaseError(reason)


def _reason(error: BaseException | None) -> str:
    # What follows the first line may quote values of the row. Where there was no answer, all lines are of the driver.
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    words = (primary or str(error)).split()
    return " ".join(words) or type(error).__name__


def thread_pool(threads: int, name: str) -> ThreadPool:
    """Up to so many threads, which do not keep a process from ending that could not stop them."""
    pool = ThreadPool(0, threads, name=name)
    pool.threadFactory = partial(threading.Thread, daemon=True)  # type: ignore[assignment]
    return pool


def probe(connection: Connection) -> None:
    """Ask for something that every connection can answer."""
    connection.execute(text("SELECT 1"))
