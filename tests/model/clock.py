"""A reactor with real sockets whose time stands still until it is put forward."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any
from unittest import mock

import fakeredis._helpers
import fakeredis._socket._base
import fakeredis.commands_mixins.server_mixin
from twisted.internet import reactor as _reactor
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from zope.interface import directlyProvides, providedBy

START = 1_800_000_000.0
"""Where time begins, in seconds since the epoch."""

_READS_TIME = (fakeredis._helpers, fakeredis._socket._base, fakeredis.commands_mixins.server_mixin)


class _Later:
    """A delayed call of an ElasticReactor."""

    def __init__(self, clock: ElasticReactor, due: float, function: Callable[..., Any], args: Any, kw: Any) -> None:
        self._clock = clock
        self._call = (function, args, kw)
        self._due = due
        self._cancelled = False
        self._serial = clock.serial = clock.serial + 1
        self._arm()

    def _arm(self) -> None:
        clock = self._clock
        self._cancelled = False
        self._real = clock.real.callLater(0, self.run) if self._due <= clock.now else None
        clock.waiting.add(self)

    @property
    def waits(self) -> bool:
        """Whether it is for later."""
        return self._real is None

    @property
    def order(self) -> tuple[float, int]:
        return self._due, self._serial

    def getTime(self) -> float:
        return self._due

    def active(self) -> bool:
        return self in self._clock.waiting

    def cancel(self) -> None:
        if not self.active():
            raise AlreadyCancelled if self._cancelled else AlreadyCalled
        self._cancelled = True
        self._leave()

    def _leave(self) -> None:
        self._clock.waiting.discard(self)
        if self._real is not None and self._real.active():
            self._real.cancel()

    def reset(self, seconds: float) -> None:
        self.cancel()
        self._due = self._clock.now + seconds
        self._arm()

    def delay(self, seconds: float) -> None:
        self.cancel()
        self._due += seconds
        self._arm()

    def run(self) -> None:
        self._leave()
        function, args, kw = self._call
        function(*args, **kw)


class ElasticReactor:
    """The running reactor, with `advance`; everything but time is passed on to it."""

    def __init__(self) -> None:
        self.real: Any = _reactor
        self.now = START
        self.serial = 0
        self.waiting: set[_Later] = set()
        directlyProvides(self, *providedBy(self.real))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def seconds(self) -> float:
        """Seconds since the epoch."""
        return self.now

    def callLater(self, delay: float, function: Callable[..., Any], *args: Any, **kw: Any) -> _Later:
        if abs(delay - HostnameEndpoint._DEFAULT_ATTEMPT_DELAY) < 1e-6:
            # Until it would try a host's next address: only then it tells that the first one refuses.
            delay = 0
        return _Later(self, self.now + delay, function, args, kw)

    def getDelayedCalls(self) -> list[_Later]:
        return list(self.waiting)

    def advance(self, seconds: float) -> None:
        """Put time forward; what falls due happens now, each at its own moment.

        What is due at once is the reactor's, which does it in its next turn.
        """
        until = self.now + seconds
        while due := [call for call in self.waiting if call.waits and call.getTime() <= until]:
            first = min(due, key=lambda call: call.order)
            self.now = max(self.now, first.getTime())
            first.run()
        self.now = until

    def rule_memory_store(self) -> ExitStack:
        """Let the store in memory live by this time, until what is returned is closed."""
        elastic = SimpleNamespace(**{**vars(time), "time": self.seconds})
        stack = ExitStack()
        for module in _READS_TIME:
            stack.enter_context(mock.patch.object(module, "time", elastic))
        return stack
