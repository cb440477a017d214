"""The simulator speaks HTTP/1.1 as the server behind nginx does."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet import reactor

from scalelite.simulator import Simulator
from scalelite.simulator.checksums import digest
from tests.simulator.peer import FrontEnd, World, call, connect, request, started, target, turns, until


@pytest_twisted.ensureDeferred
async def test_a_connection_serves_many_requests_one_after_the_other(world: World) -> None:
    peer = await connect(world.node.port)
    peer.send(request("GET", target(world.node, "getMeetings", {})) * 3)
    for _ in range(3):
        assert (await peer.answer()).key == "noMeetings"
    assert peer.lost is None


@pytest_twisted.ensureDeferred
async def test_pipelined_requests_wait_for_a_late_answer(world: World) -> None:
    world.node.faults.set("isMeetingRunning", "delay", seconds=5)
    peer = await connect(world.node.port)
    peer.send(request("GET", target(world.node, "isMeetingRunning", {"meetingID": "m1"})))
    peer.send(request("GET", target(world.node, "getMeetings", {})))
    await until(lambda: world.node.requests)
    await turns()
    assert (peer.data, len(world.node.requests)) == (b"", 1)
    world.pass_time(5)
    assert (await peer.answer()).text("running") == "false"
    assert (await peer.answer()).key == "noMeetings"


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
@pytest_twisted.ensureDeferred
async def test_the_connection_is_closed_when_the_peer_wants_it(world: World, version: str) -> None:
    peer = await connect(world.node.port)
    header = "" if version == "HTTP/1.0" else "Connection: close\r\n"
    peer.send(f"GET {target(world.node, 'getMeetings', {})} {version}\r\nHost: x\r\n{header}\r\n".encode())
    await peer.until(lambda peer: False)
    assert peer.lost == "ConnectionDone"
    assert b"Connection: close" in peer.data


@pytest_twisted.ensureDeferred
async def test_a_request_may_come_in_pieces_and_its_body_in_chunks(world: World) -> None:
    peer = await connect(world.node.port)
    head = (
        f"POST {target(world.node, 'create', {})} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    )
    whole = head.encode() + b"c\r\nmeetingID=m1\r\n8\r\n&name=ab\r\n0\r\n\r\n"
    for index in range(0, len(whole), 40):
        peer.send(whole[index : index + 40])
        await turns(2)
    assert (await peer.answer()).text("meetingID") == "m1"


@pytest_twisted.ensureDeferred
async def test_a_body_that_is_announced_is_asked_for(world: World) -> None:
    peer = await connect(world.node.port)
    where = target(world.node, "create", {"meetingID": "m1", "name": "ab"})
    body = b"<modules/>"
    peer.send(request("POST", where, content_type="text/xml", Expect="100-continue", Content_Length=str(len(body))))
    await peer.until(lambda peer: peer.data.endswith(b"\r\n\r\n"))
    assert peer.data == b"HTTP/1.1 100 Continue\r\n\r\n"
    peer.data = b""
    peer.send(body)
    assert (await peer.answer()).ok


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 70000, 431),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        (b"hello\r\n\r\n", 400),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_not_http_or_too_much_is_refused(world: World, raw: bytes, status: int) -> None:
    peer = await connect(world.node.port)
    peer.send(raw)
    await peer.until(lambda peer: False)
    assert peer.data.startswith(f"HTTP/1.1 {status} ".encode())
    assert (await call(world.node, "getMeetings")).ok


@pytest_twisted.ensureDeferred
async def test_head_has_no_body(world: World) -> None:
    node = await world.sim.add_node(profile="2.6", secret="s3")
    peer = await connect(node.port)
    peer.send(request("HEAD", f"/bigbluebutton/api/getMeetings?checksum={digest('getMeetings', b'', 's3')}"))
    await peer.until(lambda peer: peer.data.endswith(b"\r\n\r\n"))
    await turns()
    assert b"Content-Length: 155" in peer.data
    assert peer.data.endswith(b"\r\n\r\n")


@pytest_twisted.ensureDeferred
async def test_a_node_can_be_late_with_everything(world: World) -> None:
    node = await world.sim.add_node(secret="s3", delay=0.05)
    peer = await connect(node.port)
    peer.send(request("GET", target(node, "getMeetings", {})))
    await until(lambda: node.requests)
    await turns()
    assert peer.data == b""
    world.pass_time(0.05)
    assert (await peer.answer()).ok


@pytest_twisted.ensureDeferred
async def test_a_peer_that_goes_away_takes_its_late_answer_with_it(world: World) -> None:
    node = await world.sim.add_node(secret="s3", delay=60)
    peer = await connect(node.port)
    peer.send(request("GET", target(node, "getMeetings", {})))
    await until(lambda: node.requests)
    peer.transport.abortConnection()
    await until(lambda: not node.listener.connections)
    assert not world.clock.getDelayedCalls()


@pytest_twisted.ensureDeferred
async def test_stop_leaves_the_reactor_as_it_was(front_end: FrontEnd) -> None:
    await turns()
    readers, calls = set(reactor.getReaders()), set(reactor.getDelayedCalls())
    sim = Simulator(reactor, seed=3)
    node = await sim.add_node(secret="s3")
    await sim.listen_for_control()
    sim.resolver.install()
    node.create("m1", meta_endCallbackUrl=f"{front_end.url}/ended")
    front_end.answers.append("hang")
    node.end("m1", at_once=True)
    node.create("m2")
    node.faults.set("getMeetings", "hang_before_headers")
    node.faults.set("isMeetingRunning", "delay", seconds=100)
    node.faults.set(kind="refuse", duration=1000, probability=0)
    node.faults.clear(kind="refuse")
    hanging = [await started(node, "getMeetings"), await started(node, "isMeetingRunning", meetingID="m2")]
    await until(lambda: len(node.requests) == 2 and front_end.seen)
    await sim.stop()
    for peer in hanging:
        await peer.until(lambda peer: False)
    await turns()
    assert {reader for reader in reactor.getReaders() if "Receiver" not in repr(reader)} <= readers
    assert set(reactor.getDelayedCalls()) <= calls
