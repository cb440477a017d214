"""The database: SQLAlchemy connections in threads of their own, so that no query ever holds up the reactor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool, QueuePool
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from scalelite.store.errors import StoreError, StoreUnavailable

T = TypeVar("T")


class DatabaseError(StoreError):
    """The database answered with an error."""


class DatabaseUnavailable(StoreUnavailable):
    """The database is down, did not answer within its deadline, or was lost on the way."""


class Database(Service):
    """Runs work on connections of `engine`, in a pool of threads as large as the engine's.

    As a service it starts and stops its threads.
    """

    def __init__(self, reactor: Any, engine: Engine, threads: int) -> None:
        self._reactor = reactor
        self.engine = engine
        self._threads = ThreadPool(0, threads, name="database")

    def startService(self) -> None:
        super().startService()
        self._threads.start()

    def stopService(self) -> Deferred[None] | None:
        super().stopService()
        # Work in progress is bounded by the connection's own time limits.
        stopped: Deferred[None] = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._threads.stop)
        return stopped.addCallback(lambda _: self.engine.dispose())

    async def run(self, work: Callable[[Connection], T]) -> T:
        """The result of `work`, called in a thread within a transaction that commits when it returns.

        Raises what `work` raises; errors of the database as DatabaseError or DatabaseUnavailable.
        """
        result: T = await deferToThreadPool(self._reactor, self._threads, self.run_here, work)
        return result

    def run_here(self, work: Callable[[Connection], T]) -> T:
        """`run`, in the thread that calls: for threads and processes that may wait."""
        try:
            with self.engine.begin() as connection:
                return work(connection)
        except SQLAlchemyError as error:
            raise translated(error) from error


def translated(error: SQLAlchemyError) -> StoreError:
    """Our error for SQLAlchemy's; its text holds neither statement nor parameters, which may be secret."""
    if isinstance(error, DBAPIError):
        reason = str(error.orig).strip() or type(error.orig).__name__
        lost = error.connection_invalidated or type(error.orig).__name__ in ("OperationalError", "InterfaceError")
        return DatabaseUnavailable(reason) if lost else DatabaseError(reason)
    if type(error).__name__ == "TimeoutError":
        return DatabaseUnavailable("no free connection to the database")
    return DatabaseError(str(error))


def open_engine(url: str, *, pool: int, timeout: float, prepare: bool = True) -> Engine:
    """An engine for an SQLAlchemy URL; nothing is connected yet.

    `pool` connections at most, checked before use; `timeout` in seconds bounds connecting, waiting for a free one,
    and each statement; `prepare` lets PostgreSQL prepare statements.
    """
    if url.startswith("sqlite"):
        engine = create_engine(
            url, poolclass=NullPool if ":memory:" not in url else None, connect_args={"timeout": timeout}
        )
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    milliseconds = int(timeout * 1000)
    arguments: dict[str, Any] = {
        "connect_timeout": max(1, round(timeout)),
        "options": f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds}",
    }
    if not prepare:
        arguments["prepare_threshold"] = None
    return create_engine(
        url,
        poolclass=QueuePool,
        pool_size=pool,
        max_overflow=0,
        pool_timeout=timeout,
        pool_pre_ping=True,
        pool_use_lifo=True,
        connect_args=arguments,
    )


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # pysqlite begins transactions by itself, and late; with this they begin where we say so.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # Immediate: a transaction that first reads and then writes would else fail with "database is locked".
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def probe(connection: Connection) -> None:
    """Ask for something that every connection can answer."""
    connection.execute(text("SELECT 1"))
