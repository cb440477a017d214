"""A scripted pool over a store in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_twisted
from twisted.internet import reactor

from scalelite.store.connection import connect_memory
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
