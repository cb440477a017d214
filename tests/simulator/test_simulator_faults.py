"""Every kind of fault, as the peer of the node sees it on the wire."""

from __future__ import annotations

import gzip
import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest
import pytest_twisted
from lxml import etree
from twisted.internet import reactor
from twisted.internet.endpoints import HostnameEndpoint, SSL4ClientEndpoint, connectProtocol
from twisted.internet.error import DNSLookupError
from twisted.internet.ssl import Certificate, optionsForClientTLS

from scalelite.simulator import Fault
from scalelite.simulator.faults import GROUPS
from scalelite.simulator.tls import certificate
from tests.simulator.peer import (
    Answer,
    Peer,
    World,
    call,
    connect,
    fetch,
    refused,
    request,
    started,
    target,
    turns,
    until,
)


async def settled(peer: Peer, world: World) -> None:
    """Give `peer` every chance to be answered: another call goes through after it."""
    assert (await call(world.node, "getMeetings")).status == 200
    await turns()


def test_the_kinds_are_in_nine_groups() -> None:
    assert list(GROUPS) == ["connection", "time", "http", "xml", "auth", "state", "load", "clock", "callbacks"]
    assert sorted(kind for kinds in GROUPS.values() for kind in kinds) == sorted(Fault)


# Connection.


@pytest_twisted.ensureDeferred
async def test_refuse_closes_the_port_until_it_is_cleared(world: World) -> None:
    await call(world.node, "create", meetingID="m1", name="Demo")
    open_connection = await connect(world.node.port)
    world.node.faults.set(kind=Fault.REFUSE)
    await until(lambda: not world.node.listening)
    assert await refused(world.node.port)
    await until(lambda: open_connection.lost)
    assert open_connection.lost == "ConnectionLost"
    world.node.faults.clear()
    await until(lambda: world.node.listening)
    assert (await call(world.node, "getMeetingInfo", meetingID="m1")).ok


@pytest_twisted.ensureDeferred
async def test_refuse_ends_with_its_duration(world: World) -> None:
    world.node.faults.set(kind=Fault.REFUSE, duration=5)
    await until(lambda: not world.node.listening)
    world.pass_time(5)
    await until(lambda: world.node.listening)
    assert (await call(world.node, "getMeetings")).ok


@pytest_twisted.ensureDeferred
async def test_stop_and_start_refuse_in_between_and_keep_the_memory(world: World) -> None:
    world.node.create("m1")
    await world.node.stop()
    assert await refused(world.node.port)
    await world.node.start()
    assert (await call(world.node, "getMeetingInfo", meetingID="m1")).ok


@pytest.mark.parametrize("endpoint", ["*", "getMeetings"])
@pytest_twisted.ensureDeferred
async def test_reset_breaks_the_connection(world: World, endpoint: str) -> None:
    world.node.faults.set(endpoint, Fault.RESET, count=1)
    peer = await started(world.node, "getMeetings")
    await peer.until(lambda peer: False)
    assert (peer.data, peer.lost) == (b"", "ConnectionLost")
    assert (await call(world.node, "getMeetings")).ok


@pytest.mark.parametrize("endpoint", ["*", "getMeetings"])
@pytest_twisted.ensureDeferred
async def test_blackhole_accepts_and_never_answers(world: World, endpoint: str) -> None:
    world.node.faults.set(endpoint, Fault.BLACKHOLE, count=1)
    peer = await started(world.node, "getMeetings")
    await settled(peer, world)
    assert (peer.data, peer.lost) == (b"", None)
    peer.transport.abortConnection()


@pytest_twisted.ensureDeferred
async def test_dns_gone_takes_the_name_away(world: World) -> None:
    world.sim.resolver.install()
    name = f"node-{world.node.number}.bbb.test"
    assert f"//{name}:" in world.node.named_url
    peer = await connectProtocol(HostnameEndpoint(reactor, name, world.node.port), Peer())
    peer.transport.loseConnection()
    await peer.until(lambda peer: False)
    world.node.faults.set(kind=Fault.DNS_GONE, count=1)
    with pytest.raises(DNSLookupError):
        await connectProtocol(HostnameEndpoint(reactor, name, world.node.port), Peer())


