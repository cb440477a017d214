"""Bodies that are taken as they come: pace, ends, losses; connections that carry them."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from twisted.internet import defer, task
from twisted.internet.address import IPv4Address
from twisted.web.resource import Resource

from scalelite.api.access_log import AccessLog
from scalelite.api.incoming import HELD, BodyLost, BodyStalled, IncomingBody
from scalelite.api.replies import Reply
from scalelite.api.site import BalancerSite, Handler, Request
from tests.api.test_site import Client, Sink, Transport

HEAD = b"PATCH /taken HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"


@attrs.define
class Server:
    """A site whose path /taken hands out bodies as they come; `handle` is what takes them."""

    handle: Any
    clock: task.Clock = attrs.field(factory=task.Clock)
    sink: Sink = attrs.field(factory=Sink)
    site: BalancerSite = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        def receiver(request: Request) -> Handler | None:
            return self.handle if request.path == b"/taken" else None

        def hello(request: Request) -> Reply:
            return Reply(b"hello")

        self.site = BalancerSite(
            Resource(), {b"/hello": {b"GET": hello, b"POST": hello}}, AccessLog(self.sink), self.clock,
            receiver=receiver, max_body_size=10, max_connections=5, request_timeout=30, idle_timeout=60,
        )  # fmt: skip
        self.site.startFactory()

    def connect(self) -> Client:
        transport = Transport(peerAddress=IPv4Address("TCP", "192.0.2.1", 1))
        channel: Any = self.site.buildProtocol(transport.getPeer())
        channel.makeConnection(transport)
        return Client(channel, transport)

    def pass_time(self, seconds: int) -> None:
        self.clock.pump([1.0] * seconds)


def taker(took: list[bytes], patience: float = 1000) -> Any:
    """A handler that reads to the end."""

    async def take(request: Request) -> Reply:
        assert request.incoming is not None
        try:
            while data := await request.incoming.read(patience):
                took.append(data)
        except (BodyLost, BodyStalled) as error:
            took.append(type(error).__name__.encode())
            return Reply(b"", 408)
        return Reply(b"%d" % sum(map(len, took)))

    return take


def test_body_reaches_the_handler_as_it_comes_whatever_its_length() -> None:
    took: list[bytes] = []
    client = Server(taker(took)).connect()
    client.send(HEAD % 30 + b"first")
    assert took == [b"first"]
    client.send(b"x" * 20)
    assert took == [b"first", b"x" * 20]
    assert client.answers == []
    client.send(b"last.")
    (answer,) = client.answers
    assert (answer.status, answer.body) == (200, b"30")


def test_chunked_body_is_taken_as_well() -> None:
    took: list[bytes] = []
    client = Server(taker(took)).connect()
    client.send(b"PATCH /taken HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
    assert took == [b"first"]
    client.send(b"14\r\n" + b"x" * 20 + b"\r\n0\r\n\r\n")
    assert [answer.body for answer in client.answers] == [b"25"]


def test_next_request_on_the_connection_is_answered_after_it() -> None:
    client = Server(taker([])).connect()
    client.send(HEAD % 5 + b"first" + b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
    assert [answer.body for answer in client.answers] == [b"5", b"hello"]


def test_other_bodies_are_limited_as_ever() -> None:
    client = Server(taker([])).connect()
    client.send(b"POST /hello HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n")
    assert [answer.status for answer in client.answers] == [413]


def test_client_is_not_read_from_while_nobody_takes_what_it_sent() -> None:
    turn: defer.Deferred[None] = defer.Deferred()
    took: list[bytes] = []

    async def late(request: Request) -> Reply:
        await turn
        reply: Reply = await taker(took)(request)
        return reply

    client = Server(late).connect()
    client.send(HEAD % (HELD + 100))
    client.send(b"x" * HELD)
    assert client.transport.producerState == "paused"
    turn.callback(None)
    assert client.transport.producerState == "producing"
    assert [len(data) for data in took] == [HELD]
    client.send(b"x" * 100)
    assert [answer.status for answer in client.answers] == [200]


def test_handler_looks_to_the_pace_of_its_client_itself() -> None:
    took: list[bytes] = []
    server = Server(taker(took))
    client = server.connect()
    client.send(HEAD % 5)
    server.pass_time(900)
    assert client.transport.open
    client.send(b"first")
    assert [answer.status for answer in client.answers] == [200]


def test_client_that_sends_nothing_more_is_told_and_let_go() -> None:
    took: list[bytes] = []
    server = Server(taker(took, patience=20))
    client = server.connect()
    client.send(HEAD % 100 + b"first")
    server.pass_time(21)
    assert took == [b"first", b"BodyStalled"]
    assert [answer.status for answer in client.answers] == [408]
    assert client.transport.write_closed
    server.pass_time(32)
    assert client.transport.aborted


def test_handler_learns_that_its_client_is_gone_after_all_that_came() -> None:
    took: list[bytes] = []
    server = Server(taker(took))
    client = server.connect()
    client.send(HEAD % 100 + b"first")
    client.gone()
    assert took == [b"first", b"BodyLost"]
    assert server.site.active == 0


def test_refusal_comes_before_the_end_of_the_body_and_the_rest_is_thrown_away() -> None:
    async def refuse(request: Request) -> Reply:
        return Reply(b"no", 401, b"text/plain", ((b"WWW-Authenticate", b"Bearer"),))

    server = Server(refuse)
    client = server.connect()
    client.send(HEAD % 1000 + b"first")
    (answer,) = client.answers
    assert (answer.status, answer.body, answer.header("WWW-Authenticate")) == (401, b"no", "Bearer")
    assert answer.header("Connection") == "close"
    client.send(b"x" * 500 + b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
    assert len(client.answers) == 1
    assert server.site.active == 0
    client.gone()
    (line,) = server.sink.lines
    assert (b'"path":"/taken"' in line, b'"status":401' in line) == (True, True)


def test_paused_client_that_is_refused_can_send_its_rest() -> None:
    turn: defer.Deferred[None] = defer.Deferred()

    async def refuse(request: Request) -> Reply:
        await turn
        return Reply(b"no", 401)

    client = Server(refuse).connect()
    client.send(HEAD % (2 * HELD))
    client.send(b"x" * HELD)
    turn.callback(None)
    assert client.transport.producerState == "producing"


def test_requests_that_no_answer_can_be_right_for_are_refused_before_their_body() -> None:
    took: list[bytes] = []
    client = Server(taker(took)).connect()
    client.send(b"PATCH /taken HTTP/1.1\r\nHost: x\r\nHost: y\r\nContent-Length: 5\r\n\r\nfirst")
    assert [answer.status for answer in client.answers] == [400]
    assert took == []


def test_connection_that_carries_a_body_is_closed_when_the_program_ends() -> None:
    took: list[bytes] = []
    server = Server(taker(took))
    client = server.connect()
    client.send(HEAD % 100 + b"first")
    drained = defer.Deferred.fromCoroutine(server.site.drain(10))
    assert not client.transport.open
    client.gone()
    server.clock.advance(1)
    assert took[-1] == b"BodyLost"
    assert drained.result is True


@pytest.mark.parametrize("size", [0, 1])
def test_body_without_an_end_is_lost_however_much_came(size: int) -> None:
    body = IncomingBody(Transport(), task.Clock())
    if size:
        body.deliver(b"x")
    body.lose()
    first: Any = defer.Deferred.fromCoroutine(body.read(1))
    if size:
        assert first.result == b"x"
        first = defer.Deferred.fromCoroutine(body.read(1))
    first.addErrback(lambda failure: failure.trap(BodyLost))
    assert first.result is BodyLost
