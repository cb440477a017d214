"""The web server's care for its connections: slow, silent, greedy and broken clients."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import attrs
import pytest
from twisted.internet import defer, task
from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransport
from twisted.web.resource import Resource

from scalelite.api import replies
from scalelite.api.access_log import AccessLog
from scalelite.api.channel import MAX_LINE, Channel
from scalelite.api.replies import Reply
from scalelite.api.site import BalancerSite, Request
from tests.api.support import RawAnswer, responses

GET = b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"


class Transport(StringTransport):
    """What a client sees of its connection."""

    aborted = False
    write_closed = False

    def abortConnection(self) -> None:
        self.aborted = True
        self.loseConnection()

    def loseWriteConnection(self) -> None:
        self.write_closed = True

    def unregisterProducer(self) -> None:
        # A socket does not mind being asked twice.
        self.producer = None

    def resumeProducing(self) -> None:
        self.producerState = "producing"

    @property
    def open(self) -> bool:
        return not self.disconnecting


@attrs.define
class Client:
    """A connection to the site, in memory."""

    channel: Channel
    transport: Transport

    def send(self, data: bytes) -> None:
        self.channel.dataReceived(data)

    def gone(self) -> None:
        """All has been sent, and the connection is closed."""
        self.channel.connectionLost()

    @property
    def answers(self) -> list[RawAnswer]:
        return list(responses(self.transport.value()))


@attrs.define
class Sink:
    lines: list[bytes] = attrs.field(factory=list)

    def write(self, line: bytes) -> None:
        self.lines.append(line)

    def flush(self) -> None: ...


@attrs.define
class Server:
    """A site with three routes, and its clock."""

    clock: task.Clock = attrs.field(factory=task.Clock)
    waiting: list[defer.Deferred[Reply]] = attrs.field(factory=list)
    requests: list[Request] = attrs.field(factory=list)
    clients: list[Client] = attrs.field(factory=list)
    site: BalancerSite = attrs.field(init=False)

    @classmethod
    def start(cls, **limits: Any) -> Server:
        server = cls()

        def hello(request: Request) -> Reply:
            server.requests.append(request)
            return Reply(b"hello", content_type=b"text/plain")

        async def wait(request: Request) -> Reply:
            server.requests.append(request)
            turn: defer.Deferred[Reply] = defer.Deferred()
            server.waiting.append(turn)
            return await turn

        def echo(request: Request) -> Reply:
            server.requests.append(request)
            return Reply(request.content.read(), content_type=b"text/plain")

        def broken(request: Request) -> Coroutine[Any, Any, Reply]:
            raise RuntimeError("secret detail")

        table = {
            b"/hello": {b"GET": hello, b"HEAD": hello},
            b"/wait": {b"GET": wait},
            b"/echo": {b"POST": echo},
            b"/broken": {b"GET": broken},
            b"/none": {b"GET": lambda request: Reply(b"", 204)},
        }
        settings = {"max_body_size": 1000, "max_connections": 5, "request_timeout": 30.0, "idle_timeout": 60.0}
        server.site = BalancerSite(Resource(), table, AccessLog(None), server.clock, **(settings | limits))
        server.site.startFactory()
        return server

    def connect(self) -> Client:
        channel = self.site.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1234))
        transport = Transport()
        channel.makeConnection(transport)
        self.clients.append(Client(channel, transport))
        return self.clients[-1]

    def stop(self) -> None:
        for client in self.clients:
            if client.channel in self.site.channels:
                client.channel.connectionLost()
        self.site.stopFactory()

    def pass_time(self, seconds: float) -> None:
        self.clock.pump([1.0] * int(seconds))


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    """Makes a server with limits of a test's own."""
    servers: list[Server] = []

    def make(**limits: Any) -> Server:
        servers.append(Server.start(**limits))
        return servers[-1]

    yield make
    for server in servers:
        server.stop()


@pytest.fixture
def server(start: Callable[..., Server]) -> Server:
    return start()


@pytest.fixture
def client(server: Server) -> Client:
    return server.connect()


