"""Delivers what is in the outbox, on the instance that was elected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Final, Protocol

import attrs
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as TooLong
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from scalelite.cluster.records import CallbackURLs
from scalelite.recordings import callback_rows, outbox
from scalelite.recordings.breaker import CircuitBreaker
from scalelite.recordings.callback_records import CallbackCopier
from scalelite.recordings.database import Database, DatabaseUnavailable
from scalelite.recordings.delivery import Deliverer, Outcome, Verdict
from scalelite.recordings.outbox import Claimed
from scalelite.recordings.schedule import LIFE, delay
from scalelite.recordings.times import utc
from scalelite.store.errors import StoreError
from scalelite.store.notices import NoticeStore

INTERVAL: Final = 2.0
"""Seconds between two looks into the outbox."""

CONCURRENCY: Final = 64
PER_TARGET: Final = 4
"""Attempts under way at once, in all and to one target."""

PURGE_EVERY: Final = 600.0
BATCH: Final = 1000
"""Rows that one statement of the purge touches."""

COPIED_AT_ONCE: Final = 100
STOP_PATIENCE: Final = 5.0
"""Seconds that attempts under way get at a stop; what is broken off is tried again."""


class Election(Protocol):
    """Whether this instance is the one that delivers; a service."""

    @property
    def leading(self) -> bool: ...
    def startService(self) -> None: ...
    def stopService(self) -> Deferred[None]: ...


class KeptCallbacks(Protocol):
    """Where URLs are looked up. Raises StoreError."""

    async def find(self, meeting_id: str, tenant_id: str) -> CallbackURLs: ...


@attrs.frozen
class Times:
    """`seconds` of a clock for delays, the `now` of day, and a source of jitter."""

    clock: IReactorTime
    now: Callable[[], float]
    uniform: Callable[[float, float], float]


class OutboxService(Service):
    """A LoopingCall over the outbox. Attempts run side by side; each has its own deadline."""

    _log = Logger()

    def __init__(
        self,
        database: Database,
        deliverer: Deliverer,
        callbacks: KeptCallbacks,
        copier: CallbackCopier,
        notices: NoticeStore,
        election: Election,
        times: Times,
    ) -> None:
        self._database = database
        self._deliverer = deliverer
        self._callbacks = callbacks
        self._copier = copier
        self._notices = notices
        self._election = election
        self._times = times
        self._breaker = CircuitBreaker(times.clock.seconds)
        self._active: dict[int, tuple[str, Deferred[None]]] = {}
        self._call = LoopingCall(self.look)
        self._call.clock = times.clock
        self._looking: Deferred[None] | None = None
        self._look_again = False
        self._idle: list[Deferred[None]] = []
        self._last_purge = float("-inf")
        self._ill = False

    def startService(self) -> None:
        super().startService()
        self._election.startService()
        self._call.start(INTERVAL)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        if self._call.running:
            self._call.stop()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        try:
            await self.settled().addTimeout(STOP_PATIENCE, self._times.clock)
        except TooLong:
            for _, attempt in list(self._active.values()):
                attempt.cancel()
        await self._election.stopService()

    def settled(self) -> Deferred[None]:
        """Fires once nothing is under way."""
        done: Deferred[None] = Deferred()
        self._idle.append(done)
        self._check_idle()
        return done

    def _check_idle(self) -> None:
        if self._looking is None and not self._active:
            idle, self._idle = self._idle, []
            for waiter in idle:
                if not waiter.called:
                    waiter.callback(None)

    def look(self) -> None:
        """Take up what is due, unless another instance does; the attempts go on by themselves."""
        if self._looking is not None:
            self._look_again = True
            return
        if not self._election.leading:
            return
        self._looking = Deferred.fromCoroutine(self._look())
        self._looking.addBoth(self._looked)

    def _looked(self, result: object) -> None:
        self._looking = None
        again, self._look_again = self._look_again, False
        if isinstance(result, Failure) and not result.check(CancelledError):
            # The next look may go better; the service must live.
            self._log.failure("a look into the outbox failed", failure=result)
        elif again and self.running:
            self.look()
        self._check_idle()

    async def _look(self) -> None:
        try:
            await self._take_over()
            await self._purge()
            while self.running and self._election.leading and len(self._active) < CONCURRENCY:
                claimed = await self._claim()
                for one in claimed:
                    self._start(one)
                if not claimed:
                    break
        except StoreError as error:
            if not self._ill:
                self._log.error("the outbox has to wait: {error}", error=error)
            self._ill = True
        else:
            self._ill = False

    async def _take_over(self) -> None:
        """Take into SQL what had to be put into Redis."""
        await self._copier.copy()
        for text, notice in await self._notices.waiting(COPIED_AT_ONCE):
            try:
                await self._database.run(partial(outbox.enqueue, notice=notice, now=utc(self._times.now())))
            except DatabaseUnavailable:
                raise
            except StoreError as error:
                self._log.error("the database does not take a notice: {error}", error=error)
            await self._notices.remove(text)

    async def _purge(self) -> None:
        now = self._times.clock.seconds()
        if now - self._last_purge < PURGE_EVERY:
            return
        self._last_purge = now
        at = utc(self._times.now())
        for purge in (outbox.purge, callback_rows.purge):
            while await self._database.run(partial(purge, now=at, limit=BATCH)) == BATCH:
                if not self._election.leading:
                    return

    async def _claim(self) -> list[Claimed]:
        # Most looks find nothing, and need not wait for whoever writes.
        if not await self._database.read(partial(outbox.is_due, now=utc(self._times.now()))):
            return []
        room: dict[str, int] = self._breaker.places()
        for target, count in Counter(target for target, _ in self._active.values()).items():
            room[target] = room.get(target, PER_TARGET) - count
        return await self._database.run(
            partial(
                outbox.claim,
                now=utc(self._times.now()),
                limit=CONCURRENCY - len(self._active),
                room=room,
                default_room=PER_TARGET,
            )
        )

    def _start(self, claimed: Claimed) -> None:
        attempt = Deferred.fromCoroutine(self._attempt(claimed))
        self._active[claimed.id] = (claimed.target, attempt)
        attempt.addBoth(self._ended, claimed)

    def _ended(self, result: object, claimed: Claimed) -> None:
        self._active.pop(claimed.id, None)
        if isinstance(result, Failure):
            if result.check(StoreError):
                # Its claim runs out, and it is tried again.
                self._log.warn("what came of a notice could not be recorded: {error}", error=result.value)
            elif not result.check(CancelledError):
                self._log.failure("a notice could not be handled", failure=result)
        if self.running:
            self.look()
        self._check_idle()

    async def _attempt(self, claimed: Claimed) -> None:
        if not claimed.notice.url:
            await self._resolve(claimed)
            return
        outcome = await self._deliverer.deliver(claimed.notice)
        rests = False
        if outcome.answered:
            self._breaker.succeeded(claimed.target)
        elif outcome.answered is False:
            rests = self._breaker.failed(claimed.target)
        await self._record(claimed, outcome)
        if rests:
            await self._give_up_overdue(claimed.target)

    async def _resolve(self, claimed: Claimed) -> None:
        """Look up the URL of a notice that came without."""
        notice = claimed.notice
        urls = await self._callbacks.find(notice.meeting_id, notice.tenant_id)
        url = urls.recording_ready if notice.kind is notice.kind.RECORDING_READY else urls.analytics
        if url and url.strip():
            work = partial(outbox.resolve, claimed=claimed, url=url, now=utc(self._times.now()))
        else:
            work = partial(outbox.remove, claimed=claimed)
        await self._database.run(work)

    async def _record(self, claimed: Claimed, outcome: Outcome) -> None:
        now = self._times.now()
        kind, target = claimed.notice.kind.value, claimed.target
        if outcome.verdict is Verdict.DONE:
            self._log.debug("a notice ({kind}) was taken by {target}", kind=kind, target=target)
            await self._database.run(partial(outbox.remove, claimed=claimed))
            return
        too_old = utc(now) - claimed.created_at > timedelta(seconds=LIFE)
        if outcome.verdict is Verdict.NEVER or too_old:
            self._log.warn(
                "a notice ({kind}) for {target} is given up: {reason}", kind=kind, target=target, reason=outcome.reason
            )
            await self._database.run(partial(outbox.bury, claimed=claimed, error=outcome.reason, now=utc(now)))
            return
        self._log.info(
            "a notice ({kind}) was not taken by {target}: {reason}", kind=kind, target=target, reason=outcome.reason
        )
        until = utc(now + delay(claimed.attempts, self._times.uniform))
        await self._database.run(partial(outbox.postpone, claimed=claimed, error=outcome.reason, until=until))

    async def _give_up_overdue(self, target: str) -> None:
        """Of what waits for a target that has just failed again, give up what has waited for a day."""
        now = self._times.now()
        await self._database.run(
            partial(
                outbox.bury_target,
                target=target,
                created_before=utc(now - LIFE),
                now=utc(now),
                limit=BATCH,
            )
        )
