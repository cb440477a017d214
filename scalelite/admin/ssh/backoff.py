"""How long an address that fails to log in has to wait for its next refusal."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from twisted.internet.interfaces import IReactorTime

#: Seconds of the first delay, which doubles with each failure, and of the longest.
FIRST: Final = 0.1
LONGEST: Final = 5.0
#: Seconds after which an address's failures are forgotten.
FORGOTTEN: Final = 600.0
#: Addresses that are remembered, at most.
ADDRESSES: Final = 1024


class Backoff:
    """Counts failures by address; what has succeeded is never delayed, so nobody can be locked out by another."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def failed(self, address: str) -> float:
        """Note a failure; the seconds by which the answer is to be delayed."""
        now = self._clock.seconds()
        count, last = self._failures.pop(address, (0, now))
        if now - last > FORGOTTEN:
            count = 0
        self._failures[address] = (count + 1, now)
        while len(self._failures) > ADDRESSES:
            self._failures.popitem(last=False)
        return min(LONGEST, FIRST * (1 << min(count, 20)))

    def succeeded(self, address: str) -> None:
        """Forget the failures of an address."""
        self._failures.pop(address, None)

    def __len__(self) -> int:
        return len(self._failures)