def test_a_kept_connection_serves_many_requests(client: Client) -> None:
    for _ in range(3):
        client.send(GET)
    assert [answer.body for answer in client.answers] == [b"hello"] * 3
    assert client.transport.open


def test_pipelined_requests_are_answered_in_order(server: Server, client: Client) -> None:
    client.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n" + GET + GET[:9])
    assert client.answers == []
    server.waiting[0].callback(Reply(b"waited"))
    assert [answer.body for answer in client.answers] == [b"waited", b"hello"]
    client.send(GET[9:])
    assert [answer.body for answer in client.answers] == [b"waited", b"hello", b"hello"]


def test_a_request_may_come_byte_by_byte(client: Client) -> None:
    for byte in GET:
        client.send(bytes([byte]))
    assert client.answers[0].body == b"hello"


@pytest.mark.parametrize(
    "request_",
    [
        GET.replace(b"1.1", b"1.0"),
        GET.replace(b"Host: x", b"Connection: close"),
        GET.replace(b"Host: x", b"connection: Close"),
    ],
)
def test_the_connection_is_closed_where_the_client_asks_for_it(client: Client, request_: bytes) -> None:
    client.send(request_)
    assert client.answers[0].body == b"hello"
    assert client.answers[0].header("Connection") == "close"
    assert not client.transport.open


def test_head_gets_the_headers_alone(client: Client) -> None:
    client.send(GET.replace(b"GET", b"HEAD"))
    (answer,) = responses(client.transport.value(), head=True)
    assert answer.header("Content-Length") == "5"
    assert answer.body == b""


def test_no_content_has_neither_length_nor_type(client: Client) -> None:
    client.send(b"GET /none HTTP/1.1\r\n\r\n" + GET)
    first, second = client.answers
    assert first.status == 204
    assert first.header("Content-Length") is None
    assert first.header("Content-Type") is None
    assert second.body == b"hello"


def test_a_failing_handler_tells_the_client_nothing(client: Client, unhandled_errors: list[Any]) -> None:
    client.send(b"GET /broken HTTP/1.1\r\n\r\n")
    (answer,) = client.answers
    assert answer.status == 200
    assert answer.key == "internalError"
    assert b"secret" not in answer.body
    assert "secret detail" in str(unhandled_errors.pop()["log_failure"].value)


@pytest.mark.parametrize(
    "head",
    [
        b"GET\r\n\r\n",
        b"GET /hello\r\n\r\n",
        b"GET  /hello HTTP/1.1\r\n\r\n",
        b"GET /he llo HTTP/1.1\r\n\r\n",
        b"GET /hello HTTP/2.0\r\n\r\n",
        b"GET /hello HTTP/0.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"GET /hello?\x01 HTTP/1.1\r\n\r\n",
        b"GET /hello?\xff HTTP/1.1\r\n\r\n",
        b"GET /hello HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /hello HTTP/1.1\r\nbad name: x\r\n\r\n",
        b"GET /hello HTTP/1.1\r\nHost: a\x00b\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nContent-Length: 5x\r\n\r\nhello",
        b"POST /echo HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST /echo HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\nhello",
        b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
        b"GET /hello HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(600)) + b"\r\n",
    ],
)
def test_what_is_no_http_is_refused_once_and_not_read_on(server: Server, client: Client, head: bytes) -> None:
    client.send(head + GET)
    client.send(GET)
    (answer,) = client.answers
    assert answer.status == 400
    assert answer.key == "internalError"
    assert answer.header("Connection") == "close"
    assert client.transport.write_closed
    assert server.requests == []
    server.pass_time(32)
    assert client.transport.aborted


@pytest.mark.parametrize("sent", [b"?" + b"a" * MAX_LINE + b" HTTP/1.1\r\n\r\n", b"?" + b"a" * (MAX_LINE + 10)])
def test_a_request_line_that_is_too_long_is_refused(client: Client, sent: bytes) -> None:
    client.send(b"GET /hello" + sent)
    (answer,) = client.answers
    assert answer.status == 414
    assert answer.key == "internalError"


