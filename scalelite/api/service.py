"""Serves clients, keeps the access log flowing, and drains at the end."""

from __future__ import annotations

from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from scalelite.api.listening import Listening, serve
from scalelite.api.site import BalancerSite

FLUSH_EVERY = 0.5


class WebService(Service):
    """Serves `site` on the sockets of `listening`; `drain_timeout` in seconds is how long the end may take."""

    name = "web"
    _log = Logger()

    def __init__(self, reactor: Any, site: BalancerSite, listening: Listening, drain_timeout: float) -> None:
        self._reactor = reactor
        self.site = site
        self._listening = listening
        self._drain_timeout = drain_timeout
        self._ports: list[IListeningPort] = []
        self._flush = LoopingCall(site.flush_log)
        self._flush.clock = reactor

    def startService(self) -> None:
        super().startService()
        for listening in self._listening.sockets:
            self._ports.append(serve(self._reactor, listening, self.site))
        self._flush.start(FLUSH_EVERY)

    @property
    def addresses(self) -> list[Any]:
        """Where it listens, once started."""
        return [port.getHost() for port in self._ports]

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._listening.close()
        for port in self._ports:
            await maybeDeferred(port.stopListening)
        if self.site.active:
            self._log.info("{count} requests are being finished", count=self.site.active)
        if not await self.site.drain(self._drain_timeout):
            self._log.warn(
                "{count} requests were cut off after {seconds:g} s", count=self.site.active, seconds=self._drain_timeout
            )
        if self._flush.running:
            self._flush.stop()
        self.site.flush_log()
