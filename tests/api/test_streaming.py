"""Answers that are sent piece by piece: framing, back-pressure, clients that go away or take nothing more."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import attrs
import pytest
from twisted.internet import defer, task
from twisted.internet.address import IPv4Address
from twisted.logger import LogEvent
from twisted.web.resource import Resource

from scalelite.api.access_log import AccessLog
from scalelite.api.replies import StreamedReply
from scalelite.api.site import BalancerSite, Channel, Request
from scalelite.store.errors import StoreUnavailable
from tests.api.test_site import Client, Sink, Transport


@attrs.define
class Source:
    """Chunks that a test hands out, and how far they were asked for."""

    wanted: list[defer.Deferred[bytes | None]] = attrs.field(factory=list)
    asked: int = 0
    closed: bool = False

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                self.asked += 1
                wanted: defer.Deferred[bytes | None] = defer.Deferred()
                self.wanted.append(wanted)
                chunk = await wanted
                if chunk is None:
                    return
                yield chunk
        finally:
            self.closed = True

    def give(self, chunk: bytes | None) -> None:
        self.wanted.pop(0).callback(chunk)

    def fail(self, error: Exception) -> None:
        self.wanted.pop(0).errback(error)


class Stage:
    """A site with one streaming route, a client, and what the route sends."""

    def __init__(self, *, length: int | None = None) -> None:
        self.clock = task.Clock()
        self.source = Source()
        self.log = Sink()
        self.requests: list[Request] = []

        async def handler(request: Request) -> StreamedReply:
            self.requests.append(request)
            return StreamedReply(self.source.chunks(), headers=((b"X-Kind", b"stream"),), length=length)

        table = {b"/s": {b"GET": handler, b"HEAD": handler}}
        self.site = BalancerSite(
            Resource(), table, AccessLog(self.log), self.clock,
            max_body_size=10_000, max_connections=10, request_timeout=30, idle_timeout=60,
        )  # fmt: skip
        self.site.startFactory()
        channel = self.site.buildProtocol(IPv4Address("TCP", "10.0.0.1", 1))
        assert isinstance(channel, Channel)
        self.transport = Transport(peerAddress=IPv4Address("TCP", "10.0.0.1", 1))
        channel.makeConnection(self.transport)
        self.client = Client(channel, self.transport)

    def ask(self, method: str = "GET", version: str = "1.1") -> None:
        self.client.send(f"{method} /s HTTP/{version}\r\nHost: x\r\n\r\n".encode())

    def take(self) -> bytes:
        value: bytes = self.transport.value()
        self.transport.clear()
        return value

    def pause(self) -> None:
        """The client reads no more: the transport's buffer is full."""
        self.client.channel.pauseProducing()

    def resume(self) -> None:
        self.client.channel.resumeProducing()


def test_chunks_are_framed_and_the_connection_is_kept() -> None:
    stage = Stage()
    stage.ask()
    head = stage.take()
    assert b"Transfer-Encoding: chunked\r\n" in head
    assert b"Content-Length" not in head
    assert b"X-Kind: stream\r\n" in head
    assert b"Connection: close" not in head

    stage.source.give(b"one")
    assert stage.take() == b"3\r\none\r\n"
    # An empty chunk would be the end.
    stage.source.give(b"")
    assert stage.take() == b""
    stage.source.give(b"x" * 300)
    assert stage.take() == b"12c\r\n" + b"x" * 300 + b"\r\n"
    assert stage.site.active == 1
    stage.source.give(None)
    assert stage.take() == b"0\r\n\r\n"

    assert (stage.source.closed, stage.site.active, stage.transport.open) == (True, 0, True)
    assert b'"bytes":303' in stage.log.lines[0]
    stage.ask()
    assert b"200 OK" in stage.take()


def test_http_1_0_is_told_the_end_by_closing() -> None:
    stage = Stage()
    stage.ask(version="1.0")
    head = stage.take()
    assert b"Transfer-Encoding" not in head
    assert b"Connection: close\r\n" in head
    stage.source.give(b"one")
    stage.source.give(None)

    assert stage.take() == b"one"
    assert not stage.transport.open


def test_known_length_is_told_and_sent_as_it_is() -> None:
    stage = Stage(length=3)
    stage.ask()
    assert b"Content-Length: 3\r\n" in stage.take()
    stage.source.give(b"one")
    stage.source.give(None)

    assert stage.take() == b"one"
    assert stage.transport.open


def test_head_gets_the_headers_and_asks_for_nothing() -> None:
    stage = Stage()
    stage.ask("HEAD")

    head = stage.take()
    assert head.endswith(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked\r\n" in head
    assert (stage.source.asked, stage.site.active, stage.transport.open) == (0, 0, True)


def test_nothing_is_asked_for_while_the_client_takes_nothing() -> None:
    stage = Stage()
    stage.ask()
    stage.source.give(b"one")
    assert stage.source.asked == 2
    stage.pause()
    # One that was under way is sent, and no other is asked for.
    stage.source.give(b"two")
    assert stage.source.asked == 2
    stage.clock.advance(29)
    stage.resume()
    assert stage.source.asked == 3
    stage.source.give(None)

    assert stage.take().endswith(b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")


def test_client_that_takes_nothing_for_too_long_is_cut_off() -> None:
    stage = Stage()
    stage.ask()
    stage.pause()
    stage.source.give(b"one")
    stage.clock.advance(29)
    assert not stage.transport.aborted
    stage.clock.advance(2)

    assert (stage.transport.aborted, stage.source.closed, stage.site.active) == (True, True, 0)
    stage.client.gone()


@pytest.mark.parametrize("paused", [False, True])
def test_client_that_goes_away_ends_the_work(paused: bool) -> None:
    stage = Stage()
    stage.ask()
    stage.source.give(b"one")
    if paused:
        stage.pause()
        stage.source.give(b"two")
    stage.client.channel.stopProducing()
    stage.client.gone()
    if not paused:
        # What was asked for already comes, and goes nowhere.
        stage.source.give(b"two")

    assert (stage.source.asked, stage.source.closed, stage.site.active) == (2, True, 0)


def test_failure_on_the_way_breaks_the_connection(unhandled_errors: list[LogEvent]) -> None:
    stage = Stage()
    stage.ask()
    stage.source.give(b"one")
    stage.source.fail(StoreUnavailable("the database is gone"))

    assert not stage.take().endswith(b"0\r\n\r\n")
    assert (stage.transport.aborted, stage.source.closed, stage.site.active) == (True, True, 0)
    assert stage.requests[0].note == "broken off"
    stage.client.gone()
    assert unhandled_errors == []


def test_drain_waits_for_the_last_chunk() -> None:
    stage = Stage()
    stage.ask()
    stage.source.give(b"one")
    drained: Any = defer.Deferred.fromCoroutine(stage.site.drain(10))
    outcome: list[bool] = []
    drained.addCallback(outcome.append)
    assert outcome == []
    stage.source.give(None)

    assert stage.take().endswith(b"0\r\n\r\n")
    stage.client.gone()
    assert outcome == [True]
