"""doctor: each thing it finds, what --fix makes of it, and that it only reads without."""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater

from scalelite.bbb.probe import Probe
from scalelite.cluster.operations.diagnosis import AT_ONCE, NOT_LOOKED_AT, Doctor, Finding
from scalelite.cluster.records import ServerState
from tests.admin.desk import Desk, Result, hold_meetings
from tests.balancer import Balancer

NOW = 1_800_000_000.0


@pytest_twisted.async_yield_fixture()
async def desk(balancer: Balancer) -> Any:
    """A pool with a poller."""
    await balancer.parts.leases.take("poller", "x", 60)
    yield Desk.of(balancer)


async def everything(balancer: Balancer) -> dict[str, Any]:
    found = {}
    for key in await balancer.redis("KEYS", "*"):
        kind = await balancer.redis("TYPE", key)
        read = {"hash": ("HGETALL", key), "set": ("SMEMBERS", key), "zset": ("ZRANGE", key, "0", "-1")}.get(kind)
        value = await balancer.redis(*read) if read else kind
        found[key] = sorted(value) if kind == "set" else value
    return found


@pytest_twisted.ensureDeferred
async def test_a_sound_pool_has_nothing_wrong(balancer: Balancer, desk: Desk) -> None:
    await hold_meetings(balancer, "m1")
    assert await desk.run("doctor") == Result(0, "Nothing is wrong\n", "")
    assert await desk.run("doctor", "--json") == Result(0, "[]\n", "")


@pytest.mark.parametrize(
    ("damage", "line", "fixed"),
    [
        (["SADD", "servers", "ghost"], "server ghost is listed, and has no record", True),
        (["SADD", "server_enabled", "ghost"], "server ghost is among the enabled ones, and is not enabled", True),
        (["ZADD", "server_load", "1", "ghost"], "server ghost has an entry in server_load that is stale", True),
        (
            ["ZADD", "cordoned_server_load", "1", "s1"],
            "server s1 has an entry in cordoned_server_load that is stale",
            True,
        ),
        (["SREM", "server_enabled", "s1"], "server s1 is enabled, and not among the enabled ones", True),
        (["HSET", "server:s1", "foo", "1"], "server s1 has the field foo, which Scalelite refuses", True),
        (["HDEL", "server:s1", "url"], "server s1 has a record without URL", False),
        (["SADD", "tenants", "t"], "tenant t is listed, and has no record", True),
        (["HSET", "ghost", "healthy_counter", "0"], "server ghost has counters of polls, and no record", True),
        (["SADD", "tenant_settings:t", "x"], "tenant t has settings, and no record", True),
        (
            ["HSET", "tenant_setting:x", "param", "a", "value", "b", "override", "true", "tenant_id", "t"],
            "setting x is of tenant t, which does not exist",
            True,
        ),
        (["SADD", "meetings", "ghost"], "meeting ghost is listed, and has no record", True),
        (["HSET", "meeting:m1", "server_id", "gone"], "meeting m1 is on server gone, which does not exist", True),
        (["HSET", "meeting:m1", "foo", "1"], "meeting m1 has the field foo, which Scalelite refuses", True),
        (["PERSIST", "meeting:m1"], "meeting m1 has a record that never expires", True),
        (["SREM", "meetings", "m1"], "meeting m1 has a record, and is not listed", True),
        (["HSET", "voice_bridges", "12345", "over"], "number 12345 is kept for meeting over, which is over", True),
        (["DEL", "voice_bridges"], "meeting m1 has the number ", True),
        (["DEL", "balancer:lease:poller"], "poller does not run anywhere: start the service", False),
    ],
)
@pytest_twisted.ensureDeferred
async def test_damage_is_found_and_mended(
    balancer: Balancer, desk: Desk, damage: list[str], line: str, fixed: bool
) -> None:
    await hold_meetings(balancer, "m1")
    await balancer.redis(damage[0], balancer.key(damage[1]), *damage[2:])
    before = await everything(balancer)
    seen = await desk.run("doctor")
    assert (seen.status, seen.err) == (1, "")
    assert seen.out.startswith(line)
    assert ("; --fix " in seen.out) == fixed
    assert await everything(balancer) == before
    mended = await desk.run("doctor", "--fix")
    assert mended.out.startswith(line)
    if fixed:
        assert (mended.status, mended.out.count(": fixed\n")) == (0, mended.out.count("\n"))
        assert (await desk.run("doctor")).out == "Nothing is wrong\n"
    else:
        assert mended.status == 1


