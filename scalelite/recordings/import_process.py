"""An import process, seen from the program: imports run beside it, so that they never hold up a request."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from scalelite.recordings.import_messages import (
    MAX_LINE,
    Done,
    Event,
    Job,
    NoMessage,
    Ready,
    Step,
    Trouble,
    Warned,
    decode_event,
    encode_job,
)
from scalelite.recordings.importer import Outcome

#: Seconds until a process must be ready for its first job.
START: Final = 60.0
#: Seconds without any progress after which an import is given up. A disk may take long to flush a long film.
STUCK: Final = 3600.0


class ImportTrouble(Exception):
    """A job could not be done, and not for the tar's fault: it stays where it is."""


class ImportDied(Exception):
    """The process died over its tar, or was ended since it made no progress."""


class ImportProcess:
    """Runs jobs, one at a time, in a process that it starts when there is one.

    `command` is run in the folder `path` with the environment `environ`.
    """

    _log = Logger()

    def __init__(self, reactor: Any, command: Sequence[str], environ: Mapping[str, str], path: Path) -> None:
        self._reactor = reactor
        self._command = list(command)
        self._environ = dict(environ)
        self._path = path
        self._running: _Process | None = None
        self._closing = False
        self._result: Deferred[Outcome | None] | None = None
        self._on_step: Callable[[Step], object] = lambda step: None
        self._last: Step | None = None
        self._timer: IDelayedCall | None = None
        self._why = ""
        self._ended: list[Deferred[None]] = []

    @property
    def pid(self) -> int | None:
        """The process; None if there is none."""
        return None if self._running is None else self._running.pid

    async def run(self, job: Job, on_step: Callable[[Step], object]) -> Outcome | None:
        """What came of a job. Raises ImportTrouble and ImportDied."""
        assert self._result is None, "one job at a time"
        if self._closing:
            await self.ended()
        self._on_step, self._last = on_step, None
        self._result = Deferred()
        try:
            if self._running is None:
                self._start()
            else:
                self._wait(STUCK)
            assert self._running is not None
            result = self._result
            self._running.send(job)
            return await result
        finally:
            self._result = None
            self._wait(None)

    def close(self) -> None:
        """Let the process end once its job is done."""
        if self._running is not None:
            self._closing = True
            self._running.close()

    def kill(self) -> None:
        """End the process at once: a job can be done again."""
        if self._running is not None:
            self._running.kill()

    def ended(self) -> Deferred[None]:
        """Fires once there is no process any more."""
        waiting: Deferred[None] = Deferred()
        if self._running is None:
            waiting.callback(None)
        else:
            self._ended.append(waiting)
        return waiting

    def _start(self) -> None:
        process = _Process(self._heard, self._over)
        try:
            self._reactor.spawnProcess(
                process,
                self._command[0],
                self._command,
                env=self._environ,
                path=str(self._path),
                childFDs={0: "w", 1: "r", 2: "r"},
            )
        except OSError as error:
            # No memory, no process, no file left: it may pass.
            raise ImportTrouble(f"an import process could not be started: {error.strerror}") from error
        self._running, self._why = process, ""
        self._wait(START)

    def _wait(self, seconds: float | None) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None if seconds is None else self._reactor.callLater(seconds, self._overdue, seconds)

    def _overdue(self, seconds: float) -> None:
        self._why = f"it made no progress for {seconds:g} s"
        self.kill()

    def _heard(self, event: Event) -> None:
        match event:
            case Warned(text=text):
                self._log.warn("an import goes on in spite of this: {text}", text=text)
            case _ if self._result is None:
                return
            case Ready():
                self._wait(STUCK)
            case Step():
                if event != self._last:
                    self._last = event
                    self._wait(STUCK)
                self._on_step(event)
            case Done(outcome=outcome):
                self._answer(outcome)
            case Trouble(text=text):
                self._answer(Failure(ImportTrouble(text)))

    def _answer(self, result: Outcome | Failure | None) -> None:
        waiting, self._result = self._result, None
        if waiting is not None:
            waiting.callback(result)

    def _over(self, process: _Process, failure: Failure) -> None:
        self._running, self._closing = None, False
        why = self._why or process.fault or _in_words(failure)
        if process.complaints:
            self._log.error("an import process said: {text}", text=process.complaints)
        # Before it was ready it knew nothing of the tar.
        kind = ImportDied if process.ready else ImportTrouble
        self._answer(Failure(kind(f"the import process ended: {why}")))
        ended, self._ended = self._ended, []
        for waiting in ended:
            waiting.callback(None)


class _Process(ProcessProtocol):
    """Reads lines from the process, and writes them to it."""

    def __init__(self, heard: Callable[[Event], None], over: Callable[[_Process, Failure], None]) -> None:
        self._heard = heard
        self._over = over
        self._rest = b""
        self.pid: int | None = None
        self.ready = False
        self.fault = ""
        self.complaints = ""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.pid = self.transport.pid

    def send(self, job: Job) -> None:
        if self.transport is not None:
            self.transport.write(encode_job(job))

    def close(self) -> None:
        if self.transport is not None:
            self.transport.closeStdin()

    def kill(self) -> None:
        if self.transport is not None:
            with suppress(ProcessExitedAlready):
                self.transport.signalProcess("KILL")

    def outReceived(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE:
            lines, self._rest = [self._rest], b""
        for line in lines:
            try:
                event = decode_event(line)
            except NoMessage as error:
                self.fault = str(error)
                self.kill()
                return
            self.ready = self.ready or isinstance(event, Ready)
            self._heard(event)

    def errReceived(self, data: bytes) -> None:
        self.complaints = (self.complaints + data.decode("utf-8", "replace"))[-4000:]

    def processEnded(self, reason: Failure) -> None:
        self._over(self, reason)


def _in_words(failure: Failure) -> str:
    number = getattr(failure.value, "signal", None)
    if number is not None:
        return f"by {signal.Signals(number).name}"
    return f"with status {getattr(failure.value, 'exitCode', None)}"
