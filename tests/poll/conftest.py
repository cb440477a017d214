"""A scripted pool over a store in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import attrs
import pytest
import pytest_twisted
from twisted.internet import reactor

from scalelite.store.connection import connect_memory
from tests.balancer import Balancer
from tests.integration.redis_server import RedisServer
from tests.poll.rig import Rig
from tests.store.layout import PREFIX, Stores, check_layout


@pytest_twisted.async_yield_fixture()
async def rig() -> AsyncIterator[Rig]:
    """A poller over an empty store in memory; what a test leaves there must be what Scalelite reads."""
    redis = connect_memory(reactor, timeout=10)
    stores = Stores(redis, PREFIX)
    yield Rig(stores)
    problems = await check_layout(stores)
    await redis.close()
    assert not problems


@pytest.fixture(scope="session")
def poll_server() -> Iterator[RedisServer]:
    """One redis-server for all tests of the poller; started by the first that asks for it."""
    with RedisServer() as server:
        yield server


@pytest_twisted.async_yield_fixture(params=["memory", pytest.param("server", marks=pytest.mark.integration)])
async def impatient(request: pytest.FixtureRequest) -> AsyncIterator[Balancer]:
    """A whole balancer that does not wait long for a server, over each kind of Redis."""
    redis = None
    if request.param == "server":
        server: RedisServer = request.getfixturevalue("poll_server")
        server.command("FLUSHALL")
        redis = attrs.evolve(server.settings(), namespace=PREFIX.rstrip(":"))
    running = await Balancer.start(redis=redis, connect_timeout=0.7, response_timeout=0.7)
    yield running
    problems = await check_layout(Stores(running.parts.redis, running.settings.redis.prefix))
    await running.stop()
    assert not problems
