"""Meetings of the simulator come, are counted and end as on a real server."""

from __future__ import annotations

import hashlib
import json
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import pytest_twisted

from scalelite.simulator import Node, Simulator
from tests.simulator.peer import World, call, fetch, target


async def create(node: Node, meeting_id: str = "m1", **params: str) -> None:
    assert (await call(node, "create", meetingID=meeting_id, name="Demo", **params)).ok


async def enter(node: Node, location: str) -> bytes:
    return (await fetch(node, "GET", location.removeprefix(node.base_url))).body


@pytest_twisted.ensureDeferred
async def test_create_answers_with_the_fields_in_a_servers_order(world: World) -> None:
    answer = await call(world.node, "create", meetingID="m1", name="Demo", voiceBridge="07231")
    assert [element.tag for element in answer.xml] == [
        "returncode", "meetingID", "internalMeetingID", "parentMeetingID", "attendeePW", "moderatorPW", "createTime",
        "voiceBridge", "dialNumber", "createDate", "hasUserJoined", "duration", "hasBeenForciblyEnded", "messageKey",
        "message",
    ]  # fmt: skip
    assert answer.text("internalMeetingID") == f"{hashlib.sha1(b'm1').hexdigest()}-1700000000000"
    assert answer.text("createDate") == "Tue Nov 14 22:13:20 UTC 2023"
    assert answer.text("voiceBridge") == "07231"
    assert answer.headers["content-type"] == "text/xml;charset=utf-8"


