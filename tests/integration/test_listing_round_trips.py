"""What a listing asks of Redis, as Redis sees it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.command_line import Shell
from tests.integration.redis_server import RedisServer

pytestmark = pytest.mark.integration

FILL = (
    "for i = 1, tonumber(ARGV[1]) do local id = 'b' .. i "
    "redis.call('HSET', 'scalelite:server:' .. id, 'url', 'https://' .. id .. '.example.com/api', 'secret', 's', "
    "'state', 'enabled', 'online', 'true') redis.call('ZADD', 'scalelite:server_load', i, id) "
    "redis.call('SADD', 'scalelite:servers', id) end "
    "for i = 1, tonumber(ARGV[2]) do redis.call('SADD', 'scalelite:meetings', i) "
    "redis.call('HSET', 'scalelite:meeting:' .. i, 'server_id', 'b' .. (i % tonumber(ARGV[1]) + 1)) end"
)
#: The end of what is observed.
MARK = "that-is-all"


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def shell(tmp_path: Path, redis: RedisServer) -> Shell:
    return Shell(tmp_path, REDIS_URL=redis.url)


def sent_during(redis: RedisServer, work: Callable[[], object]) -> list[str]:
    """The names of the commands that clients send while `work` is done; not of those that scripts call."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(20)
        link.connect(redis.unix_path)
        lines = link.makefile("rb")
        link.sendall(b"MONITOR\r\n")
        assert lines.readline() == b"+OK\r\n"
        work()
        redis.command("ECHO", MARK)
        names = []
        for line in lines:
            if MARK.encode() in line:
                return names
            origin, _, command = line.decode().partition("] ")
            if not origin.endswith(" lua"):
                names.append(command.split()[0].strip('"'))
    raise AssertionError("Redis ended before the mark came")


@pytest.mark.parametrize("words", [("status",), ("status", "--json"), ("servers",), ("servers", "--json")])
def test_a_listing_sends_one_command_however_many_servers_and_meetings_there_are(
    shell: Shell, redis: RedisServer, words: tuple[str, ...]
) -> None:
    def show(servers: int) -> None:
        assert shell.ok(*words).count(".example.com") == servers

    redis.command("EVAL", FILL, "0", "50", "0")
    # The script is known to Redis from then on.
    shell.ok(*words)
    few = sent_during(redis, lambda: show(50))
    redis.command("EVAL", FILL, "0", "500", "10000")
    many = sent_during(redis, lambda: show(500))
    assert few == many == ["PING", "EVALSHA"]
