"""Telling how far many tasks have come."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

T = TypeVar("T")

Count = Callable[[int, int], None]
"""Is told how many steps are done, and of how many."""


def uncounted(_done: int, _total: int) -> None:
    """For those who don't want to know."""


def counted(tasks: Sequence[Coroutine[Any, Any, T]], count: Count) -> list[Deferred[T]]:
    """Begin all tasks; `count` is told of their number, and of each that has come to an end, well or not."""
    done = 0

    def ended(result: T) -> T:
        nonlocal done
        done += 1
        count(done, len(tasks))
        return result

    count(0, len(tasks))
    return [Deferred.fromCoroutine(task).addBoth(ended) for task in tasks]
