"""The simulator calls front ends as a server does, with its retries and its accidents."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_twisted

from scalelite.simulator import Fault
from tests.simulator.peer import FrontEnd, World, call, turns, until


def claims(token: str, secret: str) -> tuple[dict[str, Any], str]:
    """The claims of a JWT and its algorithm; fails unless it is signed with `secret`."""
    head, body, signature = token.split(".")
    decoded = [json.loads(base64.urlsafe_b64decode(part + "==")) for part in (head, body)]
    digest = {"HS256": hashlib.sha256, "HS512": hashlib.sha512}[decoded[0]["alg"]]
    expected = hmac.new(secret.encode(), f"{head}.{body}".encode(), digest).digest()
    assert base64.urlsafe_b64decode(signature + "==") == expected
    return decoded[1], decoded[0]["alg"]


async def delivered(world: World, count: int) -> None:
    await until(lambda: len(world.node.callbacks.log) >= count)
    await turns()
    assert len(world.node.callbacks.log) == count


def end_meeting(world: World, front_end: FrontEnd, meeting_id: str = "m 1", **params: str) -> None:
    world.node.create(meeting_id, meta_endCallbackUrl=f"{front_end.url}/ended?x=1&meetingID=own", **params)
    world.node.end(meeting_id, at_once=True)


@pytest_twisted.ensureDeferred
async def test_the_end_is_told_with_marks_and_the_external_id(world: World, front_end: FrontEnd) -> None:
    end_meeting(world, front_end, meetingEndedURL=f"{front_end.url}/verbatim?a=b")
    await delivered(world, 2)
    assert [(seen.method, seen.path) for seen in front_end.seen] == [
        ("GET", "/ended?x=1&meetingID=own&recordingmarks=false&meetingID=m%201"),
        ("GET", "/verbatim?a=b"),
    ]


@pytest_twisted.ensureDeferred
async def test_the_end_is_told_five_times_at_most(world: World, front_end: FrontEnd) -> None:
    front_end.answers += [302, 500, 404, 503, 500, 500]
    end_meeting(world, front_end)
    for attempt, pause in enumerate((30, 60, 120, 300), 1):
        await delivered(world, attempt)
        world.pass_time(pause - 0.5)
        await turns()
        assert len(front_end.seen) == attempt
        world.pass_time(1)
    await delivered(world, 5)
    world.pass_time(10000)
    await delivered(world, 5)
    assert [entry.outcome for entry in world.node.callbacks.log] == ["302", "500", "404", "503", "500"]


@pytest_twisted.ensureDeferred
async def test_a_refused_connection_is_tried_again(world: World, front_end: FrontEnd) -> None:
    world.node.create("m1", meta_endCallbackUrl="http://127.0.0.1:1/")
    world.node.end("m1", at_once=True)
    await delivered(world, 1)
    assert "refused" in world.node.callbacks.log[0].outcome
    world.pass_time(31)
    await delivered(world, 2)


@pytest_twisted.ensureDeferred
async def test_a_hanging_receiver_delays_the_others_and_a_restart_forgets_them(
    world: World, front_end: FrontEnd
) -> None:
    front_end.answers.append("hang")
    end_meeting(world, front_end, "m1")
    end_meeting(world, front_end, "m2")
    await until(lambda: front_end.seen)
    await turns()
    assert len(front_end.seen) == 1
    await world.node.restart()
    world.pass_time(1000)
    await turns()
    assert len(front_end.seen) == 1


@pytest_twisted.ensureDeferred
async def test_a_receiver_that_never_answers_is_given_up(world: World, front_end: FrontEnd) -> None:
    world.node.callbacks.deadline = 0.02
    front_end.answers.append("hang")
    end_meeting(world, front_end, "m1")
    end_meeting(world, front_end, "m2")
    await delivered(world, 2)
    assert [entry.outcome for entry in world.node.callbacks.log][1] == "200"
    world.pass_time(30)
    await delivered(world, 3)
    assert [seen.path[-2:] for seen in front_end.seen] == ["m1", "m2", "m1"]


@pytest_twisted.ensureDeferred
async def test_each_format_of_a_recording_is_announced_after_the_end(world: World, front_end: FrontEnd) -> None:
    world.node.create(
        "m1",
        record="true",
        meta_endCallbackUrl=f"{front_end.url}/ended",
        **{"meta_bbb-recording-ready-url": f"{front_end.url}/ready"},
    )
    world.node.press_record("m1")
    internal = world.node.meetings["m1"].internal_id
    world.node.end("m1", at_once=True)
    await delivered(world, 1)
    world.pass_time(601)
    await delivered(world, 2)
    assert [seen.name for seen in front_end.seen] == ["/ended", "/ready"]
    assert "recordingmarks=true" in front_end.seen[0].path
    token = parse_qs(front_end.seen[1].body.decode())["signed_parameters"][0]
    assert claims(token, "s3") == ({"meeting_id": "m1", "record_id": internal}, "HS256")
    world.node.publish_recording(
        "m2", formats=("presentation", "video"), metadata={"bbb-recording-ready-url": f"{front_end.url}/ready"}
    )
    await delivered(world, 4)


async def analytics(world: World, front_end: FrontEnd) -> dict[str, Any]:
    world.node.create("m1", meetingKeepEvents="true", **{"meta_analytics-callback-url": f"{front_end.url}/analytics"})
    world.node.add_users("m1", 2, moderators=1, names=["Ada"])
    world.node.end("m1", at_once=True)
    world.pass_time(30)
    await delivered(world, 1)
    return claims(front_end.seen[0].headers["authorization"].removeprefix("Bearer "), "s3")[0]


@pytest_twisted.ensureDeferred
async def test_analytics_come_later_with_a_token_for_a_day(world: World, front_end: FrontEnd) -> None:
    token = await analytics(world, front_end)
    assert 0 <= time.time() + 86400 - token["exp"] < 60
    seen = front_end.seen[0]
    document = json.loads(seen.body)
    assert (seen.method, seen.headers["content-type"]) == ("POST", "application/json")
    assert seen.headers["user-agent"] == "BigBlueButton Analytics Callback"
    assert (document["meeting_id"], document["data"]["attendees"][0]["name"]) == ("m1", "Ada")


@pytest_twisted.ensureDeferred
async def test_the_token_may_have_run_out(world: World, front_end: FrontEnd) -> None:
    world.node.faults.set(kind=Fault.JWT_EXPIRED)
    assert (await analytics(world, front_end))["exp"] < time.time()


@pytest_twisted.ensureDeferred
async def test_a_callback_may_be_lost(world: World, front_end: FrontEnd) -> None:
    world.node.faults.set("endCallback", Fault.CALLBACK_LOST, count=1)
    end_meeting(world, front_end, "m1")
    end_meeting(world, front_end, "m2")
    await delivered(world, 2)
    assert [entry.outcome for entry in world.node.callbacks.log] == ["lost", "200"]
    assert len(front_end.seen) == 1


@pytest_twisted.ensureDeferred
async def test_a_callback_may_come_twice(world: World, front_end: FrontEnd) -> None:
    world.node.faults.set(kind=Fault.CALLBACK_DUPLICATED)
    end_meeting(world, front_end)
    await delivered(world, 2)
    assert front_end.seen[0] == front_end.seen[1]


@pytest_twisted.ensureDeferred
async def test_callbacks_may_come_out_of_order(world: World, front_end: FrontEnd) -> None:
    world.node.faults.set(kind=Fault.CALLBACK_REORDERED, count=1)
    end_meeting(world, front_end, "m1")
    end_meeting(world, front_end, "m2")
    await delivered(world, 2)
    assert [seen.path[-2:] for seen in front_end.seen] == ["m2", "m1"]


@pytest_twisted.ensureDeferred
async def test_a_callback_may_come_five_minutes_late(world: World, front_end: FrontEnd) -> None:
    world.node.faults.set(kind=Fault.CALLBACK_LATE)
    end_meeting(world, front_end)
    world.pass_time(299)
    await turns()
    assert not front_end.seen
    world.pass_time(2)
    await delivered(world, 1)


@pytest_twisted.ensureDeferred
async def test_a_callback_may_name_an_unknown_meeting(world: World, front_end: FrontEnd) -> None:
    world.node.faults.set(kind=Fault.CALLBACK_UNKNOWN_MEETING)
    end_meeting(world, front_end)
    await delivered(world, 1)
    assert parse_qs(urlsplit(front_end.seen[0].path).query)["meetingID"][1].startswith("unknown-")


@pytest_twisted.ensureDeferred
async def test_a_callback_may_be_signed_with_another_key(world: World, front_end: FrontEnd) -> None:
    world.node.faults.set("recordingReady", Fault.CALLBACK_WRONG_SIGNATURE)
    world.node.publish_recording("m1", metadata={"bbb-recording-ready-url": f"{front_end.url}/ready"})
    await delivered(world, 1)
    token = parse_qs(front_end.seen[0].body.decode())["signed_parameters"][0]
    with pytest.raises(AssertionError):
        claims(token, "s3")


@pytest_twisted.ensureDeferred
async def test_webhooks_get_the_events_they_asked_for(world: World, front_end: FrontEnd) -> None:
    url = f"{front_end.url}/hook"
    first = await call(world.node, "hooks/create", callbackURL=url, eventID="meeting-ended,user-joined")
    assert (await call(world.node, "hooks/create", callbackURL=url)).key == "duplicateWarning"
    assert (await call(world.node, "hooks/create")).key == "missingParamCallbackURL"
    world.node.create("m1")
    world.node.add_users("m1", 1)
    await delivered(world, 1)
    seen = front_end.seen[0]
    event = json.loads(parse_qs(seen.body.decode())["event"][0])[0]["data"]
    assert (event["id"], event["attributes"]["meeting"]["external-meeting-id"]) == ("user-joined", "m1")
    expected = hashlib.sha1(url.encode() + seen.body + b"s3").hexdigest()
    assert parse_qs(urlsplit(seen.path).query)["checksum"] == [expected]
    listed = await call(world.node, "hooks/list")
    assert listed.text("hooks/hook/callbackURL") == url
    identity = first.text("hookID") or ""
    assert (await call(world.node, "hooks/destroy", hookID=identity)).text("removed") == "true"
    assert (await call(world.node, "hooks/destroy", hookID=identity)).key == "destroyMissingHook"


@pytest_twisted.ensureDeferred
async def test_a_webhook_is_retried_soon(world: World, front_end: FrontEnd) -> None:
    await call(world.node, "hooks/create", callbackURL=f"{front_end.url}/hook")
    front_end.answers += [500, 401]
    world.node.create("m1", meetingExpireIfNoUserJoinedInMinutes="60")
    await delivered(world, 1)
    world.pass_time(0.2)
    await delivered(world, 2)
    world.pass_time(300)
    await delivered(world, 2)
