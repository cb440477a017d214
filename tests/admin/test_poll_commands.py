"""Polling by command, and liveness."""

from __future__ import annotations

import pytest
import pytest_twisted

from scalelite.simulator import Fault
from tests.admin.desk import Desk, Result, both, hold_meetings, meetings_on, spelled
from tests.balancer import Balancer


@pytest.mark.parametrize("name", ["poll:all", "poll:servers", "poll:meetings"])
@both
@pytest_twisted.ensureDeferred
async def test_polling_once_tells_load_and_drops_ended_meetings(
    balancer: Balancer, desk: Desk, spelling: str, name: str
) -> None:
    await hold_meetings(balancer, "m1", "m2")
    del balancer.nodes["s1"].meetings["m1"]
    await balancer.redis("DEL", balancer.key("balancer:recent:s1"), balancer.key("balancer:pending:m1"))
    assert await desk.run(*spelled(spelling, name)) == Result(0, "", "")
    assert await meetings_on(balancer, "s1") == ["m2"]
    (server,) = await balancer.parts.servers.all()
    assert (server.online, server.meetings) == (True, "1")


@both
@pytest_twisted.ensureDeferred
async def test_versions_are_asked_for(balancer: Balancer, desk: Desk, spelling: str) -> None:
    await balancer.add_server("s1")
    await balancer.add_server("s2")
    await balancer.redis("HSET", balancer.key("server:s1"), "bbb_version", "old")
    balancer.nodes["s2"].faults.set("*", Fault.HTTP_500)
    result = await desk.run(*spelled(spelling, "poll:versions"))
    assert (result.status, result.out) == (0, "")
    assert result.err.startswith("WARNING: server s2 did not tell its version: ")
    s1, s2 = await balancer.parts.servers.all()
    # The simulated server tells none, which is as good an answer as any.
    assert s1.bbb_version == ""
    assert s2.bbb_version is None


@pytest_twisted.ensureDeferred
async def test_polling_for_ever_is_for_a_process_of_its_own(desk: Desk) -> None:
    desk.own_process = False
    assert (await desk.run("poll")).status == 1


@pytest.mark.parametrize("interval", ["0", "soon", "-1", "nan", "inf"])
@pytest_twisted.ensureDeferred
async def test_an_interval_is_a_number_of_seconds(desk: Desk, interval: str) -> None:
    result = await desk.run(f"poll[{interval}]")
    assert result == Result(1, "", f"ERROR: INTERVAL must be a number of seconds from 0.1 to 86400, not '{interval}'\n")


@both
@pytest_twisted.ensureDeferred
async def test_liveness_prints_success(desk: Desk, spelling: str) -> None:
    assert await desk.run(*spelled(spelling, "liveness")) == Result(0, "success\n", "")
