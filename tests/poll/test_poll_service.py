"""Passes every interval on the instance that was elected, whatever becomes of a single pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs
import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent
from twisted.trial.unittest import SynchronousTestCase

from scalelite.poll.election import RENEWAL
from scalelite.poll.poller import PassReport
from scalelite.poll.service import PollService
from scalelite.store.errors import StoreUnavailable
from tests.poll.leases import Leases

_trial = SynchronousTestCase()
INTERVAL = 60.0


@attrs.define
class Passes:
    """Stands in for the poller: notes when passes begin; `takes` is a Deferred to wait for, or an error."""

    clock: Clock
    begun: list[float] = attrs.field(factory=list)
    takes: Deferred[None] | Exception | None = None
    may_go_on: Callable[[], bool] = lambda: True
    cancelled: int = 0

    async def run_pass(self, may_go_on: Callable[[], bool]) -> PassReport:
        self.begun.append(self.clock.seconds())
        self.may_go_on = may_go_on
        if isinstance(self.takes, Exception):
            raise self.takes
        if self.takes is not None:
            try:
                await self.takes
            except CancelledError:
                self.cancelled += 1
                raise
        return PassReport()


class Rig:
    """One PollService, its clock, its leases and its passes."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.leases = Leases(self.clock)
        self.passes = Passes(self.clock)
        self.service = PollService(self.passes, self.leases, self.clock, INTERVAL, "a")  # type: ignore[arg-type]

    def pass_time(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.clock.advance(1)

    def stop(self) -> None:
        if self.service.running:
            _trial.successResultOf(self.service.stopService())


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.stop()
    assert rig.clock.getDelayedCalls() == []


def test_elected_instance_polls_at_once_and_then_every_interval(rig: Rig) -> None:
    rig.service.startService()
    rig.pass_time(150)
    assert rig.passes.begun == [0, 60, 120]


def test_instance_that_is_not_elected_does_not_poll(rig: Rig) -> None:
    rig.leases.holder, rig.leases.until = "b", 1e9
    rig.service.startService()
    rig.pass_time(150)
    assert rig.passes.begun == []
    rig.leases.holder = None
    rig.pass_time(RENEWAL)
    assert len(rig.passes.begun) == 1


def test_pass_that_takes_longer_than_the_interval_delays_the_next(rig: Rig) -> None:
    rig.service.startService()
    rig.passes.takes = Deferred()
    rig.pass_time(200)
    assert rig.passes.begun == [0, 60]
    rig.passes.takes.callback(None)
    rig.passes.takes = None
    rig.pass_time(60)
    assert rig.passes.begun == [0, 60, 240]


@pytest.mark.parametrize("error", [StoreUnavailable("down"), CancelledError()])
def test_failed_pass_is_followed_by_the_next(rig: Rig, error: Exception) -> None:
    rig.passes.takes = error
    rig.service.startService()
    rig.pass_time(70)
    rig.passes.takes = None
    rig.pass_time(60)
    assert rig.passes.begun == [0, 60, 120]


def test_fault_of_our_own_is_logged_and_does_not_end_the_polling(rig: Rig, unhandled_errors: list[LogEvent]) -> None:
    rig.passes.takes = ZeroDivisionError("a fault of our own")
    rig.service.startService()
    rig.passes.takes = None
    rig.pass_time(70)
    assert rig.passes.begun == [0, 60]
    assert [event["log_failure"].type for event in unhandled_errors] == [ZeroDivisionError]
    unhandled_errors.clear()


def test_redis_that_is_down_at_first_delays_the_first_pass(rig: Rig) -> None:
    rig.leases.down = True
    rig.service.startService()
    rig.pass_time(30)
    assert rig.passes.begun == []
    rig.leases.down = False
    rig.pass_time(RENEWAL)
    assert len(rig.passes.begun) == 1


def test_pass_ends_when_the_lease_is_lost(rig: Rig) -> None:
    rig.service.startService()
    rig.passes.takes = Deferred()
    rig.pass_time(60)
    assert rig.passes.may_go_on()
    rig.leases.holder, rig.leases.until = "b", 1e9
    rig.pass_time(RENEWAL)
    assert not rig.passes.may_go_on()
    rig.passes.takes.callback(None)
    rig.pass_time(120)
    assert rig.passes.begun == [0, 60]


def test_pass_asked_for_by_hand_needs_no_election_and_is_not_run_twice(rig: Rig) -> None:
    rig.passes.takes = Deferred()
    first, second = rig.service.poll_now(), rig.service.poll_now()
    assert rig.passes.begun == [0]
    assert rig.passes.may_go_on()
    _trial.assertNoResult(first)
    rig.passes.takes.callback(None)
    _trial.successResultOf(first)
    _trial.successResultOf(second)
    rig.passes.takes = None
    _trial.successResultOf(rig.service.poll_now())
    assert len(rig.passes.begun) == 2


def test_stopping_breaks_the_pass_off_before_the_lease_is_given_back(rig: Rig) -> None:
    rig.service.startService()
    rig.passes.takes = Deferred()
    rig.pass_time(60)
    assert len(rig.passes.begun) == 2
    rig.stop()
    assert rig.passes.cancelled == 1
    assert not rig.passes.may_go_on()
    assert rig.leases.holder is None
    rig.pass_time(200)
    assert len(rig.passes.begun) == 2
