"""Whatever clients send, they get BBB's XML, and nobody else suffers."""

from __future__ import annotations

import pytest_twisted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from scalelite.simulator import Fault
from tests.api.support import calls, connect, exchange, post, responses, running
from tests.balancer import Balancer

PIECES = (
    b"/ bigbluebutton /api create join getMeetings ? & = checksum meetingID % %00 %FF %2F .. * http://x \x80 [] # ; . "
    b"health_check"
).split(b" ")
TYPES = (
    b"application/xml", b"application/x-www-form-urlencoded", b"multipart/form-data",
    b"multipart/form-data; boundary=b", b'multipart/form-data; boundary="', b"text/xml; charset=\xff",
)  # fmt: skip
BODY = (b"--b", b"--", b"\r\n", b'Content-Disposition: form-data; name="a"', b"=", b"&", b"%", b"x")
targets = st.one_of(
    st.binary(max_size=60).map(lambda raw: bytes(33 + byte % 144 for byte in raw)),
    st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join),
)
values = st.binary(max_size=40).map(lambda raw: raw.translate(None, b"\r\n\x00"))
types = st.one_of(values, st.sampled_from(TYPES))
bodies = st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(BODY), max_size=20).map(b"".join))


@pytest_twisted.ensureDeferred
async def test_no_request_gets_anything_but_xml(shared: Balancer) -> None:
    site = shared.web.site

    @settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(
        st.sampled_from([b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS", b"X"]), targets, values, values, types, bodies
    )
    def check(method: bytes, target: bytes, host: bytes, forwarded: bytes, kind: bytes, body: bytes) -> None:
        channel = site.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1234))
        transport = StringTransport()
        transport.loseWriteConnection = lambda: None  # type: ignore[attr-defined]
        channel.makeConnection(transport)
        channel.dataReceived(
            b"%b %b HTTP/1.1\r\nHost: %b\r\nX-Forwarded-Host: %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b"
            % (method, target, host, forwarded, kind, len(body), body)
        )
        channel.connectionLost()
        # What is no HTTP at all is answered with a body, whatever its method might have been.
        head = method == b"HEAD" and b"X-Request-Id" in transport.value()
        for answer in responses(transport.value(), head=head):
            assert answer.status in (200, 400)
            assert answer.header("Content-Type") in ("text/xml; charset=utf-8", "text/plain; charset=utf-8")
            assert head or answer.body == b"success" or answer.body.startswith(b"<?xml")

    check()
    assert (await shared.request("GET", shared.api)).returncode == "SUCCESS"


@pytest_twisted.ensureDeferred
async def test_many_requests_in_one_segment_are_all_answered(shared: Balancer) -> None:
    request = b"GET /bigbluebutton/api HTTP/1.1\r\nHost: x\r\n\r\n"
    last = request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    answers = await exchange(shared.port, request * 1000 + last)
    assert len(answers) == 1001
    assert {answer.status for answer in answers} == {200}


@pytest_twisted.ensureDeferred
async def test_pipelined_calls_that_wait_are_answered_in_order(balancer: Balancer) -> None:
    await balancer.add_servers(1)
    for name in ("m1", "m2", "m3"):
        await balancer.call("create", meetingID=name, name="Meeting")
    sent = b""
    for name in ("m1", "m2", "m3", "unknown"):
        target = balancer.url("getMeetingInfo", meetingID=name).partition(str(balancer.port))[2].encode()
        sent += (
            b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n" + b"Connection: close\r\n" * (name == "unknown") + b"\r\n"
        )
    answers = await exchange(balancer.port, sent)
    assert [b"<meetingID>m%d</meetingID>" % n in answer.body for n, answer in enumerate(answers, 1)] == [True] * 3 + [
        False
    ]
    assert answers[3].key == "notFound"


@pytest_twisted.ensureDeferred
async def test_http_1_0_is_spoken(shared: Balancer) -> None:
    (answer,) = await exchange(shared.port, b"GET /bigbluebutton/api HTTP/1.0\r\n\r\n")
    assert b"<version>2.0</version>" in answer.body
    assert answer.header("Connection") == "close"


@pytest_twisted.ensureDeferred
async def test_idle_connections_do_not_hinder_calls() -> None:
    async with running(max_connections=320) as balancer:
        idle = [await connect(balancer.port) for _ in range(300)]
        for number, peer in enumerate(idle):
            peer.transport.write(b"GET /bigbluebutton/api HTTP/1.1\r\nHost: x"[: number % 40])  # type: ignore[union-attr]
        assert (await balancer.call("getMeetings")).key == "noMeetings"
        for peer in idle:
            peer.transport.abortConnection()  # type: ignore[union-attr]
            await peer.closed


@pytest_twisted.ensureDeferred
async def test_connections_beyond_the_limit_are_refused_and_come_free_again() -> None:
    async with running(max_connections=2) as balancer:
        first, second = await connect(balancer.port), await connect(balancer.port)
        third = await connect(balancer.port)
        await third.closed
        assert third.data == b""
        first.transport.loseConnection()  # type: ignore[union-attr]
        await first.closed
        assert (await balancer.call("getMeetings")).key == "noMeetings"
        second.transport.loseConnection()  # type: ignore[union-attr]
        await second.closed


@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_during_create_leaves_a_meeting_in_order() -> None:
    async with running(servers=1) as balancer:
        node = balancer.nodes["s1"]
        node.faults.set("create", Fault.DELAY, seconds=0.1)
        target = balancer.url("create", meetingID="m1", name="Meeting").partition(str(balancer.port))[2].encode()
        peer = await connect(balancer.port)
        peer.transport.write(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")  # type: ignore[union-attr]
        while not calls(balancer, "create"):
            await balancer.redis("PING")
        peer.transport.abortConnection()  # type: ignore[union-attr]
        await peer.closed
        while await balancer.redis("EXISTS", balancer.key("balancer:pending:m1")):
            await balancer.redis("PING")
        assert await balancer.where("m1") == "s1"
        assert balancer.living_on("m1") == ["s1"]


@pytest_twisted.ensureDeferred
async def test_no_secret_reaches_the_log() -> None:
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    try:
        async with running(servers=3, response_timeout=0.2, loadbalancer_secrets=(b"lb-5ecret",)) as balancer:
            balancer.nodes["s1"].faults.set("*", Fault.HTML_200)
            balancer.nodes["s2"].faults.set("*", Fault.RESET)
            await balancer.nodes["s3"].stop()
            await balancer.redis("HSET", balancer.key("server:s3"), "url", "http://[bad")
            for number in range(6):
                params = {"meetingID": f"m{number}", "name": "Meeting", "moderatorPW": "pw-5ecret"}
                await balancer.call("create", secret="lb-5ecret", **params)
                await balancer.call("end", secret="lb-5ecret", meetingID=f"m{number}", password="pw-5ecret")
            await balancer.call("getMeetings", secret="lb-5ecret")
            await balancer.call("getMeetings", secret="wrong")
            await post(
                balancer, "analytics_callback", b"{}", "application/json", sign=False, Authorization="Bearer 5ecret"
            )
    finally:
        globalLogPublisher.removeObserver(events.append)
    text = "\n".join(
        f"{formatEvent(event)} {event}" for event in events if event.get("log_namespace", "").startswith("scalelite")
    )
    assert "could" in text or "answered" in text
    for secret in ("5ecret", "secret of s", "checksum="):
        assert secret not in text
