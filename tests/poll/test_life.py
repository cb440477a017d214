"""Meetings and servers over many passes: the whole balancer over simulated servers that fail in every way."""

from __future__ import annotations

from collections import Counter

import pytest
import pytest_twisted

from scalelite.cluster.records import Server, ServerState
from scalelite.simulator import Fault
from tests.balancer import Answer, Balancer

BROKEN = [
    Fault.RESET,
    Fault.HTTP_500,
    Fault.HTTP_502,
    Fault.HTTP_404,
    Fault.REDIRECT_HTTPS,
    Fault.HTTP_429,
    Fault.HTML_200,
    Fault.EMPTY_200,
    Fault.CONTENT_LENGTH_SHORT,
    Fault.XML_TRUNCATED,
    Fault.XML_CONTROL_CHARACTER,
    Fault.XML_NO_RETURNCODE,
    Fault.XML_ENTITY_BOMB,
    Fault.XML_EXTERNAL_ENTITY,
    Fault.XML_LATIN1,
    Fault.XML_LOWERCASE_RETURNCODE,
    Fault.WRONG_SECRET,
]
STUCK = [
    Fault.BLACKHOLE,
    Fault.HANG_BEFORE_HEADERS,
    Fault.HANG_AFTER_HEADERS,
    Fault.DRIP,
    Fault.ENDLESS_CHUNKED,
]


async def _create(balancer: Balancer, meeting_id: str = "m1", **params: str) -> Answer:
    given = {"meetingID": meeting_id, "name": "Meeting", "moderatorPW": "mp", "attendeePW": "ap", **params}
    return await balancer.call("create", **given)


async def _server(balancer: Balancer, server_id: str) -> Server:
    server = await balancer.parts.servers.find(server_id)
    assert server is not None
    return server


async def _listed(balancer: Balancer) -> Counter[str]:
    """How often each meeting is listed to clients."""
    answer = await balancer.call("getMeetings")
    assert answer.returncode == "SUCCESS"
    return Counter(element.text or "" for element in answer.xml.iterfind("meetings/meeting/meetingID"))


async def _let_time_pass(balancer: Balancer, meeting_id: str, seconds: float = 100) -> None:
    """Let what was stamped on the create of a meeting lie so many seconds further back."""
    redis, prefix = balancer.parts.redis, balancer.settings.redis.prefix
    pending = f"{prefix}balancer:pending:{meeting_id}"
    if await redis.call("EXISTS", pending):
        await redis.call("HINCRBYFLOAT", pending, "since", -seconds)
    for server_id in balancer.nodes:
        await redis.call("ZADD", f"{prefix}balancer:recent:{server_id}", "XX", "INCR", -seconds, meeting_id)


async def _take_offline(balancer: Balancer, server_id: str) -> None:
    """Refuse connections until the server counts as offline."""
    balancer.nodes[server_id].faults.set(kind=Fault.REFUSE)
    await balancer.poll_now()
    await balancer.poll_now()
    assert not (await _server(balancer, server_id)).online


async def _bring_back(balancer: Balancer, server_id: str) -> None:
    balancer.nodes[server_id].faults.clear()
    await balancer.poll_now()
    assert (await _server(balancer, server_id)).online


# The kind of Redis does not matter here.
@pytest.mark.parametrize("impatient", ["memory"], indirect=True)
@pytest.mark.parametrize("fault", [Fault.REFUSE, *BROKEN, *STUCK])
@pytest_twisted.ensureDeferred
async def test_ill_server_goes_offline_and_comes_back_while_the_others_go_on(impatient: Balancer, fault: Fault) -> None:
    node, other = await impatient.add_servers(2)
    node.create("m1")
    other.create("m2")
    other.add_users("m2", 20)
    node.faults.set("*", fault)
    report = await impatient.poll_now()
    assert (report.answered, report.failed) == (1, 1)
    assert (await _server(impatient, "s2")).users == "20"
    assert (await _server(impatient, "s1")).online
    await impatient.poll_now()
    ill = await _server(impatient, "s1")
    assert (ill.online, ill.state, ill.load, ill.meetings) == (False, ServerState.ENABLED, None, "0")
    for number in range(3):
        assert (await _create(impatient, f"x{number}")).returncode == "SUCCESS"
        assert await impatient.where(f"x{number}") == "s2"
    node.faults.clear()
    await impatient.poll_now()
    well = await _server(impatient, "s1")
    assert (well.online, well.load, well.meetings) == (True, 15, "1")


@pytest.mark.parametrize(
    "fault",
    [
        Fault.CLOSE_ON_REUSE,
        Fault.WRONG_CONTENT_TYPE,
        Fault.XML_UNKNOWN_ELEMENTS,
        Fault.XML_GROUPED_NUMBERS,
        Fault.JITTER,
    ],
)
@pytest_twisted.ensureDeferred
async def test_odd_but_good_answer_counts(impatient: Balancer, fault: Fault) -> None:
    (node,) = await impatient.add_servers(1)
    node.create("m1")
    node.add_users("m1", 20)
    node.faults.set("getMeetings", fault, **({"highest": 0.01} if fault is Fault.JITTER else {}))
    assert (await impatient.poll_now()).answered == 1
    assert (await _server(impatient, "s1")).users == "20"


