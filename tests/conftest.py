"""What all tests share: no Deferred may fail unseen, and a whole balancer with simulated servers on loopback."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_twisted
from hypothesis import settings
from twisted.logger import LogEvent, globalLogPublisher

from tests.balancer import Balancer
from tests.recordings.databases import (  # noqa: F401 - fixtures for all tests
    database,
    database_url,
    empty_database_url,
    empty_postgres_url,
    postgres_server,
    postgres_url,
    sqlite_template,
    sqlite_url,
)
from tests.recordings.s3_server import s3, s3_server  # noqa: F401 - fixtures for all tests

settings.register_profile("long", max_examples=4000)


@pytest.fixture(autouse=True)
def unhandled_errors() -> Iterator[list[LogEvent]]:
    """Fails a test in which an error was logged that nobody handled (pytest-twisted itself does not).

    A test that expects such a failure takes it out of the list.
    """
    failures: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if event.get("log_failure") is not None:
            failures.append(event)

    globalLogPublisher.addObserver(observe)
    yield failures
    gc.collect()
    globalLogPublisher.removeObserver(observe)
    assert not failures, [event["log_failure"].getTraceback() for event in failures]


@pytest_twisted.async_yield_fixture()
async def balancer() -> AsyncIterator[Balancer]:
    """A balancer over an empty store with no servers, on a free port; see `tests.balancer`."""
    running = await Balancer.start()
    yield running
    await running.stop()
