"""create where servers refuse, are in trouble, or have been taken out of service."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import pytest
import pytest_twisted

from scalelite.cluster.records import ServerState
from scalelite.simulator import Fault
from tests.api.support import (
    bookkeeping,
    bridges,
    calls,
    load_of,
    post,
    record_of,
    running,
    scripted_server,
)
from tests.balancer import Answer, Balancer

UNABLE = "Unable to create meeting on server."


async def create(balancer: Balancer, meeting_id: str = "m1", **params: str) -> Answer:
    return await balancer.call("create", **{"meetingID": meeting_id, "name": "Meeting", **params})


async def set_online(balancer: Balancer, server_id: str, online: bool) -> None:
    await balancer.redis("HSET", balancer.key(f"server:{server_id}"), "online", str(online).lower())
    if not online:
        await balancer.redis("ZREM", balancer.key("server_load"), server_id)


async def take_out(balancer: Balancer, server_id: str, how: str) -> None:
    if how == "offline":
        await set_online(balancer, server_id, False)
    elif how == "removed":
        # As Scalelite does it: the meetings' records stay.
        await balancer.redis("DEL", balancer.key(f"server:{server_id}"))
        for name in ("servers", "server_enabled"):
            await balancer.redis("SREM", balancer.key(name), server_id)
        await balancer.redis("ZREM", balancer.key("server_load"), server_id)
    else:
        await balancer.parts.servers.set_state(server_id, ServerState(how))


# Servers out of service.


@pytest.mark.parametrize("how", ["offline", "disabled", "removed"])
@pytest_twisted.ensureDeferred
async def test_a_meeting_whose_server_is_out_of_service_is_placed_anew(balancer: Balancer, how: str) -> None:
    await balancer.add_servers(2)
    first = await create(balancer, moderatorPW="mp", attendeePW="ap")
    assert await balancer.where("m1") == "s1"
    before = await record_of(balancer, "m1")
    await take_out(balancer, "s1", how)
    again = await create(balancer, moderatorPW="mp", attendeePW="ap")
    assert again.returncode == "SUCCESS"
    assert again.text("createTime") != first.text("createTime") or again.key == ""
    assert await record_of(balancer, "m1") == before | {"server_id": "s2"}
    assert "m1" in balancer.nodes["s2"].meetings
    assert len(calls(balancer, "create", "s1")) == 1
    joined = await balancer.call("join", meetingID="m1", fullName="Ada", role="VIEWER")
    assert joined.location.startswith(balancer.nodes["s2"].url)


@pytest.mark.parametrize("how", ["offline", "disabled", "removed"])
@pytest_twisted.ensureDeferred
async def test_without_another_server_the_record_stays_where_it_was(balancer: Balancer, how: str) -> None:
    await balancer.add_servers(1)
    await create(balancer)
    before = await record_of(balancer, "m1")
    await take_out(balancer, "s1", how)
    assert (await create(balancer)).message == "Could not find any available servers."
    assert await record_of(balancer, "m1") == before


@pytest_twisted.ensureDeferred
async def test_a_running_meeting_on_a_cordoned_server_stays(balancer: Balancer) -> None:
    await balancer.add_servers(2)
    await create(balancer)
    balancer.nodes["s1"].add_users("m1", 1)
    await take_out(balancer, "s1", "cordoned")
    assert (await create(balancer)).key == "duplicateWarning"
    assert balancer.living_on("m1") == ["s1"]
    (asked,) = calls(balancer, "isMeetingRunning")
    assert set(asked.query) == {"meetingID", "checksum"}
    assert await load_of(balancer, "s2") == 0


@pytest.mark.parametrize("fault", [None, Fault.HTTP_502, Fault.RESET, Fault.REFUSE, Fault.XML_NO_RETURNCODE])
@pytest_twisted.ensureDeferred
async def test_a_meeting_not_seen_running_on_a_cordoned_server_moves(balancer: Balancer, fault: Fault | None) -> None:
    await balancer.add_servers(2)
    await create(balancer, moderatorPW="mp")
    await take_out(balancer, "s1", "cordoned")
    if fault is not None:
        balancer.nodes["s1"].faults.set("*" if fault is Fault.REFUSE else "isMeetingRunning", fault)
    assert (await create(balancer, moderatorPW="mp")).returncode == "SUCCESS"
    assert await balancer.where("m1") == "s2"
    assert "m1" in balancer.nodes["s2"].meetings
    # The copy that was left behind is ended as soon as its server answers.
    balancer.nodes["s1"].faults.clear()
    await balancer.poll_now()
    assert [call.query["meetingID"] for call in calls(balancer, "end", "s1")] == ["m1"]


@pytest_twisted.ensureDeferred
async def test_a_meeting_that_moves_obeys_tags_and_reserves_load(balancer: Balancer) -> None:
    await balancer.add_server("a1", tag="gpu")
    await balancer.add_server("a2", tag="gpu", load_multiplier=3.0)
    await balancer.add_server("plain")
    await balancer.poll_now()
    tag = {"meta_server-tag": "gpu!"}
    await create(balancer, **tag)
    assert await balancer.where("m1") == "a1"
    await take_out(balancer, "a1", "disabled")
    assert (await create(balancer, **tag)).returncode == "SUCCESS"
    assert await balancer.where("m1") == "a2"
    assert await load_of(balancer, "a2") == 45
    await take_out(balancer, "a2", "disabled")
    assert (await create(balancer, **tag)).key == "serverTagUnavailable"
    assert await balancer.where("m1") == "a2"


# Servers that refuse.


async def state(balancer: Balancer) -> tuple[set[str], dict[str, str], float | None]:
    return await bookkeeping(balancer), await bridges(balancer), await load_of(balancer, "s1")


@pytest_twisted.ensureDeferred
async def test_a_refused_create_gives_everything_back(balancer: Balancer) -> None:
    await balancer.add_servers(1)
    before = await state(balancer)
    refused = await balancer.call("create", meetingID="m1")
    assert (refused.code, refused.key) == (200, "validationError")
    assert refused.message == "You must provide a meeting name"
    assert await state(balancer) == before


@pytest_twisted.ensureDeferred
async def test_a_wrong_secret_is_the_servers_own_error(balancer: Balancer) -> None:
    await balancer.add_servers(1)
    before = await state(balancer)
    balancer.nodes["s1"].secret = "changed"
    refused = await create(balancer)
    assert refused.key == "checksumError"
    assert refused.message == "Checksums do not match"
    assert await state(balancer) == before


@pytest_twisted.ensureDeferred
async def test_a_list_of_errors_is_relayed_whole(balancer: Balancer) -> None:
    await balancer.add_servers(1)
    await create(balancer, "m1")
    number = (await record_of(balancer, "m1"))["voice_bridge"]
    await balancer.redis("DEL", balancer.key("voice_bridges"))
    before = await state(balancer)
    # Something outside took the number that the next meeting draws first.
    balancer.nodes["s1"].bridges["394201124"] = balancer.nodes["s1"].bridges[number]
    refused = await create(balancer, "test-meeting-1")
    assert refused.returncode == "FAILED"
    assert refused.text("errors/error/key") == "nonUniqueVoiceBridge"
    assert await state(balancer) == before


@pytest.mark.parametrize(
    ("body", "key", "message"),
    [
        ("<returncode>FAILED</returncode><messageKey>k</messageKey><message>m</message><extra>1</extra>", "k", "m"),
        ("<returncode>FAILED</returncode><messageKey/><message/>", "", ""),
        ("<returncode>FAILED</returncode><messageKey>k</messageKey>", "internalError", UNABLE),
        ("<returncode>FAILED</returncode><message>m</message>", "internalError", UNABLE),
        ("<returncode>FAILED</returncode>", "internalError", UNABLE),
    ],
)
@pytest_twisted.ensureDeferred
async def test_refusals_are_relayed_if_they_say_why(balancer: Balancer, body: str, key: str, message: str) -> None:
    async with scripted_server(balancer, "s1", create=f"<response>{body}</response>".encode()) as server:
        before = await state(balancer)
        refused = await create(balancer)
        assert (refused.code, refused.returncode) == (200, "FAILED")
        assert (refused.key, refused.message) == (key, message)
        assert refused.text("extra") == ("1" if "extra" in body else None)
        assert [action for action, _ in server.requests] == ["create"]
        assert await state(balancer) == before


@pytest_twisted.ensureDeferred
async def test_an_answer_that_is_no_refusal_either_leaves_the_meeting_pending(balancer: Balancer) -> None:
    async with scripted_server(balancer, "s1", create=b"<response><returncode>success</returncode></response>"):
        refused = await create(balancer)
        assert (refused.key, refused.message) == ("internalError", UNABLE)
        assert await balancer.where("m1") == "s1"
        assert await balancer.redis("EXISTS", balancer.key("balancer:pending:m1")) == 1


@pytest_twisted.ensureDeferred
async def test_a_refused_repetition_keeps_a_meeting_that_lives(balancer: Balancer) -> None:
    await balancer.add_servers(1)
    await create(balancer)
    before = await state(balancer)
    assert (await balancer.call("create", meetingID="m1")).key == "validationError"
    assert await state(balancer) == before
    assert balancer.living_on("m1") == ["s1"]


@pytest_twisted.ensureDeferred
async def test_a_meeting_the_server_had_already_is_taken_up(balancer: Balancer) -> None:
    await balancer.add_servers(1)
    balancer.nodes["s1"].create("m1", moderatorPW="theirs", attendeePW="theirs too")
    assert (await create(balancer, moderatorPW="mine")).key == "idNotUnique"
    assert await balancer.where("m1") == "s1"
    assert (await create(balancer)).key == "duplicateWarning"


# Servers that can't be reached.


@pytest_twisted.ensureDeferred
async def test_a_server_that_refuses_connections_is_passed_over(balancer: Balancer) -> None:
    await balancer.add_servers(3)
    await balancer.nodes["s1"].stop()
    await balancer.nodes["s2"].stop()
    assert (await create(balancer)).returncode == "SUCCESS"
    assert balancer.living_on("m1") == ["s3"]
    assert [await load_of(balancer, f"s{n}") for n in (1, 2, 3)] == [0, 0, 15]
    assert len(await bridges(balancer)) == 1


@pytest_twisted.ensureDeferred
async def test_when_no_server_can_be_reached_everything_is_given_back(balancer: Balancer) -> None:
    await balancer.add_servers(5)
    before = await state(balancer)
    for node in balancer.nodes.values():
        await node.stop()
    refused = await create(balancer)
    assert (refused.code, refused.key, refused.message) == (200, "internalError", UNABLE)
    assert await state(balancer) == before


@pytest_twisted.ensureDeferred
async def test_a_meeting_that_lives_is_not_moved_by_a_refused_connection(balancer: Balancer) -> None:
    await balancer.add_servers(2)
    await create(balancer)
    await balancer.nodes["s1"].stop()
    assert (await create(balancer)).message == UNABLE
    assert await balancer.where("m1") == "s1"
    await balancer.nodes["s1"].start()
    assert (await create(balancer)).key == "duplicateWarning"


# Servers that may have carried it out.

UNCERTAIN: list[tuple[Fault, dict[str, Any]]] = [
    (Fault.HANG_BEFORE_HEADERS, {}),
    (Fault.HANG_AFTER_HEADERS, {}),
    (Fault.BLACKHOLE, {}),
    (Fault.DRIP, {"interval": 0.05}),
    (Fault.RESET, {}),
    (Fault.CREATE_ANSWER_LOST, {}),
    (Fault.CONTENT_LENGTH_LONG, {}),
    (Fault.CONTENT_LENGTH_SHORT, {}),
    (Fault.ENDLESS_CHUNKED, {"interval": 0.001, "chunk": 50_000}),
    (Fault.HTTP_500, {}),
    (Fault.HTTP_502, {"processed": True}),
    (Fault.HTTP_503, {}),
    (Fault.HTTP_504, {"processed": True}),
    (Fault.HTTP_404, {}),
    (Fault.HTTP_429, {}),
    (Fault.REDIRECT_HTTPS, {}),
    (Fault.HTML_200, {}),
    (Fault.EMPTY_200, {}),
    (Fault.GZIP, {}),
    (Fault.XML_TRUNCATED, {}),
    (Fault.XML_CONTROL_CHARACTER, {}),
    (Fault.XML_BROKEN_ERRORS, {}),
    (Fault.XML_NO_RETURNCODE, {}),
    (Fault.XML_ENTITY_BOMB, {}),
    (Fault.XML_EXTERNAL_ENTITY, {}),
    (Fault.XML_LATIN1, {}),
]


@pytest.mark.parametrize(("fault", "options"), UNCERTAIN, ids=[fault.value for fault, _ in UNCERTAIN])
@pytest_twisted.ensureDeferred
async def test_a_create_of_uncertain_outcome_is_met_again_on_the_same_server(
    fault: Fault, options: dict[str, Any]
) -> None:
    async with running(servers=2, response_timeout=0.3, connect_timeout=0.3, max_answer_size=100_000) as balancer:
        node = balancer.nodes["s1"]
        node.faults.set("create", fault, **options)
        failed = await create(balancer)
        assert (failed.code, failed.key, failed.message) == (200, "internalError", UNABLE)
        assert failed.headers["content-type"] == "text/xml; charset=utf-8"
        assert await balancer.where("m1") == "s1"
        assert calls(balancer, "create", "s2") == []
        node.faults.clear()
        assert (await create(balancer)).returncode == "SUCCESS"
        assert balancer.living_on("m1") == ["s1"]
        assert not any(name.startswith("balancer:pending") for name in await bookkeeping(balancer))
        assert await load_of(balancer, "s2") == 0


@pytest.mark.parametrize("fault", [Fault.WRONG_CONTENT_TYPE, Fault.XML_UNKNOWN_ELEMENTS, Fault.XML_GROUPED_NUMBERS])
@pytest_twisted.ensureDeferred
async def test_odd_but_good_answers_are_relayed(balancer: Balancer, fault: Fault) -> None:
    await balancer.add_servers(1)
    balancer.nodes["s1"].faults.set("create", fault)
    assert (await create(balancer)).returncode == "SUCCESS"


@pytest_twisted.ensureDeferred
async def test_an_answer_that_is_lost_once_is_asked_for_again(balancer: Balancer) -> None:
    await balancer.add_servers(2)
    balancer.nodes["s1"].faults.set("create", Fault.CREATE_ANSWER_LOST, count=1)
    answer = await create(balancer)
    assert answer.returncode == "SUCCESS"
    assert balancer.living_on("m1") == ["s1"]


@pytest_twisted.ensureDeferred
async def test_slides_are_not_sent_twice(balancer: Balancer) -> None:
    await balancer.add_servers(1)
    balancer.nodes["s1"].faults.set("create", Fault.CREATE_ANSWER_LOST, count=1)
    answer = await post(balancer, "create", b"<modules/>", "text/xml", query="meetingID=m1&name=Meeting")
    assert answer.message == UNABLE
    assert len(calls(balancer, "create")) == 1
    assert await balancer.where("m1") == "s1"


@pytest_twisted.ensureDeferred
async def test_a_pending_meeting_of_a_server_that_goes_offline_is_placed_anew() -> None:
    async with running(servers=2, response_timeout=0.2) as balancer:
        balancer.nodes["s1"].faults.set("create", Fault.HANG_BEFORE_HEADERS)
        assert (await create(balancer)).message == UNABLE
        await set_online(balancer, "s1", False)
        assert (await create(balancer)).returncode == "SUCCESS"
        assert balancer.living_on("m1") == ["s2"]


@pytest_twisted.ensureDeferred
async def test_a_refusal_gives_back_nothing_that_another_create_has_confirmed(balancer: Balancer) -> None:
    await balancer.add_servers(1)
    node = balancer.nodes["s1"]
    node.faults.set("create", Fault.HTTP_502, count=1)
    assert (await create(balancer)).message == UNABLE
    assert (await create(balancer)).returncode == "SUCCESS"
    before = await state(balancer)
    assert (await balancer.call("create", meetingID="m1")).key == "validationError"
    assert await state(balancer) == before


@pytest_twisted.ensureDeferred
async def test_a_server_that_drops_connection_attempts_is_passed_over() -> None:
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            # Nobody accepts them: with the queue full, the kernel drops whatever comes next.
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        # The bound of the whole exchange comes before that of connecting.
        async with running(servers=2, response_timeout=0.3, connect_timeout=5) as balancer:
            url = f"http://127.0.0.1:{full.getsockname()[1]}/bigbluebutton/api"
            await balancer.redis("HSET", balancer.key("server:s1"), "url", url)
            failed = await create(balancer)
            assert failed.message == UNABLE
            assert await bookkeeping(balancer) == set()
        async with running(servers=2, response_timeout=5, connect_timeout=0.3) as balancer:
            await balancer.redis("HSET", balancer.key("server:s1"), "url", url)
            assert (await create(balancer)).returncode == "SUCCESS"
            assert balancer.living_on("m1") == ["s2"]
