"""Reading on a driver's own connection is reading all the same: one state, no writing, deadlines, lost connections."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_twisted
from sqlalchemy import Connection, insert
from twisted.internet.defer import ensureDeferred
from twisted.internet.threads import deferToThread

from scalelite.recordings.database import Database, DatabaseError, DatabaseUnavailable
from scalelite.recordings.fetching import Fetch, Row
from scalelite.recordings.tables import recordings
from tests.integration.postgres import PostgresServer
from tests.recordings.databases import open_database

IDS = ("SELECT record_id FROM recordings ORDER BY id", ())
PREPARING = (pytest.param(True, id="prepared"), pytest.param(False, id="pooled"))


@pytest_twisted.async_yield_fixture(params=PREPARING)
async def served(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Database]:
    """A running `Database`: on PostgreSQL itself, or as on a pooler before it."""
    running = open_database(database_url, prepare=request.param)
    running.startService()
    yield running
    await running.stopService()


def add(record_id: str) -> Callable[[Connection], None]:
    def work(connection: Connection) -> None:
        connection.execute(insert(recordings).values(record_id=record_id))

    return work


def ids(fetch: Fetch) -> list[Row]:
    return fetch.rows(*IDS)


@pytest_twisted.ensureDeferred
async def test_several_statements_give_their_rows_in_order(served: Database) -> None:
    await served.run(add("r1"))

    def work(fetch: Fetch) -> list[list[list[Row]]]:
        mark = "?" if fetch.sqlite else "%s"
        first = fetch.all(IDS, ("SELECT count(*) FROM metadata", ()))
        found = (f"SELECT 1 FROM recordings WHERE record_id = {mark}", ["r1"])
        lost = (f"SELECT 1 FROM recordings WHERE record_id = {mark}", ["r2"])
        return [first, fetch.all(found, lost, IDS, last=True)]

    for _ in range(8):
        assert await served.fetch(work) == [[[("r1",)], [(0,)]], [[(1,)], [], [("r1",)]]]
    await served.run(add("r2"))
    assert await served.fetch(ids) == [("r1",), ("r2",)]


@pytest_twisted.ensureDeferred
async def test_it_cannot_write(served: Database) -> None:
    def write(fetch: Fetch) -> list[Row]:
        return fetch.rows("INSERT INTO recordings (record_id) VALUES ('r1') RETURNING id", ())

    with pytest.raises((DatabaseError, DatabaseUnavailable), match=r"(?i)read-?only"):
        await served.fetch(write)
    await served.run(add("r2"))
    assert await served.fetch(ids) == [("r2",)]


@pytest_twisted.ensureDeferred
async def test_it_sees_one_state_while_others_write(served: Database) -> None:
    began, wrote = threading.Event(), threading.Event()

    def twice(fetch: Fetch) -> list[list[Row]]:
        before = ids(fetch)
        began.set()
        wrote.wait(30)
        return [before, ids(fetch)]

    reading = ensureDeferred(served.fetch(twice))
    await deferToThread(began.wait, 30)
    await served.run(add("r1"))
    wrote.set()

    assert await reading == [[], []]
    assert await served.fetch(ids) == [("r1",)]


@pytest_twisted.ensureDeferred
async def test_a_faulty_statement_spoils_no_other(served: Database) -> None:
    for _ in range(6):
        with pytest.raises(DatabaseError):
            await served.fetch(lambda fetch: fetch.all(IDS, ("SELECT * FROM nowhere", ()), IDS, last=True))
        assert await served.fetch(ids) == []
    await served.run(add("r1"))
    assert await served.fetch(ids) == [("r1",)]


@pytest.mark.integration
@pytest_twisted.ensureDeferred
async def test_a_query_that_takes_too_long_is_broken_off(postgres_url: str) -> None:
    served = open_database(postgres_url, threads=1)
    served.startService()
    with pytest.raises(DatabaseUnavailable, match="in time"):
        await served.fetch(lambda fetch: fetch.rows("SELECT pg_sleep(60)", ()), deadline=0.1)
    # The only connection is free again, or another one is.
    assert await served.fetch(ids) == []
    await served.stopService()


@pytest.mark.integration
@pytest.mark.parametrize("prepare", PREPARING)
@pytest_twisted.ensureDeferred
async def test_connections_are_made_again_after_a_restart(
    postgres_server: PostgresServer, postgres_url: str, prepare: bool
) -> None:
    served = open_database(postgres_url, prepare=prepare)
    served.startService()
    await served.run(add("r1"))
    assert await served.fetch(ids) == [("r1",)]
    postgres_server.stop()
    try:
        with pytest.raises(DatabaseUnavailable):
            await served.fetch(ids)
    finally:
        postgres_server.start()
    assert await served.fetch(ids) == [("r1",)]
    await served.run(add("r2"))
    assert await served.fetch(ids) == [("r1",), ("r2",)]
    await served.stopService()


@pytest.mark.integration
@pytest_twisted.ensureDeferred
async def test_a_connection_that_was_idle_for_long_is_asked_first(
    postgres_server: PostgresServer, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scalelite.recordings.engines.TRUSTED", -1.0)
    served = open_database(postgres_url)
    served.startService()
    for _ in range(2):
        assert await served.fetch(ids) == []
    postgres_server.stop()
    postgres_server.start()
    await served.run(add("r1"))
    assert await served.fetch(ids) == [("r1",)]
    await served.stopService()
