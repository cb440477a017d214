"""A balancer that the tests of a module share, where they leave nothing behind in it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_twisted

from tests.balancer import Balancer


@pytest_twisted.async_yield_fixture(scope="module")
async def shared() -> AsyncIterator[Balancer]:
    """A balancer with no servers, for tests that change nothing."""
    running = await Balancer.start()
    yield running
    await running.stop()
