"""The control API does over HTTP what tests do in process, and only for those who may."""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_twisted

from scalelite.simulator import Node
from scalelite.simulator.faults import Fault
from scalelite.simulator.weekday import size_of_class
from tests.simulator.peer import Answer, World, call, connect, fetch, refused, request, turns


async def get(node: Node, path: str) -> Any:
    answer = await fetch(node, "GET", f"/_sim/{path}")
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


async def post(node: Node, path: str, /, **arguments: Any) -> Any:
    answer = await attempt(node, path, **arguments)
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


async def attempt(node: Node, path: str, /, **arguments: Any) -> Answer:
    return await fetch(node, "POST", f"/_sim/{path}", json.dumps(arguments).encode(), "application/json")


@pytest_twisted.ensureDeferred
async def test_a_meeting_can_be_steered_through_its_whole_life(world: World) -> None:
    node = world.node
    made = await post(node, "create", meeting_id="m1", name="Demo", record="true")
    assert made["create_time"] == 1_700_000_000_000
    users = await post(node, "users/add", meeting_id="m1", count=3, moderators=1, videos=2, voices=1, listeners=1)
    assert [user["moderator"] for user in users] == [True, False, False]
    await post(node, "users/remove", meeting_id="m1", count=1)
    await post(node, "record", meeting_id="m1")
    rooms = await post(node, "breakouts", meeting_id="m1", count=2, users=1)
    assert [room["sequence"] for room in rooms] == [1, 2]
    shown = await get(node, "meeting?meeting_id=m1")
    assert (shown["running"], shown["recording_marks"], len(shown["breakouts"])) == (True, True, 2)
    assert sum(user["connected"] for user in shown["users"]) == 2
    await post(node, "end", meeting_id="m1")
    await post(node, "clock/advance", seconds=3)
    state = await get(node, "state")
    assert (state["meetings"], state["recordings"]) == ([], 1)
    await post(node, "clock/advance", seconds=601)
    assert [recording["state"] for recording in await get(node, "recordings")] == ["published"]


@pytest_twisted.ensureDeferred
async def test_a_meeting_can_vanish_and_recordings_can_be_made_up(world: World) -> None:
    await post(world.node, "fill", meetings=2, users=1)
    await post(world.node, "vanish", meeting_id="filled-1-0")
    assert list(world.node.meetings) == ["filled-1-1"]
    made = await post(world.node, "recordings/publish", meeting_id="old", formats=["video"], delay=60, size=99)
    assert made["state"] == "processing"
    world.pass_time(60)
    assert [(p.type, p.size) for p in world.node.recordings[made["record_id"]].playback] == [("video", 99)]


@pytest_twisted.ensureDeferred
async def test_faults_are_set_listed_and_cleared(world: World) -> None:
    await post(world.node, "faults/set", endpoint="getMeetings", kind="http_503", count=2, processed=True)
    assert (await call(world.node, "getMeetings")).status == 503
    listed = await get(world.node, "faults")
    assert [(rule["kind"], rule["left"], rule["options"]) for rule in listed] == [("http_503", 1, {"processed": True})]
    await post(world.node, "faults/clear", kind="http_503")
    assert (await call(world.node, "getMeetings")).status == 200
    kinds = await get(world.node, "kinds")
    assert {kind for group in kinds.values() for kind in group} == set(Fault)


@pytest_twisted.ensureDeferred
async def test_requests_and_callbacks_can_be_read(world: World) -> None:
    await call(world.node, "create", meetingID="m1", name="Übung")
    await call(world.node, "end", meetingID="no")
    logged = await get(world.node, "requests?action=create")
    assert [(entry["query"]["name"], entry["verdict"]) for entry in logged] == [("Übung", "ok")]
    assert [entry["verdict"] for entry in await get(world.node, "requests")] == ["ok", "notFound"]
    await post(world.node, "requests/clear")
    assert await get(world.node, "requests") == []
    assert await get(world.node, "callbacks") == []


@pytest_twisted.ensureDeferred
async def test_nodes_can_be_added_stopped_and_taken_away_from_another_node(world: World) -> None:
    made = await post(world.node, "nodes", secret="other", profile="2.7", scale=2.0)
    port = made["port"]
    assert [node["port"] for node in await get(world.node, "nodes")] == [world.node.port, port]
    await post(world.node, f"nodes/{port}/create", meeting_id="m1")
    await post(world.node, f"nodes/{port}/stop")
    assert await refused(port)
    await post(world.node, f"nodes/{port}/start")
    assert len((await get(world.node, f"nodes/{port}/state"))["meetings"]) == 1
    await post(world.node, f"nodes/{port}/restart")
    assert (await get(world.node, f"nodes/{port}"))["meetings"] == []
    answer = await fetch(world.node, "DELETE", f"/_sim/nodes/{port}")
    assert answer.status == 200
    assert await refused(port)


