"""One call to one server: bounded in time, size and number, and honest about what may have happened there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from OpenSSL import SSL
from twisted.internet import defer, error, task
from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone, ResponseFailed, ResponseNeverReceived
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH

from scalelite.bbb.client import BackendError, BadAnswer, BBBClient, NeverSent, NoAnswer, Timeouts
from scalelite.bbb.xml import Answer

GOOD = b"<response><returncode>SUCCESS</returncode></response>"
TIMEOUTS = Timeouts(connect=5, exchange=10)


@attrs.frozen
class Server:
    url: str = "http://bbb.example/bigbluebutton/api"
    secret: str = "hush"


@attrs.define(eq=False)
class Response:
    """A response whose body comes when a test says so."""

    code: int = 200
    length: Any = UNKNOWN_LENGTH
    receiver: Protocol | None = None
    transport: StringTransport = attrs.field(factory=StringTransport)

    def deliverBody(self, receiver: Protocol) -> None:
        self.receiver = receiver
        receiver.makeConnection(self.transport)

    def give(self, data: bytes) -> None:
        assert self.receiver is not None
        self.receiver.dataReceived(data)

    def end(self, reason: Exception | None = None) -> None:
        assert self.receiver is not None
        self.receiver.connectionLost(Failure(reason or ResponseDone()))


@attrs.define
class Sent:
    """One request that went out."""

    method: bytes
    url: bytes
    headers: Headers
    body: Any
    connect_timeout: float
    answer: defer.Deferred[Response]
    cancelled: bool = False


@attrs.define
class Net:
    """A client whose transport is played by the test, with a clock."""

    clock: task.Clock = attrs.field(factory=task.Clock)
    sent: list[Sent] = attrs.field(factory=list)
    limits: dict[str, Any] = attrs.field(factory=dict)

    def client(self, **limits: Any) -> BBBClient:
        options = {"timeouts": TIMEOUTS, "algorithm": "SHA256", "max_answer_size": 1000, "per_server": 2}

        def transports(connect_timeout: float) -> Any:
            def request(method: bytes, url: bytes, headers: Headers, body: Any) -> defer.Deferred[Response]:
                def cancel(_: defer.Deferred[Response]) -> None:
                    entry.cancelled = True

                entry = Sent(method, url, headers, body, connect_timeout, defer.Deferred(cancel))
                self.sent.append(entry)
                return entry.answer

            return request

        return BBBClient(self.clock, transports, **(options | limits))

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)


@pytest.fixture
def net() -> Iterator[Net]:
    """Also checks that no timer is left behind."""
    made = Net()
    yield made
    assert made.clock.getDelayedCalls() == []


def start(client: BBBClient, action: str = "create", **options: Any) -> list[Answer | BackendError]:
    """Begin a call; what it came to appears in the list."""
    outcome: list[Answer | BackendError] = []
    server = options.pop("server", Server())

    def failed(failure: Failure) -> None:
        failure.trap(BackendError)
        assert isinstance(failure.value, BackendError)
        outcome.append(failure.value)

    call = client.call(server, action, {"meetingID": "m 1"}, **options)
    defer.Deferred.fromCoroutine(call).addCallbacks(outcome.append, failed)
    return outcome


def test_a_call_without_body_is_a_signed_get(net: Net) -> None:
    outcome = start(net.client())
    (sent,) = net.sent
    assert sent.method == b"GET"
    assert sent.url.startswith(b"http://bbb.example/bigbluebutton/api/create?meetingID=m+1&checksum=")
    assert sent.body is None
    assert not sent.headers.hasHeader(b"Content-Type")
    response = Response(code=502)
    sent.answer.callback(response)
    response.give(GOOD[:20])
    response.give(GOOD[20:])
    assert outcome == []
    response.end()
    assert isinstance(outcome[0], Answer)
    assert outcome[0].success
    assert outcome[0].raw == GOOD


def test_a_call_with_body_is_a_post_of_bare_xml(net: Net) -> None:
    outcome = start(net.client(), body=b"<modules/>")
    (sent,) = net.sent
    assert sent.method == b"POST"
    assert sent.headers.getRawHeaders(b"Content-Type") == [b"application/xml"]
    assert sent.body.length == 10
    sent.answer.errback(error.ConnectionRefusedError())
    assert isinstance(outcome[0], NeverSent)


@pytest.mark.parametrize(
    ("exchange", "connect", "shorter"),
    [(10, 5, (1.0, 1.0)), (2, 5, (0.2, 0.5)), (0.3, 5, (0.2, 0.3)), (0.1, 5, (0.1, 0.1)), (60, 1, (6.0, 6.0))],
)
def test_servers_known_to_be_offline_get_shorter_times(
    net: Net, exchange: float, connect: float, shorter: tuple[float, float]
) -> None:
    timeouts = Timeouts(connect, exchange)
    assert timeouts.hurried() == Timeouts(*shorter)
    client = net.client(timeouts=timeouts)
    for hurried, limits in ((False, (connect, exchange)), (True, shorter)):
        outcome = start(client, hurried=hurried)
        assert net.sent[-1].connect_timeout == limits[0]
        net.pass_time(limits[1] - 0.01)
        assert outcome == []
        net.pass_time(0.02)
        assert net.sent[-1].cancelled
        assert len(outcome) == 1


def test_one_deadline_covers_headers_and_the_whole_body(net: Net) -> None:
    outcome = start(net.client())
    net.pass_time(6)
    response = Response()
    net.sent[0].answer.callback(response)
    for _ in range(3):
        net.pass_time(1)
        response.give(b" ")
    assert outcome == []
    net.pass_time(1)
    assert isinstance(outcome[0], NoAnswer)
    assert response.transport.disconnecting
    response.give(GOOD)
    response.end()
    assert len(outcome) == 1


@pytest.mark.parametrize(("declared", "sizes"), [(1001, []), (UNKNOWN_LENGTH, [600, 401]), (10, [1001])])
def test_an_answer_beyond_the_limit_is_dropped(net: Net, declared: Any, sizes: list[int]) -> None:
    outcome = start(net.client())
    response = Response(length=declared)
    net.sent[0].answer.callback(response)
    for size in sizes:
        response.give(b"x" * size)
    assert isinstance(outcome[0], BadAnswer)
    assert "too large" in str(outcome[0])
    assert response.transport.disconnecting
    response.give(b"x" * 5000)
    response.end(ResponseFailed([Failure(error.ConnectionDone())]))
    assert len(outcome) == 1


def test_an_answer_of_just_the_limit_is_taken(net: Net) -> None:
    outcome = start(net.client(max_answer_size=len(GOOD)))
    response = Response(length=len(GOOD))
    net.sent[0].answer.callback(response)
    response.give(GOOD)
    response.end()
    assert isinstance(outcome[0], Answer)


def test_a_body_that_ends_with_the_connection_is_whole_if_it_is_xml(net: Net) -> None:
    client = net.client()
    for body, kind in ((GOOD, Answer), (GOOD[:-5], BadAnswer)):
        outcome = start(client)
        response = Response()
        net.sent[-1].answer.callback(response)
        response.give(body)
        response.end(PotentialDataLoss())
        assert isinstance(outcome[0], kind)


LOST = ResponseNeverReceived([Failure(error.ConnectionLost())])
CANCELLED = ResponseNeverReceived([Failure(defer.CancelledError())])
CERTIFICATE = ResponseNeverReceived([Failure(SSL.Error([("SSL routines", "", "certificate verify failed")]))])
CUT_TLS = ResponseNeverReceived([Failure(SSL.Error([("SSL routines", "", "unexpected eof while reading")]))])


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (error.ConnectionRefusedError(), NeverSent),
        (error.TimeoutError(), NeverSent),
        (error.NoRouteError(), NeverSent),
        (error.DNSLookupError(), NeverSent),
        (error.ConnectingCancelledError(None), NeverSent),
        (CERTIFICATE, NeverSent),
        (ValueError("bad URL with checksum=abc"), NeverSent),
        (ResponseFailed([Failure(error.ConnectionLost())]), NoAnswer),
        (RuntimeError("anything"), NoAnswer),
    ],
)
def test_errors_tell_whether_the_server_may_have_acted(net: Net, fault: Exception, kind: type[BackendError]) -> None:
    outcome = start(net.client())
    net.sent[0].answer.errback(fault)
    assert type(outcome[0]) is kind
    assert "checksum=" not in str(outcome[0])
    assert "hush" not in str(outcome[0])
    assert len(net.sent) == 1


@pytest.mark.parametrize("fault", [LOST, CUT_TLS])
def test_a_get_whose_connection_broke_is_repeated_once(net: Net, fault: Exception) -> None:
    client = net.client()
    outcome = start(client)
    net.sent[0].answer.errback(fault)
    assert outcome == []
    assert net.sent[1].url == net.sent[0].url
    response = Response()
    net.sent[1].answer.callback(response)
    response.give(GOOD)
    response.end()
    assert isinstance(outcome[0], Answer)
    outcome = start(client)
    net.sent[2].answer.errback(fault)
    net.sent[3].answer.errback(fault)
    assert isinstance(outcome[0], NoAnswer)
    assert len(net.sent) == 4


def test_a_refused_repetition_does_not_prove_that_nothing_was_sent(net: Net) -> None:
    outcome = start(net.client())
    net.sent[0].answer.errback(LOST)
    net.sent[1].answer.errback(error.ConnectionRefusedError())
    assert isinstance(outcome[0], NoAnswer)


@pytest.mark.parametrize("options", [{"body": b"<modules/>"}, {"repeatable": False}])
def test_what_must_not_happen_twice_is_not_repeated(net: Net, options: dict[str, Any]) -> None:
    outcome = start(net.client(), **options)
    net.sent[0].answer.errback(LOST)
    assert isinstance(outcome[0], NoAnswer)
    assert len(net.sent) == 1


def test_the_deadline_covers_the_repetition_as_well(net: Net) -> None:
    outcome = start(net.client())
    net.pass_time(9)
    net.sent[0].answer.errback(LOST)
    net.pass_time(2)
    assert net.sent[1].cancelled
    assert isinstance(outcome[0], NoAnswer)


def test_a_call_that_its_caller_gives_up_is_not_repeated(net: Net) -> None:
    call = defer.Deferred.fromCoroutine(net.client().call(Server(), "end", {}))
    (sent,) = net.sent
    sent.answer._canceller = lambda _: sent.answer.errback(CANCELLED)
    call.cancel()
    failure = failure_of(call)
    assert failure.check(NoAnswer)
    assert len(net.sent) == 1


def failure_of(call: defer.Deferred[Answer]) -> Failure:
    """What a call has failed with."""
    failures: list[Failure] = []
    call.addErrback(failures.append)
    return failures[0]


def test_an_answer_that_is_cut_off_by_the_deadline_is_not_asked_for_again(net: Net) -> None:
    client = net.client()

    def cancelled(_: defer.Deferred[Response]) -> None:
        sent.answer.errback(CANCELLED)

    outcome = start(client)
    (sent,) = net.sent
    sent.answer._canceller = cancelled
    net.pass_time(11)
    assert isinstance(outcome[0], NoAnswer)
    assert len(net.sent) == 1


def test_only_so_many_exchanges_with_one_server_at_once(net: Net) -> None:
    client = net.client(per_server=2)
    outcomes = [start(client) for _ in range(4)]
    assert len(net.sent) == 2
    elsewhere = start(client, server=Server(url="http://other.example/api"))
    assert len(net.sent) == 3
    net.sent[2].answer.errback(error.ConnectionRefusedError())
    assert isinstance(elsewhere[0], NeverSent)
    net.sent[0].answer.errback(error.ConnectionRefusedError())
    assert len(net.sent) == 4
    net.pass_time(11)
    # Whoever waited in line in vain has surely sent nothing.
    assert [type(outcome[0]) for outcome in outcomes] == [NeverSent] * 4
    assert len(net.sent) in (4, 5)
    assert client.in_flight == 0
    again = start(client)
    net.sent[-1].answer.errback(error.ConnectionRefusedError())
    assert len(again) == 1


def test_the_index_is_signed_over_the_secret_alone(net: Net) -> None:
    outcome: list[Any] = []
    defer.Deferred.fromCoroutine(net.client().index(Server())).addBoth(outcome.append)
    assert net.sent[0].url.startswith(b"http://bbb.example/bigbluebutton/api/?checksum=")
    response = Response()
    net.sent[0].answer.callback(response)
    response.give(b"<response><returncode>SUCCESS</returncode><bbbVersion>3.0</bbbVersion></response>")
    response.end()
    assert outcome[0].text("bbbVersion") == "3.0"