def test_headers_that_are_too_large_together_are_refused(client: Client) -> None:
    client.send(b"GET /hello HTTP/1.1\r\n")
    for number in range(20):
        client.send(b"X-%d: " % number + b"y" * 10_000 + b"\r\n")
    client.send(b"\r\n")
    (answer,) = client.answers
    assert answer.status in (414, 431)


def test_a_long_query_within_the_limit_is_taken(server: Server, client: Client) -> None:
    client.send(b"GET /hello?" + b"a" * (MAX_LINE - 200) + b" HTTP/1.1\r\n\r\n")
    assert client.answers[0].body == b"hello"
    assert len(server.requests[0].raw_query) == MAX_LINE - 200


def post(body: bytes, extra: bytes = b"") -> bytes:
    return b"POST /echo HTTP/1.1\r\nContent-Length: %d\r\n%b\r\n%b" % (len(body), extra, body)


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


CHUNKED_HEAD = b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_bodies_up_to_the_limit_are_taken(client: Client) -> None:
    client.send(post(b"x" * 1000))
    client.send(CHUNKED_HEAD + chunked(b"a" * 500, b"b" * 500))
    assert [answer.body for answer in client.answers] == [b"x" * 1000, b"a" * 500 + b"b" * 500]


@pytest.mark.parametrize(
    "sent",
    [
        post(b"x" * 1001),
        post(b"x" * 1001)[:-1001],
        post(b"x" * 1001, b"Expect: 100-continue\r\n"),
        CHUNKED_HEAD + chunked(b"a" * 600, b"b" * 600),
        CHUNKED_HEAD + chunked(b"a" * 600, b"b" * 600)[:-5],
        b"POST /echo HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    ],
)
def test_a_body_that_is_too_large_is_refused_and_the_action_not_run(
    server: Server, client: Client, sent: bytes
) -> None:
    client.send(sent)
    client.send(b"more" + GET)
    (answer,) = client.answers
    assert answer.status == 413
    assert answer.key == "internalError"
    assert server.requests == []
    assert client.transport.write_closed
    server.pass_time(32)
    assert client.transport.aborted


def test_a_client_that_waits_for_leave_to_send_gets_it(client: Client) -> None:
    client.send(b"POST /echo HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    assert client.transport.value() == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"hello")
    assert client.answers[-1].body == b"hello"


@pytest.mark.parametrize(
    "part",
    [b"G", GET[:-1], b"GET /hello HTTP/1.1\r\n", post(b"hello")[:-1], CHUNKED_HEAD + b"5\r\nhel", b"\r\n"],
)
def test_a_request_that_is_not_complete_in_time_is_cut_off(server: Server, client: Client, part: bytes) -> None:
    client.send(part[:1])
    server.pass_time(20)
    client.send(part[1:])
    server.pass_time(9)
    assert not client.transport.aborted
    server.pass_time(3)
    assert client.transport.aborted
    assert client.answers == []


def test_dripping_bytes_do_not_buy_time(server: Server, client: Client) -> None:
    for byte in GET:
        client.send(bytes([byte]))
        server.pass_time(1)
        if client.transport.aborted:
            break
    assert client.transport.aborted
    assert server.requests == []


def test_a_second_request_has_its_own_time(server: Server, client: Client) -> None:
    client.send(GET)
    server.pass_time(29)
    client.send(GET[:5])
    server.pass_time(29)
    assert not client.transport.aborted
    client.send(GET[5:])
    assert len(client.answers) == 2
    assert client.transport.open


def test_an_answer_may_take_longer_than_a_request(server: Server, client: Client) -> None:
    client.send(b"GET /wait HTTP/1.1\r\n\r\n")
    server.pass_time(200)
    server.waiting[0].callback(Reply(b"at last"))
    assert client.answers[0].body == b"at last"
    assert client.transport.open


@pytest.mark.parametrize("before", [0, 1])
def test_an_idle_connection_is_closed_in_the_end(server: Server, client: Client, before: int) -> None:
    for _ in range(before):
        client.send(GET)
    server.pass_time(59)
    assert client.transport.open
    server.pass_time(3)
    assert not client.transport.open


@pytest.mark.parametrize("connection", [b"keep-alive", b"close"])
def test_a_client_that_never_reads_its_answer_is_cut_off(server: Server, client: Client, connection: bytes) -> None:
    client.send(b"GET /hello HTTP/1.1\r\nConnection: %b\r\n\r\n" % connection)
    # The transport has been told to close but can't get rid of what is to be sent.
    server.pass_time(59)
    assert not client.transport.aborted
    server.pass_time(35)
    assert client.transport.aborted


def test_hundreds_of_silent_clients_do_not_keep_others_out(start: Callable[..., Server]) -> None:
    server = start(max_connections=300)
    silent = [server.connect() for _ in range(300)]
    for number, client in enumerate(silent):
        client.send(GET[: number % len(GET)])
    late = server.connect()
    assert late.transport.aborted
    server.pass_time(62)
    assert not any(client.transport.open for client in silent)
    for client in silent:
        client.channel.connectionLost()
    welcome = server.connect()
    welcome.send(GET)
    assert welcome.answers[0].body == b"hello"


def test_a_connection_beyond_the_limit_is_cut_off_and_leaves_no_trace(start: Callable[..., Server]) -> None:
    server = start(max_connections=2)
    first, second, third = [server.connect() for _ in range(3)]
    assert third.transport.aborted
    third.channel.connectionLost()
    for client in (first, second):
        client.send(GET)
        assert client.answers[0].body == b"hello"
    first.channel.connectionLost()
    assert not server.connect().transport.aborted


def test_a_client_that_leaves_does_not_disturb_its_request(server: Server, client: Client) -> None:
    client.send(b"GET /wait HTTP/1.1\r\n\r\n")
    client.channel.connectionLost()
    server.waiting[0].callback(Reply(b"nobody listens"))
    assert client.answers == []
    assert server.site.active == 0


def test_draining_lets_requests_finish_and_takes_no_more(server: Server) -> None:
    busy, idle = server.connect(), server.connect()
    busy.send(b"GET /wait HTTP/1.1\r\n\r\n")
    drained = defer.Deferred.fromCoroutine(server.site.drain(10))
    results: list[bool] = []
    drained.addCallback(results.append)
    assert not idle.transport.open
    idle.gone()
    assert server.connect().transport.aborted
    assert busy.transport.open
    assert results == []
    server.waiting[0].callback(Reply(b"done"))
    assert busy.answers[0].header("Connection") == "close"
    # Written, but perhaps not sent yet.
    assert results == []
    busy.gone()
    assert results == [True]


def test_draining_does_not_wait_for_ever_for_a_client_that_does_not_read(server: Server) -> None:
    busy = server.connect()
    busy.send(b"GET /wait HTTP/1.1\r\n\r\n")
    results: list[bool] = []
    defer.Deferred.fromCoroutine(server.site.drain(10)).addCallback(results.append)
    server.waiting[0].callback(Reply(b"done"))
    server.pass_time(9)
    assert results == []
    server.pass_time(2)
    assert results == [True]


def test_draining_gives_up_in_time(server: Server) -> None:
    busy = server.connect()
    busy.send(b"GET /wait HTTP/1.1\r\n\r\n")
    results: list[bool] = []
    defer.Deferred.fromCoroutine(server.site.drain(10)).addCallback(results.append)
    server.pass_time(9)
    assert results == []
    server.pass_time(2)
    assert results == [False]
    server.waiting[0].callback(Reply(b"too late"))


def test_refusing_replies_are_bbb_xml() -> None:
    for reply, status in (
        (replies.MALFORMED, 400),
        (replies.TOO_LARGE, 413),
        (replies.URI_TOO_LONG, 414),
        (replies.FORBIDDEN_HOST, 403),
        (replies.UNEXPECTED, 200),
        (replies.STORE_FAILED, 200),
    ):
        assert reply.status == status
        assert b"<returncode>FAILED</returncode>" in reply.body
        assert reply.content_type == b"text/xml; charset=utf-8"
