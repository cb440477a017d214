"""Imports what comes into the spool, on the instance that was elected."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from scalelite.recordings.import_messages import Job, Step
from scalelite.recordings.import_process import ImportDied, ImportProcess, ImportTrouble
from scalelite.recordings.importer import Outcome, Result
from scalelite.recordings.spool import Spool, SpoolError
from scalelite.store.errors import StoreError

T = TypeVar("T")

#: Seconds between two looks whether anything came into the spool; such a look is one call of the system.
LOOK: Final = 1.0
#: Seconds between two lines in the log about an import that goes on.
TELL: Final = 10.0
#: Seconds without work after which import processes are let go.
IDLE: Final = 60.0
#: Seconds that processes without work get to end.
ENDING: Final = 5.0


class Election(Protocol):
    """Whether this instance is the one that imports; a service."""

    @property
    def leading(self) -> bool: ...
    def startService(self) -> None: ...
    def stopService(self) -> Deferred[None]: ...


class InThread(Protocol):
    """Calls a function in a thread."""

    def __call__(self, work: Callable[..., T], *args: Any) -> Deferred[T]: ...


class Observer(Protocol):
    """Is told how imports go on, for a terminal."""

    def step(self, name: str, step: Step) -> None:
        """The import of the tar `name` goes on."""

    def done(self, name: str, outcome: Outcome | None, seconds: float) -> None:
        """The import of the tar `name` is over; `outcome` is None where it could not be tried."""


class _Nobody:
    def step(self, name: str, step: Step) -> None:
        """Nobody looks."""

    def done(self, name: str, outcome: Outcome | None, seconds: float) -> None:
        """Nobody looks."""


class ImportService(Service):
    """Looks into the spool every `interval` seconds, and soon after anything came; imports in `processes`.

    `database_ready` fails with a StoreError while imports would be in vain. `drain_timeout`, in seconds, is how long
    imports under way may take at a stop; they are done again later if that was not enough.
    """

    name = "importer"
    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        in_thread: InThread,
        spool: Spool,
        processes: Sequence[ImportProcess],
        database_ready: Callable[[], Awaitable[object]],
        election: Election,
        *,
        interval: float,
        drain_timeout: float,
        observer: Observer | None = None,
    ) -> None:
        self._clock = clock
        self._in_thread = in_thread
        self._spool = spool
        self._processes = list(processes)
        self._database_ready = database_ready
        self._interval = interval
        self._drain_timeout = drain_timeout
        self._observer: Observer = observer or _Nobody()
        self.election = election
        self._loops = [self._loop(self._turn), self._loop(self._look)]
        self._pass: Deferred[None] | None = None
        self._waiting: list[Deferred[None]] = []
        self._seen: int | None = None
        self._recovered = False
        self._stopping = False
        self._idle: IDelayedCall | None = None
        self._results: Counter[Result] = Counter()
        #: Tars that met trouble. They go last: one that meets it again and again must not keep others waiting.
        self._troubled: set[str] = set()

    def _loop(self, turn: Callable[[], Deferred[None] | None]) -> LoopingCall:
        call = LoopingCall(turn)
        call.clock = self._clock
        return call

    def startService(self) -> None:
        super().startService()
        self.election.startService()
        for loop, interval in zip(self._loops, (self._interval, min(LOOK, self._interval)), strict=True):
            loop.start(interval, now=False)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        """Let imports under way finish, as long as there is time; then another instance may have the lease."""
        self._stopping = True
        for loop in self._loops:
            if loop.running:
                loop.stop()
        busy = self._pass is not None
        kill = self._clock.callLater(self._drain_timeout if busy else ENDING, self._cut_short)
        for process in self._processes:
            process.close()
        await DeferredList([process.ended() for process in self._processes])
        if self._pass is not None:
            await self.import_now()
        if kill.active():
            kill.cancel()
        self._keep_processes()
        await self.election.stopService()
        self._stopping = False

    def _cut_short(self) -> None:
        if self._pass is not None:
            self._log.warn("imports under way are broken off; they will be done again")
        for process in self._processes:
            process.kill()

    def import_now(self) -> Deferred[None]:
        """Import all that waits, or wait for the pass under way; whether elected or not."""
        if self._pass is None:
            self._pass = Deferred.fromCoroutine(self._run())
            self._pass.addBoth(self._passed)
        waiter: Deferred[None] = Deferred()
        if self._pass is None:
            waiter.callback(None)
        else:
            self._waiting.append(waiter)
        return waiter

    async def import_all_now(self) -> Counter[Result]:
        """Import all that waits; how many tars came to which result. For commands."""
        self._results = Counter()
        await self.import_now()
        return self._results

    def elected(self) -> None:
        """To be called when this instance is elected: another one may have died over its work."""
        self._recovered = False
        self.import_now()

    def _passed(self, outcome: object) -> None:
        self._pass = None
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(None)

    def _turn(self) -> Deferred[None] | None:
        return self.import_now() if self.election.leading else None

    def _look(self) -> Deferred[None] | None:
        if self._pass is not None or not self.election.leading:
            return None
        return Deferred.fromCoroutine(self._look_for_changes())

    async def _look_for_changes(self) -> None:
        try:
            changed = await self._in_thread(self._spool.last_change) != self._seen
        except OSError:
            # The next pass tells.
            return
        if changed and self.election.leading and not self._stopping:
            await self.import_now()

    async def _run(self) -> None:
        elected = self.election.leading

        def may_go_on() -> bool:
            return not self._stopping and (self.election.leading or not elected)

        try:
            await self._in_thread(self._spool.prepare)
            # Before the list is made: what comes meanwhile is noticed afterwards.
            self._seen = await self._in_thread(self._spool.last_change)
            await self._database_ready()
            await self._import_all(may_go_on)
        except StoreError as error:
            self._log.error("recordings are not imported for now: {error}", error=error)
        except (SpoolError, OSError) as error:
            self._log.error("the spool folder cannot be used: {error}", error=error)
        except ImportTrouble as error:
            self._log.error("recordings are not imported for now: {error}", error=error)
        except Exception:  # noqa: BLE001 - the next pass may go better; the service must live
            self._log.failure("a pass over the spool failed")
        self._let_go_later()

    async def _import_all(self, may_go_on: Callable[[], bool]) -> None:
        if not may_go_on():
            return
        if not self._recovered:
            await self._in_thread(self._spool.recover)
        found = await self._in_thread(self._spool.waiting)
        self._troubled.intersection_update(path.name for path in found)
        paths = deque(sorted(found, key=lambda path: path.name in self._troubled))
        if not paths or not may_go_on():
            return
        self._keep_processes()
        if not self._recovered:
            await self._processes[0].run(Job(None), lambda step: None)
            self._recovered = True
        lanes = self._processes[: len(paths)]
        await gatherResults([Deferred.fromCoroutine(self._work(process, paths, may_go_on)) for process in lanes])

    async def _work(self, process: ImportProcess, paths: deque[Path], may_go_on: Callable[[], bool]) -> None:
        while paths and may_go_on():
            path = paths.popleft()
            try:
                await self._import(process, path)
            except (ImportTrouble, SpoolError, OSError) as error:
                # It's nothing that the next tar would not meet as well, most likely.
                paths.clear()
                self._troubled.add(path.name)
                if not self._stopping:
                    self._log.error(
                        "{tar} could not be imported for now, and stays where it is: {error}",
                        tar=path.name,
                        error=str(error),
                    )

    async def _import(self, process: ImportProcess, path: Path) -> None:
        name = path.name.removesuffix(".tar")
        progress = _Progress(self._clock, self._log, self._observer, name)
        outcome: Outcome | None = None
        try:
            outcome = await process.run(Job(path), progress.step)
        except ImportDied as error:
            if self._stopping:
                return
            outcome = await self._in_thread(partial(fail_tar, self._spool, path, str(error)))
        finally:
            self._observer.done(name, outcome, progress.seconds)
        if outcome is not None:
            self._results[outcome.result] += 1
            self._tell(outcome, progress.seconds)

    def _tell(self, outcome: Outcome, seconds: float) -> None:
        about = {"tar": f"{outcome.name}.tar", "recording": outcome.record_id, "reason": outcome.reason}
        match outcome.result:
            case Result.IMPORTED:
                self._log.info(
                    "imported {recording}: {formats}, {size} bytes in {seconds:.2f} s, {state}",
                    formats=", ".join(outcome.formats),
                    size=outcome.size,
                    seconds=seconds,
                    state="published" if outcome.published else "unpublished",
                    **about,
                )
            case Result.REPEATED:
                self._log.info("{tar} was imported before the program ended, and is removed now", **about)
            case Result.DELETED:
                self._log.info("{recording} was deleted and stays so; {tar} is removed", **about)
            case Result.TAKEN:
                self._log.info("{tar} is in other hands", **about)
            case Result.UNFINISHED:
                self._log.info("{tar} may not be all there yet ({reason}), and is left for later", **about)
            case Result.FAILED:
                self._log.error(
                    "could not import {tar}: {reason}; it is kept in the folder `failed` and tried again", **about
                )

    def _keep_processes(self) -> None:
        if self._idle is not None and self._idle.active():
            self._idle.cancel()
        self._idle = None

    def _let_go_later(self) -> None:
        if self._idle is None and not self._stopping:
            self._idle = self._clock.callLater(IDLE, self._let_go)

    def _let_go(self) -> None:
        self._idle = None
        if self._pass is None:
            for process in self._processes:
                process.close()


class _Progress:
    """Tells of an import that goes on, not too often."""

    def __init__(self, clock: IReactorTime, log: Logger, observer: Observer, name: str) -> None:
        self._clock = clock
        self._log = log
        self._observer = observer
        self._name = name
        self._started = self._told = clock.seconds()

    @property
    def seconds(self) -> float:
        return self._clock.seconds() - self._started

    def step(self, step: Step) -> None:
        self._observer.step(self._name, step)
        if self._clock.seconds() - self._told < TELL:
            return
        self._told = self._clock.seconds()
        self._log.info(
            "importing {tar} for {seconds:.0f} s: {step}, {done} of {total}",
            tar=f"{self._name}.tar",
            seconds=self.seconds,
            step=step.name,
            done=step.done,
            total=step.total,
        )


def fail_tar(spool: Spool, path: Path, reason: str) -> Outcome:
    """Note that the process that imported a tar has died over it."""
    name = path.name.removesuffix(".tar")
    claim = spool.claim(path)
    if claim is None:
        return Outcome(Result.TAKEN, name)
    try:
        failed = claim.fail(reason)
        retry_at = None if failed is None else failed.next_retry_at
        return Outcome(Result.FAILED, name, size=claim.size, reason=reason, retry_at=retry_at)
    finally:
        claim.release()
