"""A balancer over simulated servers whose time, answers and arrivals a test decides."""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import ExitStack
from typing import Any
from unittest import mock

import attrs
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from scalelite.simulator import Node
from tests import balancer
from tests.balancer import Balancer, reactor
from tests.model.clock import ElasticReactor

STRIDE = 3.0
"""Seconds that pass at once while calls are under way, so that answers can arrive in between."""

PATIENCE = 60.0
"""Real seconds after which a step counts as hung."""


def wait_for(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in the reactor from a test that is not one itself; its result."""
    done: Deferred[Any] = Deferred()
    reactor.callLater(0, lambda: Deferred.fromCoroutine(work).chainDeferred(done))
    watch = reactor.callLater(PATIENCE, lambda: done.errback(Hung(*where(work))))
    try:
        return pytest_twisted.blockon(done)
    finally:
        if watch.active():
            watch.cancel()


class Hung(Exception):
    """A step that waits for something that does not come."""


def where(work: Any) -> list[str]:
    """The places at which a coroutine and those that it waits for stand."""
    places = []
    while getattr(work, "cr_frame", None) is not None:
        places.append(f"{work.cr_code.co_qualname}:{work.cr_frame.f_lineno}")
        work = work.cr_await
    return places


@attrs.define
class House(Balancer):
    """A `Balancer` in which time stands still until `advance` puts it forward."""

    clock: ElasticReactor = attrs.field(factory=ElasticReactor, kw_only=True)
    _undo: ExitStack = attrs.field(factory=ExitStack, kw_only=True)

    @classmethod
    async def open(cls, **overrides: Any) -> House:
        """Start one with `Settings.for_tests(**overrides)`."""
        clock: Any = ElasticReactor()
        undo = clock.rule_memory_store()
        with mock.patch.object(balancer, "reactor", clock):
            house = await cls.start(**overrides)
        assert isinstance(house, House)
        house.clock, house._undo = clock, undo
        # Its wall clock is the program's own otherwise, and all meetings would seem young.
        house.poll.poller._now = clock.seconds
        return house

    async def stop(self) -> None:
        stopped = Deferred.fromCoroutine(super().stop())
        while not stopped.called:
            await self.advance(1)
        self._undo.close()
        await stopped

    @property
    def grace(self) -> float:
        """Seconds after which a create that nobody confirmed counts as failed."""
        return self.poll.poller._rules.limits.pending_grace

    async def advance(self, seconds: float, *, in_strides: bool = False) -> None:
        """Put time forward for all: balancer, store and servers."""
        while in_strides and seconds > STRIDE:
            self.clock.advance(STRIDE)
            await self.quiet()
            seconds -= STRIDE
        self.clock.advance(seconds)
        await self.quiet() if in_strides else await self.turn()

    async def turn(self, count: int = 3) -> None:
        """Let what is due now happen."""
        for _ in range(count):
            await deferLater(reactor, 0)

    async def quiet(self, polls: int = 1) -> None:
        """Let everything happen that needs no time; `polls`: how many calls of the poller may stay unanswered."""
        still = 0
        client = self.poll.poller._client
        for _ in range(5000):
            await self.turn(1)
            still = still + 1 if client.in_flight <= polls and not self.parts.redis.pending else 0
            if still == 25:
                return


class HeldCall:
    """The next call of `action` to a node is held back before it is carried out."""

    def __init__(self, node: Node, action: str) -> None:
        self.node = node
        self._action = action
        self._handle = node.edge.handle
        self._held: list[tuple[Any, Any]] = []
        node.edge.handle = self._hold  # type: ignore[method-assign]
        self._forget = node.forget
        node.forget = self._lose  # type: ignore[method-assign]

    @property
    def arrived(self) -> bool:
        """Whether the call has come."""
        return bool(self._held)

    def _hold(self, connection: Any, request: Any) -> None:
        if self.node.edge.name_of(request.path) == self._action:
            self._held.append((connection, request))
            self.call_off()
        else:
            self._handle(connection, request)

    def call_off(self) -> None:
        """Hold no further call."""
        if self.node.edge.handle == self._hold:
            self.node.edge.handle = self._handle  # type: ignore[method-assign]

    def _lose(self) -> None:
        """The server restarts."""
        self._held.clear()
        self._forget()

    def let_go(self) -> None:
        """Carry out what was held, though nobody may be there any more to hear the answer."""
        held, self._held = self._held, []
        for connection, request in held:
            self.node.edge.handle(connection, request)
