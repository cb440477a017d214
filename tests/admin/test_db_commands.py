"""The database by command: what it is, and making its tables."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import maybeDeferred

from scalelite.recordings.examination import HEAD
from tests.admin.desk import Desk, Result
from tests.balancer import Balancer
from tests.recordings.databases import open_database


class Own:
    """A pool whose database this process opens for itself, whatever is in it."""

    def __init__(self, pool: Any, desk: Any) -> None:
        self._pool = pool
        self.recordings = desk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)


@pytest_twisted.async_yield_fixture()
async def bare(balancer: Balancer, empty_database_url: str) -> AsyncIterator[Desk]:
    """A desk of a process of its own, over an empty database."""
    from scalelite.desk import build_desk

    settings = attrs.evolve(balancer.settings, database_url=empty_database_url)
    opened = build_desk(balancer.parts.reactor, settings, balancer.parts.redis)
    assert opened is not None
    opened.database.startService()
    desk = Desk.of(balancer)
    desk.settings = settings
    desk.pool = Own(desk.pool, opened)
    yield desk
    await maybeDeferred(opened.database.stopService)


@pytest.mark.parametrize("name", ["db:upgrade", "db:migrate"])
@pytest_twisted.ensureDeferred
async def test_the_tables_are_made_in_an_empty_database(bare: Desk, name: str) -> None:
    before = await bare.run("db:status")
    assert before.status == 1
    assert before.out.splitlines()[1] == "State: empty"
    assert before.err == "`scalelite db:upgrade` brings it up to date; so does the service when it starts\n"
    for words in (["recordings:list"], ["outbox"], ["recordings:orphans"]):
        assert await bare.run(*words) == Result(
            1, "", "ERROR: the database is empty; `scalelite db:upgrade` makes its tables\n"
        )
    done = await bare.run(name)
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines()[0] == f"the database is empty; upgrading it to revision {HEAD}"
    assert done.out.splitlines()[-2:] == [f"The database is up to date (revision {HEAD})", "OK"]
    assert (await bare.run("db:status")).status == 0
    assert await bare.run("recordings:list") == Result(0, "", "No recordings found\n")
    again = await bare.run(name)
    assert again == Result(0, f"The database is up to date (revision {HEAD})\nOK\n", "")


@pytest_twisted.ensureDeferred
async def test_the_state_is_told_without_a_password(bare: Desk) -> None:
    url = bare.settings.database_url
    assert url is not None
    if url.startswith("postgresql"):
        bare.settings = attrs.evolve(bare.settings, database_url=url.replace("postgres@", "postgres:s3cret@"))
    result = await bare.run("db:status")
    name = "PostgreSQL, test_" if url.startswith("postgresql") else "SQLite, /"
    assert result.out.startswith(f"Database: {name}")
    assert "s3cret" not in result.out
    found = json.loads((await bare.run("db:status", "--json")).out)
    assert found.pop("database").startswith(name)
    assert found == {"state": "empty", "revision": None, "usable": False, "current": False, "notes": []}


@pytest_twisted.ensureDeferred
async def test_another_programs_database_is_left_alone(bare: Desk) -> None:
    assert bare.settings.database_url is not None
    other = open_database(bare.settings.database_url, threads=1)
    with other.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE recordings (id integer primary key, title varchar)")
    other.engine.dispose()
    for words in (["db:upgrade"], ["db:status"], ["recordings:list"]):
        result = await bare.run(*words)
        assert (result.status, result.out) == (1, "")
        assert "Let DATABASE_URL name Scalelite's database, or an empty one" in result.err


@pytest_twisted.ensureDeferred
async def test_a_database_that_is_down_is_a_plain_error(balancer: Balancer) -> None:
    from scalelite.desk import build_desk

    settings = attrs.evolve(balancer.settings, database_url="postgresql://u:s3cret@127.0.0.1:1/scalelite")
    opened = build_desk(balancer.parts.reactor, settings, balancer.parts.redis)
    assert opened is not None
    opened.database.startService()
    desk = Desk.of(balancer)
    desk.settings = settings
    desk.pool = Own(desk.pool, opened)
    try:
        for words in (["recordings:list"], ["db:status"], ["db:upgrade"], ["outbox"]):
            result = await desk.run(*words)
            assert (result.status, result.out) == (1, "")
            assert result.err.startswith("ERROR: ")
            assert "s3cret" not in result.err
    finally:
        await maybeDeferred(opened.database.stopService)
