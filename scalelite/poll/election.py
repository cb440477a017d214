"""Which of several instances polls: the one that holds a lease in Redis."""

from __future__ import annotations

from collections.abc import Callable

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from scalelite.store.errors import StoreError
from scalelite.store.leases import LeaseStore

LEASE = 15.0
"""Seconds that a lease lasts."""

RENEWAL = LEASE / 3
"""Seconds between two tries to take or renew it: after a leader died, another takes over within LEASE + RENEWAL."""


class Election(Service):
    """Holds the lease `name` for `holder` when it can get it; `on_elected` is called each time it does."""

    _log = Logger()

    def __init__(
        self, leases: LeaseStore, clock: IReactorTime, name: str, holder: str, on_elected: Callable[[], object]
    ) -> None:
        self._leases = leases
        self._clock = clock
        self._lease = name
        self._holder = holder
        self._on_elected = on_elected
        self._valid_until = float("-inf")
        self._call = LoopingCall(self._renew)
        self._call.clock = clock
        self._asking = False

    @property
    def leading(self) -> bool:
        """Whether this instance has the lease, by its own clock."""
        return self._clock.seconds() < self._valid_until

    def startService(self) -> None:
        super().startService()
        self._call.start(RENEWAL)

    async def _give_back(self) -> None:
        if self._call.running:
            self._call.stop()
        # While Redis is being asked it may just be granting the lease, and answers in order.
        if self.leading or self._asking:
            self._valid_until = float("-inf")
            try:
                await self._leases.release(self._lease, self._holder)
            except StoreError as error:
                self._log.warn("the lease {name} runs out by itself: {error}", name=self._lease, error=error)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._give_back())

    def _renew(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._try())

    async def _try(self) -> None:
        asked = self._clock.seconds()
        was_leading = self.leading
        self._asking = True
        try:
            taken = await self._leases.take(self._lease, self._holder, LEASE)
        except StoreError as error:
            self._log.warn("could not ask for the lease {name}: {error}", name=self._lease, error=error)
            return
        finally:
            self._asking = False
        if not self.running:
            return
        self._valid_until = asked + LEASE if taken else float("-inf")
        if taken and not was_leading:
            self._log.info("this instance holds the lease {name}", name=self._lease)
            self._on_elected()
        elif was_leading and not taken:
            self._log.warn("this instance lost the lease {name}", name=self._lease)
