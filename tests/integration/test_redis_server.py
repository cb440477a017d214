"""The connection against a real redis-server: every way to reach it, and its error replies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from cryptography import x509
from twisted.internet import reactor
from twisted.internet.defer import gatherResults

from scalelite.settings.redis import RedisSettings, parse_redis_url
from scalelite.store.connection import Redis, Script, StoreError, StoreReplyError, StoreUnavailable, connect
from tests.integration.redis_certificates import HERE, Authority, tls_options
from tests.integration.redis_server import RedisServer, eventually

pytestmark = pytest.mark.integration


def open_redis(settings: RedisSettings, timeout: float = 5.0) -> Redis:
    return connect(reactor, settings, timeout=timeout, data_dir=Path("/nonexistent"))


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer(["user alice on >s3cret/@: ~* +@all"]) as server:
        yield server


@pytest_twisted.async_yield_fixture
async def redis(server: RedisServer) -> AsyncIterator[Redis]:
    redis = open_redis(server.settings())
    await redis.call("FLUSHALL")
    yield redis
    await redis.close()


@pytest_twisted.ensureDeferred
async def test_numbers_in_text_stay_text(redis: Redis) -> None:
    await redis.call("HSET", "meeting:007", "id", "007", "load", "1.50", "exp", "1e5", "plus", "+1")
    assert await redis.call("HGETALL", "meeting:007") == [
        *("id", "007"),
        *("load", "1.50"),
        *("exp", "1e5"),
        *("plus", "+1"),
    ]


@pytest_twisted.ensureDeferred
async def test_error_inside_a_list_reply_fails_the_call_and_keeps_the_connection(redis: Redis) -> None:
    client = await redis.call("CLIENT", "ID")
    nested = Script.of("nested", "return {1, redis.pcall('HGETALL', KEYS[1])}")
    await redis.call("SET", "k", "v")
    with pytest.raises(StoreReplyError) as refused:
        await redis.run(nested, ["k"])
    assert refused.value.code == "WRONGTYPE"
    assert await redis.call("CLIENT", "ID") == client


@pytest_twisted.ensureDeferred
async def test_calls_that_nobody_awaited_are_carried_out_in_order(redis: Redis) -> None:
    script = Script.of("push", "return redis.call('RPUSH', KEYS[1], ARGV[1])")
    calls: list[Any] = []
    for number in range(0, 300, 3):
        calls.append(redis.call("RPUSH", "l", number))
        calls.append(redis.run(script, ["l"], [number + 1]) if number else redis.call("RPUSH", "l", 1))
        calls.append(redis.many([["RPUSH", "l", number + 2]]))
        if not number:
            # Known from here on, so that no call is held up by loading it.
            await redis.run(Script.of("known", script.source), ["other"], [0])
    await gatherResults(calls)
    assert await redis.call("LRANGE", "l", 0, -1) == [str(number) for number in range(300)]


@pytest_twisted.ensureDeferred
async def test_bytes_that_are_no_text_come_back_as_bytes(redis: Redis) -> None:
    await redis.call("SET", "k", b"\xff\x00")
    assert await redis.call("GET", "k") == b"\xff\x00"
    assert await redis.call("MGET", "k", "none") == [b"\xff\x00", None]


@pytest_twisted.ensureDeferred
async def test_large_values_and_replies_pass(redis: Redis) -> None:
    value = "ä\r\n" * 500_000
    await redis.call("SET", "k", value)
    assert await redis.call("GET", "k") == value
    await redis.many([["RPUSH", "l", str(number)] for number in range(20_000)])
    assert len(await redis.call("LRANGE", "l", 0, -1)) == 20_000


@pytest_twisted.ensureDeferred
async def test_script_survives_that_redis_forgets_it(redis: Redis) -> None:
    script = Script.of("incr", "return redis.call('INCR', KEYS[1])")
    assert await redis.run(script, ["n"]) == 1
    await redis.call("SCRIPT", "FLUSH")
    counts = await gatherResults([redis.run(script, ["n"]) for _ in range(10)])
    assert sorted(counts) == list(range(2, 12))
    assert await redis.call("SCRIPT", "EXISTS", script.sha) == [1]


@pytest_twisted.ensureDeferred
async def test_foreign_type_under_a_key_is_an_error_with_its_code(redis: Redis) -> None:
    await redis.call("SET", "servers", "not a set")
    with pytest.raises(StoreReplyError, match="wrong kind of value") as refused:
        await redis.call("SMEMBERS", "servers")
    assert refused.value.code == "WRONGTYPE"
    with pytest.raises(StoreReplyError) as in_script:
        await redis.run(Script.of("read", "return redis.call('SMEMBERS', KEYS[1])"), ["servers"])
    assert in_script.value.code == "WRONGTYPE"
    assert await redis.call("GET", "servers") == "not a set"


@pytest.mark.parametrize("place", ["redis://127.0.0.1:{port}", "redis://localhost:{port}/0", "unix://{path}"])
@pytest_twisted.ensureDeferred
async def test_server_is_reached_by(server: RedisServer, place: str) -> None:
    redis = open_redis(parse_redis_url(place.format(port=server.port, path=server.unix_path)))
    assert await redis.call("PING") == "PONG"
    await redis.close()


@pytest_twisted.ensureDeferred
async def test_database_number_is_selected_on_every_connection(server: RedisServer, redis: Redis) -> None:
    third = open_redis(server.settings(f"{server.url}/3"))
    await third.call("SET", "only-in-3", "v")
    assert await redis.call("GET", "only-in-3") is None
    client = await third.call("CLIENT", "ID")
    await redis.call("CLIENT", "KILL", "ID", client)
    assert await eventually(lambda: third.call("GET", "only-in-3"), StoreUnavailable) == "v"
    assert await third.call("CLIENT", "ID") != client
    await third.close()


@pytest_twisted.ensureDeferred
async def test_database_that_does_not_exist_is_an_error_within_the_deadline(server: RedisServer) -> None:
    redis = open_redis(server.settings(f"{server.url}/99"), timeout=0.5)
    with pytest.raises(StoreUnavailable):
        await redis.call("PING")
    with pytest.raises(StoreUnavailable, match="out of range"):
        await redis.call("PING")
    await redis.close()


@pytest_twisted.ensureDeferred
async def test_acl_user_logs_in_with_a_password_of_any_characters(server: RedisServer) -> None:
    redis = open_redis(server.settings(f"redis://alice:s3cret%2F%40%3A@127.0.0.1:{server.port}"))
    assert await redis.call("ACL", "WHOAMI") == "alice"
    await redis.close()


@pytest_twisted.ensureDeferred
async def test_password_of_the_default_user_is_taken_with_and_without_a_user_name() -> None:
    with RedisServer(["requirepass s3cret"]) as locked:
        for login in (":s3cret", "scalelite:s3cret"):
            redis = open_redis(locked.settings(f"redis://{login}@127.0.0.1:{locked.port}"))
            assert await redis.call("ACL", "WHOAMI") == "default"
            await redis.close()


@pytest.mark.parametrize("login", ["", ":wr0ng@", "alice:wr0ng@"])
@pytest_twisted.ensureDeferred
async def test_wrong_or_missing_password_is_an_error_that_does_not_quote_it_and_heals(login: str) -> None:
    with RedisServer(["requirepass s3cret"]) as locked:
        redis = open_redis(locked.settings(f"redis://{login}127.0.0.1:{locked.port}"), timeout=0.3)
        for _ in range(2):
            with pytest.raises(StoreUnavailable) as refused:
                await redis.call("PING")
            assert "wr0ng" not in str(refused.value)
        new = "wr0ng" if login else ""
        locked.command("CONFIG", "SET", "requirepass", new, password="s3cret")
        assert await eventually(lambda: redis.call("PING"), StoreUnavailable) == "PONG"
        await redis.close()


@pytest_twisted.ensureDeferred
async def test_full_redis_refuses_writes_and_still_answers_reads() -> None:
    with RedisServer(["maxmemory 1mb", "maxmemory-policy noeviction"]) as full:
        redis = open_redis(full.settings())
        with pytest.raises(StoreReplyError) as refused:
            await redis.many([["SET", f"k{number}", "x" * 50_000] for number in range(200)])
        assert refused.value.code == "OOM"
        with pytest.raises(StoreReplyError) as in_script:
            await redis.run(Script.of("set", "return redis.call('SET', KEYS[1], ARGV[1])"), ["k"], ["v"])
        assert in_script.value.code == "OOM"
        assert await redis.call("GET", "none") is None
        full.command("CONFIG", "SET", "maxmemory", "100mb")
        assert await redis.call("SET", "k", "v") == "OK"
        await redis.close()


@pytest_twisted.ensureDeferred
async def test_replica_refuses_writes_until_it_is_promoted(server: RedisServer) -> None:
    with RedisServer([f"replicaof 127.0.0.1 {server.port}"]) as replica:
        redis = open_redis(replica.settings())
        first = await redis.call("CLIENT", "ID")
        with pytest.raises(StoreReplyError) as refused:
            await redis.call("SET", "k", "v")
        assert refused.value.code == "READONLY"
        assert await redis.call("CLIENT", "ID") != first
        with pytest.raises(StoreReplyError) as in_script:
            await redis.run(Script.of("set", "return redis.call('SET', KEYS[1], ARGV[1])"), ["k"], ["v"])
        assert in_script.value.code == "READONLY"
        replica.command("REPLICAOF", "NO", "ONE")
        assert await redis.call("SET", "k", "v") == "OK"
        await redis.close()


@pytest_twisted.ensureDeferred
async def test_unix_socket_with_a_path_too_long_for_the_kernel_is_reached(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    with RedisServer(["requirepass x"]) as server:
        (deep / "redis.sock").symlink_to(server.unix_path)
        redis = open_redis(parse_redis_url(f"unix://:x@{deep}/redis.sock"))
        assert await redis.call("PING") == "PONG"
        await redis.close()


@pytest_twisted.ensureDeferred
async def test_missing_folder_of_a_long_socket_path_is_an_error_within_the_deadline(tmp_path: Path) -> None:
    redis = open_redis(parse_redis_url(f"unix://{tmp_path}/{'d' * 120}/redis.sock"), timeout=0.3)
    with pytest.raises(StoreUnavailable):
        await redis.call("PING")
    await redis.close()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest_twisted.ensureDeferred
async def test_certificate_of_an_own_authority_is_accepted(tmp_path: Path, host: str) -> None:
    ours, other = Authority.make(tmp_path, "ours"), Authority.make(tmp_path, "other")
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(other.file.read_bytes() + ours.file.read_bytes())
    with RedisServer([*tls_options(ours, tmp_path, *HERE), "requirepass s3cret"], tls=True) as server:
        settings = server.settings(f"rediss://:s3cret@{host}:{server.port}/2")
        redis = open_redis(attrs.evolve(settings, ca_file=str(bundle)))
        assert await redis.call("SET", "k", "v") == "OK"
        await redis.close()


@pytest.mark.parametrize("case", ["unknown authority", "system's authorities", "other name"])
@pytest_twisted.ensureDeferred
async def test_certificate_that_does_not_verify_is_refused_before_the_password_is_sent(
    tmp_path: Path, case: str
) -> None:
    ours, other = Authority.make(tmp_path, "ours"), Authority.make(tmp_path, "other")
    names = [x509.DNSName("elsewhere.example.com")] if case == "other name" else HERE
    ca_file = {"unknown authority": str(other.file), "other name": str(ours.file)}.get(case)
    with RedisServer([*tls_options(ours, tmp_path, *names), "requirepass s3cret"], tls=True) as server:
        settings = server.settings(f"rediss://:s3cret@localhost:{server.port}")
        redis = open_redis(attrs.evolve(settings, ca_file=ca_file), timeout=0.5)
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await redis.call("PING")
        # The one AUTH is redis-cli's own.
        assert "cmdstat_auth:calls=1," in server.command("INFO", "commandstats", password="s3cret")
        await redis.close()


def test_unreadable_authorities_are_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for name in ("ca.pem", "missing.pem"):
        settings = attrs.evolve(parse_redis_url("rediss://localhost"), ca_file=str(tmp_path / name))
        with pytest.raises(StoreError, match=name):
            open_redis(settings)
