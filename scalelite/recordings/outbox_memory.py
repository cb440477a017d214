"""The outbox where there is no database: in this process's memory, lost when it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as TooLong
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from scalelite.cluster.callbacks import Notice
from scalelite.recordings.breaker import CircuitBreaker
from scalelite.recordings.delivery import Deliverer, Outcome, Verdict
from scalelite.recordings.schedule import LIFE, delay
from scalelite.recordings.targets import Refused, TargetRules
from scalelite.store.errors import StoreError

MOST: Final = 2000
MOST_CHARACTERS: Final = 64 * 1024 * 1024
"""Notices, and text in them, that are kept at once."""

STOP_PATIENCE: Final = 5.0
"""Seconds that attempts under way get at a stop."""


class MemoryOutbox(Service):
    """Delivers each notice at once, and again for a day if it is not taken."""

    _log = Logger()

    def __init__(
        self, deliverer: Deliverer, rules: TargetRules, clock: IReactorTime, uniform: Callable[[float, float], float]
    ) -> None:
        self._deliverer = deliverer
        self._rules = rules
        self._clock = clock
        self._uniform = uniform
        self._breaker = CircuitBreaker(clock.seconds)
        self._waiting: dict[str, IDelayedCall] = {}
        self._active: dict[str, Deferred[None]] = {}
        self._sizes: dict[str, int] = {}
        self._idle: list[Deferred[None]] = []

    async def put(self, notice: Notice) -> None:
        """Have `notice` delivered. Raises StoreError if too much waits."""
        if notice.key in self._sizes:
            return
        size = len(notice.payload) + len(notice.url)
        if len(self._sizes) >= MOST or sum(self._sizes.values()) + size > MOST_CHARACTERS:
            raise StoreError("too many notices wait for their targets")
        self._sizes[notice.key] = size
        self._start(notice, 1, self._clock.seconds())

    def settled(self) -> Deferred[None]:
        """Fires once no attempt is under way."""
        done: Deferred[None] = Deferred()
        self._idle.append(done)
        self._check_idle()
        return done

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        try:
            await self.settled().addTimeout(STOP_PATIENCE, self._clock)
        except TooLong:
            for attempt in list(self._active.values()):
                attempt.cancel()
        for call in self._waiting.values():
            call.cancel()
        if self._waiting:
            self._log.warn("{count} notices to front-ends are lost: there is no database", count=len(self._waiting))
        self._waiting.clear()
        self._sizes.clear()

    def _start(self, notice: Notice, attempts: int, since: float) -> None:
        self._waiting.pop(notice.key, None)
        attempt = Deferred.fromCoroutine(self._attempt(notice, attempts, since))
        self._active[notice.key] = attempt
        attempt.addBoth(self._ended, notice)

    def _ended(self, result: object, notice: Notice) -> None:
        self._active.pop(notice.key, None)
        if notice.key not in self._waiting:
            self._sizes.pop(notice.key, None)
        if isinstance(result, Failure) and not result.check(CancelledError):
            self._log.failure("a notice could not be handled", failure=result)
        self._check_idle()

    def _check_idle(self) -> None:
        if not self._active:
            idle, self._idle = self._idle, []
            for waiter in idle:
                if not waiter.called:
                    waiter.callback(None)

    async def _attempt(self, notice: Notice, attempts: int, since: float) -> None:
        target = self._target(notice)
        if self._breaker.places().get(target, 1) == 0:
            outcome = Outcome(Verdict.LATER, "its target rests")
        else:
            try:
                outcome = await self._deliverer.deliver(notice)
            except StoreError as error:
                outcome = Outcome(Verdict.LATER, str(error))
        if outcome.answered:
            self._breaker.succeeded(target)
        elif outcome.answered is False:
            self._breaker.failed(target)
        if outcome.verdict is Verdict.DONE:
            return
        if outcome.verdict is Verdict.NEVER or self._clock.seconds() - since > LIFE:
            self._log.warn(
                "a notice ({kind}) for {target} is given up: {reason}",
                kind=notice.kind.value, target=target, reason=outcome.reason,
            )  # fmt: skip
            return
        self._waiting[notice.key] = self._clock.callLater(
            delay(attempts, self._uniform), self._start, notice, attempts + 1, since
        )

    def _target(self, notice: Notice) -> str:
        try:
            return self._rules.target(notice.url).name
        except Refused:
            return ""
