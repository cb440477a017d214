"""A lease without Redis, by a clock that the test moves."""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from scalelite.store.errors import StoreUnavailable


@attrs.define
class Leases:
    """One lease that runs out by `clock`; `down` while Redis is, `silent` while it does not answer."""

    clock: Clock
    down: bool = False
    silent: bool = False
    holder: str | None = None
    until: float = 0.0
    held_back: list[Deferred[None]] = attrs.field(factory=list)

    async def take(self, name: str, holder: str, seconds: float) -> bool:
        if self.down:
            raise StoreUnavailable("down")
        free = self.holder in (None, holder) or self.until <= self.clock.seconds()
        if free:
            self.holder, self.until = holder, self.clock.seconds() + seconds
        if self.silent:
            waiting: Deferred[None] = Deferred()
            self.held_back.append(waiting)
            await waiting
        return free

    async def release(self, name: str, holder: str) -> None:
        if self.down:
            raise StoreUnavailable("down")
        if self.holder == holder:
            self.holder = None
