"""Which instance polls: leases over a common clock, without Redis."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import pytest
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from scalelite.poll.election import LEASE, RENEWAL, Election
from tests.poll.leases import Leases

_trial = SynchronousTestCase()


@attrs.define
class Instances:
    """Elections on one clock, and who was elected in which order."""

    clock: Clock
    leases: Leases
    elected: list[str] = attrs.field(factory=list)
    all: dict[str, Election] = attrs.field(factory=dict)

    def start(self, name: str, leases: Leases | None = None) -> Election:
        election = Election(
            leases or self.leases,
            self.clock,
            "poller",
            name,
            lambda: self.elected.append(name),  # type: ignore[arg-type]
        )
        self.all[name] = election
        election.startService()
        return election

    def stop(self, name: str) -> None:
        _trial.successResultOf(self.all.pop(name).stopService())

    def die(self, name: str) -> None:
        """End without a word."""
        election = self.all.pop(name)
        election._call.stop()

    def pass_time(self, seconds: float) -> None:
        for _ in range(int(seconds * 4)):
            self.clock.advance(0.25)

    @property
    def leading(self) -> list[str]:
        return sorted(name for name, election in self.all.items() if election.leading)


@pytest.fixture
def instances() -> Iterator[Instances]:
    clock = Clock()
    instances = Instances(clock, Leases(clock))
    yield instances
    instances.leases.down = False
    for name in list(instances.all):
        instances.stop(name)
    assert clock.getDelayedCalls() == []


def test_first_instance_leads_at_once_and_goes_on_leading(instances: Instances) -> None:
    for name in ("a", "b", "c"):
        instances.start(name)
    for _ in range(20):
        assert instances.leading == ["a"]
        instances.pass_time(7)
    assert instances.elected == ["a"]


def test_another_takes_over_soon_after_the_leader_died(instances: Instances) -> None:
    instances.start("a")
    instances.start("b")
    instances.pass_time(31)
    instances.die("a")
    instances.pass_time(LEASE - RENEWAL - 1)
    assert instances.leading == []
    instances.pass_time(2 * RENEWAL + 1)
    assert instances.leading == ["b"]
    assert instances.elected == ["a", "b"]


def test_another_takes_over_at_its_next_try_when_the_leader_stops(instances: Instances) -> None:
    instances.start("a")
    instances.start("b")
    instances.stop("a")
    assert instances.leases.holder is None
    instances.pass_time(RENEWAL)
    assert instances.leading == ["b"]


def test_there_are_never_two_leaders(instances: Instances) -> None:
    instances.start("a")
    instances.start("b")
    for down in (False, True, False, True, True, False, False):
        instances.leases.down = down
        for _ in range(60):
            instances.pass_time(0.25)
            assert len(instances.leading) <= 1
    assert len(instances.leading) == 1


def test_leader_goes_on_while_redis_is_down_for_less_than_the_lease(instances: Instances) -> None:
    instances.start("a")
    instances.pass_time(11)
    instances.leases.down = True
    instances.pass_time(LEASE - RENEWAL - 2)
    assert instances.leading == ["a"]
    instances.leases.down = False
    instances.pass_time(RENEWAL)
    assert instances.elected == ["a"]


def test_leader_stops_leading_when_redis_stays_down_and_is_elected_again(instances: Instances) -> None:
    instances.start("a")
    instances.leases.down = True
    instances.pass_time(LEASE + 1)
    assert instances.leading == []
    instances.leases.down = False
    instances.pass_time(RENEWAL)
    assert instances.leading == ["a"]
    assert instances.elected == ["a", "a"]


def test_leader_that_lost_its_lease_notices_at_its_next_try(instances: Instances) -> None:
    instances.start("a")
    instances.leases.holder, instances.leases.until = "b", 1000.0
    instances.pass_time(RENEWAL)
    assert instances.leading == []
    assert instances.elected == ["a"]


def test_lease_counts_from_when_it_was_asked_for(instances: Instances) -> None:
    instances.leases.silent = True
    election = instances.start("a")
    instances.pass_time(10)
    assert not election.leading
    instances.leases.silent = False
    instances.leases.held_back.pop().callback(None)
    assert election.leading
    assert instances.elected == ["a"]
    instances.leases.down = True
    instances.pass_time(LEASE - 10)
    assert not election.leading


def test_lease_granted_while_the_instance_stops_is_given_back(instances: Instances) -> None:
    instances.leases.silent = True
    instances.start("a")
    assert instances.leases.holder == "a"
    instances.stop("a")
    assert instances.leases.holder is None
    instances.leases.held_back.pop().callback(None)
    assert instances.elected == []


def test_stopping_while_redis_is_down_leaves_the_lease_to_run_out(instances: Instances) -> None:
    instances.start("a")
    instances.leases.down = True
    instances.stop("a")
    assert instances.leases.holder == "a"


def test_instance_that_never_led_has_nothing_to_give_back(instances: Instances) -> None:
    instances.start("a")
    instances.start("b")
    instances.leases.down = True
    instances.stop("b")
    assert instances.leading == ["a"]