@pytest_twisted.ensureDeferred
async def test_a_node_answers_the_request_that_restarts_it(world: World) -> None:
    world.node.create("m1")
    assert await post(world.node, "restart") == {"ok": True}
    assert not world.node.meetings
    assert await post(world.node, "stop") == {"ok": True}
    assert await refused(world.node.port)


@pytest_twisted.ensureDeferred
async def test_a_port_for_control_alone_outlives_the_nodes(world: World) -> None:
    control = await world.sim.listen_for_control()
    await world.node.stop()
    peer = await connect(control.port)
    peer.send(request("POST", f"/_sim/nodes/{world.node.port}/start"))
    assert (await peer.answer()).status == 200
    peer.send(request("GET", "/bigbluebutton/api/getMeetings"))
    assert (await peer.answer()).status == 404
    peer.send(request("GET", "/_sim/state"))
    assert (await peer.answer()).status == 404
    assert (await call(world.node, "getMeetings")).ok


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "no", b"", 404),
        ("GET", "end", b"", 405),
        ("POST", "state", b"{}", 405),
        ("POST", "end", b'{"meeting_id": "no"}', 404),
        ("POST", "end", b"[]", 400),
        ("POST", "end", b"{", 400),
        ("POST", "fill", b'{"meetings": 1, "colour": "red"}', 400),
        ("POST", "faults/set", b'{"kind": "no"}', 400),
        ("POST", "create", b'{"meeting_id": "m,1"}', 409),
        ("POST", "nodes/1/stop", b"{}", 404),
        ("POST", "nodes", b'{"profile": "1.0"}', 400),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_cannot_be_done_is_an_error(world: World, method: str, path: str, body: bytes, status: int) -> None:
    answer = await fetch(world.node, method, f"/_sim/{path}", body)
    assert answer.status == status
    assert json.loads(answer.body)["error"]


@pytest_twisted.ensureDeferred
async def test_a_taken_port_is_an_error(world: World) -> None:
    assert (await attempt(world.node, "nodes", port=world.node.port)).status == 409


async def asked(node: Node, host: str = "127.0.0.1", **headers: str) -> int:
    peer = await connect(node.port)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    peer.send(f"GET /_sim/state HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n".encode())
    return (await peer.answer()).status


@pytest_twisted.ensureDeferred
async def test_without_a_secret_only_loopback_and_its_own_pages_are_served(world: World) -> None:
    here = f"127.0.0.1:{world.node.port}"
    assert await asked(world.node) == 200
    assert await asked(world.node, here, Origin=f"http://{here}") == 200
    assert await asked(world.node, f"localhost:{world.node.port}") == 200
    assert await asked(world.node, here, Origin="https://evil.example") == 403
    assert await asked(world.node, here, Origin="null") == 403
    assert await asked(world.node, "rebound.example") == 403


@pytest_twisted.ensureDeferred
async def test_with_a_secret_everybody_needs_it(world: World) -> None:
    world.sim.control_secret = "open sesame"
    assert await asked(world.node) == 401
    assert await asked(world.node, Authorization="Bearer wrong") == 401
    assert await asked(world.node, "other.example", Authorization="Bearer open sesame") == 200


@pytest_twisted.ensureDeferred
async def test_a_weekday_brings_meetings_that_end_at_the_full_hour(world: World) -> None:
    await post(world.node, "weekday/start", meetings_per_hour=30, largest=40)
    world.node.advance(3600)
    assert 15 < world.node.weekday.made < 50
    assert any(meeting.running for meeting in world.node.meetings.values())
    await post(world.node, "weekday/stop")
    world.node.advance(3 * 3600)
    made = world.node.weekday.made
    assert not world.node.meetings
    world.node.advance(3600)
    await turns()
    assert world.node.weekday.made == made


@pytest.mark.parametrize(("uniform", "size"), [(0.0, 4), (0.5, 6), (0.9, 25), (0.99, 159), (0.999, 300)])
def test_most_classes_are_small_and_some_are_very_large(uniform: float, size: int) -> None:
    assert size_of_class(uniform, 300) == size
