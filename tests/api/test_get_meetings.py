"""getMeetings: all servers at once, merged, and as much as can be had."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet import defer

from scalelite.bbb import xml
from scalelite.cluster.records import ServerState
from scalelite.simulator import Fault
from tests.api.support import calls, post, running, scripted_server
from tests.balancer import Answer, Balancer

UNABLE = "Unable to access server."


def ids(answer: Answer) -> list[str]:
    return sorted(element.text or "" for element in answer.xml.iterfind("meetings/meeting/meetingID"))


async def fill(balancer: Balancer, count: int = 3) -> None:
    """One meeting on each of `count` servers."""
    await balancer.add_servers(count)
    for number in range(1, count + 1):
        await balancer.call("create", meetingID=f"m{number}", name="Meeting")
    assert [list(node.meetings) for node in balancer.nodes.values()] == [[f"m{n}"] for n in range(1, count + 1)]


@pytest_twisted.ensureDeferred
async def test_without_servers_or_meetings_there_are_none(balancer: Balancer) -> None:
    assert (await balancer.call("getMeetings")).body == xml.NO_MEETINGS
    await balancer.add_servers(2)
    answer = await balancer.call("getMeetings")
    assert answer.body == xml.NO_MEETINGS
    assert "x-scalelite-partial" not in answer.headers


@pytest_twisted.ensureDeferred
async def test_meetings_of_all_servers_are_merged_whole(balancer: Balancer) -> None:
    await fill(balancer)
    balancer.nodes["s2"].add_users("m2", 2, names=["Grâce & <Co>", "👩‍🏫"])
    for answer in (
        await balancer.call("getMeetings"),
        await balancer.call("getMeetings", meetingID="m1", random="x"),
        await post(balancer, "getMeetings", b"a=1"),
    ):
        assert answer.returncode == "SUCCESS"
        assert [element.tag for element in answer.xml] == ["returncode", "meetings"]
        assert ids(answer) == ["m1", "m2", "m3"]
        names = [e.text for e in answer.xml.iterfind("meetings/meeting/attendees/attendee/fullName")]
        assert names == ["Grâce & <Co>", "👩‍🏫"]
        assert b"&#" not in answer.body
    assert {frozenset(call.query) for call in calls(balancer, "getMeetings")} == {frozenset(("checksum",))}


@pytest_twisted.ensureDeferred
async def test_a_head_request_tells_the_length(balancer: Balancer) -> None:
    await fill(balancer, 1)
    got = await balancer.call("getMeetings")
    head = await balancer.request("HEAD", balancer.url("getMeetings"))
    assert head.headers["content-length"] == str(len(got.body))


@pytest.mark.parametrize(("how", "listed"), [("cordoned", True), ("disabled", False), ("offline", False)])
@pytest_twisted.ensureDeferred
async def test_servers_that_are_offline_or_disabled_are_not_asked(balancer: Balancer, how: str, listed: bool) -> None:
    await fill(balancer, 2)
    if how == "offline":
        await balancer.redis("HSET", balancer.key("server:s1"), "online", "false")
    else:
        await balancer.parts.servers.set_state("s1", ServerState(how))
    before = len(calls(balancer, "getMeetings", "s1"))
    answer = await balancer.call("getMeetings")
    assert ids(answer) == (["m1", "m2"] if listed else ["m2"])
    assert len(calls(balancer, "getMeetings", "s1")) - before == (1 if listed else 0)
    assert "x-scalelite-partial" not in answer.headers


FAULTS: list[tuple[Fault, dict[str, Any]]] = [
    (Fault.REFUSE, {}),
    (Fault.RESET, {}),
    (Fault.HANG_BEFORE_HEADERS, {}),
    (Fault.HANG_AFTER_HEADERS, {}),
    (Fault.DRIP, {"interval": 0.05}),
    (Fault.BLACKHOLE, {}),
    (Fault.HTTP_503, {}),
    (Fault.HTML_200, {}),
    (Fault.XML_TRUNCATED, {}),
    (Fault.XML_ENTITY_BOMB, {}),
    (Fault.XML_LOWERCASE_RETURNCODE, {}),
    (Fault.ENDLESS_CHUNKED, {"interval": 0.001, "chunk": 50_000}),
    (Fault.WRONG_SECRET, {}),
]


@pytest.mark.parametrize(("fault", "options"), FAULTS, ids=[fault.value for fault, _ in FAULTS])
@pytest_twisted.ensureDeferred
async def test_one_bad_server_is_left_out_and_named(fault: Fault, options: dict[str, Any]) -> None:
    async with running(response_timeout=0.25, connect_timeout=0.25, max_answer_size=100_000) as balancer:
        await fill(balancer)
        balancer.parts.last_answers.forget("s2")
        balancer.nodes["s2"].faults.set("*", fault, **options)
        answer = await balancer.call("getMeetings")
        assert answer.code == 200
        assert ids(answer) == ["m1", "m3"]
        assert answer.headers["x-scalelite-partial"] == "s2"


@pytest_twisted.ensureDeferred
async def test_a_server_that_fails_is_answered_for_from_its_last_answer(balancer: Balancer) -> None:
    await fill(balancer)
    await balancer.poll_now()
    balancer.nodes["s2"].faults.set("getMeetings", Fault.HTTP_502)
    answer = await balancer.call("getMeetings")
    assert ids(answer) == ["m1", "m2", "m3"]
    assert answer.headers["x-scalelite-partial"] == "s2"


@pytest_twisted.ensureDeferred
async def test_an_old_answer_does_not_stand_in() -> None:
    async with running(poll_interval=0.0) as balancer:
        await fill(balancer)
        await balancer.call("getMeetings")
        balancer.nodes["s2"].faults.set("getMeetings", Fault.HTTP_502)
        assert ids(await balancer.call("getMeetings")) == ["m1", "m3"]


@pytest_twisted.ensureDeferred
async def test_when_no_server_can_be_listed_the_call_fails(balancer: Balancer) -> None:
    await balancer.add_servers(2)
    for server_id, node in balancer.nodes.items():
        balancer.parts.last_answers.forget(server_id)
        node.faults.set("getMeetings", Fault.HTTP_502)
    answer = await balancer.call("getMeetings")
    assert (answer.code, answer.key, answer.message) == (200, "internalError", UNABLE)
    for node in balancer.nodes.values():
        node.faults.clear()
    assert (await balancer.call("getMeetings")).key == "noMeetings"


@pytest_twisted.ensureDeferred
async def test_equal_calls_at_once_share_one_fan_out(balancer: Balancer) -> None:
    await fill(balancer, 2)
    before = len(calls(balancer, "getMeetings"))
    for node in balancer.nodes.values():
        node.delay = 0.05
    answers = await defer.gatherResults([defer.Deferred.fromCoroutine(balancer.call("getMeetings")) for _ in range(20)])
    assert {answer.body for answer in answers} == {answers[0].body}
    assert ids(answers[0]) == ["m1", "m2"]
    assert len(calls(balancer, "getMeetings")) - before == 2
    await balancer.call("getMeetings")
    assert len(calls(balancer, "getMeetings")) - before == 4


@pytest_twisted.ensureDeferred
async def test_a_failed_fan_out_fails_all_who_share_it_and_nobody_else(balancer: Balancer) -> None:
    await balancer.add_servers(1)
    balancer.parts.last_answers.forget("s1")
    balancer.nodes["s1"].faults.set("getMeetings", Fault.HTTP_502)
    answers = await defer.gatherResults([defer.Deferred.fromCoroutine(balancer.call("getMeetings")) for _ in range(5)])
    assert [answer.key for answer in answers] == ["internalError"] * 5
    balancer.nodes["s1"].faults.clear()
    assert (await balancer.call("getMeetings")).key == "noMeetings"


@pytest_twisted.ensureDeferred
async def test_a_copy_left_behind_is_not_listed(balancer: Balancer) -> None:
    await balancer.add_servers(2)
    await balancer.call("create", meetingID="m1", name="Meeting")
    await balancer.redis("HSET", balancer.key("server:s1"), "online", "false")
    await balancer.call("create", meetingID="m1", name="Meeting")
    await balancer.redis("HSET", balancer.key("server:s1"), "online", "true")
    answer = await balancer.call("getMeetings")
    assert ids(answer) == ["m1"]
    internal = answer.text("meetings/meeting/internalMeetingID")
    assert internal == balancer.nodes["s2"].meetings["m1"].internal_id


@pytest_twisted.ensureDeferred
async def test_one_meeting_listed_twice_is_given_once(balancer: Balancer) -> None:
    meeting = b"<meeting><meetingID>m1</meetingID><internalMeetingID>i-1</internalMeetingID></meeting>"
    other = b"<meeting><meetingID>m2</meetingID></meeting>"
    listing = b"<response><returncode>SUCCESS</returncode><meetings>%b</meetings></response>"
    async with (
        scripted_server(balancer, "s1", getMeetings=listing % (meeting + other)),
        scripted_server(balancer, "s2", getMeetings=listing % (meeting + other)),
    ):
        assert ids(await balancer.call("getMeetings")) == ["m1", "m2"]


@pytest_twisted.ensureDeferred
async def test_breakout_rooms_and_meetings_made_elsewhere_are_listed(balancer: Balancer) -> None:
    await fill(balancer, 1)
    balancer.nodes["s1"].open_breakouts("m1", 2)
    balancer.nodes["s1"].create("made by hand")
    answer = await balancer.call("getMeetings")
    assert len(ids(answer)) == 4
    assert "made by hand" in ids(answer)


@pytest_twisted.ensureDeferred
async def test_odd_server_ids_do_not_break_the_header(balancer: Balancer) -> None:
    for server_id in ("bbb-é", "a b"):
        await balancer.add_server(server_id)
    await balancer.add_server("good")
    await balancer.poll_now()
    for server_id in ("bbb-é", "a b"):
        balancer.nodes[server_id].faults.set("getMeetings", Fault.HTTP_502)
    answer = await balancer.call("getMeetings")
    assert answer.key == "noMeetings"
    assert sorted(answer.headers["x-scalelite-partial"].split(", ")) == ["a b", "bbb-?"]
