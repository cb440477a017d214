"""The virtual clock of a simulated server."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Appointment", "Timeline"]


class Appointment:
    """Something a node has yet to do; `cancel` calls it off, any number of times."""

    __slots__ = ("_args", "_function")

    def __init__(self, function: Callable[..., object], args: tuple[Any, ...]) -> None:
        self._function: Callable[..., object] | None = function
        self._args = args

    @property
    def pending(self) -> bool:
        """Whether it has been neither kept nor called off."""
        return self._function is not None

    def cancel(self) -> None:
        """Call it off."""
        self._function = None
        self._args = ()

    def keep(self) -> None:
        """Do it, unless it was called off."""
        function, args = self._function, self._args
        self.cancel()
        if function is not None:
            function(*args)


class Timeline:
    """A clock that runs `scale` times as fast as real time and can be put forward.

    All seconds given and returned are virtual. Appointments are kept in their order with the clock standing at
    their own moment, so a chain of them comes out right however far one step of the real clock is.
    One delayed call of the reactor is pending at most, and none while there are no appointments.
    """

    def __init__(self, clock: IReactorTime, *, epoch: float, scale: float = 1.0) -> None:
        if scale <= 0:
            raise ValueError("scale must be positive")
        self._clock = clock
        self._start = clock.seconds()
        self.epoch = epoch
        self.scale = scale
        self._advanced = 0.0
        self._standing: float | None = None
        self._heap: list[tuple[float, int, Appointment]] = []
        self._serial = count()
        self._wake: IDelayedCall | None = None
        self._wake_at = 0.0

    def elapsed(self) -> float:
        """Virtual seconds since this clock was made."""
        if self._standing is not None:
            return self._standing
        return (self._clock.seconds() - self._start) * self.scale + self._advanced

    def now(self) -> float:
        """Virtual seconds since 1970."""
        return self.epoch + self.elapsed()

    def call_later(self, delay: float, function: Callable[..., object], *args: Any) -> Appointment:
        """Call `function(*args)` when `delay` virtual seconds have passed."""
        when = self.elapsed() + max(0.0, delay)
        appointment = Appointment(function, args)
        heapq.heappush(self._heap, (when, next(self._serial), appointment))
        if self._standing is None:
            self._arm()
        return appointment

    def advance(self, seconds: float) -> None:
        """Put the clock forward and keep every appointment that falls due."""
        self._advanced += seconds
        self._run()

    def cancel_all(self) -> None:
        """Forget every appointment; leaves nothing pending in the reactor."""
        for _, _, appointment in self._heap:
            appointment.cancel()
        self._heap.clear()
        self._disarm()

    def _disarm(self) -> None:
        if self._wake is not None and self._wake.active():
            self._wake.cancel()
        self._wake = None

    def _arm(self) -> None:
        while self._heap and not self._heap[0][2].pending:
            heapq.heappop(self._heap)
        if not self._heap:
            self._disarm()
            return
        when = self._heap[0][0]
        if self._wake is not None:
            if self._wake_at <= when:
                return
            self._disarm()
        self._wake_at = when
        delay = max(0.0, (when - self.elapsed()) / self.scale)
        self._wake = self._clock.callLater(delay, self._woken)

    def _woken(self) -> None:
        self._wake = None
        self._run()

    def _run(self) -> None:
        if self._standing is not None:
            return
        until = self.elapsed() + 1e-4 * max(1.0, self.scale)
        try:
            while self._heap and self._heap[0][0] <= until:
                when, _, appointment = heapq.heappop(self._heap)
                self._standing = when
                appointment.keep()
        finally:
            self._standing = None
        self._arm()
