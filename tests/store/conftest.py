"""The stores over both kinds of Redis: in memory, and a real redis-server (marked `integration`)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from scalelite.store.connection import Redis, connect, connect_memory
from tests.integration.redis_server import RedisServer
from tests.store.layout import PREFIX, Stores, check_layout


@pytest.fixture(scope="session")
def store_server() -> Iterator[RedisServer]:
    """One redis-server for all store tests; started by the first that asks for it."""
    with RedisServer() as server:
        yield server


@pytest.fixture(params=["memory", pytest.param("server", marks=pytest.mark.integration)])
def new_redis(request: pytest.FixtureRequest) -> Redis:
    """A connection that is not opened yet, to an empty store."""
    if request.param == "memory":
        return connect_memory(reactor, timeout=10)
    server: RedisServer = request.getfixturevalue("store_server")
    server.command("FLUSHALL")
    return connect(reactor, server.settings(), timeout=10, data_dir=Path("/nonexistent"))


@pytest_twisted.async_yield_fixture()
async def stores(new_redis: Redis) -> AsyncIterator[Stores]:
    """All stores over an empty Redis. What a test leaves there must be what Scalelite reads."""
    stores = Stores(new_redis, PREFIX)
    yield stores
    try:
        problems: Any = await check_layout(stores)
    finally:
        await new_redis.close()
    assert not problems
