"""The short way from the database to rows: a driver's own connection, in as few round trips as may be.

SQLAlchemy's connections, with their transactions and rows, cost several times what small queries do.
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import psycopg
from sqlalchemy import Connection, Engine

T = TypeVar("T")
Row = tuple[Any, ...]
#: Text and parameters: `%s` on PostgreSQL, `?` on SQLite.
Statement = tuple[str, Sequence[Any]]

#: An engine's option: the statement that limits each transaction, where a pooler hands connections on.
LIMITS: Final = "scalelite_limits"
_SNAPSHOT: Final = b"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"


class Fetch(ABC):
    """Statements within one transaction. They raise what the driver raises."""

    #: Whether it is SQLite, and not PostgreSQL.
    sqlite: bool

    def rows(self, statement: str, params: Sequence[Any]) -> list[Row]:
        """The rows that a statement gives."""
        (found,) = self.all((statement, params))
        return found

    @abstractmethod
    def all(self, *statements: Statement, last: bool = False) -> list[list[Row]]:
        """The rows that each of several statements gives; `last`: the transaction may end with them."""


class _SQLiteFetch(Fetch):
    sqlite = True

    def __init__(self, driver: sqlite3.Connection) -> None:
        self._driver = driver

    def all(self, *statements: Statement, last: bool = False) -> list[list[Row]]:
        return [self._driver.execute(text, tuple(params)).fetchall() for text, params in statements]


class _PostgreSQLFetch(Fetch):
    sqlite = False

    def __init__(
        self,
        driver: psycopg.Connection[Any],
        before: Sequence[bytes] = (),
        *,
        at_once: bool = True,
        ends: bool = True,
    ) -> None:
        self._driver = driver
        self._before = before
        self._at_once = at_once
        self._ends = ends

    def all(self, *statements: Statement, last: bool = False) -> list[list[Row]]:
        if not self._at_once:
            return [cursor.fetchall() for cursor in self._sent(statements)]
        # What is sent in a pipeline needs one round trip, with all that begins the transaction and ends it.
        with self._driver.pipeline():
            cursors = self._sent(statements)
            if last and self._ends:
                self._driver.commit()
            return [cursor.fetchall() for cursor in cursors]

    def _sent(self, statements: Sequence[Statement]) -> list[psycopg.Cursor[Any]]:
        before, self._before = self._before, ()
        for statement in before:
            self._driver.execute(statement)
        return [self._driver.execute(text.encode(), params) for text, params in statements]


def fetching(connection: Connection) -> Fetch:
    """Statements within the transaction that this connection is in; they do not end it."""
    driver: Any = connection.connection.dbapi_connection
    return _SQLiteFetch(driver) if isinstance(driver, sqlite3.Connection) else _PostgreSQLFetch(driver, ends=False)


def fetch(engine: Engine, work: Callable[[Fetch], T], holds: Callable[[Any], None] = lambda driver: None) -> T:
    """The result of `work`, called in a transaction that only reads, and sees one state of the database.

    `holds` is told the driver's connection before it is used, and None before it is given back. Raises what the driver
    or the pool raises.
    """
    pooled = engine.raw_connection()
    try:
        driver: Any = pooled.dbapi_connection
        holds(driver)
        try:
            with _transaction(engine, driver) as begun:
                return work(begun)
        finally:
            holds(None)
    finally:
        # Ends a PostgreSQL transaction as well, and finds out whether the connection is lost.
        pooled.close()


@contextmanager
def _transaction(engine: Engine, driver: Any) -> Iterator[Fetch]:
    if isinstance(driver, sqlite3.Connection):
        driver.execute("PRAGMA query_only = ON")
        driver.execute("BEGIN")
        yield _SQLiteFetch(driver)
        return
    limits = engine.get_execution_options().get(LIMITS)
    # A pooler may not know pipelines, and takes no options for its connections.
    before = (_SNAPSHOT,) if limits is None else (_SNAPSHOT, limits)
    yield _PostgreSQLFetch(driver, before, at_once=limits is None and psycopg.Pipeline.is_supported())
