"""Looking at a server without calling it: its clock and its certificate."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import TimeoutError as Late
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory, Protocol

from scalelite.bbb.probe import Probe, probe
from scalelite.simulator import Fault, Simulator

reactor: Any = _reactor


class Says(Protocol):
    answer = b""

    def dataReceived(self, data: bytes) -> None:
        if self.answer:
            self.transport.write(self.answer)


async def ask(answer: bytes, seconds: float = 5.0) -> Probe:
    port = reactor.listenTCP(0, Factory.forProtocol(type("It", (Says,), {"answer": answer})), interface="127.0.0.1")
    try:
        return await probe(reactor, f"http://127.0.0.1:{port.getHost().port}/bigbluebutton/api", seconds)
    finally:
        await port.stopListening()


@pytest.mark.parametrize(
    ("answer", "date"),
    [
        (b"HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n", 784111777.0),
        (b"HTTP/1.1 404 No\r\ndate:Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\nbody", 784111777.0),
        (b"HTTP/1.1 200 OK\r\nDate: soon\r\n\r\n", None),
        (b"HTTP/1.1 200 OK\r\nDate: \xff\r\n\r\n", None),
        (b"HTTP/1.1 200 OK\r\n\r\n", None),
        (b"x" * 70_000, None),
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_clock_is_read_from_any_answer(answer: bytes, date: float | None) -> None:
    assert await ask(answer) == Probe(date=date)


@pytest_twisted.ensureDeferred
async def test_a_server_that_says_nothing_is_given_up() -> None:
    with pytest.raises(Late):
        await ask(b"", seconds=0.1)


@pytest_twisted.ensureDeferred
async def test_nobody_there_is_an_error() -> None:
    port = reactor.listenTCP(0, Factory(), interface="127.0.0.1")
    number = port.getHost().port
    await port.stopListening()
    with pytest.raises(ConnectError):
        await probe(reactor, f"http://127.0.0.1:{number}/", 5)
    with pytest.raises(ValueError, match="URL"):
        await probe(reactor, "ftp://x/", 5)


@pytest.mark.parametrize("expired", [False, True])
@pytest_twisted.ensureDeferred
async def test_the_end_of_a_certificate_is_read_though_nobody_vouches_for_it(expired: bool) -> None:
    simulator = Simulator(reactor, seed=1)
    node = await simulator.add_node(secret="x", tls=True)
    if expired:
        node.faults.set("*", Fault.TLS_EXPIRED)
    try:
        found = await probe(reactor, node.url, 5)
    finally:
        await simulator.stop()
    assert found.expires is not None
    assert (found.expires < reactor.seconds()) == expired