@pytest_twisted.ensureDeferred
async def test_meetings_of_a_server_that_lost_its_memory_are_placed_anew(impatient: Balancer) -> None:
    node, _ = await impatient.add_servers(2)
    for meeting_id in ("m1", "m2", "m3"):
        await _create(impatient, meeting_id)
        await _let_time_pass(impatient, meeting_id)
    await node.restart()
    assert (await impatient.poll_now()).dropped == 2
    assert [await impatient.where(meeting_id) for meeting_id in ("m1", "m2", "m3")] == [None, "s2", None]
    assert set(await impatient.redis("HVALS", impatient.key("voice_bridges"))) == {"m2"}
    assert (await _create(impatient, "m1")).returncode == "SUCCESS"
    assert impatient.living_on("m1") == ["s1"]


@pytest_twisted.ensureDeferred
async def test_meeting_that_ended_by_itself_is_forgotten(impatient: Balancer) -> None:
    (node,) = await impatient.add_servers(1)
    await _create(impatient)
    await impatient.poll_now()
    await _let_time_pass(impatient, "m1")
    node.faults.set("getMeetings", Fault.SILENT_END)
    assert (await impatient.poll_now()).dropped == 1
    joined = await impatient.call("join", meetingID="m1", fullName="Ada")
    assert joined.key == "notFound"
    assert await _listed(impatient) == {}


@pytest_twisted.ensureDeferred
async def test_meeting_reappearing_after_its_end_is_no_meeting(impatient: Balancer) -> None:
    (node,) = await impatient.add_servers(1)
    await _create(impatient)
    await impatient.poll_now()
    node.faults.set(kind=Fault.REAPPEAR_AFTER_END, seconds=10)
    await impatient.call("end", meetingID="m1")
    node.advance(5)
    await impatient.poll_now()
    assert await impatient.where("m1") is None
    node.advance(60)
    await impatient.poll_now()
    assert await _listed(impatient) == {}


@pytest_twisted.ensureDeferred
async def test_running_meeting_survives_a_server_that_is_away_for_a_while(impatient: Balancer) -> None:
    (node,) = await impatient.add_servers(1)
    await _create(impatient)
    node.add_users("m1", 20)
    await impatient.poll_now()
    await _take_offline(impatient, "s1")
    assert (await impatient.call("join", meetingID="m1", fullName="Ada")).key == "serverUnavailable"
    await _bring_back(impatient, "s1")
    assert impatient.living_on("m1") == ["s1"]
    assert (await impatient.call("join", meetingID="m1", fullName="Ada")).code == 302


@pytest_twisted.ensureDeferred
async def test_meeting_placed_anew_lives_once_when_its_old_server_is_back(impatient: Balancer) -> None:
    await impatient.add_servers(2)
    await _create(impatient)
    assert await impatient.where("m1") == "s1"
    await _take_offline(impatient, "s1")
    assert (await _create(impatient)).returncode == "SUCCESS"
    assert await impatient.where("m1") == "s2"
    assert impatient.living_on("m1") == ["s1", "s2"]
    assert await _listed(impatient) == {"m1": 1}

    impatient.nodes["s1"].faults.clear()
    for _ in range(3):
        await impatient.poll_now()
        assert await _listed(impatient) == {"m1": 1}
        assert (await impatient.call("join", meetingID="m1", fullName="Ada")).location.startswith(
            impatient.nodes["s2"].url
        )
        impatient.nodes["s1"].advance(10)
    assert impatient.living_on("m1") == ["s2"]
    assert (await _create(impatient)).key == "duplicateWarning"


@pytest.mark.parametrize("fault", [Fault.ZOMBIE, Fault.END_SLOW])
@pytest_twisted.ensureDeferred
async def test_old_copy_that_does_not_end_is_never_shown(impatient: Balancer, fault: Fault) -> None:
    await impatient.add_servers(2)
    await _create(impatient)
    await _take_offline(impatient, "s1")
    await _create(impatient)
    await _bring_back(impatient, "s1")
    impatient.nodes["s1"].faults.set("end", fault, seconds=30)
    for _ in range(3):
        await impatient.poll_now()
        assert await _listed(impatient) == {"m1": 1}
    assert await impatient.where("m1") == "s2"


@pytest_twisted.ensureDeferred
async def test_meeting_goes_back_when_its_new_server_refuses_it(impatient: Balancer) -> None:
    await impatient.add_servers(2)
    await _create(impatient)
    await _take_offline(impatient, "s1")
    impatient.nodes["s2"].faults.set("create", Fault.WRONG_SECRET)
    assert (await _create(impatient)).key == "checksumError"
    assert await impatient.where("m1") == "s1"
    await _bring_back(impatient, "s1")
    await impatient.poll_now()
    assert impatient.living_on("m1") == ["s1"]
    assert await _listed(impatient) == {"m1": 1}
    assert (await impatient.call("join", meetingID="m1", fullName="Ada")).code == 302


