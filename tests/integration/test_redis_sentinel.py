"""Redis Sentinel: finding the master, following it, and not taking a replica for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import pytest_twisted
from twisted.internet import reactor

from scalelite.settings.redis import parse_redis_url
from scalelite.store.connection import Redis, Script, StoreError, StoreUnavailable, connect
from tests.integration.redis_certificates import HERE, Authority, tls_options
from tests.integration.redis_server import RedisSentinel, RedisServer, eventually, free_port

pytestmark = pytest.mark.integration

PASSWORD = ["requirepass s3cret", "masterauth s3cret"]


@attrs.frozen
class House:
    """A master, its replica and a Sentinel that watches both."""

    master: RedisServer
    replica: RedisServer
    sentinel: RedisSentinel


@pytest.fixture
def house() -> Iterator[House]:
    with (
        RedisServer(PASSWORD) as master,
        RedisServer([*PASSWORD, f"replicaof 127.0.0.1 {master.port}"]) as replica,
        RedisSentinel(master, ["sentinel auth-pass mymaster s3cret", "requirepass w4tch"]) as sentinel,
    ):
        yield House(master, replica, sentinel)


def open_redis(*sentinels: int, timeout: float = 2.0, password: str | None = "w4tch", name: str = "mymaster") -> Redis:
    places = ",".join(f"127.0.0.1:{port}" for port in sentinels)
    settings = parse_redis_url(f"redis+sentinel://:s3cret@{places}/{name}/2")
    settings = attrs.evolve(settings, sentinel_password=password)
    return connect(reactor, settings, timeout=timeout, data_dir=Path("/nonexistent"))


async def _replicated(house: House) -> bool | None:
    seen = house.sentinel.command("SENTINEL", "REPLICAS", "mymaster", password="w4tch")
    linked = "master_link_status:up" in house.replica.command("INFO", "replication", password="s3cret")
    return True if linked and "\nok" in seen.replace("master-link-status\nok", "\nok") else None


async def _replica_has(house: House, key: str, value: str) -> bool | None:
    return True if house.replica.command("-n", "2", "GET", key, password="s3cret") == value else None


@pytest_twisted.ensureDeferred
async def test_failover_is_followed_and_the_old_master_is_not_written_to(house: House) -> None:
    # The first Sentinel is dead: the next one is asked.
    redis = open_redis(free_port(), house.sentinel.port)
    incr = Script.of("incr", "return redis.call('INCR', KEYS[1])")
    assert await redis.run(incr, ["n"]) == 1
    await eventually(lambda: _replicated(house))
    await eventually(lambda: _replica_has(house, "n", "1"))
    house.master.kill()
    assert await eventually(lambda: redis.run(incr, ["n"]), StoreError) == 2
    assert house.replica.command("-n", "2", "GET", "n", password="s3cret") == "2"
    house.master.start()
    assert await redis.run(incr, ["n"]) == 3
    await redis.close()


@pytest_twisted.ensureDeferred
async def test_planned_failover_is_followed(house: House) -> None:
    redis = open_redis(house.sentinel.port)
    await redis.call("SET", "k", "v")
    await eventually(lambda: _replicated(house))
    house.sentinel.command("SENTINEL", "FAILOVER", "mymaster", password="w4tch")

    async def port_of_master() -> bool | None:
        await redis.call("SET", "k", "w")
        return True if await redis.call("CONFIG", "GET", "port") == ["port", str(house.replica.port)] else None

    await eventually(port_of_master, StoreError)
    assert await redis.call("GET", "k") == "w"
    await redis.close()


@pytest_twisted.ensureDeferred
async def test_wrong_sentinel_password_is_an_error_within_the_deadline(house: House) -> None:
    for password in (None, "wr0ng"):
        redis = open_redis(house.sentinel.port, timeout=0.5, password=password)
        with pytest.raises(StoreUnavailable):
            await redis.call("PING")
        with pytest.raises(StoreUnavailable, match=r"no Sentinel names a master: .*(NOAUTH|WRONGPASS)") as refused:
            await redis.call("PING")
        assert "wr0ng" not in str(refused.value)
        await redis.close()


@pytest_twisted.ensureDeferred
async def test_unknown_master_is_an_error_that_names_it(house: House) -> None:
    redis = open_redis(house.sentinel.port, timeout=0.5, name="nobody")
    with pytest.raises(StoreUnavailable):
        await redis.call("PING")
    with pytest.raises(StoreUnavailable, match="knows no master named nobody"):
        await redis.call("PING")
    await redis.close()


@pytest_twisted.ensureDeferred
async def test_hanging_sentinel_does_not_hide_the_others(house: House) -> None:
    with RedisSentinel(house.master, ["sentinel auth-pass mymaster s3cret", "requirepass w4tch"]) as hanging:
        hanging.pause()
        redis = open_redis(hanging.port, house.sentinel.port, timeout=4.0)
        assert await redis.call("PING") == "PONG"
        await redis.close()
        hanging.resume()


@pytest_twisted.ensureDeferred
async def test_sentinel_and_master_behind_tls_are_both_verified(tmp_path: Path) -> None:
    ours, other = Authority.make(tmp_path, "ours"), Authority.make(tmp_path, "other")
    tls = [*tls_options(ours, tmp_path, *HERE), "tls-replication yes"]
    with RedisServer(tls, tls=True) as master, RedisSentinel(master, tls, tls=True) as sentinel:
        settings = parse_redis_url(f"rediss+sentinel://localhost:{sentinel.port}/mymaster/0")
        good = attrs.evolve(settings, ca_file=str(ours.file))
        redis = connect(reactor, good, timeout=5.0, data_dir=tmp_path)
        assert await redis.call("PING") == "PONG"
        await redis.close()
        bad = attrs.evolve(settings, ca_file=str(other.file))
        redis = connect(reactor, bad, timeout=0.5, data_dir=tmp_path)
        with pytest.raises(StoreUnavailable):
            await redis.call("PING")
        with pytest.raises(StoreUnavailable, match="certificate verify failed"):
            await redis.call("PING")
        await redis.close()
