"""The tables are there before they are used, whatever becomes of the database meanwhile."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from sqlalchemy import Connection, select, text
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.threads import deferToThread
from twisted.logger import LogEvent, LogLevel, globalLogPublisher

from scalelite.recordings.database import Database, DatabaseError, DatabaseUnavailable
from scalelite.recordings.examination import USABLE, VERSION_TABLE
from scalelite.recordings.schema_service import SchemaService
from scalelite.recordings.tables import recordings
from scalelite.recordings.upgrade import Upgrade
from tests.integration.postgres import PostgresServer
from tests.integration.redis_server import eventually
from tests.recordings.databases import open_database
from tests.recordings.scalelite_database import execute, make_scalelite


def count(connection: Connection) -> int:
    return len(connection.execute(select(recordings.c.id)).all())


@pytest.fixture
def critical() -> Iterator[list[str]]:
    """What is logged as critical."""
    events: list[str] = []

    def observe(event: LogEvent) -> None:
        if event["log_level"] is LogLevel.critical:
            events.append(str(event["problem"]))

    globalLogPublisher.addObserver(observe)
    yield events
    globalLogPublisher.removeObserver(observe)


class Running:
    """A database and the service that keeps it."""

    def __init__(self, url: str, *, upgrades: bool = True) -> None:
        self.database: Database = open_database(url)
        self.upgrades: list[Upgrade] = []

        def upgrade(usable: Callable[[], None]) -> Upgrade:
            self.upgrades.append(Upgrade(url, timeout=30, usable=usable))
            return self.upgrades[-1]

        self.service = SchemaService(reactor, self.database, upgrade if upgrades else None)
        self.database.startService()
        self.service.startService()

    async def stop(self) -> None:
        if self.service.running:
            await self.service.stopService()
            await self.database.stopService()

    async def counted(self) -> int:
        """How many recordings there are, once that can be told."""
        found: int = await eventually(lambda: self.database.run(count), DatabaseUnavailable)
        return found


@pytest_twisted.async_yield_fixture
async def run() -> AsyncIterator[Callable[..., Running]]:
    """Starts a `Running`, which is stopped in the end."""
    started: list[Running] = []

    def start(url: str, **options: Any) -> Running:
        started.append(Running(url, **options))
        return started[-1]

    yield start
    for running in started:
        await running.stop()


@pytest_twisted.ensureDeferred
async def test_calls_wait_for_the_first_tables(empty_database_url: str, run: Callable[..., Running]) -> None:
    running = run(empty_database_url)
    assert await running.database.run(count) == 0


@pytest_twisted.ensureDeferred
async def test_scalelites_database_is_adopted_at_start(empty_database_url: str, run: Callable[..., Running]) -> None:
    make_scalelite(empty_database_url)
    running = run(empty_database_url)
    assert await running.database.run(count) == 1


@pytest_twisted.ensureDeferred
async def test_without_leave_to_upgrade_calls_are_refused_until_the_operator_has_done_it(
    empty_database_url: str, critical: list[str], run: Callable[..., Running]
) -> None:
    running = run(empty_database_url, upgrades=False)
    with pytest.raises(DatabaseUnavailable, match="the database is empty; `scalelite db:upgrade` makes its tables"):
        await running.database.run(count)
    assert critical == ["the database is empty; `scalelite db:upgrade` makes its tables"]

    await deferToThread(Upgrade(empty_database_url, timeout=30).run)

    assert await running.counted() == 0


@pytest_twisted.ensureDeferred
async def test_a_database_that_must_not_be_touched_is_told_once_and_looked_at_again(
    empty_database_url: str, critical: list[str], run: Callable[..., Running]
) -> None:
    make_scalelite(empty_database_url)
    execute(empty_database_url, "ALTER TABLE thumbnails RENAME TO somewhere_else")
    running = run(empty_database_url)
    with pytest.raises(DatabaseUnavailable, match="but not thumbnails"):
        await running.database.run(count)

    await deferToThread(execute, empty_database_url, "ALTER TABLE somewhere_else RENAME TO thumbnails")

    assert await running.counted() == 1
    assert len(critical) == 1


@pytest.mark.integration
@pytest_twisted.ensureDeferred
async def test_a_postgresql_that_is_down_is_waited_for(
    postgres_server: PostgresServer, empty_postgres_url: str, critical: list[str], run: Callable[..., Running]
) -> None:
    postgres_server.stop()
    running = run(empty_postgres_url)
    try:
        with pytest.raises(DatabaseUnavailable, match="connection"):
            await running.database.run(count)
    finally:
        postgres_server.start()
    assert await running.counted() == 0
    assert len(running.upgrades) == 1


@pytest.mark.integration
@pytest_twisted.ensureDeferred
async def test_recordings_are_used_while_the_indexes_are_built_and_the_end_does_not_wait_for_them(
    empty_postgres_url: str, run: Callable[..., Running]
) -> None:
    make_scalelite(empty_postgres_url)
    reading = open_database(empty_postgres_url)
    reading.startService()
    go_on = threading.Event()

    def read(connection: Connection) -> None:
        count(connection)
        go_on.wait(60)

    held = ensureDeferred(reading.read(read, deadline=60))
    try:
        running = run(empty_postgres_url)
        assert await running.counted() == 1
        # A second instance finds the first one at it, and may be used all the same.
        second = run(empty_postgres_url)
        assert await second.counted() == 1
        await eventually(lambda: running.database.read(building))
        await second.stop()
        await running.stop()
        assert not held.called
    finally:
        go_on.set()
        await held
        await reading.stopService()


def building(connection: Connection) -> bool | None:
    """Whether an index is being built."""
    return connection.scalar(text("SELECT true FROM pg_stat_progress_create_index"))


@pytest_twisted.ensureDeferred
async def test_a_database_whose_upgrade_breaks_is_tried_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    unhandled_errors: list[LogEvent],
    run: Callable[..., Running],
) -> None:
    real = Upgrade.run

    def broken(self: Upgrade) -> Any:
        monkeypatch.setattr(Upgrade, "run", real)
        raise LookupError("a fault in a migration")

    monkeypatch.setattr(Upgrade, "run", broken)
    running = run(f"sqlite:///{tmp_path}/x.sqlite3")
    with pytest.raises(DatabaseUnavailable, match="its tables could not be made"):
        await running.database.run(count)
    assert await running.counted() == 0
    (event,) = unhandled_errors
    assert "a fault in a migration" in event["log_failure"].getErrorMessage()
    unhandled_errors.clear()


@pytest_twisted.ensureDeferred
async def test_an_index_that_cannot_be_built_keeps_nobody_from_the_tables(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch, critical: list[str], run: Callable[..., Running]
) -> None:
    Upgrade(empty_database_url, timeout=30).run()
    execute(empty_database_url, f"UPDATE {VERSION_TABLE} SET version_num = '{USABLE}'")
    tried = threading.Semaphore(0)

    def full(self: Upgrade) -> Any:
        tried.release()
        raise DatabaseError("no space left on device")

    monkeypatch.setattr(Upgrade, "run", full)
    running = run(empty_database_url)
    for _ in range(2):
        await deferToThread(tried.acquire)
        assert await running.database.run(count) == 0
    assert critical == []