@pytest_twisted.ensureDeferred
async def test_tls_expired_shows_an_old_certificate(world: World) -> None:
    node = await world.sim.add_node(secret="s3", tls=True)
    trust = Certificate.load(certificate("127.0.0.1", False).public_bytes(_pem()), 1)
    options = optionsForClientTLS("127.0.0.1", trustRoot=trust)

    async def ask() -> Peer:
        peer = await connectProtocol(SSL4ClientEndpoint(reactor, "127.0.0.1", node.port, options), Peer())
        peer.send(request("GET", target(node, "getMeetings", {}), Connection="close"))
        await peer.until(lambda peer: False)
        return peer

    assert node.url.startswith("https://")
    assert b"noMeetings" in (await ask()).data
    node.faults.set(kind=Fault.TLS_EXPIRED, count=1)
    assert (await ask()).data == b""
    assert b"noMeetings" in (await ask()).data


def _pem() -> object:
    from cryptography.hazmat.primitives.serialization import Encoding

    return Encoding.PEM


@pytest_twisted.ensureDeferred
async def test_close_on_reuse_spares_the_first_request(world: World) -> None:
    world.node.faults.set(kind=Fault.CLOSE_ON_REUSE)
    peer = await started(world.node, "getMeetings")
    assert (await peer.answer()).ok
    peer.send(request("GET", target(world.node, "getMeetings", {})))
    await peer.until(lambda peer: False)
    assert (peer.data, peer.lost) == (b"", "ConnectionDone")


# Time.


@pytest.mark.parametrize(
    ("kind", "options", "seconds"),
    [(Fault.DELAY, {"seconds": 7}, 7), (Fault.JITTER, {"lowest": 2, "highest": 3}, 3)],
)
@pytest_twisted.ensureDeferred
async def test_late_answers_come_when_their_time_has_come(
    world: World, kind: Fault, options: dict[str, float], seconds: float
) -> None:
    world.node.faults.set("isMeetingRunning", kind, **options)
    peer = await started(world.node, "isMeetingRunning", meetingID="m1")
    await until(lambda: world.node.requests)
    world.pass_time(seconds - 1.01)
    await settled(peer, world)
    assert peer.data == b""
    world.pass_time(1.02)
    assert (await peer.answer()).ok


@pytest_twisted.ensureDeferred
async def test_one_call_in_some_takes_long(world: World) -> None:
    world.node.faults.set("isMeetingRunning", Fault.SLOW_ONE_IN, calls=3, seconds=30)
    for _ in range(2):
        assert (await call(world.node, "isMeetingRunning", meetingID="m1")).ok
    slow = await started(world.node, "isMeetingRunning", meetingID="m1")
    await until(lambda: len(world.node.requests) == 3)
    assert (await call(world.node, "isMeetingRunning", meetingID="m1")).ok
    assert slow.data == b""
    world.pass_time(30)
    assert (await slow.answer()).ok


@pytest.mark.parametrize("processed", [False, True])
@pytest_twisted.ensureDeferred
async def test_hang_before_headers_says_nothing(world: World, processed: bool) -> None:
    world.node.faults.set("create", Fault.HANG_BEFORE_HEADERS, processed=processed)
    peer = await started(world.node, "create", meetingID="m1", name="Demo")
    await until(lambda: world.node.requests)
    await settled(peer, world)
    assert (peer.data, peer.lost) == (b"", None)
    assert ("m1" in world.node.meetings) is processed
    assert world.node.requests[0].verdict == ("ok" if processed else "fault:hang_before_headers")
    peer.transport.abortConnection()


