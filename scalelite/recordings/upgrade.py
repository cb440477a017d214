"""Bringing a database to the present tables: made where it is empty, adopted in place where it is Scalelite's.

Several processes may try at once: one works, the others wait for it. Whatever is broken off begins again.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import psycopg
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from scalelite.recordings.database import DatabaseUnavailable, break_off, transact, translated
from scalelite.recordings.engines import is_sqlite, open_engine, reading
from scalelite.recordings.examination import HEAD, KEEPING, REVISIONS, USABLE, Found, examine

#: PostgreSQL's advisory lock of whoever upgrades; any number that nobody else takes.
LOCK: Final = 0x5CA1E117E
#: Seconds between two looks at whether the lock is free.
LOOK: Final = 0.2
#: Seconds that PostgreSQL has to begin the cancelling of a statement.
CANCEL: Final = 3.0

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
# Alembic keeps what is under way in module globals.
_one_at_a_time: Final = threading.Lock()


class UpgradeCancelled(DatabaseUnavailable):
    """The upgrade was cancelled; what it has not done is left for the next one."""


def found_in(engine: Engine) -> Found:
    """What the database is. Raises UnsuitableDatabase, DatabaseError, DatabaseUnavailable."""
    return transact(reading(engine), examine)


class Upgrade:
    """One upgrade of the database at `url`, a `DATABASE_URL`. It blocks, and is for a thread or process of its own.

    `tell` is told each step in words. `usable` is called once all tables are there, before the indexes are built, which
    may take minutes. `timeout`, in seconds, bounds connecting; the rest takes what it takes, and `cancel` ends it.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float,
        tell: Callable[[str], None] = lambda text: None,
        usable: Callable[[], None] = lambda: None,
    ) -> None:
        self._url = url
        self._timeout = timeout
        self._tell = tell
        self._usable = usable
        self._lock = threading.Lock()
        self._cancelled = False
        self._connection: Connection | None = None

    def run(self) -> Found:
        """Upgrade it; what it is in the end.

        Raises UnsuitableDatabase for one that must not be touched, DatabaseError, DatabaseUnavailable.
        """
        engine = open_engine(self._url, pool=1, timeout=self._timeout)
        try:
            found = found_in(engine)
            if not found.current:
                found = self._upgrade_sqlite(engine) if is_sqlite(engine) else self._upgrade_postgresql(engine)
            self._usable()
            return found
        except (SQLAlchemyError, psycopg.Error, sqlite3.Error) as error:
            self._demand_wanted()
            raise translated(error) from error
        finally:
            # Closes the connection, and gives the lock back with it.
            engine.dispose()

    def cancel(self) -> None:
        """End it soon, from another thread."""
        with self._lock:
            self._cancelled = True
            if self._connection is None:
                return
            driver: Any = self._connection.connection.dbapi_connection
            if isinstance(driver, psycopg.Connection):
                # To break off the connection alone would let PostgreSQL work on.
                with suppress(psycopg.Error):
                    driver.cancel_safe(timeout=CANCEL)
            break_off(self._connection)

    def _demand_wanted(self) -> None:
        if self._cancelled:
            raise UpgradeCancelled("the upgrade was cancelled")

    @contextmanager
    def _connected(self, engine: Engine) -> Iterator[Connection]:
        with engine.connect() as connection:
            with self._lock:
                self._demand_wanted()
                self._connection = connection
            try:
                yield connection
            finally:
                with self._lock:
                    self._connection = None

    def _upgrade_sqlite(self, engine: Engine) -> Found:
        self._allow_readers(engine)
        # One transaction for all: it keeps others out, and leaves nothing half done.
        with self._connected(engine) as connection, connection.begin():
            found = self._begin(connection)
            if not found.current:
                self._migrate(connection, HEAD, again=not found.kept)
            return examine(connection)

    def _allow_readers(self, engine: Engine) -> None:
        """Let reads and a write go on at the same time; it is kept in the file, and cannot be part of a transaction."""
        limit = time.monotonic() + self._timeout
        while True:
            with self._connected(engine) as connection:
                driver: Any = connection.connection.dbapi_connection
                try:
                    driver.execute("PRAGMA journal_mode = WAL")
                    return
                except sqlite3.OperationalError:
                    # Whoever else opens the file for the first time may be doing the same.
                    if time.monotonic() > limit:
                        raise
            time.sleep(LOOK)

    def _upgrade_postgresql(self, engine: Engine) -> Found:
        with self._connected(engine) as connection:
            self._take_lock(connection)
            found = self._begin(connection)
            connection.commit()
            if not found.usable:
                self._migrate(connection, USABLE)
            self._usable()
            if not found.current:
                self._tell("building indexes; recordings can be used meanwhile")
                self._migrate(connection, HEAD, again=not found.kept)
            found = examine(connection)
            connection.commit()
            return found

    def _take_lock(self, connection: Connection) -> None:
        told = False
        while True:
            self._demand_wanted()
            # Never a statement that waits: its snapshot would be waited for by the index that the other one builds.
            if connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": LOCK}):
                break
            usable = examine(connection).usable
            connection.commit()
            if not told:
                self._tell("another instance is upgrading the database; waiting for it")
                told = True
            if usable:
                self._usable()
            time.sleep(LOOK)
        # An index takes its time, and waits for all transactions that are older than it. It locks nobody out meanwhile.
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("SET lock_timeout = 0"))
        connection.commit()

    def _begin(self, connection: Connection) -> Found:
        """What there is to do; another one may have done it while this one waited."""
        found = examine(connection)
        for note in found.notes:
            self._tell(note)
        if not found.current:
            self._tell(f"the database is {found.text}; upgrading it to revision {HEAD}")
        return found

    def _migrate(self, connection: Connection, revision: str, *, again: bool = False) -> None:
        """Upgrade to a revision; `again`: what triggers keep is made anew."""
        # Alembic takes a while to import, and is needed once in a database's life.
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        config.attributes["connection"] = connection
        with _one_at_a_time:
            if again:
                command.stamp(config, REVISIONS[REVISIONS.index(KEEPING) - 1])
            command.upgrade(config, revision)
