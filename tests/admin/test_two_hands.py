"""Several hands at once: operators, the poller and front-ends on the same servers."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from tests.admin.desk import Desk, state_of
from tests.balancer import Balancer


@pytest.mark.parametrize("mode", ["cordon", "force"])
@pytest_twisted.ensureDeferred
async def test_sync_during_creates_loses_no_meeting(balancer: Balancer, desk: Desk, mode: str) -> None:
    await balancer.add_servers(2)
    kept = balancer.nodes["s2"]
    text = f"servers:\n  s2:\n    url: {kept.url}\n    secret: {kept.secret}\n"
    creates = [Deferred.fromCoroutine(balancer.call("create", meetingID=f"m{i}", name="room")) for i in range(20)]
    sync = Deferred.fromCoroutine(desk.run(f"servers:sync[-,{mode}]", answers=(text,)))
    answers = await gatherResults(creates)
    result = await sync
    assert [answer.returncode for answer in answers] == ["SUCCESS"] * 20
    left = {server.id for server in await balancer.parts.servers.all()}
    recorded = [meeting async for meeting in balancer.parts.meetings.scan()]
    assert {meeting.server_id for meeting in recorded} <= left
    for meeting in recorded:
        assert meeting.server_id in balancer.living_on(meeting.id)
    if mode == "cordon":
        # Whatever was created is still there: a server that holds any of them is cordoned, not removed.
        assert len(recorded) == 20
        assert ("s1" in left) == any(meeting.server_id == "s1" for meeting in recorded)
        assert await state_of(balancer, "s1") in ("cordoned", None)
    assert (result.status == 0) == (mode == "cordon" or "s1" not in left)


@pytest_twisted.ensureDeferred
async def test_what_an_operator_says_during_a_poll_stays(balancer: Balancer, desk: Desk) -> None:
    await balancer.add_servers(3)
    polling = Deferred.fromCoroutine(balancer.poll_now())
    lines = [("servers:cordon", "s1"), ("servers:disable", "s2"), ("servers:update", "s3", "-", "3", "gold")]
    results = await gatherResults([Deferred.fromCoroutine(desk.run(*line)) for line in lines])
    await polling
    assert [result.status for result in results] == [0, 0, 0]
    # A server that is cordoned and empty is disabled by the poll.
    assert await state_of(balancer, "s1") in ("cordoned", "disabled")
    assert await state_of(balancer, "s2") == "disabled"
    s3 = await balancer.parts.servers.find("s3")
    assert s3 is not None
    assert (s3.load_multiplier, s3.tag) == (3.0, "gold")
    assert await balancer.redis("ZSCORE", balancer.key("server_load"), "s2") is None


@pytest_twisted.ensureDeferred
async def test_two_syncs_at_once_come_to_the_same(balancer: Balancer, desk: Desk) -> None:
    text = "servers:\n" + "".join(f"  b{i}:\n    secret: x\n" for i in range(10))
    results = await gatherResults(
        [Deferred.fromCoroutine(desk.run("servers:sync[-]", answers=(text,))) for _ in range(2)]
    )
    assert [(result.status, result.err) for result in results] == [(0, "")] * 2
    assert "".join(result.out for result in results).count("Server created") == 10
    servers = await balancer.parts.servers.all()
    assert [server.state.value for server in servers] == ["enabled"] * 10
