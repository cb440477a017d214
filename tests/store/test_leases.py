"""Leases: of several instances, one holds it."""

from __future__ import annotations

import time

import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from tests.store.layout import Stores


@pytest_twisted.ensureDeferred
async def test_only_one_of_many_takes_it(stores: Stores) -> None:
    takes = [Deferred.fromCoroutine(stores.leases.take("poller", f"h{i}", 15)) for i in range(5)]
    assert await gatherResults(takes) == [True, False, False, False, False]
    assert await stores.leases.take("importer", "h1", 15)


@pytest_twisted.ensureDeferred
async def test_holder_renews_it(stores: Stores) -> None:
    await stores.leases.take("poller", "h0", 1)
    assert await stores.leases.take("poller", "h0", 100)
    assert 90_000 < await stores.call("PTTL", "balancer:lease:poller") <= 100_000


@pytest_twisted.ensureDeferred
async def test_others_get_it_once_it_has_run_out(stores: Stores) -> None:
    await stores.leases.take("poller", "h0", 15)
    await stores.call("PEXPIREAT", "balancer:lease:poller", 1)
    assert await stores.leases.take("poller", "h1", 15)
    assert not await stores.leases.take("poller", "h0", 15)


@pytest_twisted.ensureDeferred
async def test_only_its_holder_gives_it_back(stores: Stores) -> None:
    await stores.leases.take("poller", "h0", 15)
    await stores.leases.release("poller", "h1")
    assert not await stores.leases.take("poller", "h1", 15)
    await stores.leases.release("poller", "h0")
    assert await stores.leases.take("poller", "h1", 15)
    await stores.leases.release("nothing", "h1")


@pytest_twisted.ensureDeferred
async def test_clock_is_that_of_redis_in_seconds_since_1970(stores: Stores) -> None:
    assert abs(await stores.leases.now() - time.time()) < 60
