"""Serves clients, keeps the access log flowing, and drains at the end."""

from __future__ import annotations

from typing import Any

from twisted.application.service import Service
from twisted.internet import tcp
from twisted.internet.defer import Deferred
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from scalelite.api.listening import Listening, serve
from scalelite.api.site import BalancerSite

FLUSH_EVERY = 0.5
#: Idle connections are closed at the end only after so many times so many seconds.
LINGERS = 5
LINGER = 0.05


class WebService(Service):
    """Serves `site` on the sockets of `listening`; `drain_timeout` in seconds is how long the end may take."""

    name = "web"
    _log = Logger()

    def __init__(self, reactor: Any, site: BalancerSite, listening: Listening, drain_timeout: float) -> None:
        self._reactor = reactor
        self.site = site
        self._listening = listening
        self._drain_timeout = drain_timeout
        self._ports: list[tcp.Port] = []
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
            self._close(port)
        # From here on every answer closes its connection. A client that is just sending the next request on a
        # connection that seems idle gets its answer, if it is not kept waiting for long.
        self.site.draining = True
        for _ in range(LINGERS):
            if not self.site.channels:
                break
            await deferLater(self._reactor, LINGER)
        if self.site.active:
            self._log.info("{count} requests are being finished", count=self.site.active)
        if not await self.site.drain(self._drain_timeout):
            self._log.warn(
                "{count} requests were cut off after {seconds:g} s", count=self.site.active, seconds=self._drain_timeout
            )
        if self._flush.running:
            self._flush.stop()
        self.site.flush_log()

    def _close(self, port: tcp.Port) -> None:
        """Accept whom the kernel has let in already, and then close: the other way round, they would be reset."""
        port.stopReading()
        known = -1
        while known != len(self.site.channels):
            known = len(self.site.channels)
            port.doRead()
        # At once: stopListening would leave time for others to come.
        port.connectionLost(Failure(CONNECTION_DONE))