@pytest_twisted.ensureDeferred
async def test_meeting_goes_back_when_its_new_server_never_answered(impatient: Balancer) -> None:
    await impatient.add_servers(2)
    await _create(impatient)
    impatient.nodes["s1"].add_users("m1", 3)
    await _take_offline(impatient, "s1")
    impatient.nodes["s2"].faults.set("create", Fault.HANG_BEFORE_HEADERS)
    assert (await _create(impatient)).key == "internalError"
    assert await impatient.where("m1") == "s2"
    await _bring_back(impatient, "s1")
    assert impatient.living_on("m1") == ["s1"]
    await _let_time_pass(impatient, "m1")
    await impatient.poll_now()
    await impatient.poll_now()
    assert await impatient.where("m1") == "s1"
    assert impatient.living_on("m1") == ["s1"]
    assert await _listed(impatient) == {"m1": 1}


@pytest.mark.parametrize("fault", [Fault.HANG_AFTER_HEADERS, Fault.CREATE_ANSWER_LOST, Fault.XML_TRUNCATED])
@pytest_twisted.ensureDeferred
async def test_create_whose_answer_was_lost_is_proven_by_the_poller(impatient: Balancer, fault: Fault) -> None:
    await impatient.add_servers(2)
    impatient.nodes["s1"].faults.set("create", fault)
    first = await _create(impatient)
    if first.returncode == "SUCCESS":
        assert fault is Fault.CREATE_ANSWER_LOST
    assert impatient.living_on("m1") == ["s1"]
    assert await impatient.where("m1") == "s1"
    impatient.nodes["s1"].faults.clear()
    await _let_time_pass(impatient, "m1")
    assert (await impatient.poll_now()).dropped == 0
    assert (await _create(impatient)).key == "duplicateWarning"
    assert await impatient.where("m1") == "s1"
    assert impatient.living_on("m1") == ["s1"]


@pytest_twisted.ensureDeferred
async def test_create_that_never_happened_is_given_up_by_the_poller(impatient: Balancer) -> None:
    await impatient.add_servers(2)
    impatient.nodes["s1"].faults.set("create", Fault.HANG_BEFORE_HEADERS)
    assert (await _create(impatient)).key == "internalError"
    assert (await impatient.poll_now()).dropped == 0
    assert (await _server(impatient, "s1")).load == 15
    await _let_time_pass(impatient, "m1")
    assert (await impatient.poll_now()).dropped == 1
    assert (await _server(impatient, "s1")).load == 0
    assert await impatient.where("m1") is None


@pytest_twisted.ensureDeferred
async def test_second_copy_made_behind_the_balancers_back_is_ended(impatient: Balancer) -> None:
    await impatient.add_servers(2)
    impatient.nodes["s1"].faults.set("create", Fault.DUPLICATE_MEETING, count=1)
    await _create(impatient)
    assert impatient.living_on("m1") == ["s1", "s2"]
    for _ in range(2):
        await impatient.poll_now()
        impatient.nodes["s2"].advance(10)
    assert impatient.living_on("m1") == ["s1"]
    assert await _listed(impatient) == {"m1": 1}


@pytest_twisted.ensureDeferred
async def test_draining_a_server_leaves_its_meetings_alone_until_the_last_is_over(impatient: Balancer) -> None:
    (node,) = await impatient.add_servers(1)
    await _create(impatient)
    await impatient.poll_now()
    await impatient.parts.servers.set_state("s1", ServerState.CORDONED)
    await impatient.poll_now()
    assert (await _server(impatient, "s1")).state is ServerState.CORDONED
    assert (await impatient.call("join", meetingID="m1", fullName="Ada")).code == 302
    node.end("m1", at_once=True)
    await _let_time_pass(impatient, "m1")
    await impatient.poll_now()
    emptied = await _server(impatient, "s1")
    assert (emptied.state, emptied.online) == (ServerState.DISABLED, True)


@pytest_twisted.ensureDeferred
async def test_breakout_rooms_add_users_but_no_load(impatient: Balancer) -> None:
    (node,) = await impatient.add_servers(1)
    await _create(impatient)
    node.add_users("m1", 20)
    node.open_breakouts("m1", 2, users=8)
    await impatient.poll_now()
    server = await _server(impatient, "s1")
    assert (server.load, server.users, server.meetings, server.largest_meeting) == (20, "36", "3", "20")
    assert await impatient.where("m1") == "s1"


@pytest.mark.parametrize(("reveal", "version"), [(True, "3.0.12"), (False, "")])
@pytest_twisted.ensureDeferred
async def test_version_is_what_the_server_reveals(impatient: Balancer, reveal: bool, version: str) -> None:
    await impatient.add_servers(1, reveal_version=reveal)
    assert (await _server(impatient, "s1")).bbb_version == version


@pytest_twisted.ensureDeferred
async def test_large_server_is_polled_with_one_request(impatient: Balancer) -> None:
    (node,) = await impatient.add_servers(1)
    node.fill(500, 4)
    node.requests.clear()
    report = await impatient.poll_now()
    assert (report.meetings, report.users) == (500, 2000)
    assert [request.action for request in node.requests] == ["getMeetings"]
