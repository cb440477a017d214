"""A worker process: serves clients on inherited sockets until its supervisor lets go of it. Run by the supervisor."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.task import LoopingCall
from twisted.logger import Logger, globalLogBeginner
from twisted.python.failure import Failure

from scalelite.api.listening import Listening
from scalelite.api.service import WebService
from scalelite.archive import shared_services
from scalelite.composition import Connections, build_parts, web_site
from scalelite.log import LogChoice
from scalelite.process import DNS_THREADS, END_MARGIN, Ending, Stack, settle_memory
from scalelite.settings import SettingsError, load_settings
from scalelite.workers import BEAT, FIRST_SOCKET, LIFELINE, PULSE

_log = Logger()


class Lifeline(FileDescriptor):
    """The pipe whose other end only the supervisor has: `ended` is called once it is closed."""

    def __init__(self, reactor: Any, descriptor: int, ended: Callable[[], object]) -> None:
        super().__init__(reactor)
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._ended = ended

    def fileno(self) -> int:
        return self._descriptor

    def logPrefix(self) -> str:
        return "lifeline"

    def doRead(self) -> Exception | None:
        # A pipe that was only hung up does not get here: the reactor calls connectionLost by itself.
        return None if os.read(self._descriptor, 1024) else CONNECTION_DONE

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)
        os.close(self._descriptor)
        self._ended()


class Pulse:
    """Signs of life for the supervisor. One that can't be written is left out: the supervisor is busy, or gone."""

    def __init__(self, reactor: Any, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._call = LoopingCall(self._beat)
        self._call.clock = reactor

    def start(self) -> None:
        """Begin at once: the first one says that connections are accepted."""
        self._call.start(BEAT)

    def _beat(self) -> None:
        try:
            os.write(self._descriptor, b".")
        except (BlockingIOError, BrokenPipeError) as error:
            _log.debug("a sign of life was left out: {error}", error=str(error))


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """What the supervisor says; everything else is in the environment."""
    parser = argparse.ArgumentParser(prog="scalelite.worker", description=__doc__)
    parser.add_argument("--number", type=int, required=True)
    parser.add_argument("--sockets", type=int, required=True)
    LogChoice.add_arguments(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Serve until the lifeline ends. The exit status: 2 for settings that have become unusable, 1 for other trouble."""
    # Away from the terminal: the supervisor has blocked its signals until here, and for good.
    os.setsid()
    given = arguments(argv)
    sockets = [socket.socket(fileno=FIRST_SOCKET + i) for i in range(given.sockets)]
    try:
        settings = load_settings(os.environ, root=Path.cwd())
    except SettingsError as error:
        sys.stderr.write(f"scalelite: worker {given.number} cannot start: {'; '.join(error.problems)}\n")
        return 2

    from twisted.internet import reactor as installed

    reactor: Any = installed
    parts = build_parts(reactor, settings)
    # Before the log begins: it puts itself in the place of the standard output that the access log may want.
    site = web_site(parts)
    globalLogBeginner.beginLoggingTo([LogChoice.of(given).observer(settings, worker=given.number)])
    stack = Stack()
    parts.redis.setServiceParent(stack)
    for shared in () if parts.archive is None else shared_services(parts.archive):
        shared.setServiceParent(stack)
    for delivering in parts.notices.services:
        delivering.setServiceParent(stack)
    Connections(parts.pools).setServiceParent(stack)
    WebService(reactor, site, Listening(sockets), settings.drain_timeout).setServiceParent(stack)
    ending = Ending(reactor, settings.drain_timeout + END_MARGIN, site.flush_log)
    lifeline = Lifeline(reactor, LIFELINE, lambda: ending.begin("the supervisor ends it"))
    pulse = Pulse(reactor, PULSE)
    failed: list[Failure] = []

    def running() -> None:
        # A SIGTERM may come from a service manager as well as from an operator: more than one means no more.
        signal.signal(signal.SIGTERM, lambda *_: reactor.callFromThread(ending.begin, "received SIGTERM"))
        try:
            stack.startService()
        except Exception:  # noqa: BLE001 - whatever it is, the supervisor must learn of it
            failed.append(Failure())
            _log.failure("the worker cannot start", failure=failed[0])
            ending.begin("it cannot start")
            return
        lifeline.startReading()
        settle_memory()
        pulse.start()

    reactor.suggestThreadPoolSize(DNS_THREADS)
    reactor.addSystemEventTrigger("before", "shutdown", stack.stopService)
    reactor.callWhenRunning(running)
    reactor.run()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