@pytest_twisted.ensureDeferred
async def test_what_is_in_use_is_not_left_over(balancer: Balancer, desk: Desk) -> None:
    await hold_meetings(balancer, "m1")
    await balancer.parts.tenants.add("t", "school", "s")
    await balancer.parts.tenants.add_setting("x", "t", "logo", "l", override=False)
    for command in (
        ("HSET", "s1", "healthy_counter", "0", "unhealthy_counter", "1"),
        ("HSET", "somebodys", "healthy_counter", "0", "else", "1"),
        ("SET", "text", "healthy_counter"),
    ):
        await balancer.redis(command[0], balancer.key(command[1]), *command[2:])
    before = await everything(balancer)
    assert (await desk.run("doctor", "--fix")).out == "Nothing is wrong\n"
    after = await everything(balancer)
    assert {key: value for key, value in after.items() if not key.endswith("audit")} == before


@pytest_twisted.ensureDeferred
async def test_what_scalelite_leaves_of_removed_servers_and_tenants_is_removed(balancer: Balancer, desk: Desk) -> None:
    await balancer.redis("HSET", balancer.key("ghost"), "healthy_counter", "0", "unhealthy_counter", "1")
    await balancer.redis("ZADD", balancer.key("server_load"), "1", "ghost")
    await balancer.redis("SADD", balancer.key("tenant_settings:t"), "x")
    await balancer.redis("HSET", balancer.key("tenant_setting:x"), "param", "a", "tenant_id", "t")
    assert (await desk.run("doctor", "--fix")).out == (
        "server ghost has counters of polls, and no record: fixed\n"
        "server ghost has an entry in server_load that is stale: fixed\n"
        "tenant t has settings, and no record: fixed\n"
        "setting x is of tenant t, which does not exist: fixed\n"
    )
    left = {name.removeprefix(balancer.key("")) for name in await everything(balancer)}
    assert {name for name in left if not name.startswith("balancer:")} == set()


@pytest_twisted.ensureDeferred
async def test_mending_many_things_at_once_leaves_what_is_sound(balancer: Balancer, desk: Desk) -> None:
    await hold_meetings(balancer, "m1", "m2", "m3")
    await balancer.redis("HSET", balancer.key("meeting:m2"), "server_id", "gone")
    await balancer.redis("SREM", balancer.key("meetings"), "m2")
    await balancer.redis("SADD", balancer.key("meetings"), *(f"ghost{i}" for i in range(1200)))
    assert (await desk.run("doctor", "--fix")).status == 0
    assert sorted(await balancer.redis("SMEMBERS", balancer.key("meetings"))) == ["m1", "m3"]
    assert await balancer.redis("HLEN", balancer.key("voice_bridges")) == 2


@pytest_twisted.ensureDeferred
async def test_servers_that_never_answered_or_share_a_url_are_named(balancer: Balancer, desk: Desk) -> None:
    await balancer.add_server("s1")
    await balancer.sim.stop()
    await balancer.parts.servers.add("s2", balancer.nodes["s1"].url + "/", "x")
    await balancer.parts.servers.set_state("s2", ServerState.ENABLED)
    lines = (await desk.run("doctor")).out.splitlines()
    assert lines[0] == "server s1 never answered: check its URL, and whether it runs"
    assert "server s1 has the same URL as s2" in lines
    assert any(line.startswith("server s1 cannot be reached: ") for line in lines)


@pytest.mark.parametrize(
    ("seen", "problem"),
    [
        (Probe(date=NOW + 60), "is 60 s ahead of this machine's"),
        (Probe(date=NOW - 61), "is 60 s behind this machine's"),
        (Probe(date=NOW + 2, expires=NOW + 30 * 86_400), None),
        (Probe(date=NOW, expires=NOW + 3.5 * 86_400), "expires in 3 days"),
        (Probe(date=NOW, expires=NOW + 3_600), "expires today"),
        (Probe(date=NOW, expires=NOW - 1), "has expired"),
        (Probe(), None),
    ],
)
@pytest_twisted.ensureDeferred
async def test_clocks_and_certificates(balancer: Balancer, desk: Desk, seen: Probe, problem: str | None) -> None:
    await balancer.add_server("s1")
    await balancer.poll_now()

    async def look(url: str) -> Probe:
        assert url == balancer.nodes["s1"].url
        return seen

    parts = balancer.parts
    doctor = Doctor(
        parts.servers, parts.meetings, parts.leases, desk.pool.inspection, look, desk.pool.clock, lambda: NOW, 60, 15.0
    )
    found = [f.problem for f in await doctor.examine(fix=False) if (f.subject, f.id) != ("clock", "redis")]
    assert found == ([] if problem is None else [problem])


