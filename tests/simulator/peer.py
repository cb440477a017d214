"""A peer that speaks to simulated nodes over real sockets and sees every byte, and a receiver of callbacks."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Callable
from urllib.parse import quote, urlsplit

import attrs
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater

from scalelite.simulator import Node, Simulator
from scalelite.simulator.checksums import digest


@attrs.define
class Answer:
    """What came back: `status`, `headers` (lower-case names, last one wins) and `body`."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def xml(self) -> ET.Element:
        return ET.fromstring(self.body)

    def text(self, path: str) -> str | None:
        return self.xml.findtext(path)

    @property
    def key(self) -> str | None:
        """messageKey, or the key in an errors list."""
        return self.text("messageKey") or self.text("errors/error/key")

    @property
    def ok(self) -> bool:
        return self.text("returncode") == "SUCCESS"


class Peer(Protocol):
    """Collects what it is sent, and how the connection ended (`lost`)."""

    def __init__(self) -> None:
        self.data = b""
        self.lost: str | None = None
        self._waiting: list[tuple[Callable[[Peer], bool], Deferred[None]]] = []

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        self._check()

    def connectionLost(self, reason: object) -> None:
        self.lost = type(reason.value).__name__
        self._check()

    def _check(self) -> None:
        for entry in list(self._waiting):
            if entry[0](self) or self.lost:
                self._waiting.remove(entry)
                entry[1].callback(None)

    async def until(self, condition: Callable[[Peer], bool]) -> None:
        """Wait until something is true of the data, or the connection is gone."""
        if not condition(self) and not self.lost:
            done: Deferred[None] = Deferred()
            self._waiting.append((condition, done))
            await done.addTimeout(10, reactor)

    def send(self, request: bytes) -> None:
        self.transport.write(request)

    async def answer(self) -> Answer:
        """The next whole answer with a Content-Length."""

        def complete(peer: Peer) -> bool:
            head, separator, body = peer.data.partition(b"\r\n\r\n")
            return bool(separator) and len(body) >= int(parse(head)[1].get("content-length", 0))

        await self.until(complete)
        head, _, rest = self.data.partition(b"\r\n\r\n")
        status, headers = parse(head)
        length = int(headers.get("content-length", len(rest)))
        self.data = rest[length:]
        return Answer(status, headers, rest[:length])


def parse(head: bytes) -> tuple[int, dict[str, str]]:
    lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
    return int(lines[0].split(" ")[1]), {name.lower(): value for name, value in headers.items()}


async def connect(port: int) -> Peer:
    return await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), Peer())


async def refused(port: int) -> bool:
    """Whether nothing listens on the port."""
    try:
        peer = await connect(port)
    except ConnectError:
        return True
    peer.transport.loseConnection()
    await peer.until(lambda peer: False)
    return False


def query(params: dict[str, str]) -> str:
    return "&".join(f"{quote(name)}={quote(value, safe='')}" for name, value in params.items())


def target(node: Node, name: str, params: dict[str, str], algorithm: str = "sha1") -> str:
    """Path and signed query of a call."""
    raw = query(params)
    checksum = digest(name, raw.encode(), node.secret, algorithm)
    return f"/bigbluebutton/api/{name}?{raw}{'&' if raw else ''}checksum={checksum}"


def request(method: str, path: str, body: bytes = b"", content_type: str = "", **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if content_type:
        lines.append(f"Content-Type: {content_type}")
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


async def fetch(
    node: Node, method: str, path: str, body: bytes = b"", content_type: str = "", **headers: str
) -> Answer:
    """One request on a connection of its own."""
    peer = await connect(node.port)
    peer.send(request(method, path, body, content_type, **headers))
    answer = await peer.answer()
    peer.transport.abortConnection()
    await peer.until(lambda peer: False)
    return answer


async def call(node: Node, name: str, /, **params: str) -> Answer:
    """A signed GET."""
    return await fetch(node, "GET", target(node, name, params))


async def started(node: Node, name: str, /, **params: str) -> Peer:
    """A signed GET whose answer is left to the test."""
    peer = await connect(node.port)
    peer.send(request("GET", target(node, name, params)))
    return peer


async def turns(count: int = 5) -> None:
    """Let the reactor go round; nothing is waited for by time."""
    for _ in range(count):
        await deferLater(reactor, 0)


async def until(condition: Callable[[], object]) -> None:
    """Let the reactor go round until something is true; the test's own time-out is the limit."""
    while not condition():
        await deferLater(reactor, 0.001)


class Receiver(Protocol):
    """An HTTP server that notes requests and answers with the next of `answers` (a status, or "hang")."""

    def __init__(self, seen: list[Seen], answers: list[int | str]) -> None:
        self.seen, self.answers, self.data = seen, answers, b""

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        head, separator, body = self.data.partition(b"\r\n\r\n")
        if not separator:
            return
        _, headers = parse(b"X 0 X" + head[head.index(b"\r\n") :])
        if len(body) < int(headers.get("content-length", 0)):
            return
        method, path, _ = head.split(b"\r\n")[0].decode().split(" ")
        self.seen.append(Seen(method, path, headers, body))
        answer = self.answers.pop(0) if self.answers else 200
        if answer != "hang":
            self.transport.write(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % answer)
            self.transport.loseConnection()


@attrs.define
class Seen:
    """A callback as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def name(self) -> str:
        return urlsplit(self.path).path


@attrs.define
class FrontEnd:
    """Receives callbacks: `url`, what it has `seen`, and the `answers` it will give before it says 200."""

    url: str
    seen: list[Seen] = attrs.field(factory=list)
    answers: list[int | str] = attrs.field(factory=list)


@attrs.define
class World:
    """A simulator under a clock the test moves, with one node."""

    sim: Simulator
    clock: Clock
    node: Node

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)


@pytest_twisted.async_yield_fixture()
async def world() -> AsyncIterator[World]:
    clock = Clock()
    sim = Simulator(reactor, seed=7, clock=clock)
    yield World(sim, clock, await sim.add_node(secret="s3", profile="3.0"))
    await sim.stop()
    assert not clock.getDelayedCalls()


@pytest_twisted.async_yield_fixture()
async def front_end() -> AsyncIterator[FrontEnd]:
    seen: list[Seen] = []
    answers: list[int | str] = []
    open_now: set[Receiver] = set()

    class Listening(Factory):
        noisy = False

        def buildProtocol(self, addr: object) -> Receiver:
            receiver = Receiver(seen, answers)
            open_now.add(receiver)
            return receiver

    port = reactor.listenTCP(0, Listening(), interface="127.0.0.1")
    yield FrontEnd(f"http://127.0.0.1:{port.getHost().port}", seen, answers)
    for receiver in open_now:
        if receiver.transport is not None:
            receiver.transport.abortConnection()
    await port.stopListening()
    await turns(2)
