"""Databases for tests: an SQLite file and a real PostgreSQL, each with all tables, new for every test.

`database` runs a test over both engines; `postgres_server` is the server that a test session starts once.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from tests.integration.postgres import PostgresServer

if TYPE_CHECKING:
    from scalelite.recordings.database import Database

ENGINES = ("sqlite", pytest.param("postgresql", marks=pytest.mark.integration))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The session's PostgreSQL. Whoever stops it starts it again."""
    server = PostgresServer()
    try:
        with server:
            yield server
    finally:
        shutil.rmtree(server.folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A PostgreSQL database of the test's own, with all tables."""
    url = postgres_server.fresh_database("scalelite_template", fill)
    yield url
    postgres_server.drop_database(url)


@pytest.fixture
def empty_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A PostgreSQL database of the test's own, with nothing in it."""
    url = postgres_server.fresh_database()
    yield url
    postgres_server.drop_database(url)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with all tables, to be copied."""
    path = tmp_path_factory.mktemp("sqlite") / "template.sqlite3"
    fill(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(tmp_path: Path, sqlite_template: Path) -> str:
    """An SQLite file of the test's own, with all tables."""
    path = tmp_path / "scalelite.sqlite3"
    shutil.copyfile(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture(params=ENGINES)
def database_url(request: pytest.FixtureRequest) -> str:
    """A database with all tables, SQLite and PostgreSQL in turn."""
    name = "postgres_url" if request.param == "postgresql" else "sqlite_url"
    url: str = request.getfixturevalue(name)
    return url


@pytest.fixture(params=ENGINES)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database with nothing in it, SQLite and PostgreSQL in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/empty.sqlite3"
    url: str = request.getfixturevalue("empty_postgres_url")
    return url


@pytest_twisted.async_yield_fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A running `Database` with all tables and no rows, over SQLite and PostgreSQL in turn."""
    running = open_database(database_url)
    running.startService()
    yield running
    await running.stopService()


def open_database(url: str, *, timeout: float = 10.0, threads: int = 4, **options: Any) -> Database:
    """A `Database` for `url` that has yet to be started."""
    from scalelite.recordings.database import Database
    from scalelite.recordings.engines import open_engine

    return Database(reactor, open_engine(url, pool=threads, timeout=timeout, **options), threads, timeout)


def fill(url: str) -> None:
    """Make all tables in an empty database, as the program does."""
    from scalelite.recordings.upgrade import Upgrade

    Upgrade(url, timeout=30).run()
