"""Listens for clients, keeps the access log flowing, and drains at the end."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from scalelite.api.site import BalancerSite
from scalelite.settings import Listen

BACKLOG = 1024
FLUSH_EVERY = 0.5


def bind(listen: Listen) -> socket.socket:
    """A listening, non-blocking socket for one address of BIND. Raises OSError."""
    if listen.kind == "unix":
        assert listen.path is not None
        return _bind_unix(listen.path, listen.umask)
    family = socket.AF_INET6 if ":" in (listen.host or "") else socket.AF_INET
    listening = socket.create_server((listen.host or "", listen.port or 0), family=family, backlog=BACKLOG)
    listening.setblocking(False)
    return listening


def _bind_unix(path: str, umask: int | None) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _stale(path):
            os.unlink(path)
        before = os.umask(0o117 if umask is None else umask)
        try:
            listening.bind(path)
        finally:
            os.umask(before)
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    listening.setblocking(False)
    return listening


def _stale(path: str) -> bool:
    """Whether a socket file is left over from a process that is gone."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
            trial.settimeout(1)
            trial.connect(path)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


class WebService(Service):
    """Serves `site` on sockets that are bound before privileges are dropped, or handed in as `sockets`."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        site: BalancerSite,
        listens: Sequence[Listen],
        drain_timeout: float,
        sockets: Sequence[socket.socket] = (),
    ) -> None:
        self._reactor = reactor
        self.site = site
        self._listens = listens
        self._drain_timeout = drain_timeout
        self._sockets = list(sockets)
        self._ports: list[IListeningPort] = []
        self._flush = LoopingCall(site.flush_log)
        self._flush.clock = reactor

    def privilegedStartService(self) -> None:
        super().privilegedStartService()
        if not self._sockets:
            self._sockets = [bind(listen) for listen in self._listens]

    def startService(self) -> None:
        super().startService()
        if not self._sockets:
            self._sockets = [bind(listen) for listen in self._listens]
        for listening in self._sockets:
            self._ports.append(self._reactor.adoptStreamPort(listening.fileno(), listening.family, self.site))
            listening.close()
        self._sockets = []
        self._flush.start(FLUSH_EVERY)

    @property
    def addresses(self) -> list[Any]:
        """Where it listens, once started."""
        return [port.getHost() for port in self._ports]

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        for port in self._ports:
            await maybeDeferred(port.stopListening)
        if not await self.site.drain(self._drain_timeout):
            self._log.warn("{count} requests were cut off at the end", count=self.site.active)
        if self._flush.running:
            self._flush.stop()
        self.site.flush_log()