@pytest_twisted.ensureDeferred
async def test_an_examination_ends_in_time_and_names_what_it_did_not_look_at(balancer: Balancer, desk: Desk) -> None:
    for i in range(AT_ONCE + 2):
        await balancer.parts.servers.add(f"s{i:02}", f"http://s{i:02}/api", "x")
        await balancer.parts.servers.set_state(f"s{i:02}", ServerState.ENABLED)
    clock, parts = Clock(), balancer.parts
    asked: list[str] = []

    async def look(url: str) -> Probe:
        asked.append(url)
        if url == "http://s00/api":
            raise OSError("no route")
        if url != "http://s01/api":
            await Deferred()
        return Probe()

    doctor = Doctor(
        parts.servers, parts.meetings, parts.leases, desk.pool.inspection, look, clock, lambda: NOW, 60, 15.0
    )
    examination = Deferred.fromCoroutine(doctor.examine(fix=False))
    while len(asked) < AT_ONCE + 2:
        await deferLater(reactor, 0)
    clock.advance(14.9)
    assert not examination.called
    clock.advance(0.1)
    found = {f.id: f.problem for f in await examination if f.subject == "server" and "never answered" not in f.problem}
    unknown = {f"s{i:02}": NOT_LOOKED_AT for i in range(2, AT_ONCE + 2)}
    assert found == {"s00": "cannot be reached: no route", **unknown}


@pytest_twisted.ensureDeferred
async def test_an_examination_without_time_mends_nothing_and_says_so(balancer: Balancer, desk: Desk) -> None:
    await hold_meetings(balancer, "m1")
    await balancer.redis("SADD", balancer.key("servers"), "ghost")
    before = await everything(balancer)
    desk.deadline = 0.0
    result = await desk.run("doctor", "--fix")
    assert (result.status, result.err) == (1, "")
    assert result.out.splitlines() == [
        "servers' records not looked at: the time was up",
        "meetings' records not looked at: the time was up",
        "leftovers not looked at: the time was up",
        "numbers not looked at: the time was up",
        "poller not looked at: the time was up",
        "Redis' clock not looked at: the time was up",
        "server s1 not looked at: the time was up",
    ]
    assert {k: v for k, v in (await everything(balancer)).items() if "audit" not in k} == before


class Slowing:
    """The records' inspection, on which each step takes a second of `clock`."""

    def __init__(self, inspection: Any, clock: Clock) -> None:
        self._inspection = inspection
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        self._clock.advance(1)
        return getattr(self._inspection, name)


@pytest.mark.parametrize(
    ("deadline", "left", "problem"),
    [
        (3.5, ["ghost2"], "were not all mended: the time was up"),
        (4.5, [], "were mended, and not looked at again: the time was up"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_was_not_mended_in_time_is_still_found(
    balancer: Balancer, desk: Desk, deadline: float, left: list[str], problem: str
) -> None:
    await balancer.redis("SADD", balancer.key("servers"), "ghost1", "ghost2")
    clock, parts = Clock(), balancer.parts
    slowing: Any = Slowing(desk.pool.inspection, clock)

    async def look(_url: str) -> Probe:
        return Probe()

    doctor = Doctor(parts.servers, parts.meetings, parts.leases, slowing, look, clock, lambda: NOW, 60, deadline)
    found = await doctor.examine(fix=True)
    assert [(f.id, f.fixed) for f in found if f.subject == "server"] == [("ghost1", False), ("ghost2", False)]
    assert Finding("records", "", problem) in found
    assert await balancer.redis("SMEMBERS", balancer.key("servers")) == left


@pytest_twisted.ensureDeferred
async def test_json_names_subject_problem_and_fix(balancer: Balancer, desk: Desk) -> None:
    await balancer.redis("SADD", balancer.key("servers"), "ghost")
    (row,) = json.loads((await desk.run("doctor", "--json")).out)
    assert row == {
        "subject": "server",
        "id": "ghost",
        "problem": "is listed, and has no record",
        "fix": "takes it off the list",
        "fixed": False,
    }


@pytest_twisted.ensureDeferred
async def test_only_mending_is_a_change(desk: Desk) -> None:
    await desk.run("doctor")
    assert json.loads((await desk.run("audit", "--json")).out) == []
    await desk.run("doctor", "--fix")
    (entry,) = json.loads((await desk.run("audit", "--json")).out)
    assert (entry["command"], entry["target"]) == ("doctor", "--fix")
