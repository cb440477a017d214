"""Removes uploads that were given up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

#: Seconds from one look to the next.
INTERVAL: Final = 3600.0


class UploadSweeper(Service):
    """Calls `sweep`, which tells how many were removed, at the start and every hour."""

    name = "uploads"
    _log = Logger()

    def __init__(self, clock: IReactorTime, sweep: Callable[[], Deferred[int]]) -> None:
        self._sweep = sweep
        self._loop = LoopingCall(self._turn)
        self._loop.clock = clock
        self._running: Deferred[None] | None = None

    def startService(self) -> None:
        super().startService()
        self._loop.start(INTERVAL)

    def stopService(self) -> Deferred[None] | None:
        super().stopService()
        self._loop.stop()
        return self._running

    def _turn(self) -> Deferred[None]:
        self._running = Deferred.fromCoroutine(self._once())
        return self._running

    async def _once(self) -> None:
        try:
            removed = await self._sweep()
        except OSError as error:
            self._log.error("uploads that were given up cannot be removed: {error}", error=error)
            return
        if removed:
            self._log.info("{count} uploads that were given up, or complete for a day, are forgotten", count=removed)