@pytest_twisted.ensureDeferred
async def test_hang_after_headers_promises_a_body(world: World) -> None:
    world.node.faults.set("create", Fault.HANG_AFTER_HEADERS)
    peer = await started(world.node, "create", meetingID="m1", name="Demo")
    await peer.until(lambda peer: peer.data.endswith(b"\r\n\r\n"))
    await settled(peer, world)
    assert peer.data.startswith(b"HTTP/1.1 200 OK")
    assert peer.data.endswith(b"\r\n\r\n")
    assert "m1" in world.node.meetings
    peer.transport.abortConnection()


@pytest_twisted.ensureDeferred
async def test_drip_sends_a_byte_a_second(world: World) -> None:
    world.node.faults.set("isMeetingRunning", Fault.DRIP, interval=1)
    peer = await started(world.node, "isMeetingRunning", meetingID="m1")
    await peer.until(lambda peer: peer.data.endswith(b"\r\n\r\n<"))
    world.pass_time(1)
    await peer.until(lambda peer: peer.data.endswith(b"\r\n\r\n<r"))
    world.clock.pump([1] * 80)
    assert (await peer.answer()).ok
    peer.send(request("GET", target(world.node, "getMeetings", {})))
    assert (await peer.answer()).ok


@pytest_twisted.ensureDeferred
async def test_a_slow_create_holds_up_the_creates_behind_it(world: World) -> None:
    world.node.faults.set("create", Fault.CREATE_SLOW, count=1, seconds=15)
    first = await started(world.node, "create", meetingID="m1", name="Demo")
    await until(lambda: len(world.node.requests) == 1)
    world.node.faults.set("getMeetings", Fault.DELAY, seconds=0)
    second = await started(world.node, "create", meetingID="m2", name="Demo")
    await until(lambda: len(world.node.requests) == 2)
    world.pass_time(14)
    await settled(first, world)
    assert (first.data, second.data) == (b"", b"")
    world.pass_time(1)
    assert (await first.answer()).ok
    assert (await second.answer()).ok


@pytest_twisted.ensureDeferred
async def test_a_slow_end_is_answered_at_once(world: World) -> None:
    world.node.create("m1")
    world.node.faults.set("end", Fault.END_SLOW, seconds=30)
    assert (await call(world.node, "end", meetingID="m1")).ok
    world.pass_time(29)
    assert "m1" in world.node.meetings
    world.pass_time(2)
    assert "m1" not in world.node.meetings


# HTTP.


