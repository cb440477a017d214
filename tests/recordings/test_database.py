"""The database's threads, deadlines and connections, over both engines."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from sqlalchemy import Connection, select, text
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread

from scalelite.recordings.database import (
    BREAKING_OFF,
    MOST_WAITING,
    Database,
    DatabaseError,
    DatabaseUnavailable,
    probe,
)
from scalelite.recordings.engines import open_engine
from scalelite.recordings.tables import recordings
from scalelite.store.errors import StoreUnavailable
from tests.integration.postgres import PostgresServer
from tests.integration.redis_server import eventually, free_port
from tests.recordings.databases import open_database


def add(record_id: str) -> Callable[[Connection], None]:
    def work(connection: Connection) -> None:
        connection.execute(recordings.insert().values(record_id=record_id))

    return work


def ids(connection: Connection) -> list[str | None]:
    return list(connection.scalars(select(recordings.c.record_id).order_by(recordings.c.record_id)))


class Stopping:
    """Work that waits in its thread until it is let go."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, connection: Connection) -> str:
        probe(connection)
        self.began.set()
        self.go_on.wait(30)
        return "done"


class TimedReactor(Clock):
    """Time is a clock's, threads are real."""

    def getThreadPool(self) -> Any:
        return reactor.getThreadPool()  # type: ignore[attr-defined]

    def callFromThread(self, *args: Any) -> None:
        reactor.callFromThread(*args)  # type: ignore[attr-defined]


@pytest_twisted.ensureDeferred
async def test_work_is_committed_when_it_returns_and_undone_when_it_raises(database: Database) -> None:
    def fail(connection: Connection) -> None:
        add("undone")(connection)
        raise LookupError("no")

    await database.run(add("kept"))
    with pytest.raises(LookupError):
        await database.run(fail)

    assert await database.run(ids) == ["kept"]


@pytest_twisted.ensureDeferred
async def test_work_runs_in_a_thread_of_the_databases_own(database: Database) -> None:
    names = await database.run(lambda _: threading.current_thread().name)
    assert names.startswith("PoolThread-database-")


@pytest_twisted.ensureDeferred
async def test_reading_work_cannot_write(database: Database) -> None:
    with pytest.raises((DatabaseError, DatabaseUnavailable), match=r"(?i)read-?only"):
        await database.read(add("r1"))
    await database.run(add("r2"))
    assert await database.read(ids) == ["r2"]


@pytest_twisted.ensureDeferred
async def test_reading_work_sees_one_state_while_others_write(database: Database) -> None:
    seen: list[list[str | None]] = []
    wrote = threading.Event()

    def twice(connection: Connection) -> None:
        seen.append(ids(connection))
        began.set()
        wrote.wait(30)
        seen.append(ids(connection))

    began = threading.Event()
    reading = ensureDeferred(database.read(twice))
    await deferToThread(began.wait, 30)
    await database.run(add("r1"))
    wrote.set()
    await reading

    assert seen == [[], []]
    assert await database.read(ids) == ["r1"]


@pytest_twisted.ensureDeferred
async def test_readers_do_not_wait_for_a_writer(database: Database) -> None:
    writing = Stopping()

    def write(connection: Connection) -> str:
        add("r1")(connection)
        return writing(connection)

    written = ensureDeferred(database.run(write))
    await deferToThread(writing.began.wait, 30)
    assert await database.read(ids) == []
    writing.go_on.set()
    assert await written == "done"


@pytest_twisted.ensureDeferred
async def test_a_writer_that_reads_first_waits_for_another_one(database: Database) -> None:
    def read_and_write(connection: Connection) -> None:
        add(f"r{len(ids(connection))}")(connection)

    both = [ensureDeferred(database.run(read_and_write)) for _ in range(2)]
    outcomes: list[str] = []
    for deferred in both:
        try:
            await deferred
        except DatabaseError:
            # PostgreSQL lets both read at once, and its unique index refuses one of them.
            outcomes.append("refused")
        else:
            outcomes.append("written")

    assert len(await database.run(ids)) == outcomes.count("written") >= 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda c: c.execute(text("SELECT * FROM no_such_table WHERE secret = :s"), {"s": "hunter2"}),
        lambda c: c.connection.cursor().execute("SELECT * FROM no_such_table"),
        lambda c: [add("r1")(c), add("r1")(c)],
    ],
    ids=["statement", "driver", "constraint"],
)
@pytest_twisted.ensureDeferred
async def test_an_error_of_the_database_is_ours_and_holds_no_parameters(
    database: Database, spoil: Callable[[Connection], object]
) -> None:
    with pytest.raises(DatabaseError) as caught:
        await database.run(spoil)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert await database.run(ids) == []


