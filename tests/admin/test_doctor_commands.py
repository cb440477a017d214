"""doctor: each thing it finds, what --fix makes of it, and that it only reads without."""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_twisted

from scalelite.bbb.probe import Probe
from scalelite.cluster.operations.diagnosis import Doctor
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
        parts.servers, parts.meetings, parts.leases, desk.pool.inspection, look, desk.pool.clock, lambda: NOW, 60
    )
    found = [f.problem for f in await doctor.examine(fix=False) if (f.subject, f.id) != ("clock", "redis")]
    assert found == ([] if problem is None else [problem])


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
