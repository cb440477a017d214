"""A balancer that the tests of a module share, where they leave nothing behind in it."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator

import pytest
import pytest_twisted

from tests.balancer import Balancer


@pytest.fixture(scope="session", autouse=True)
def _modules_are_no_garbage() -> None:
    """Each test looks for garbage; what was imported need not be looked through a thousand times."""
    gc.collect()
    gc.freeze()


@pytest_twisted.async_yield_fixture(scope="module")
async def shared() -> AsyncIterator[Balancer]:
    """A balancer with no servers, for tests that change nothing."""
    running = await Balancer.start()
    yield running
    await running.stop()
