"""The program as processes over a database: made at start, waited for, adopted, upgraded by several at once."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.postgres import PostgresServer
from tests.integration.processes import Program, eventually
from tests.recordings.scalelite_database import make_scalelite

pytestmark = pytest.mark.integration

PROCESSES = pytest.mark.parametrize("workers", ["0", "2"], ids=["one process", "two workers"])


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not pytest's tmp_path, which is too long for a UNIX socket.
    made = Path(tempfile.mkdtemp(prefix="sl-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def listed(program: Program) -> str:
    """The answer to getRecordings."""
    return program.get(program.signed("getRecordings", recordID=""))[1]


def healthy(program: Program) -> bool:
    """Whether it becomes healthy."""
    return bool(eventually(lambda: program.get("/health_check")[0] == 200))


@PROCESSES
def test_in_development_there_is_a_database_without_asking(folder: Path, workers: str) -> None:
    with Program(folder, WEB_CONCURRENCY=workers) as program:
        program.ready()
        assert "<returncode>SUCCESS</returncode>" in listed(program)
        assert program.get("/health_check") == (200, "success")
        assert program.stop() == 0
        assert not [event for event in program.events if event["level"] in {"error", "critical"}]
    assert (folder / "var" / "scalelite.sqlite3").exists()


@PROCESSES
def test_meetings_are_served_while_postgresql_is_down_and_recordings_once_it_is_up(
    folder: Path, workers: str, postgres_server: PostgresServer, empty_postgres_url: str
) -> None:
    make_scalelite(empty_postgres_url)
    postgres_server.stop()
    try:
        with Program(folder, WEB_CONCURRENCY=workers, DATABASE_URL=empty_postgres_url) as program:
            program.ready()
            program.logged("RECORDINGS CANNOT BE USED")
            assert "<messageKey>internalError</messageKey>" in listed(program)
            assert program.get("/health_check")[0] == 503
            assert "<returncode>SUCCESS</returncode>" in program.get(program.signed("getMeetings"))[1]
            postgres_server.start()
            eventually(lambda: "<recordID>r1</recordID>" in listed(program))
            program.logged("upgrading it to revision")
            eventually(lambda: program.get("/health_check") == (200, "success"))
            assert program.stop() == 0
    finally:
        postgres_server.restart()


def test_several_instances_may_start_at_once_on_a_database_of_scalelite(folder: Path, empty_postgres_url: str) -> None:
    make_scalelite(empty_postgres_url)
    homes = [folder / str(number) for number in range(3)]
    for home in homes:
        home.mkdir()
    programs = [Program(home, DATABASE_URL=empty_postgres_url) for home in homes]
    with programs[0], programs[1], programs[2]:
        for program in programs:
            program.ready()
        with ThreadPoolExecutor(3) as executor:
            assert all(executor.map(healthy, programs))
        assert all("<recordID>r1</recordID>" in listed(program) for program in programs)
        assert [program.stop() for program in programs] == [0, 0, 0]
        assert not [e for program in programs for e in program.events if e["level"] in {"error", "critical"}]


def test_a_url_that_cannot_be_used_ends_the_start(folder: Path) -> None:
    with Program(folder, DATABASE_URL="postgres://u:hunter2@h/d?sslmode=yes") as program:
        assert program.wait() == 2
        assert "DATABASE_URL='********': sslmode is one of disable" in program.text
        assert "hunter2" not in program.text