@pytest_twisted.ensureDeferred
async def test_a_value_too_long_for_an_index_is_an_error_and_no_outage(postgres_url: str) -> None:
    database = open_database(postgres_url)
    database.startService()
    # Random, or it would be packed into little.
    with pytest.raises(DatabaseError):
        await database.run(add(random.Random(1).randbytes(10_000).hex()))
    await database.stopService()


@pytest_twisted.ensureDeferred
async def test_a_call_that_takes_too_long_fails_and_its_connection_is_broken_off(database_url: str) -> None:
    clock = TimedReactor()
    database = slow_database(clock, database_url)
    database.startService()
    try:
        running = ensureDeferred(database.run(long_query(database)))
        await connected(database)
        clock.advance(5.0)
        with pytest.raises(DatabaseUnavailable, match="did not answer in time"):
            await running
        clock.advance(BREAKING_OFF)
        # The one thread is free again, long before the query would be over.
        assert await database.run(ids) == []
    finally:
        await database.stopService()


def slow_database(clock: TimedReactor, url: str) -> Database:
    return Database(clock, open_engine(url, pool=1, timeout=60), 1, timeout=5.0)


async def connected(database: Database) -> None:
    """Wait until a call holds a connection."""

    async def look() -> bool | None:
        return any(call._connection is not None for call in database._calls) or None

    await eventually(look)


def long_query(database: Database) -> Callable[[Connection], None]:
    """Work that takes a minute in the database itself."""
    if database.engine.dialect.name == "postgresql":
        return lambda c: c.execute(text("SELECT pg_sleep(60)")) and None
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    return lambda c: c.execute(text(endless)) and None


@pytest_twisted.ensureDeferred
async def test_a_call_for_which_there_is_no_thread_fails_in_time_and_is_never_done(database_url: str) -> None:
    clock = TimedReactor()
    database = slow_database(clock, database_url)
    database.startService()
    stopping = Stopping()
    try:
        first = ensureDeferred(database.run(stopping, deadline=60.0))
        await deferToThread(stopping.began.wait, 30)
        late = ensureDeferred(database.run(add("late")))
        clock.advance(5.0)
        with pytest.raises(DatabaseUnavailable, match="no free connection"):
            await late
        stopping.go_on.set()
        assert await first == "done"
        assert await database.run(ids) == []
    finally:
        await database.stopService()


@pytest_twisted.ensureDeferred
async def test_a_call_for_which_there_is_no_connection_fails_in_time_and_is_never_done(database_url: str) -> None:
    clock = TimedReactor()
    database = slow_database(clock, database_url)
    database.startService()
    taken = database.engine.connect()
    try:
        late = ensureDeferred(database.run(add("late")))
        clock.advance(5.0)
        with pytest.raises(DatabaseUnavailable, match="no free connection"):
            await late
        taken.close()
        assert await database.run(ids) == []
    finally:
        taken.close()
        await database.stopService()


@pytest_twisted.ensureDeferred
async def test_no_more_calls_wait_than_can_be_answered(sqlite_url: str) -> None:
    database = open_database(sqlite_url, threads=1)
    database.startService()
    stopping = Stopping()
    try:
        calls = [ensureDeferred(database.run(stopping)) for _ in range(MOST_WAITING + 1)]
        with pytest.raises(DatabaseUnavailable, match="too many"):
            await database.run(probe)
        stopping.go_on.set()
        assert {await call for call in calls} == {"done"}
        await database.run(probe)
    finally:
        await database.stopService()


@pytest_twisted.ensureDeferred
async def test_work_waits_while_the_database_is_held_and_is_refused_with_a_reason(database: Database) -> None:
    database.hold()
    waiting = ensureDeferred(database.run(add("r1")))
    assert not waiting.called
    database.release()
    await waiting

    database.hold("it is another one's")
    for refused in (database.run(ids), database.read(ids), deferToThread(database.run_here, ids)):
        with pytest.raises(DatabaseUnavailable, match="it is another one's"):
            await refused
    database.release()
    assert await deferToThread(database.run_here, ids) == await database.run(ids) == ["r1"]


@pytest_twisted.ensureDeferred
async def test_work_that_waits_is_refused_once_there_is_a_reason(database: Database) -> None:
    database.hold()
    waiting = ensureDeferred(database.run(ids))
    database.hold("it is newer")
    with pytest.raises(DatabaseUnavailable, match="it is newer"):
        await waiting


@pytest_twisted.ensureDeferred
async def test_work_does_not_wait_for_ever_while_the_database_is_held(sqlite_url: str) -> None:
    clock = TimedReactor()
    database = slow_database(clock, sqlite_url)
    database.startService()
    database.hold()
    waiting = ensureDeferred(database.run(ids))
    clock.advance(5.0)
    with pytest.raises(DatabaseUnavailable, match="not been checked"):
        await waiting
    await database.stopService()


