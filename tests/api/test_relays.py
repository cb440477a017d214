"""Calls that go to a meeting's server and come back: getMeetingInfo, isMeetingRunning, end, slides, chat."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from scalelite.bbb import errors, xml
from scalelite.cluster.records import ServerState
from scalelite.simulator import Fault
from tests.api.support import bookkeeping, bridges, calls, post, record_of, running, scripted_server, the_call
from tests.balancer import Answer, Balancer

UNABLE = "Unable to access meeting on server."
SLIDES = b'<modules><module name="presentation"><document url="https://x/a.pdf"/></module></modules>'


async def meeting(balancer: Balancer) -> None:
    await balancer.add_servers(2)
    created = await balancer.call(
        "create", meetingID="m1", name="Müller & Söhne <1>", moderatorPW="mp", attendeePW="ap"
    )
    assert created.returncode == "SUCCESS"
    assert await balancer.where("m1") == "s1"


async def ask(balancer: Balancer, action: str, **params: str) -> Answer:
    """One of the relayed calls about m1."""
    params = {"meetingID": "m1", **params}
    if action == "insertDocument":
        query = "&".join(f"{name}={value}" for name, value in params.items())
        return await post(balancer, action, SLIDES, "application/xml", query=query)
    return await balancer.call(action, **params)


RELAYED = {
    "getMeetingInfo": UNABLE,
    "isMeetingRunning": UNABLE,
    "end": UNABLE,
    "insertDocument": "Unable to insert document on server.",
    "sendChatMessage": "Unable to send chat message on server.",
}


# Unknown meetings.


@pytest.mark.parametrize("action", RELAYED)
@pytest_twisted.ensureDeferred
async def test_unknown_meetings(balancer: Balancer, action: str) -> None:
    await balancer.add_servers(1)
    answer = await ask(balancer, action)
    assert answer.code == 200
    if action == "isMeetingRunning":
        assert answer.body == xml.NOT_RUNNING
    else:
        assert answer.body == xml.render_error(errors.MeetingNotFound())
    assert [call.action for call in balancer.nodes["s1"].requests if call.action != "getMeetings"] in ([], [""])


@pytest.mark.parametrize("action", RELAYED)
@pytest_twisted.ensureDeferred
async def test_meetings_whose_server_was_deleted(balancer: Balancer, action: str) -> None:
    await meeting(balancer)
    await balancer.redis("DEL", balancer.key("server:s1"))
    answer = await ask(balancer, action)
    if action == "isMeetingRunning":
        assert answer.body == xml.NOT_RUNNING
    else:
        assert answer.key == "notFound"


# What the server is asked.


@pytest.mark.parametrize("action", ["getMeetingInfo", "isMeetingRunning"])
@pytest_twisted.ensureDeferred
async def test_only_the_meeting_id_is_forwarded(balancer: Balancer, action: str) -> None:
    await meeting(balancer)
    assert (await balancer.call(action, meetingID="m1", password="x", junk="y")).returncode == "SUCCESS"
    assert (await post(balancer, action, b"meetingID=m1&junk=y")).returncode == "SUCCESS"
    head = await balancer.request("HEAD", balancer.url(action, meetingID="m1"))
    assert head.code == 200
    for call in calls(balancer, action):
        assert (call.method, set(call.query), call.body) == ("GET", {"meetingID", "checksum"}, b"")
    assert len(calls(balancer, action, "s1")) == 3


@pytest_twisted.ensureDeferred
async def test_get_meeting_info_tells_what_the_server_tells(balancer: Balancer) -> None:
    await meeting(balancer)
    balancer.nodes["s1"].add_users("m1", 2, moderators=1, names=["Grâce & <Co>", "李小龍 👩‍🏫"])
    answer = await ask(balancer, "getMeetingInfo")
    assert answer.text("meetingName") == "Müller & Söhne <1>"
    assert answer.text("participantCount") == "2"
    assert [e.text for e in answer.xml.iterfind("attendees/attendee/fullName")] == ["Grâce & <Co>", "李小龍 👩‍🏫"]
    assert answer.headers["content-type"] == "text/xml; charset=utf-8"
    assert b"&#" not in answer.body
    assert "Müller &amp; Söhne &lt;1&gt;".encode() in answer.body
    assert (await ask(balancer, "isMeetingRunning")).text("running") == "true"


LATIN_1 = '<?xml version="1.0" encoding="ISO-8859-1"?><response><returncode>SUCCESS</returncode><n>é</n></response>'


@pytest.mark.parametrize(
    "body",
    [
        LATIN_1.encode("latin-1"),
        "<response><returncode>SUCCESS</returncode><n>é</n></response>".encode(),
        b"<response><returncode>SUCCESS</returncode><n>&#xE9;</n></response>",
        b'<?xml version="1.0"?><response><returncode>SUCCESS</returncode><n>&#233;</n></response>',
        '<?xml version="1.0" encoding="UTF-16"?><response><returncode>SUCCESS</returncode><n>é</n></response>'.encode(
            "utf-16"
        ),
    ],
)
@pytest_twisted.ensureDeferred
async def test_every_encoding_becomes_plain_utf_8(balancer: Balancer, body: bytes) -> None:
    created = b"<response><returncode>SUCCESS</returncode></response>"
    async with scripted_server(balancer, "s1", create=created, getMeetingInfo=body):
        await balancer.call("create", meetingID="m1")
        answer = await ask(balancer, "getMeetingInfo")
        assert answer.body.decode() == (
            '<?xml version="1.0" encoding="UTF-8"?>\n<response><returncode>SUCCESS</returncode><n>é</n></response>\n'
        )


@pytest.mark.parametrize("how", ["cordoned", "disabled", "offline"])
@pytest.mark.parametrize("action", RELAYED)
@pytest_twisted.ensureDeferred
async def test_servers_are_asked_in_any_state(balancer: Balancer, action: str, how: str) -> None:
    await meeting(balancer)
    if how == "offline":
        await balancer.redis("HSET", balancer.key("server:s1"), "online", "false")
    else:
        await balancer.parts.servers.set_state("s1", ServerState(how))
    answer = await ask(balancer, action, message="Hello")
    assert answer.returncode == "SUCCESS"
    assert len(calls(balancer, action, "s1")) == 1


@pytest.mark.parametrize("action", RELAYED)
@pytest_twisted.ensureDeferred
async def test_a_servers_refusal_is_relayed_whole_and_changes_nothing(balancer: Balancer, action: str) -> None:
    await meeting(balancer)
    balancer.nodes["s1"].secret = "changed"
    before = await record_of(balancer, "m1")
    answer = await ask(balancer, action, message="Hello")
    assert (answer.code, answer.returncode, answer.key) == (200, "FAILED", "checksumError")
    assert answer.message == "Checksums do not match"
    assert await record_of(balancer, "m1") == before


FAULTS: list[tuple[Fault, dict[str, Any]]] = [
    (Fault.REFUSE, {}),
    (Fault.RESET, {}),
    (Fault.HANG_BEFORE_HEADERS, {}),
    (Fault.HANG_AFTER_HEADERS, {}),
    (Fault.BLACKHOLE, {}),
    (Fault.DRIP, {"interval": 0.05}),
    (Fault.HTTP_502, {}),
    (Fault.HTML_200, {}),
    (Fault.EMPTY_200, {}),
    (Fault.XML_TRUNCATED, {}),
    (Fault.XML_NO_RETURNCODE, {}),
    (Fault.XML_ENTITY_BOMB, {}),
    (Fault.XML_EXTERNAL_ENTITY, {}),
    (Fault.ENDLESS_CHUNKED, {"interval": 0.001, "chunk": 50_000}),
]


@pytest.mark.parametrize(("fault", "options"), FAULTS, ids=[fault.value for fault, _ in FAULTS])
@pytest_twisted.ensureDeferred
async def test_trouble_with_the_server_is_the_actions_own_error(fault: Fault, options: dict[str, Any]) -> None:
    async with running(response_timeout=0.25, connect_timeout=0.25, max_answer_size=100_000) as balancer:
        await meeting(balancer)
        before = await record_of(balancer, "m1")
        balancer.nodes["s1"].faults.set("*", fault, **options)
        for action in (
            ("getMeetingInfo", "end", "insertDocument") if fault is Fault.RESET else ("getMeetingInfo", "end")
        ):
            answer = await ask(balancer, action)
            assert (answer.code, answer.key, answer.message) == (200, "internalError", RELAYED[action])
            assert b"root:" not in answer.body
        assert await record_of(balancer, "m1") == before


@pytest.mark.parametrize("action", RELAYED)
@pytest_twisted.ensureDeferred
async def test_each_action_has_its_own_text_for_trouble(balancer: Balancer, action: str) -> None:
    await meeting(balancer)
    balancer.nodes["s1"].faults.set("*", Fault.HTML_200)
    answer = await ask(balancer, action, message="Hello")
    assert (answer.code, answer.key, answer.message) == (200, "internalError", RELAYED[action])


# end.


@pytest_twisted.ensureDeferred
async def test_end_takes_the_record_and_the_number_away(balancer: Balancer) -> None:
    await meeting(balancer)
    answer = await ask(balancer, "end", password="mp", junk="x")
    assert answer.key == "sentEndMeetingRequest"
    assert set(the_call(balancer, "end").query) == {"meetingID", "password", "checksum"}
    assert the_call(balancer, "end").query["password"] == "mp"
    assert await bookkeeping(balancer) == set()
    assert await bridges(balancer) == {}
    assert (await ask(balancer, "end")).key == "notFound"


@pytest_twisted.ensureDeferred
async def test_end_without_password_sends_the_bare_name(balancer: Balancer) -> None:
    await meeting(balancer)
    assert (await ask(balancer, "end")).returncode == "SUCCESS"
    assert "?meetingID=m1&password&checksum=" in the_call(balancer, "end").raw_path


@pytest_twisted.ensureDeferred
async def test_end_by_form_and_by_head(balancer: Balancer) -> None:
    await meeting(balancer)
    assert (await post(balancer, "end", b"meetingID=m1&password=mp")).key == "sentEndMeetingRequest"
    assert the_call(balancer, "end").method == "GET"
    await balancer.call("create", meetingID="m2", name="Meeting")
    assert (await balancer.request("HEAD", balancer.url("end", meetingID="m2"))).code == 200
    assert await balancer.where("m2") is None


@pytest_twisted.ensureDeferred
async def test_a_wrong_password_leaves_the_meeting_known(balancer: Balancer) -> None:
    await meeting(balancer)
    refused = await ask(balancer, "end", password="wrong")
    assert refused.key == "invalidPassword"
    assert refused.message == "The supplied moderator password is incorrect"
    assert await balancer.where("m1") == "s1"
    assert (await ask(balancer, "end", password="mp")).returncode == "SUCCESS"


@pytest_twisted.ensureDeferred
async def test_a_meeting_that_the_server_does_not_know_is_forgotten(balancer: Balancer) -> None:
    await meeting(balancer)
    balancer.nodes["s1"].vanish("m1")
    answer = await ask(balancer, "end", password="mp")
    assert (answer.key, answer.message) == ("notFound", "A meeting with that ID does not exist")
    assert await bookkeeping(balancer) == set()


@pytest_twisted.ensureDeferred
async def test_not_found_elsewhere_changes_nothing(balancer: Balancer) -> None:
    await meeting(balancer)
    before = await record_of(balancer, "m1")
    balancer.nodes["s1"].vanish("m1")
    assert (await ask(balancer, "getMeetingInfo")).key == "notFound"
    assert (await ask(balancer, "isMeetingRunning")).text("running") == "false"
    assert await record_of(balancer, "m1") == before


# Slides and chat.


@pytest_twisted.ensureDeferred
async def test_slides_are_passed_on_with_the_meeting_id_alone(balancer: Balancer) -> None:
    await meeting(balancer)
    answer = await post(balancer, "insertDocument", SLIDES, "text/xml; charset=utf-8", query="meetingID=m1&junk=x")
    assert (answer.returncode, answer.message) == ("SUCCESS", "Presentation is being uploaded")
    call = the_call(balancer, "insertDocument")
    assert (call.method, call.body, set(call.query)) == ("POST", SLIDES, {"meetingID", "checksum"})


@pytest.mark.parametrize("body", [b"", b"  \n"])
@pytest_twisted.ensureDeferred
async def test_no_slides_make_a_get(balancer: Balancer, body: bytes) -> None:
    await meeting(balancer)
    answer = await post(balancer, "insertDocument", body, "text/xml", query="meetingID=m1")
    assert answer.key == "internalError"
    assert the_call(balancer, "insertDocument").method == "GET"


@pytest_twisted.ensureDeferred
async def test_chat_messages_pass_with_all_their_parameters(balancer: Balancer) -> None:
    await meeting(balancer)
    answer = await ask(balancer, "sendChatMessage", message="Hallo Welt ✓", userName="Böt", format="x")
    assert answer.returncode == "SUCCESS"
    assert balancer.nodes["s1"].meetings["m1"].chat == [("Böt", "Hallo Welt ✓")]
    assert set(the_call(balancer, "sendChatMessage").query) == {"meetingID", "message", "userName", "checksum"}
    assert (await ask(balancer, "sendChatMessage")).key == "validationError"


@pytest_twisted.ensureDeferred
async def test_a_chat_message_is_never_sent_twice(balancer: Balancer) -> None:
    await meeting(balancer)
    balancer.nodes["s1"].faults.set("sendChatMessage", Fault.RESET, count=1)
    assert (await ask(balancer, "sendChatMessage", message="Hello")).key == "internalError"
    assert len(calls(balancer, "sendChatMessage")) == 1
    balancer.nodes["s1"].faults.set("getMeetingInfo", Fault.RESET, count=1)
    assert (await ask(balancer, "getMeetingInfo")).returncode == "SUCCESS"
    assert len(calls(balancer, "getMeetingInfo")) == 2
