"""Every call of the API against a Redis that is broken in every way: an answer in time, and no meeting lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from scalelite.store.errors import StoreError
from tests.balancer import Answer, Balancer
from tests.integration.faults import ACTIONS, ask, assert_single, open_balancer, usable_on, went_well
from tests.integration.redis_server import RedisServer, eventually
from tests.model.house import HeldCall
from tests.store.layout import Stores, check_layout

pytestmark = pytest.mark.integration


@attrs.frozen
class Broken:
    """How Redis breaks, and what it takes to be right again."""

    begin: Callable[[RedisServer], object]
    end: Callable[[RedisServer], object]
    reads: bool = False
    """What writes nothing still works."""


def _fill_up(server: RedisServer) -> None:
    server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    server.command("CONFIG", "SET", "maxmemory", "1")


def _make_replica(server: RedisServer) -> None:
    # Of a master that is not there, whose data it keeps serving: what a failover leaves behind for a moment.
    server.command("REPLICAOF", "127.0.0.1", "1")


BROKEN = {
    "hangs": Broken(RedisServer.pause, RedisServer.resume),
    "was stopped": Broken(RedisServer.stop, RedisServer.start),
    "was killed": Broken(RedisServer.kill, RedisServer.start),
    "is full": Broken(_fill_up, lambda server: server.command("CONFIG", "SET", "maxmemory", "0"), reads=True),
    "is a replica": Broken(_make_replica, lambda server: server.command("REPLICAOF", "NO", "ONE"), reads=True),
    "forgot its scripts": Broken(lambda server: server.command("SCRIPT", "FLUSH"), lambda server: None, reads=True),
}
KEPT = ["appendonly yes", "appendfsync always"]

FOREIGN_KEYS = (
    "meeting:m1",
    "server:s1",
    "servers",
    "meetings",
    "server_load",
    "cordoned_server_load",
    "server_enabled",
    "voice_bridges",
    "balancer:pending:m1",
    "balancer:pending:new",
    "balancer:recent:s1",
    "balancer:old_copies:s1",
    "s1",
)


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer(KEPT) as server:
        yield server


@pytest.fixture
def empty(redis_server: RedisServer) -> RedisServer:
    redis_server.command("FLUSHALL")
    return redis_server


async def reachable(balancer: Balancer) -> None:
    """Wait until the balancer has found Redis again, by itself."""

    async def healthy() -> Answer | None:
        answer = await ask(balancer, "health_check")
        return answer if answer.code == 200 else None

    await eventually(healthy)


async def assert_layout(balancer: Balancer) -> None:
    """Nothing is in Redis that Scalelite could not read back."""
    stores = Stores(balancer.parts.redis, balancer.key(""))
    stores.foreign.add("__health_check_set__")
    assert await check_layout(stores) == []


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("action", ACTIONS)
@pytest_twisted.ensureDeferred
async def test_broken_redis_costs_an_error_at_most(empty: RedisServer, action: str, how: str) -> None:
    async with open_balancer(empty.settings()) as balancer:
        (holder,) = balancer.living_on("m1")
        broken = BROKEN[how]
        broken.begin(empty)
        try:
            answer = await ask(balancer, action)
            # The connection may have to be made anew meanwhile: more than one call fails in time.
            again = await ask(balancer, action)
        finally:
            broken.end(empty)
        if how == "forgot its scripts":
            assert went_well(action, answer)
        elif not broken.reads:
            assert not went_well(action, answer)
            assert not went_well(action, again)
        await reachable(balancer)
        if usable_on(balancer, "m1"):
            assert await balancer.where("m1") == holder
            assert went_well(action, await ask(balancer, action))
        await balancer.poll_now()
        for name in ACTIONS:
            await ask(balancer, name)
        for meeting_id, name in (("m1", "create existing"), ("new", "create new")):
            assert went_well(name, await ask(balancer, name))
            await assert_single(balancer, meeting_id)
        await assert_layout(balancer)


@pytest.mark.parametrize("key", FOREIGN_KEYS)
@pytest.mark.parametrize("action", [*ACTIONS, "poll"])
@pytest_twisted.ensureDeferred
async def test_foreign_type_under_a_key_costs_an_error_at_most(empty: RedisServer, action: str, key: str) -> None:
    async with open_balancer(empty.settings()) as balancer:
        (holder,) = balancer.living_on("m1")
        name = balancer.key(key)
        kept = bool(await balancer.redis("EXISTS", name))
        if kept:
            await balancer.redis("RENAME", name, "aside")
        await balancer.redis("LPUSH", name, "what is this?")
        if action == "poll":
            with suppress(StoreError):
                await balancer.poll_now()
        else:
            await ask(balancer, action)
        balancer.sim.advance(5)
        await balancer.redis("DEL", name)
        if kept:
            await balancer.redis("RENAME", "aside", name)
        if usable_on(balancer, "m1"):
            # A server whose record is none is as good as removed: the meeting moves, or ends, without it.
            if key != "server:s1" or action not in ("create existing", "end"):
                assert await balancer.where("m1") == holder
            if action not in ("poll", "end"):
                assert went_well(action, await ask(balancer, action))
        await balancer.poll_now()
        balancer.sim.advance(5)
        for other in ("create existing", "create new", "join", "getMeetings", "health_check"):
            assert went_well(other, await ask(balancer, other)), other
        await assert_single(balancer, "m1")
        await assert_single(balancer, "new")
        await assert_layout(balancer)


@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize("how", [how for how in BROKEN if how != "forgot its scripts"])
@pytest_twisted.ensureDeferred
async def test_redis_that_breaks_during_a_create_neither_loses_nor_doubles_the_meeting(
    empty: RedisServer, how: str, answers: bool
) -> None:
    async with open_balancer(empty.settings()) as balancer:
        held = [HeldCall(node, "create") for node in balancer.nodes.values()]
        creating: Deferred[Answer] = Deferred.fromCoroutine(ask(balancer, "create new"))
        await eventually(lambda: _arrived(held))
        broken = BROKEN[how]
        broken.begin(empty)
        try:
            for call in held:
                call.call_off()
                if answers:
                    call.let_go()
            created = await creating
        finally:
            broken.end(empty)
        assert (created.returncode == "SUCCESS") is answers
        await reachable(balancer)
        if answers:
            await assert_single(balancer, "new")
            assert (await balancer.call("join", meetingID="new", fullName="Ada", role="VIEWER")).code == 302
            await balancer.poll_now()
        assert went_well("create new", await ask(balancer, "create new"))
        await assert_single(balancer, "new")
        await assert_layout(balancer)


async def _arrived(held: list[HeldCall]) -> bool | None:
    return True if any(call.arrived for call in held) else None


@pytest.mark.parametrize("how", [how for how in BROKEN if how != "forgot its scripts"])
@pytest_twisted.ensureDeferred
async def test_redis_that_breaks_during_an_end_does_not_keep_the_meeting(empty: RedisServer, how: str) -> None:
    async with open_balancer(empty.settings()) as balancer:
        (holder,) = balancer.living_on("m1")
        held = HeldCall(balancer.nodes[holder], "end")
        ending: Deferred[Answer] = Deferred.fromCoroutine(ask(balancer, "end"))
        await eventually(lambda: _arrived([held]))
        broken = BROKEN[how]
        broken.begin(empty)
        try:
            held.let_go()
            ended = await ending
        finally:
            broken.end(empty)
        assert ended.key == "sentEndMeetingRequest"
        await reachable(balancer)
        balancer.sim.advance(5)
        await eventually(lambda: _forgotten(balancer))
        assert went_well("create existing", await ask(balancer, "create existing"))
        await assert_single(balancer, "m1")


async def _forgotten(balancer: Balancer) -> bool | None:
    await balancer.poll_now()
    return True if await balancer.where("m1") is None else None
