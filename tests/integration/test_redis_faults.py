"""What happens to calls while a real Redis stops, restarts, hangs, or was never there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol

from scalelite.settings.redis import parse_redis_url
from scalelite.store.connection import Redis, Script, StoreError, StoreUnavailable, connect
from tests.integration.redis_server import RedisServer, eventually, free_port

pytestmark = pytest.mark.integration


def open_redis(server: RedisServer | None, url: str | None = None, timeout: float = 5.0) -> Redis:
    settings = parse_redis_url(url) if url else server.settings()
    return connect(reactor, settings, timeout=timeout, data_dir=Path("/nonexistent"))


@pytest.mark.parametrize("how", ["stop", "kill"])
@pytest_twisted.ensureDeferred
async def test_calls_fail_while_redis_is_stopped_and_work_again_after_its_restart(how: str) -> None:
    with RedisServer(["appendonly yes", "appendfsync always"]) as server:
        redis = open_redis(server, server.url, timeout=0.5)
        script = Script.of("get", "return redis.call('GET', KEYS[1])")
        await redis.call("SET", "k", "v")
        await redis.run(script, ["k"])
        getattr(server, how)()
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await redis.call("GET", "k")
        assert not redis.connected
        server.start()
        assert await eventually(lambda: redis.run(script, ["k"]), StoreUnavailable) == "v"
        assert redis.pending == 0
        await redis.close()


@pytest_twisted.ensureDeferred
async def test_calls_queued_over_a_short_restart_are_answered() -> None:
    with RedisServer() as server:
        redis = open_redis(server, timeout=10.0)
        await redis.call("PING")
        server.stop()
        # The first may still have been written to the dying connection.
        await eventually(lambda: _gone(redis))
        calls = gatherResults([redis.call("INCR", "n") for _ in range(100)])
        server.start()
        assert await calls == list(range(1, 101))
        await redis.close()


async def _gone(redis: Redis) -> bool | None:
    return None if redis.connected else True


@pytest_twisted.ensureDeferred
async def test_calls_under_way_when_redis_is_killed_fail_at_once_and_are_not_repeated() -> None:
    with RedisServer(["appendonly yes", "appendfsync always"]) as server:
        redis = open_redis(server, timeout=30.0)
        await redis.call("SET", "n", 0)
        server.pause()
        calls = DeferredList([redis.call("INCR", "n") for _ in range(10)], consumeErrors=True)
        server.kill()
        for success, failure in await calls:
            assert not success
            assert failure.check(StoreUnavailable)
        server.start()
        assert await eventually(lambda: redis.call("GET", "n"), StoreUnavailable) == "0"
        await redis.close()


@pytest_twisted.ensureDeferred
async def test_redis_that_hangs_for_a_while_costs_the_overdue_calls_only() -> None:
    with RedisServer() as server:
        redis = open_redis(server, server.url, timeout=0.4)
        await redis.call("PING")
        server.pause()
        with pytest.raises(StoreUnavailable, match=r"within 0\.4 s"):
            await redis.call("INCR", "n")
        with pytest.raises(StoreUnavailable):
            await redis.call("GET", "other")
        server.resume()
        await eventually(lambda: redis.call("PING"), StoreUnavailable)
        assert await redis.call("SET", "k", "v") == "OK"
        # Sent before the deadline, and carried out when Redis woke: once.
        assert await redis.call("GET", "n") == "1"
        await redis.close()


class Blackhole(Protocol):
    """Accepts, and never says a word, unless it is told to behave as a proxy to nothing would."""

    def connectionMade(self) -> None:
        self.factory.held.append(self)


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
@pytest_twisted.ensureDeferred
async def test_server_that_accepts_and_never_answers_is_given_up_again_and_again(scheme: str) -> None:
    factory: Any = Factory.forProtocol(Blackhole)
    factory.held = []
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    redis = open_redis(None, f"{scheme}://127.0.0.1:{port.getHost().port}", timeout=0.2)
    for _ in range(4):
        with pytest.raises(StoreUnavailable):
            await redis.call("GET", "k")
    assert await eventually(lambda: _count(factory.held, 3)) >= 3
    await redis.close()
    await port.stopListening()
    for held in factory.held:
        held.transport.abortConnection()


async def _count(held: list[Protocol], least: int) -> int | None:
    return len(held) if len(held) >= least else None


@pytest_twisted.ensureDeferred
async def test_connection_that_goes_dead_under_way_is_replaced() -> None:
    """A relay that stops relaying, as a firewall that has forgotten the connection would."""
    with RedisServer() as server:
        factory: Any = Factory.forProtocol(Relay)
        factory.target, factory.made = server, []
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
        redis = open_redis(server, f"redis://127.0.0.1:{port.getHost().port}", timeout=0.3)
        assert await redis.call("SET", "k", "v") == "OK"
        factory.made[0].dead = True
        with pytest.raises(StoreUnavailable):
            await redis.call("GET", "k")
        assert await eventually(lambda: redis.call("GET", "k"), StoreUnavailable) == "v"
        assert len(factory.made) == 2
        await redis.close()
        await port.stopListening()
        for relay in factory.made:
            await relay.end()


class Relay(Protocol):
    """Passes everything on to the server, until it is dead."""

    dead = False

    def connectionMade(self) -> None:
        self.factory.made.append(self)
        self.ended: Deferred[None] = Deferred()
        self.early = b""
        self.far: Any = None
        factory = Factory()
        factory.noisy = False
        factory.buildProtocol = lambda address: Far(self)
        from twisted.internet.endpoints import TCP4ClientEndpoint

        TCP4ClientEndpoint(reactor, "127.0.0.1", self.factory.target.port).connect(factory)

    def dataReceived(self, data: bytes) -> None:
        if self.far is None:
            self.early += data
        elif not self.dead:
            self.far.transport.write(data)

    def connectionLost(self, reason: Any = None) -> None:
        if self.far is not None:
            self.far.transport.abortConnection()

    def end(self) -> Deferred[None]:
        if self.far is None or not self.far.connected:
            self.ended.called or self.ended.callback(None)
        else:
            self.far.transport.abortConnection()
        return self.ended


class Far(Protocol):
    """The relay's connection to the server."""

    def __init__(self, near: Relay) -> None:
        self.near = near

    def connectionMade(self) -> None:
        self.near.far = self
        self.transport.write(self.near.early)

    def dataReceived(self, data: bytes) -> None:
        if not self.near.dead:
            self.near.transport.write(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.connected = 0
        if not self.near.ended.called:
            self.near.ended.callback(None)


@pytest_twisted.ensureDeferred
async def test_redis_that_was_never_there_is_used_once_it_comes() -> None:
    server = RedisServer()
    redis = open_redis(server, f"redis://127.0.0.1:{server.port}", timeout=0.2)
    for _ in range(3):
        with pytest.raises(StoreError):
            await redis.call("PING")
    with server:
        assert await eventually(lambda: redis.call("PING"), StoreUnavailable) == "PONG"
    await redis.close()


@pytest_twisted.ensureDeferred
async def test_host_name_that_does_not_resolve_is_an_error_within_the_deadline() -> None:
    redis = open_redis(None, f"redis://no-such-host.invalid:{free_port()}", timeout=0.5)
    with pytest.raises(StoreUnavailable):
        await redis.call("PING")
    await redis.close()


@pytest_twisted.ensureDeferred
async def test_thousands_of_calls_at_once_are_all_answered() -> None:
    with RedisServer() as server:
        redis = open_redis(server, timeout=30.0)
        assert await gatherResults([redis.call("INCR", "n") for _ in range(9_000)]) == list(range(1, 9_001))
        await redis.close()
