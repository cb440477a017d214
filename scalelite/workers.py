"""Worker processes: they inherit the sockets, serve clients, and are replaced when they die.

Each is held by two pipes. The supervisor closes the first one (or its own death does): the worker then finishes what
is in flight and ends. Into the second one the worker writes now and then, to show that it is not stuck.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from scalelite.api.listening import Listening

#: Descriptors in the worker: the pipe that ends with the supervisor, the one for signs of life, the first socket.
LIFELINE: Final = 3
PULSE: Final = 4
FIRST_SOCKET: Final = 5

_FROM_THE_TERMINAL: Final = (signal.SIGINT, signal.SIGHUP)

#: Seconds between two signs of life, and how many may be missing.
BEAT: Final = 5.0
MISSING_BEATS: Final = 12
#: Seconds before the first and, at most, before any other replacement.
FIRST_DELAY: Final = 0.1
MAX_DELAY: Final = 10.0
#: Seconds after which a worker counts as having started well.
STEADY: Final = 10.0
#: Seconds that a worker has for its end beyond the draining.
END_MARGIN: Final = 8.0


class Supervisor(Service):
    """Keeps `count` workers on the sockets of `listening`, each one a `command` run in the folder `path`.

    `environ` is the workers' environment. `drain_timeout` in seconds.
    """

    name = "workers"
    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        listening: Listening,
        count: int,
        command: Sequence[str],
        environ: Mapping[str, str],
        path: Path,
        drain_timeout: float,
    ) -> None:
        self._reactor = reactor
        self._listening = listening
        self._count = count
        self._command = list(command)
        self._environ = dict(environ)
        self._path = path
        self._drain_timeout = drain_timeout
        self._workers: set[_Worker] = set()
        self._spawns: set[IDelayedCall] = set()
        self._failures: dict[int, int] = {}
        self._all_ended: Deferred[None] | None = None
        self._watch = LoopingCall(self._look)
        self._watch.clock = reactor

    @property
    def pids(self) -> list[int]:
        """The processes of the workers."""
        return sorted(worker.pid for worker in self._workers if worker.pid is not None)

    def startService(self) -> None:
        super().startService()
        for number in range(1, self._count + 1):
            self._spawn(number)
        self._watch.start(BEAT, now=False)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        # Here first: as long as any process has them open, the kernel goes on taking connections.
        self._listening.close()
        self._watch.stop()
        for spawn in self._spawns:
            spawn.cancel()
        self._spawns.clear()
        if not self._workers:
            return
        self._all_ended = Deferred()
        kill = self._reactor.callLater(self._drain_timeout + END_MARGIN, self._overdue)
        for worker in self._workers:
            worker.release()
        await self._all_ended
        if kill.active():
            kill.cancel()

    def _overdue(self) -> None:
        for worker in self._workers:
            self._log.error("worker {worker} (process {process}) did not end", worker=worker.number, process=worker.pid)
        self.kill()

    def kill(self) -> None:
        """End all workers at once."""
        for pid in self.pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _spawn(self, number: int) -> None:
        worker = _Worker(self, number, self._reactor.seconds())
        sockets = {FIRST_SOCKET + i: listening.fileno() for i, listening in enumerate(self._listening.sockets)}
        self._workers.add(worker)
        # Inherited, and so in force before the worker has said a word: what the terminal sends is for us alone.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _FROM_THE_TERMINAL)
        try:
            self._reactor.spawnProcess(
                worker,
                self._command[0],
                [*self._command, f"--number={number}", f"--sockets={len(sockets)}"],
                env=self._environ,
                path=str(self._path),
                childFDs={0: 0, 1: 1, 2: 2, LIFELINE: "w", PULSE: "r", **sockets},
            )
        except OSError as error:
            # No memory, no process, no file left: it may pass.
            self._workers.discard(worker)
            self._again(worker, f"it could not be started: {error.strerror}")
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _look(self) -> None:
        # By turns and not by the clock: a machine that slept must not find all its workers too late.
        for worker in list(self._workers):
            worker.missing += 1
            if worker.missing > MISSING_BEATS:
                worker.reason = f"it was stuck for {MISSING_BEATS * BEAT:g} s"
                worker.kill()

    def up(self, worker: _Worker) -> None:
        """Called when a worker accepts connections."""
        self._log.info("worker {worker} (process {process}) is up", worker=worker.number, process=worker.pid)

    def ended(self, worker: _Worker, failure: Failure) -> None:
        """Called when a worker has ended; replaces it unless the service is stopping."""
        self._workers.discard(worker)
        if self._all_ended is not None:
            if not self._workers:
                ended, self._all_ended = self._all_ended, None
                ended.callback(None)
            return
        if self.running:
            self._again(worker, worker.reason or _in_words(failure))

    def _again(self, worker: _Worker, reason: str) -> None:
        steady = self._reactor.seconds() - worker.started >= STEADY
        failures = 0 if steady else self._failures.get(worker.number, 0)
        self._failures[worker.number] = failures + 1
        delay = min(MAX_DELAY, FIRST_DELAY * 2 ** min(failures, 10))
        self._log.error(
            "worker {worker} (process {process}) is replaced in {delay:g} s: {reason}",
            worker=worker.number,
            process=worker.pid,
            delay=delay,
            reason=reason,
        )
        call = self._reactor.callLater(delay, self._replace, worker.number)
        self._spawns.add(call)

    def _replace(self, number: int) -> None:
        self._spawns = {call for call in self._spawns if call.active()}
        self._spawn(number)


class _Worker(ProcessProtocol):
    """One worker process, seen from the supervisor."""

    def __init__(self, supervisor: Supervisor, number: int, started: float) -> None:
        self._supervisor = supervisor
        self.number = number
        self.started = started
        self.pid: int | None = None
        self.missing = 0
        self.reason: str | None = None
        self._up = False

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.pid = self.transport.pid

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self.missing = 0
        if not self._up:
            self._up = True
            self._supervisor.up(self)

    def release(self) -> None:
        """Let it finish what is in flight, and end."""
        if self.transport is not None:
            self.transport.closeChildFD(LIFELINE)

    def kill(self) -> None:
        if self.transport is not None:
            with suppress(ProcessExitedAlready):
                self.transport.signalProcess("KILL")

    def processEnded(self, reason: Failure) -> None:
        self._supervisor.ended(self, reason)


def _in_words(failure: Failure) -> str:
    """How a process ended."""
    number = getattr(failure.value, "signal", None)
    if number is not None:
        return f"it was ended by {signal.Signals(number).name}"
    return f"it ended with status {getattr(failure.value, 'exitCode', None)}"


def worker_command() -> list[str]:
    """The command that a worker is run by: this interpreter, with nothing of the current folder in its way."""
    return [sys.executable, "-P", "-m", "scalelite.worker"]


def worker_environ(environ: Mapping[str, str], access_log: str, redis_url: str | None) -> dict[str, str]:
    """`environ` with this process's import path and access log, and with `redis_url` for the embedded store."""
    changed = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "SCALELITE_ACCESS_LOG": access_log}
    if redis_url is not None:
        changed["REDIS_URL"] = redis_url
    return {**environ, **changed}
