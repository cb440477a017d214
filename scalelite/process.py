"""What is set for the process as a whole: signals, open files, garbage collection, threads."""

from __future__ import annotations

import gc
import os
import resource
import signal
import threading
from collections.abc import Callable
from typing import Any, Final

from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.logger import Logger

#: Seconds that the end may take beyond the draining: the lease, the connections, the embedded store.
END_MARGIN: Final = 20.0
DNS_THREADS: Final = 20

_log = Logger()


def raise_file_limit() -> None:
    """Let this process and its children have as many open files as the system grants."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def settle_memory() -> None:
    """What lives at the end of the start lives for good: the garbage collector need not look at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)


class Stack(MultiService):
    """Services that start in their order, and stop in the opposite one, each only after the one above has stopped."""

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        for service in reversed(list(self)):
            await _stop(service)


class Group(MultiService):
    """Services that stop at the same time."""

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        stops = [Deferred.fromCoroutine(_stop(service)) for service in self]
        return DeferredList(stops).addCallback(lambda _: None)


async def _stop(service: IService) -> None:
    try:
        await maybeDeferred(service.stopService)
    except Exception:  # noqa: BLE001 - the others must be stopped too
        _log.failure("{service} did not stop as it should", service=service)


class Ending:
    """The first of the signals stops the reactor, with exit status 0; a second one ends the process at once.

    `abandon` is called before an end at once, for what would outlive the process. `bound`, in seconds, is how long
    the orderly end may take before it is cut short in the same way.
    """

    def __init__(self, reactor: Any, bound: float, abandon: Callable[[], object]) -> None:
        self._reactor = reactor
        self._bound = bound
        self._abandon = abandon
        self._signalled = False
        self._begun = False

    def install(self) -> None:
        """Take the signals; only once the reactor runs, since it takes some of them when it starts."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            # nohup has SIGHUP ignored, and is to be respected.
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._received)

    def _received(self, number: int, _frame: object) -> None:
        if self._signalled:
            self._end(128 + number, "ended at once by a second signal")
        self._signalled = True
        self._reactor.callFromThread(self.begin, f"received {signal.Signals(number).name}")

    def begin(self, why: str) -> None:
        """Stop the reactor, and see to it that the end is reached."""
        if self._begun:
            return
        self._begun = True
        _log.info("stopping: {why}", why=why)
        # A thread, since it must work even if the reactor is stuck, or waits for a thread that looks up a name.
        watch = threading.Timer(self._bound, self._end, (1, "the end took too long, and was cut short"))
        watch.daemon = True
        watch.start()
        self._reactor.stop()

    def _end(self, status: int, message: str) -> None:
        try:
            self._abandon()
            os.write(2, f"scalelite: {message}\n".encode())
        finally:
            os._exit(status)