@pytest_twisted.ensureDeferred
async def test_a_stopped_database_refuses_work(sqlite_url: str) -> None:
    database = open_database(sqlite_url)
    database.startService()
    await database.stopService()
    with pytest.raises(StoreUnavailable, match="stopping"):
        await database.run(ids)


@pytest_twisted.ensureDeferred
async def test_a_missing_folder_is_a_database_that_cannot_be_reached() -> None:
    database = open_database("sqlite:////nowhere/at/all.sqlite3")
    database.startService()
    with pytest.raises(DatabaseUnavailable, match="unable to open"):
        await database.run(probe)
    await database.stopService()


@pytest.mark.integration
@pytest_twisted.ensureDeferred
async def test_connections_are_made_again_after_a_restart_of_postgresql(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    database = open_database(postgres_url)
    database.startService()
    await database.run(add("r1"))
    postgres_server.restart()
    assert await database.run(ids) == ["r1"]
    await database.stopService()


@pytest.mark.integration
@pytest.mark.parametrize("end", ["stop", "kill"])
@pytest_twisted.ensureDeferred
async def test_a_query_that_postgresql_does_not_survive_fails_and_later_ones_succeed(
    postgres_server: PostgresServer, postgres_url: str, end: str
) -> None:
    database = open_database(postgres_url)
    database.startService()
    began = threading.Event()

    def work(connection: Connection) -> None:
        add("lost")(connection)
        began.set()
        connection.execute(text("SELECT pg_sleep(60)"))

    running = ensureDeferred(database.run(work, deadline=60))
    await deferToThread(began.wait, 30)
    getattr(postgres_server, end)()
    try:
        with pytest.raises(DatabaseUnavailable):
            await running
        with pytest.raises(DatabaseUnavailable):
            await database.run(ids)
    finally:
        postgres_server.start()
    assert await database.run(ids) == []
    await database.stopService()


@pytest.mark.integration
@pytest_twisted.ensureDeferred
async def test_a_statement_has_a_time_limit_in_postgresql_itself(postgres_url: str) -> None:
    for options in ({}, {"prepare": False}):
        database = open_database(postgres_url, timeout=0.2, **options)
        database.startService()
        with pytest.raises(DatabaseUnavailable, match="statement timeout"):
            await database.run(lambda c: c.execute(text("SELECT pg_sleep(60)")), deadline=30)
        assert await database.run(ids) == []
        await database.stopService()


@pytest.mark.integration
@pytest_twisted.ensureDeferred
async def test_a_pooler_is_handed_no_options_and_no_prepared_statements(postgres_url: str) -> None:
    def settings(connection: Connection) -> tuple[int, str]:
        for _ in range(10):
            ids(connection)
        prepared = connection.scalar(text("SELECT count(*) FROM pg_prepared_statements"))
        return int(prepared or 0), str(connection.scalar(text("SHOW statement_timeout")))

    found = {}
    for prepare in (True, False):
        database = open_database(f"{postgres_url}&prepared_statements={str(prepare).lower()}", timeout=7)
        database.startService()
        found[prepare] = await database.run(settings)
        await database.stopService()
        with database.engine.connect() as connection:
            found[prepare] += (connection.connection.driver_connection.info.get_parameters().get("options"),)  # type: ignore[union-attr]
        database.engine.dispose()
    assert found[False] == (0, "7s", None)
    assert (found[True][0] > 0, found[True][1], "statement_timeout=7000" in found[True][2]) == (True, "7s", True)


@pytest.mark.integration
@pytest_twisted.ensureDeferred
async def test_the_schema_of_rails_search_path_is_used(postgres_server: PostgresServer, postgres_url: str) -> None:
    name = postgres_url.partition("?")[0].rpartition("/")[2]
    postgres_server.query('CREATE SCHEMA "a b"', database=name)
    database = open_database(f'{postgres_url}&schema_search_path="a%20b",public&options=-c%20work_mem%3D5MB')
    database.startService()

    def look(connection: Connection) -> tuple[Any, ...]:
        return tuple(connection.execute(text("SELECT current_schema(), current_setting('work_mem')")).one())

    assert await database.run(look) == ("a b", "5MB")
    await database.stopService()


@pytest.mark.integration
@pytest_twisted.ensureDeferred
async def test_a_server_that_is_not_there_is_told_at_once() -> None:
    database = open_database(f"postgres://u:hunter2@127.0.0.1:{free_port()}/d")
    database.startService()
    with pytest.raises(DatabaseUnavailable, match="refused") as caught:
        await database.run(probe)
    assert "hunter2" not in str(caught.value)
    await database.stopService()