@pytest.mark.parametrize(
    ("params", "key"),
    [
        ({}, "missingParamMeetingID"),
        ({"meetingID": "m"}, "validationError"),
        ({"meetingID": "m" * 257}, "validationError"),
        ({"meetingID": "m,1"}, "validationError"),
        ({"meetingID": "m<b>1"}, "validationError"),
        ({"meetingID": "m\n1"}, "validationError"),
        ({"meetingID": "m1", "name": ""}, "validationError"),
        ({"meetingID": "m1", "name": "n"}, "validationError"),
        ({"meetingID": "m1", "name": "n" * 257}, "validationError"),
        ({"meetingID": "m1", "name": "nn", "record": "True"}, "validationError"),
        ({"meetingID": "m1", "name": "nn", "duration": "-1"}, "validationError"),
        ({"meetingID": "m1", "name": "nn", "voiceBridge": "12a45"}, "validationError"),
        ({"meetingID": "m1", "name": "nn", "moderatorPW": "x"}, "invalidPassword"),
        ({"meetingID": "m1", "name": "nn", "isBreakout": "true"}, "parentMeetingIDMissing"),
        ({"meetingID": "m1", "name": "nn", "isBreakout": "true", "parentMeetingID": "no"}, "parentMeetingDoesNotExist"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_create_refuses_parameters_a_server_refuses(world: World, params: dict[str, str], key: str) -> None:
    answer = await call(world.node, "create", **params)
    assert (answer.status, answer.text("returncode"), answer.key) == (200, "FAILED", key)
    assert not world.node.meetings


@pytest.mark.parametrize(
    "meeting_id",
    ["with space", "a/b", "100%", "Übung", "مرحبا", "🎓 class", "&<\"'>"[:3] + "x", "x" * 256, "a+b=c&d"],
)
@pytest_twisted.ensureDeferred
async def test_ids_and_names_of_all_kinds_come_back_as_they_were(world: World, meeting_id: str) -> None:
    await call(world.node, "create", meetingID=meeting_id, name=meeting_id)
    info = await call(world.node, "getMeetingInfo", meetingID=meeting_id)
    assert info.text("meetingID") == meeting_id == info.text("meetingName")


@pytest.mark.parametrize(
    ("again", "key"),
    [
        ({}, "duplicateWarning"),
        ({"attendeePW": "ap", "moderatorPW": "mp"}, "duplicateWarning"),
        ({"attendeePW": "ap", "moderatorPW": "mp", "name": "Other", "voiceBridge": "1"}, "duplicateWarning"),
        ({"attendeePW": "ap", "moderatorPW": "other"}, "idNotUnique"),
        ({"moderatorPW": "mp"}, "idNotUnique"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_repeated_create_depends_on_the_passwords_alone(world: World, again: dict[str, str], key: str) -> None:
    first = await call(world.node, "create", meetingID="m1", name="Demo", attendeePW="ap", moderatorPW="mp")
    world.pass_time(100)
    second = await call(world.node, "create", **{"meetingID": "m1", "name": "Demo", **again})
    assert second.key == key
    if key == "duplicateWarning":
        assert second.text("createTime") == first.text("createTime")
        assert world.node.meetings["m1"].name == "Demo"


@pytest_twisted.ensureDeferred
async def test_a_voice_bridge_is_used_once_per_node_and_freed_by_the_end(world: World) -> None:
    await create(world.node, "m1", voiceBridge="12345")
    conflict = await call(world.node, "create", meetingID="m2", name="Demo", voiceBridge="12345")
    assert (conflict.key, conflict.text("messageKey")) == ("nonUniqueVoiceBridge", None)
    world.node.end("m1", at_once=True)
    await create(world.node, "m2", voiceBridge="12345")


@pytest_twisted.ensureDeferred
async def test_metadata_is_kept_under_lower_case_names_and_odd_names_are_dropped(world: World) -> None:
    await create(
        world.node, **{"meta_BBB-Origin": "moodle", "meta_endCallbackUrl": "", "meta_1x": "no", "Meta_x": "no"}
    )
    info = await call(world.node, "getMeetingInfo", meetingID="m1")
    metadata = info.xml.find("metadata")
    assert metadata is not None
    assert {element.tag: element.text for element in metadata} == {"bbb-origin": "moodle", "endcallbackurl": None}


@pytest_twisted.ensureDeferred
async def test_a_join_sends_the_browser_to_a_page_and_only_that_page_counts_the_user(world: World) -> None:
    await create(world.node)
    joined = await call(world.node, "join", meetingID="m1", fullName="Ada & <co>", role="moderator", userID="ext-7")
    assert joined.status == 302
    assert joined.headers["location"].startswith(f"{world.node.base_url}/html5client/?sessionToken=")
    assert joined.headers["set-cookie"].startswith("JSESSIONID=")
    info = await call(world.node, "getMeetingInfo", meetingID="m1")
    assert (info.text("participantCount"), info.text("running")) == ("0", "false")

    page = await enter(world.node, joined.headers["location"])
    assert b"Ada &amp; &lt;co&gt;" in page
    assert b"m1" in page
    assert b"Leave" in page
    info = await call(world.node, "getMeetingInfo", meetingID="m1")
    assert (info.text("participantCount"), info.text("moderatorCount"), info.text("running")) == ("1", "1", "true")
    assert info.text("attendees/attendee/userID") == "ext-7"
    assert info.text("attendees/attendee/role") == "MODERATOR"


@pytest_twisted.ensureDeferred
async def test_running_lags_a_minute_behind_the_leave_button(world: World) -> None:
    await create(world.node)
    joined = await call(world.node, "join", meetingID="m1", fullName="Ada", role="VIEWER")
    location = joined.headers["location"]
    await enter(world.node, location)
    leave = location.removeprefix(world.node.base_url).replace("/html5client/", "/html5client/leave")
    assert (await fetch(world.node, "GET", leave)).status == 405
    assert b"You have left" in (await fetch(world.node, "POST", leave)).body

    async def state() -> tuple[str | None, str | None]:
        info = await call(world.node, "getMeetingInfo", meetingID="m1")
        return info.text("running"), info.text("participantCount")

    assert await state() == ("true", "0")
    world.pass_time(59)
    assert await state() == ("true", "0")
    world.pass_time(2)
    assert await state() == ("false", "0")
    world.pass_time(70)
    assert (await call(world.node, "getMeetingInfo", meetingID="m1")).key == "notFound"


@pytest_twisted.ensureDeferred
async def test_one_long_step_of_the_clock_brings_what_many_short_ones_would(world: World) -> None:
    await create(world.node)
    world.node.add_users("m1", 3)
    world.node.remove_users("m1")
    world.pass_time(130)
    assert not world.node.meetings


@pytest_twisted.ensureDeferred
async def test_a_rejoin_within_the_minute_keeps_the_meeting(world: World) -> None:
    await create(world.node)
    world.node.add_users("m1", 1)
    world.node.remove_users("m1")
    world.pass_time(50)
    world.node.add_users("m1", 1)
    world.pass_time(1000)
    assert world.node.meetings["m1"].running
    assert world.node.meetings["m1"].end_time == 0


@pytest.mark.parametrize(
    ("params", "seconds", "left"),
    [
        ({}, 299, True),
        ({}, 310, False),
        ({"meetingExpireIfNoUserJoinedInMinutes": "1"}, 66, False),
        ({"meetingExpireIfNoUserJoinedInMinutes": "9"}, 310, True),
        ({"duration": "2", "meetingExpireIfNoUserJoinedInMinutes": "9"}, 126, False),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_meeting_nobody_joins_expires(world: World, params: dict[str, str], seconds: float, left: bool) -> None:
    await create(world.node, **params)
    world.pass_time(seconds)
    assert ("m1" in world.node.meetings) is left


@pytest_twisted.ensureDeferred
async def test_a_meeting_ends_without_its_moderators_if_it_was_created_so(world: World) -> None:
    await create(world.node, endWhenNoModerator="true")
    viewer, moderator = world.node.add_users("m1", 1)[0], world.node.add_users("m1", 1, moderators=1)[0]
    world.node.remove_users("m1", 1)
    assert (viewer.connected, moderator.connected) == (True, False)
    world.pass_time(70)
    assert not world.node.meetings


@pytest_twisted.ensureDeferred
async def test_somebody_who_never_opens_the_page_is_forgotten(world: World) -> None:
    await create(world.node)
    joined = await call(world.node, "join", meetingID="m1", fullName="Ada", role="VIEWER")
    world.pass_time(46)
    assert b"No such session" in await enter(world.node, joined.headers["location"])
    assert not world.node.meetings["m1"].has_user_joined


@pytest_twisted.ensureDeferred
async def test_the_end_comes_after_the_answer_and_is_visible_in_between(world: World) -> None:
    await create(world.node)
    world.node.add_users("m1", 2)
    assert (await call(world.node, "end", meetingID="m1")).key == "sentEndMeetingRequest"
    info = await call(world.node, "getMeetingInfo", meetingID="m1")
    assert (info.text("hasBeenForciblyEnded"), info.text("participantCount")) == ("true", "2")
    gap = await call(world.node, "join", meetingID="m1", fullName="Ada", role="VIEWER")
    assert "meetingForciblyEnded" in unquote(gap.headers["location"])
    world.pass_time(2.1)
    assert (await call(world.node, "end", meetingID="m1")).key == "notFound"
    assert (await call(world.node, "isMeetingRunning", meetingID="m1")).text("running") == "false"
    again = await call(world.node, "create", meetingID="m1", name="Demo")
    assert again.text("createTime") != info.text("createTime")


@pytest.mark.parametrize(("password", "key"), [("mp", "sentEndMeetingRequest"), ("no", "invalidPassword")])
@pytest_twisted.ensureDeferred
async def test_the_password_of_end_is_checked_if_it_is_sent(world: World, password: str, key: str) -> None:
    await create(world.node, moderatorPW="mp", attendeePW="ap")
    assert (await call(world.node, "end", meetingID="m1", password=password)).key == key


@pytest.mark.parametrize(
    ("created", "params", "key"),
    [
        ({}, {"meetingID": "no"}, "invalidMeetingIdentifier"),
        ({}, {"meetingID": "m1", "fullName": ""}, "missingParamFullName"),
        ({}, {"meetingID": "m1", "createTime": "1"}, "mismatchCreateTimeParam"),
        ({"maxParticipants": "1"}, {"meetingID": "m1"}, "maxParticipantsReached"),
        ({"guestPolicy": "ALWAYS_DENY"}, {"meetingID": "m1"}, "guestDeniedAccess"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_errors_of_join_go_with_the_browser(
    world: World, created: dict[str, str], params: dict[str, str], key: str
) -> None:
    await create(world.node, logoutURL="https://fe.example/out?x=1", **created)
    world.node.add_users("m1", 1)
    given = {"fullName": "Ada", "role": "VIEWER", "errorRedirectUrl": "https://fe.example/oops", **params}
    answer = await call(world.node, "join", **given)
    errors = json.loads(parse_qs(urlsplit(answer.headers["location"]).query)["errors"][0])
    assert answer.headers["location"].startswith("https://fe.example/oops?errors=")
    assert [error["key"] for error in errors] == [key]
    assert world.node.requests[-1].verdict == key


@pytest_twisted.ensureDeferred
async def test_a_join_with_neither_role_nor_password_is_answered_in_xml(world: World) -> None:
    await create(world.node, moderatorPW="mp", attendeePW="ap")
    assert (await call(world.node, "join", meetingID="m1", fullName="Ada")).key == "Params required"
    assert (await call(world.node, "join", meetingID="m1", fullName="Ada", password="mp")).status == 302


@pytest_twisted.ensureDeferred
async def test_a_join_without_redirect_tells_the_session(world: World) -> None:
    await create(world.node)
    answer = await call(world.node, "join", meetingID="m1", fullName="Ada", role="VIEWER", redirect="false")
    assert (answer.status, answer.key, answer.text("guestStatus")) == (200, "successfullyJoined", "ALLOW")
    assert answer.text("url") == f"{world.node.base_url}/html5client/?sessionToken={answer.text('session_token')}"


@pytest.mark.parametrize(
    ("policy", "role", "guest", "status"),
    [
        ("ASK_MODERATOR", "VIEWER", "true", "WAIT"),
        ("ASK_MODERATOR", "VIEWER", "false", "ALLOW"),
        ("ASK_MODERATOR", "MODERATOR", "true", "ALLOW"),
        ("ALWAYS_ACCEPT_AUTH", "VIEWER", "true", "WAIT"),
        ("ALWAYS_ACCEPT", "VIEWER", "true", "ALLOW"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_guests_wait_where_the_policy_says_so(
    world: World, policy: str, role: str, guest: str, status: str
) -> None:
    await create(world.node, guestPolicy=policy)
    answer = await call(world.node, "join", meetingID="m1", fullName="Ada", role=role, guest=guest, redirect="false")
    assert answer.text("guestStatus") == status
    page = await enter(world.node, answer.text("url") or "")
    assert (b"Please wait" in page) is (status == "WAIT")
    world.node.admit_guests("m1")
    await enter(world.node, answer.text("url") or "")
    assert len(world.node.meetings["m1"].participants) == 1


@pytest.mark.parametrize(("profile", "path"), [("2.6", "/html5client/join?"), ("3.1", "/html5client/?")])
@pytest_twisted.ensureDeferred
async def test_the_path_of_the_client_depends_on_the_version(world: World, profile: str, path: str) -> None:
    node = await world.sim.add_node(profile=profile, public_url="https://proxy.example/bbb-01")
    await create(node)
    joined = await call(node, "join", meetingID="m1", fullName="Ada", role="VIEWER")
    assert joined.headers["location"].startswith(f"https://proxy.example/bbb-01{path}sessionToken=")


@pytest_twisted.ensureDeferred
async def test_breakout_rooms_are_listed_and_end_with_their_parent(world: World) -> None:
    await create(world.node, meta_endCallbackUrl="http://127.0.0.1:1/")
    rooms = world.node.open_breakouts("m1", 2, users=1)
    parent = world.node.meetings["m1"]
    listed = (await call(world.node, "getMeetings")).xml
    assert len(listed.findall("meetings/meeting")) == 3
    info = await call(world.node, "getMeetingInfo", meetingID=rooms[1].meeting_id)
    assert info.text("parentMeetingID") == parent.internal_id
    assert (info.text("isBreakout"), info.text("sequence"), info.text("freeJoin")) == ("true", "2", "false")
    assert info.text("metadata/endcallbackurl") == "http://127.0.0.1:1/"
    shown = (await call(world.node, "getMeetingInfo", meetingID="m1")).xml
    assert [room.text for room in shown.findall("breakoutRooms/breakout")] == [room.internal_id for room in rooms]
    world.node.remove_users(rooms[0].meeting_id)
    world.pass_time(200)
    assert rooms[0].meeting_id in world.node.meetings
    world.pass_time(200)
    assert not world.node.meetings


@pytest_twisted.ensureDeferred
async def test_the_order_of_meetings_changes(world: World) -> None:
    world.node.fill(8)
    orders = set()
    for number in range(5):
        await create(world.node, f"extra{number}")
        world.node.vanish(f"extra{number}")
        listed = (await call(world.node, "getMeetings")).xml
        orders.add(tuple(element.text for element in listed.iterfind("meetings/meeting/meetingID")))
    assert len(orders) > 1
    assert {frozenset(order) for order in orders} == {frozenset(world.node.meetings)}


@pytest_twisted.ensureDeferred
async def test_users_added_by_a_test_are_counted_by_kind(world: World) -> None:
    await create(world.node)
    world.node.add_users("m1", 5, moderators=1, videos=2, voices=1, listeners=2, phones=1, names=["Ada"])
    info = await call(world.node, "getMeetingInfo", meetingID="m1")
    counts = ("participantCount", "moderatorCount", "videoCount", "voiceParticipantCount", "listenerCount")
    assert [info.text(count) for count in counts] == ["5", "1", "2", "1", "2"]
    assert info.text("attendees/attendee/fullName") == "Ada"
    assert [e.text for e in info.xml.iterfind("attendees/attendee/clientType")][-1] == "DIAL-IN-USER"


@pytest_twisted.ensureDeferred
async def test_a_restart_loses_meetings_and_keeps_port_and_recordings(world: World) -> None:
    port = world.node.port
    await create(world.node)
    world.node.publish_recording("old")
    await world.node.restart()
    assert world.node.port == port
    assert (await call(world.node, "getMeetings")).key == "noMeetings"
    assert (await call(world.node, "getRecordings")).text("recordings/recording/meetingID") == "old"


@pytest_twisted.ensureDeferred
async def test_the_clock_of_one_node_can_be_put_forward(world: World) -> None:
    other = await world.sim.add_node(secret="s3", scale=60.0)
    await create(world.node)
    await create(other)
    world.node.advance(310)
    assert not world.node.meetings
    assert other.meetings
    world.pass_time(5.2)
    assert not other.meetings


@pytest_twisted.ensureDeferred
async def test_equal_seeds_give_equal_meetings(world: World) -> None:
    other = Simulator(world.sim.reactor, seed=7, clock=world.clock)
    node = await other.add_node(secret="s3", profile="3.0")
    answers = [await call(each, "create", meetingID="m1", name="Demo") for each in (world.node, node)]
    assert answers[0].body == answers[1].body
    await other.stop()


@pytest_twisted.ensureDeferred
async def test_chat_documents_and_sessions_reach_the_meeting(world: World) -> None:
    await create(world.node)
    assert (await call(world.node, "sendChatMessage", meetingID="m1", message="Hello")).ok
    assert world.node.meetings["m1"].chat == [("System", "Hello")]
    assert (await call(world.node, "sendChatMessage", meetingID="no", message="Hello")).key == "meetingNotFound"
    assert (await call(world.node, "sendChatMessage", meetingID="m1", message="x" * 501)).key == "validationError"
    where = target(world.node, "insertDocument", {"meetingID": "m1"})
    body = b'<modules><module name="presentation"><document url="https://f.example/a.pdf"/></module></modules>'
    answer = await fetch(world.node, "POST", where, body, "application/xml")
    assert answer.text("message") == "Presentation is being uploaded"
    assert world.node.meetings["m1"].documents == ["https://f.example/a.pdf"]
    assert (await fetch(world.node, "POST", where)).body == b""


@pytest_twisted.ensureDeferred
async def test_session_calls_want_token_and_cookie(world: World) -> None:
    await create(world.node)
    joined = await call(world.node, "join", meetingID="m1", fullName="Ada", role="MODERATOR")
    token = joined.headers["location"].partition("sessionToken=")[2]
    cookie = joined.headers["set-cookie"].partition(";")[0]
    path = f"/bigbluebutton/api/getJoinUrl?sessionToken={token}&replaceSession=true"
    assert json.loads((await fetch(world.node, "GET", path)).body)["response"]["messageKey"] == "missingSession"
    answer = json.loads((await fetch(world.node, "GET", path, Cookie=cookie)).body)["response"]
    again = await fetch(world.node, "GET", answer["url"].removeprefix(world.node.base_url))
    assert again.status == 302
    for name, member in (("learningDashboard", "response"), ("stuns", "stunServers"), ("enter", None)):
        reply = await fetch(world.node, "GET", f"/bigbluebutton/api/{name}?sessionToken={token}", Cookie=cookie)
        assert reply.status == 404 if member is None else member in json.loads(reply.body)


@pytest_twisted.ensureDeferred
async def test_the_index_tells_what_the_version_tells(world: World) -> None:
    plain = await fetch(world.node, "GET", "/bigbluebutton/api")
    assert [element.tag for element in plain.xml] == [
        "returncode", "version", "apiVersion", "bbbVersion", "graphqlWebsocketUrl", "graphqlApiUrl"
    ]  # fmt: skip
    as_json = await fetch(world.node, "GET", "/bigbluebutton/api", content_type="application/json")
    assert json.loads(as_json.body)["response"]["apiVersion"] == "2.0"
    old = await world.sim.add_node(profile="2.6", reveal_version=True)
    assert (await fetch(old, "GET", "/bigbluebutton/api/")).text("bbbVersion") == "2.6.18"
    assert b"Simulated BigBlueButton" in (await fetch(old, "GET", "/")).body
