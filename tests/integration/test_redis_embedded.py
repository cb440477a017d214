"""The embedded redis-server, run by a real reactor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor

from scalelite.settings.redis import RedisSettings, parse_redis_url
from scalelite.store import connection
from scalelite.store.connection import Redis, StoreUnavailable, connect
from scalelite.store.embedded import EmbeddedServer
from tests.integration.redis_server import eventually
from tests.integration.requirements import require

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def server_binary() -> None:
    require("redis-server")


def open_redis(folder: Path, timeout: float = 5.0, db: int = 0) -> Redis:
    return connect(reactor, RedisSettings(db=db), timeout=timeout, data_dir=folder)


def server_of(redis: Redis) -> EmbeddedServer:
    server = redis.companion
    assert isinstance(server, EmbeddedServer)
    return server


def alive(pid: int) -> bool:
    """Whether this process runs; one that waits for its parent's look does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def _dead(pid: int) -> bool | None:
    return None if alive(pid) else True


@pytest_twisted.ensureDeferred
async def test_data_survive_a_restart_in_a_folder_with_a_very_long_name(tmp_path: Path) -> None:
    folder = tmp_path / ("f" * 200)
    redis = open_redis(folder, db=3)
    assert redis.embedded == "server"
    await redis.call("SET", "k", "007")
    assert await redis.call("CONFIG", "GET", "port") == ["port", "0"]
    pid = server_of(redis).pid
    assert pid is not None
    await redis.close()
    assert not alive(pid)
    again = open_redis(folder, db=3)
    assert await again.call("GET", "k") == "007"
    await again.close()


@pytest_twisted.ensureDeferred
async def test_socket_is_for_its_owner_only(tmp_path: Path) -> None:
    redis = open_redis(tmp_path)
    await redis.call("PING")
    assert (tmp_path / "redis").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "redis" / "redis.sock").stat().st_mode & 0o777 == 0o700
    await redis.close()


@pytest_twisted.ensureDeferred
async def test_ctrl_c_on_our_terminal_does_not_reach_the_server(tmp_path: Path) -> None:
    redis = open_redis(tmp_path)
    await redis.call("SET", "k", "v")
    pid = server_of(redis).pid
    assert pid is not None
    assert os.getsid(pid) == os.getpgid(pid) == pid
    await redis.close()
    assert not alive(pid)


@pytest_twisted.ensureDeferred
async def test_server_that_was_killed_is_started_again_with_its_data(tmp_path: Path) -> None:
    redis = open_redis(tmp_path)
    await redis.call("CONFIG", "SET", "appendfsync", "always")
    await redis.call("SET", "k", "v")
    pid = server_of(redis).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert await eventually(lambda: redis.call("GET", "k"), StoreUnavailable) == "v"
    assert server_of(redis).pid != pid
    await redis.close()


@pytest_twisted.ensureDeferred
async def test_second_process_shares_the_server(tmp_path: Path) -> None:
    first, second = open_redis(tmp_path), open_redis(tmp_path)
    await first.call("SET", "k", "v")
    assert await second.call("GET", "k") == "v"
    assert server_of(second).pid is None
    client = connect(reactor, parse_redis_url(server_of(first).url), timeout=5.0, data_dir=tmp_path)
    assert client.embedded is None
    assert await client.call("GET", "k") == "v"
    await client.close()
    await first.close()
    assert await eventually(lambda: second.call("GET", "k"), StoreUnavailable) == "v"
    assert server_of(second).pid is not None
    await second.close()


OWNER = """
import sys
from pathlib import Path
from twisted.internet import reactor
from scalelite.settings.redis import RedisSettings, parse_redis_url
from scalelite.store.connection import connect
from twisted.internet.defer import Deferred

async def main():
    redis = connect(reactor, RedisSettings(), timeout=5.0, data_dir=Path(sys.argv[1]))
    await redis.call("SET", "k", "v")
    print(redis.companion.pid, flush=True)

Deferred.fromCoroutine(main())
reactor.run()
"""


@pytest_twisted.ensureDeferred
async def test_server_ends_with_its_owner_even_if_that_is_killed_and_the_next_owner_finds_the_data(
    tmp_path: Path,
) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    assert alive(pid)
    assert "s3cret" not in Path(f"/proc/{pid}/cmdline").read_text()
    owner.kill()
    owner.wait()
    owner.stdout.close()
    # At once, while the orphan may still be writing.
    redis = open_redis(tmp_path)
    assert await eventually(lambda: redis.call("GET", "k"), StoreUnavailable) == "v"
    await eventually(lambda: _dead(pid))
    assert server_of(redis).owner
    await redis.close()


@pytest_twisted.ensureDeferred
async def test_stale_socket_is_no_obstacle(tmp_path: Path) -> None:
    home = tmp_path / "redis"
    home.mkdir()
    (home / "redis.sock").write_text("left behind")
    redis = open_redis(tmp_path)
    assert await redis.call("PING") == "PONG"
    await redis.close()


@pytest_twisted.ensureDeferred
async def test_folder_that_cannot_be_used_fails_the_calls(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    redis = open_redis(tmp_path / "file")
    with pytest.raises(connection.StoreError, match="Not a directory"):
        await redis.call("PING")
    await redis.close()


@pytest_twisted.ensureDeferred
async def test_without_a_server_binary_the_store_is_in_memory_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    redis = open_redis(tmp_path)
    assert redis.embedded == "memory"
    assert await redis.call("SET", "k", "007") == "OK"
    assert await redis.call("GET", "k") == "007"
    assert list(tmp_path.iterdir()) == []
    await redis.close()
