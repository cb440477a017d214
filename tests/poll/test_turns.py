"""When a server's turn comes: concurrency, jitter, doubtful servers last; and passes that are broken off."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from scalelite.bbb.client import NoAnswer
from tests.poll.rig import Rig, until


class Held:
    """Holds the answers of all servers of a rig back until `let_go`."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.waiting: dict[str, Deferred[bytes]] = {}

    def hold(self, server_id: str) -> None:
        def wait(*_: Any) -> Deferred[bytes]:
            self.waiting[server_id] = Deferred()
            return self.waiting[server_id]

        self.rig.backends[server_id].on["getMeetings"] = wait

    def let_go(self, server_id: str) -> None:
        self.waiting.pop(server_id).callback(self.rig.backends[server_id].answer("getMeetings", {}))


async def _hold(rig: Rig, *server_ids: str, online: bool = True) -> Held:
    held = Held(rig)
    for server_id in server_ids:
        await rig.add(server_id, 0 if online else None)
        held.hold(server_id)
    return held


def _asked(rig: Rig) -> list[str]:
    return [server_id for server_id, backend in rig.backends.items() if backend.asked("getMeetings")]


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest_twisted.ensureDeferred
async def test_no_more_servers_are_asked_at_once_than_allowed(rig: Rig, concurrency: int) -> None:
    limited = Rig(rig.stores, concurrency=concurrency)
    ids = [f"s{number}" for number in range(7)]
    held = await _hold(limited, *ids)
    running = limited.begin()
    for done in range(len(ids)):
        expected = min(concurrency, len(ids) - done)
        await until(lambda expected=expected: len(held.waiting) == expected)
        held.let_go(min(held.waiting))
    assert (await running).answered == 7
    assert limited.client.most == concurrency


@pytest_twisted.ensureDeferred
async def test_concurrency_below_one_counts_as_one(rig: Rig) -> None:
    limited = Rig(rig.stores, concurrency=0)
    await _hold(limited)
    await limited.add("s1")
    assert (await limited.poll()).answered == 1


@pytest_twisted.ensureDeferred
async def test_stuck_server_does_not_keep_the_others_waiting(rig: Rig) -> None:
    held = await _hold(rig, "stuck")
    for number in range(5):
        (await rig.add(f"s{number}")).runs("x", participants=number)
    running = rig.begin()
    scores: dict[str, float] = {}
    while len(scores) < 6:
        scores = {
            server_id: score
            for server_id, score in (await rig.stores.scores("server_load")).items()
            if server_id == "stuck" or score == int(server_id[1:])
        }
    assert not running.called
    held.let_go("stuck")
    assert (await running).answered == 6


@pytest_twisted.ensureDeferred
async def test_servers_that_failed_before_come_last_and_take_half_of_the_slots(rig: Rig) -> None:
    limited = Rig(rig.stores, concurrency=4)
    bad = [f"a{number}" for number in range(6)]
    for server_id in bad:
        (await limited.add(server_id)).on["getMeetings"] = NoAnswer("late")
    good = [f"z{number}" for number in range(4)]
    for server_id in good:
        await limited.add(server_id)
    await limited.poll()
    for backend in limited.backends.values():
        backend.calls.clear()
    held = Held(limited)
    for server_id in (*bad, *good):
        held.hold(server_id)
    running = limited.begin()
    await until(lambda: len(held.waiting) == 4)
    assert sorted(held.waiting) == good
    for server_id in good:
        held.let_go(server_id)
    await until(lambda: len(held.waiting) == 2)
    await rig.stores.time()
    assert set(held.waiting) < set(bad)
    while not running.called:
        await until(lambda: held.waiting or running.called)
        for server_id in list(held.waiting):
            held.let_go(server_id)
    assert (await running).answered == 10


@pytest_twisted.ensureDeferred
async def test_offline_servers_leave_slots_to_the_others_from_the_first_pass_on(rig: Rig) -> None:
    limited = Rig(rig.stores, concurrency=2)
    held = await _hold(limited, "a", "b", "c", online=False)
    await limited.add("z")
    running = limited.begin()
    await until(lambda: limited.backends["z"].calls and held.waiting)
    assert len(held.waiting) == 1
    while not running.called:
        await until(lambda: held.waiting or running.called)
        for server_id in list(held.waiting):
            held.let_go(server_id)
    assert (await running).answered == 4


@pytest_twisted.ensureDeferred
async def test_turns_are_spread_over_the_jitter_and_waiting_takes_no_slot(rig: Rig) -> None:
    spread = Rig(rig.stores, concurrency=1, jitter=5.0)
    for server_id in ("s1", "s2", "s3"):
        await spread.add(server_id)
    spread.drawn = [4.0, 1.0, 2.5]
    running = spread.begin()
    await until(lambda: len(spread.clock.getDelayedCalls()) == 3)
    assert _asked(spread) == []
    for seconds, asked in ((1.0, ["s2"]), (1.5, ["s2", "s3"]), (1.5, ["s1", "s2", "s3"])):
        spread.clock.advance(seconds)
        await until(lambda asked=asked: _asked(spread) == asked)
    assert (await running).answered == 3


@pytest_twisted.ensureDeferred
async def test_pass_that_may_not_go_on_records_nothing_more(rig: Rig) -> None:
    held = await _hold(rig, "s1")
    other = await rig.add("s2")
    rig.backends["s2"].on["getMeetings"] = NoAnswer("late")
    await rig.stores.call("HSET", "voice_bridges", "1", "gone")
    allowed = True
    running = rig.begin(lambda: allowed)
    await until(lambda: held.waiting and other.calls)
    await rig.stores.time()
    before = await rig.stores.hash("s1")
    allowed = False
    rig.backends["s1"].runs("m", participants=99)
    held.let_go("s1")
    assert (await running).answered == 0
    assert await rig.stores.scores("server_load") == {"s1": 0, "s2": 0}
    assert await rig.stores.hash("s1") == before
    assert await rig.stores.hash("voice_bridges") == {"1": "gone"}


@pytest_twisted.ensureDeferred
async def test_pass_that_is_cancelled_counts_no_failures(rig: Rig) -> None:
    held = await _hold(rig, "s1", "s2")
    await rig.add("s3")
    before = await rig.stores.hash("s1")
    running = rig.begin(lambda: not cancelled)
    cancelled = False
    await until(lambda: len(held.waiting) == 2)
    cancelled = True
    running.cancel()
    await running
    assert await rig.stores.hash("s1") == before
    assert (await rig.stores.hash("server:s1"))["online"] == "true"


@pytest_twisted.ensureDeferred
async def test_pass_begun_without_permission_asks_nobody(rig: Rig) -> None:
    await rig.add("s1")
    await rig.begin(lambda: False)
    assert _asked(rig) == []
