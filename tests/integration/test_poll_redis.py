"""The poller and a Redis that fails: elections over a real lease, and passes during which the store goes away."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from scalelite.poll.election import RENEWAL
from scalelite.poll.poller import PassReport
from scalelite.poll.service import PollService
from scalelite.store.connection import Redis, connect
from scalelite.store.errors import StoreError
from tests.integration.redis_server import RedisServer, eventually
from tests.poll.rig import Rig, until
from tests.store.layout import PREFIX, Stores

pytestmark = pytest.mark.integration


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest_twisted.async_yield_fixture()
async def redis(server: RedisServer) -> AsyncIterator[Redis]:
    redis = connect(reactor, server.settings(), timeout=0.5, data_dir=Path("/nonexistent"))
    yield redis
    await redis.close()


@pytest.fixture
def rig(redis: Redis) -> Rig:
    return Rig(Stores(redis, PREFIX))


async def _answered(rig: Rig) -> int | None:
    """How many servers a pass finds, once there is a store again."""
    answered: int = (await rig.poll()).answered
    return answered


@pytest_twisted.ensureDeferred
async def test_redis_that_dies_during_a_pass_ends_that_pass_only(rig: Rig, server: RedisServer) -> None:
    backend = await rig.add("s1")
    await rig.stores.create("m")
    answer: Deferred[bytes] = Deferred()
    backend.on["getMeetings"] = lambda *_: answer
    running = rig.begin()
    await until(lambda: backend.calls)
    server.kill()
    answer.callback(backend.answer("getMeetings", {}))
    with pytest.raises(StoreError):
        await running
    with pytest.raises(StoreError):
        await rig.poll()

    server.start()
    assert await eventually(lambda: _answered(rig), StoreError) == 0
    await rig.stores.add("s1")
    backend.on.clear()
    backend.runs("m", participants=9)
    assert (await rig.poll()).answered == 1
    assert await rig.stores.scores("server_load") == {"s1": 9}


@pytest_twisted.ensureDeferred
async def test_redis_that_hangs_during_a_pass_costs_no_more_than_its_deadline(rig: Rig, server: RedisServer) -> None:
    backend = await rig.add("s1")
    answer: Deferred[bytes] = Deferred()
    backend.on["getMeetings"] = lambda *_: answer
    running = rig.begin()
    await until(lambda: backend.calls)
    server.pause()
    answer.callback(backend.answer("getMeetings", {}))
    with pytest.raises(StoreError):
        await running
    server.resume()
    backend.on.clear()
    assert await eventually(lambda: _answered(rig), StoreError) == 1


@pytest_twisted.ensureDeferred
async def test_full_redis_that_takes_no_writes_does_not_stop_the_poller(rig: Rig, server: RedisServer) -> None:
    backend = await rig.add("s1")
    backend.runs("m", participants=9)
    server.command("CONFIG", "SET", "maxmemory", "1")
    assert (await rig.poll()).answered == 0
    server.command("CONFIG", "SET", "maxmemory", "0")
    assert (await rig.poll()).answered == 1
    assert await rig.stores.scores("server_load") == {"s1": 9}


@pytest_twisted.ensureDeferred
async def test_scripts_that_redis_has_forgotten_are_sent_again(rig: Rig, server: RedisServer) -> None:
    (await rig.add("s1")).runs("m", participants=9)
    await rig.poll()
    server.command("SCRIPT", "FLUSH")
    assert (await rig.poll()).answered == 1


class _Passes:
    def __init__(self) -> None:
        self.begun = 0

    async def run_pass(self, may_go_on: Any) -> PassReport:
        self.begun += 1
        return PassReport()


@pytest_twisted.ensureDeferred
async def test_of_two_instances_one_polls_and_the_other_takes_over(rig: Rig) -> None:
    clock = Clock()
    passes = [_Passes(), _Passes()]
    services: list[PollService] = []
    for name, poller in zip("ab", passes, strict=True):
        services.append(PollService(poller, rig.stores.leases, clock, 60.0, name))  # type: ignore[arg-type]
        services[-1].startService()
        await rig.stores.time()
    await until(lambda: services[0].election.leading)
    assert [poller.begun for poller in passes] == [1, 0]
    for _ in range(3):
        for _ in range(int(60 / RENEWAL)):
            clock.advance(RENEWAL)
            await rig.stores.time()
    assert [service.election.leading for service in services] == [True, False]
    assert passes[1].begun == 0
    assert passes[0].begun > 1

    await services[0].stopService()
    clock.advance(RENEWAL)
    await until(lambda: passes[1].begun)
    assert [service.election.leading for service in services] == [False, True]
    await services[1].stopService()
    assert await rig.stores.call("EXISTS", "balancer:lease:poller") == 0
    assert clock.getDelayedCalls() == []
