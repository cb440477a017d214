"""The outbox where there is no database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet import defer
from twisted.internet.task import Clock

from scalelite.cluster.callbacks import Kind, Notice
from scalelite.recordings.breaker import FAILURES
from scalelite.recordings.delivery import Outcome, Verdict
from scalelite.recordings.outbox_memory import MOST, STOP_PATIENCE, MemoryOutbox
from scalelite.recordings.targets import TargetRules
from scalelite.store.errors import StoreError

NOTICE = Notice(Kind.ANALYTICS, "", "m1", "http://fe.example/a", "{}")
DONE = Outcome(Verdict.DONE, answered=True)
DOWN = Outcome(Verdict.LATER, "down", answered=False)


class Scripted:
    """Delivers with one outcome after another, the last for ever; None: not yet."""

    def __init__(self, outcomes: Sequence[Outcome | Exception | None]) -> None:
        self.outcomes = list(outcomes)
        self.delivered: list[Notice] = []

    async def deliver(self, notice: Notice) -> Outcome:
        self.delivered.append(notice)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if outcome is None:
            outcome = await defer.Deferred()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def outbox(clock: Clock, *outcomes: Outcome | Exception | None) -> tuple[MemoryOutbox, Scripted]:
    scripted: Any = Scripted(outcomes)
    made = MemoryOutbox(scripted, TargetRules(), clock, lambda low, high: 1.0)
    made.startService()
    return made, scripted


@pytest_twisted.ensureDeferred
async def test_a_notice_is_delivered_at_once() -> None:
    made, scripted = outbox(Clock(), DONE)
    await made.put(NOTICE)
    await made.settled()
    await made.put(NOTICE)
    assert scripted.delivered == [NOTICE, NOTICE]


@pytest_twisted.ensureDeferred
async def test_it_is_tried_again_for_a_day() -> None:
    clock = Clock()
    made, scripted = outbox(clock, Outcome(Verdict.LATER, "HTTP 401", answered=True))
    await made.put(NOTICE)
    for attempts, delay in enumerate((1, 5, 30, 120, 600, 1800, 3600, 3600), 1):
        assert len(scripted.delivered) == attempts
        clock.advance(delay - 0.5)
        assert len(scripted.delivered) == attempts
        clock.advance(0.5)
    clock.pump([3600] * 30)
    assert 26 < len(scripted.delivered) < 36
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize("trouble", [DOWN, StoreError("Redis is away")])
@pytest_twisted.ensureDeferred
async def test_trouble_that_ends_does_not_matter(trouble: Outcome | Exception) -> None:
    clock = Clock()
    made, scripted = outbox(clock, trouble, DONE)
    await made.put(NOTICE)
    await made.put(NOTICE)
    clock.advance(1)
    assert len(scripted.delivered) == 2
    assert clock.getDelayedCalls() == []


@pytest_twisted.ensureDeferred
async def test_what_is_given_up_is_gone() -> None:
    clock = Clock()
    made, scripted = outbox(clock, Outcome(Verdict.NEVER, "HTTP 404", answered=True))
    await made.put(NOTICE)
    assert clock.getDelayedCalls() == []
    assert len(scripted.delivered) == 1


@pytest_twisted.ensureDeferred
async def test_a_target_that_fails_rests() -> None:
    clock = Clock()
    made, scripted = outbox(clock, DOWN)
    for number in range(FAILURES + 20):
        await made.put(attrs.evolve(NOTICE, meeting_id=f"m{number}"))
    assert len(scripted.delivered) == FAILURES
    scripted.outcomes = [DONE]
    await made.put(attrs.evolve(NOTICE, url="http://other.example/"))
    assert len(scripted.delivered) == FAILURES + 1


@pytest_twisted.ensureDeferred
async def test_what_waits_is_bounded() -> None:
    made, _ = outbox(Clock(), None)
    for number in range(MOST):
        await made.put(attrs.evolve(NOTICE, meeting_id=f"m{number}"))
    with pytest.raises(StoreError):
        await made.put(attrs.evolve(NOTICE, meeting_id="one more"))


@pytest_twisted.ensureDeferred
async def test_a_stop_gives_attempts_their_time_and_leaves_nothing_behind() -> None:
    clock = Clock()
    made, _ = outbox(clock, DOWN, None)
    await made.put(NOTICE)
    await made.put(attrs.evolve(NOTICE, meeting_id="m2"))
    stopped = made.stopService()
    clock.advance(STOP_PATIENCE - 0.1)
    assert not stopped.called
    clock.advance(0.1)
    await stopped
    assert clock.getDelayedCalls() == []