@pytest.mark.parametrize(
    ("kind", "status", "part"),
    [
        (Fault.HTTP_500, 500, b"nginx"),
        (Fault.HTTP_502, 502, b"502 Bad Gateway"),
        (Fault.HTTP_503, 503, b"nginx"),
        (Fault.HTTP_504, 504, b"nginx"),
        (Fault.HTTP_404, 404, b"nginx"),
        (Fault.REDIRECT_HTTPS, 301, b"nginx"),
        (Fault.HTTP_429, 429, b"nginx"),
        (Fault.HTML_200, 200, b"<!DOCTYPE html>"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_pages_take_the_place_of_the_answer(world: World, kind: Fault, status: int, part: bytes) -> None:
    world.node.faults.set("create", kind, count=3)
    for _ in range(3):
        answer = await call(world.node, "create", meetingID="m1", name="Demo")
        assert answer.status == status
        assert part in answer.body
        assert answer.headers["content-type"].startswith("text/html")
    assert not world.node.meetings
    assert (await call(world.node, "create", meetingID="m1", name="Demo")).ok
    if kind is Fault.REDIRECT_HTTPS:
        assert answer.headers["location"].startswith("https://127.0.0.1:")
    if kind is Fault.HTTP_429:
        assert answer.headers["retry-after"] == "30"


@pytest_twisted.ensureDeferred
async def test_an_answer_may_be_empty(world: World) -> None:
    world.node.faults.set(kind=Fault.EMPTY_200)
    answer = await call(world.node, "getMeetings")
    assert (answer.status, answer.body) == (200, b"")


@pytest_twisted.ensureDeferred
async def test_an_answer_may_have_the_wrong_content_type(world: World) -> None:
    world.node.faults.set(kind=Fault.WRONG_CONTENT_TYPE)
    answer = await call(world.node, "getMeetings")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.ok


@pytest_twisted.ensureDeferred
async def test_an_answer_may_be_compressed_unasked(world: World) -> None:
    world.node.faults.set(kind=Fault.GZIP)
    answer = await call(world.node, "getMeetings")
    assert answer.headers["content-encoding"] == "gzip"
    assert b"noMeetings" in gzip.decompress(answer.body)


@pytest.mark.parametrize(("kind", "longer"), [(Fault.CONTENT_LENGTH_LONG, True), (Fault.CONTENT_LENGTH_SHORT, False)])
@pytest_twisted.ensureDeferred
async def test_the_content_length_may_be_wrong(world: World, kind: Fault, longer: bool) -> None:
    world.node.faults.set(kind=kind)
    peer = await started(world.node, "getMeetings")
    await peer.until(lambda peer: False)
    head, _, body = peer.data.partition(b"\r\n\r\n")
    promised = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
    assert body.endswith(b"</response>")
    assert (promised > len(body)) is longer
    assert promised != len(body)


@pytest_twisted.ensureDeferred
async def test_a_chunked_answer_may_never_end(world: World) -> None:
    world.node.faults.set(kind=Fault.ENDLESS_CHUNKED, interval=0.5, chunk=16)
    peer = await started(world.node, "getMeetings")
    await peer.until(lambda peer: b"noMeetings" in peer.data)
    before = len(peer.data)
    world.clock.pump([0.5] * 10)
    await peer.until(lambda peer: len(peer.data) >= before + 10 * len(b"10\r\n" + b" " * 16 + b"\r\n"))
    assert b"\r\n0\r\n\r\n" not in peer.data
    assert b"</response>" not in peer.data
    peer.transport.abortConnection()


# XML.


def _parses(answer: Answer) -> bool:
    try:
        ET.fromstring(answer.body)
    except ET.ParseError:
        return False
    return True


@pytest.mark.parametrize(
    ("kind", "proof"),
    [
        (Fault.XML_TRUNCATED, lambda a: not _parses(a) and a.body.startswith(b"<response>")),
        (Fault.XML_CONTROL_CHARACTER, lambda a: not _parses(a) and b"\x07" in a.body),
        (Fault.XML_BROKEN_ERRORS, lambda a: not _parses(a) and b"nonUniqueVoiceBridge" in a.body),
        (Fault.XML_NO_RETURNCODE, lambda a: a.text("returncode") is None and a.text("meetings/meeting/meetingID")),
        (Fault.XML_LATIN1, lambda a: not _parses(a) and b"M\xfcller" in a.body),
        (Fault.XML_UNKNOWN_ELEMENTS, lambda a: a.ok and len(a.xml.findall(".//nova")) == 2),
        (Fault.XML_LOWERCASE_RETURNCODE, lambda a: a.text("returncode") == "success"),
        (
            Fault.XML_GROUPED_NUMBERS,
            lambda a: a.text("meetings/meeting/createTime") == "1,700,000,000,000",
        ),
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_xml_may_be_spoiled(world: World, kind: Fault, proof: Callable[[Answer], bool]) -> None:
    world.node.create("m1")
    world.node.faults.set("getMeetings", kind, count=1)
    assert proof(await call(world.node, "getMeetings"))
    assert not proof(await call(world.node, "getMeetings"))


@pytest_twisted.ensureDeferred
async def test_an_entity_bomb_would_go_off_in_a_careless_parser(world: World) -> None:
    world.node.faults.set(kind=Fault.XML_ENTITY_BOMB)
    answer = await call(world.node, "getMeetings")
    assert answer.body.count(b"<!ENTITY") == 10
    with pytest.raises(etree.XMLSyntaxError, match="amplification"):
        etree.fromstring(answer.body)


@pytest_twisted.ensureDeferred
async def test_an_external_entity_names_a_local_file(world: World) -> None:
    world.node.faults.set(kind=Fault.XML_EXTERNAL_ENTITY, path="/no/such/file")
    answer = await call(world.node, "getMeetings")
    assert b'SYSTEM "file:///no/such/file"' in answer.body
    assert b"<note>&file;</note>" in answer.body


# Auth.


@pytest_twisted.ensureDeferred
async def test_wrong_secret_refuses_right_checksums(world: World) -> None:
    world.node.faults.set(kind=Fault.WRONG_SECRET, count=1)
    assert (await call(world.node, "getMeetings")).key == "checksumError"
    assert (await call(world.node, "getMeetings")).ok


@pytest_twisted.ensureDeferred
async def test_only_sha512_refuses_the_other_algorithms(world: World) -> None:
    world.node.faults.set(kind=Fault.ONLY_SHA512)
    keys = [
        (await fetch(world.node, "GET", target(world.node, "getMeetings", {}, algorithm))).key
        for algorithm in ("sha1", "sha256", "sha384", "sha512")
    ]
    assert keys == ["checksumError"] * 3 + ["noMeetings"]


@pytest_twisted.ensureDeferred
async def test_accept_anything_takes_a_call_without_checksum(world: World) -> None:
    world.node.faults.set(kind=Fault.ACCEPT_ANYTHING)
    assert (await fetch(world.node, "GET", "/bigbluebutton/api/getMeetings")).ok


# How rules apply.


@pytest_twisted.ensureDeferred
async def test_a_fault_keeps_to_its_endpoint_and_count(world: World) -> None:
    world.node.faults.set("getMeetings", Fault.HTTP_500, count=2)
    assert (await call(world.node, "isMeetingRunning", meetingID="m1")).status == 200
    assert [(await call(world.node, "getMeetings")).status for _ in range(3)] == [500, 500, 200]
    assert not world.node.faults.rules


@pytest_twisted.ensureDeferred
async def test_a_fault_strikes_with_its_probability(world: World) -> None:
    world.node.faults.set(kind=Fault.HTTP_500, probability=0.5)
    statuses = [(await call(world.node, "getMeetings")).status for _ in range(40)]
    assert 5 < statuses.count(500) < 35


@pytest_twisted.ensureDeferred
async def test_a_fault_is_over_after_its_duration(world: World) -> None:
    world.node.faults.set(kind="http_503", duration=10)
    assert (await call(world.node, "getMeetings")).status == 503
    world.pass_time(10)
    assert (await call(world.node, "getMeetings")).status == 200


def test_an_unknown_kind_is_refused(world: World) -> None:
    with pytest.raises(ValueError, match="no_such_fault"):
        world.node.faults.set(kind="no_such_fault")


@pytest_twisted.ensureDeferred
async def test_clear_can_be_limited(world: World) -> None:
    faults = world.node.faults
    faults.set("create", Fault.HTTP_500)
    faults.set("end", Fault.HTTP_500)
    faults.set("end", Fault.DELAY)
    faults.clear(kind=Fault.HTTP_500, endpoint="end")
    assert [(rule.endpoint, rule.kind) for rule in faults.rules] == [("create", "http_500"), ("end", "delay")]
    faults.clear(endpoint="end")
    assert [rule.endpoint for rule in faults.rules] == ["create"]
    faults.clear()
    assert not faults.rules


@pytest_twisted.ensureDeferred
async def test_several_faults_strike_together(world: World) -> None:
    world.node.faults.set(kind=Fault.XML_LOWERCASE_RETURNCODE)
    world.node.faults.set(kind=Fault.DELAY, seconds=2)
    peer = await started(world.node, "getMeetings")
    await until(lambda: world.node.requests)
    world.pass_time(2)
    assert (await peer.answer()).text("returncode") == "success"
