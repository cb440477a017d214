"""How the database is connected to: SQLAlchemy engines for PostgreSQL and SQLite, their limits and their checks."""

from __future__ import annotations

import select
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import psycopg
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.pool import QueuePool

from scalelite.recordings.fetching import LIMITS
from scalelite.recordings.url import connect_arguments, engine_url
from scalelite.settings.database_url import read_database_url

#: What is read in one transaction belongs together, however many queries it takes.
_POSTGRESQL_READS: Final[Mapping[str, Any]] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
_SQLITE_READS: Final[Mapping[str, Any]] = {"reads": True}
#: Seconds for which an idle connection counts as still there unless it was closed. Routers forget later than that.
TRUSTED: Final = 30.0
_GIVEN_BACK: Final = "given back"


def is_sqlite(engine: Engine) -> bool:
    """Whether it is SQLite, and not PostgreSQL."""
    return engine.dialect.name == "sqlite"


def reading(engine: Engine) -> Engine:
    """The same engine, for transactions that only read."""
    return engine.execution_options(**(_SQLITE_READS if is_sqlite(engine) else _POSTGRESQL_READS))


def open_engine(url: str, *, pool: int, timeout: float, prepare: bool = True) -> Engine:
    """An engine for a `DATABASE_URL`; nothing is connected yet. Raises Malformed.

    `pool` connections at most, checked before use (a moment after the last one, only whether they were closed);
    `timeout` in seconds bounds connecting, waiting for a free one, and each statement; `prepare` lets PostgreSQL
    prepare statements.
    """
    parsed = read_database_url(url)
    options: dict[str, Any] = {
        "poolclass": QueuePool,
        "pool_size": pool,
        "max_overflow": 0,
        "pool_timeout": timeout,
        "pool_use_lifo": True,
    }
    if parsed.engine == "sqlite":
        engine = create_engine(
            engine_url(parsed), connect_args={"timeout": timeout, "check_same_thread": False}, **options
        )
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    arguments = connect_arguments(parsed, timeout)
    milliseconds = int(timeout * 1000)
    # Compiling a statement takes PostgreSQL longer than running one of ours does.
    limits = {"statement_timeout": milliseconds, "lock_timeout": milliseconds, "jit": "off"}
    pooled = not (prepare and parsed.prepare)
    if pooled:
        arguments["prepare_threshold"] = None
    else:
        stated = " ".join(f"-c {name}={value}" for name, value in limits.items())
        arguments["options"] = f"{arguments.get('options', '')} {stated}".strip()
    if pooled:
        # A pooler between us and PostgreSQL takes no options, and hands what is set on to others.
        stated = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in limits.items())
        options["execution_options"] = {LIMITS: f"SELECT {stated}"}
    engine = create_engine(engine_url(parsed), connect_args=arguments, **options)
    event.listen(engine, "checkin", _note_time)
    event.listen(engine, "checkout", partial(_check, engine))
    if pooled:
        event.listen(engine, "begin", _limit_transaction)
    return engine


def _limit_transaction(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options()[LIMITS])


def _note_time(_driver: Any, record: Any) -> None:
    record.info[_GIVEN_BACK] = time.monotonic()


def _check(engine: Engine, driver: Any, record: Any, _pooled: Any) -> None:
    """Let a connection that is lost be made again; all others are suspected as well."""
    given_back = record.info.get(_GIVEN_BACK)
    if given_back is None:
        return
    if time.monotonic() - given_back < TRUSTED:
        # A server that ends says so. What is there to be read may also be a notice.
        poll = select.poll()
        poll.register(driver.pgconn.socket, select.POLLIN)
        if not poll.poll(0):
            return
    try:
        engine.dialect.do_ping(driver)
    except psycopg.Error as error:
        raise InvalidatePoolError from error


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # pysqlite begins transactions by itself, and late; with this they begin where we say so.
    connection.isolation_level = None


def _begin_sqlite(connection: Connection) -> None:
    # Immediate: a transaction that first reads and then writes would else fail with "database is locked".
    reads = connection.get_execution_options().get("reads")
    connection.exec_driver_sql(f"PRAGMA query_only = {'ON' if reads else 'OFF'}")
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
