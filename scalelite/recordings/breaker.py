"""Lets a target that does not answer rest, so that it costs the others nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

FAILURES: Final = 5
"""In a row, until a target rests."""

FIRST_REST: Final = 30.0
LONGEST_REST: Final = 600.0
"""Seconds; it doubles with each probe that fails."""

MOST: Final = 2000
"""Targets that are remembered; beyond, those that failed longest ago are forgotten."""


@attrs.define
class _State:
    failures: int = 0
    rest: float = FIRST_REST
    until: float = 0.0


class CircuitBreaker:
    """What is known of the targets (host and port) that failed of late."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._states: dict[str, _State] = {}

    def places(self) -> dict[str, int]:
        """For each target that failed too often, how many may ask it now: none while it rests, then one."""
        now = self._seconds()
        return {
            target: 0 if now < state.until else 1
            for target, state in self._states.items()
            if state.failures >= FAILURES
        }

    def succeeded(self, target: str) -> None:
        """It answered."""
        self._states.pop(target, None)

    def failed(self, target: str) -> bool:
        """It did not. Whether it rests now."""
        now = self._seconds()
        state = self._states.pop(target, None) or _State()
        self._states[target] = state
        if now < state.until:
            # It was asked before the rest began.
            return True
        state.failures += 1
        if state.failures >= FAILURES:
            if state.failures > FAILURES:
                state.rest = min(LONGEST_REST, state.rest * 2)
            state.until = now + state.rest
        while len(self._states) > MOST:
            del self._states[next(iter(self._states))]
        return state.failures >= FAILURES
