"""Scripts written for Scalelite's rake tasks, and the newer commands, as processes on a real redis-server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.command_line import PATIENCE, Shell, dump, record_meeting
from tests.integration.redis_server import RedisServer

pytestmark = pytest.mark.integration

URL = "https://bbb7.example.net/bigbluebutton/api"
RAKE = Path(__file__).parents[2] / "deploy" / "bin" / "rake"
FIELDS = {"url": URL, "secret": "s3", "online": "false", "load_multiplier": "2.0", "tag": "gold"}


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(params=["entry point", "of the image"])
def shell(request: pytest.FixtureRequest, tmp_path: Path, redis: RedisServer) -> Shell:
    """A shell in an application's folder, whose bin/rake is the program itself, or the script in front of it."""
    (tmp_path / "bin").mkdir()
    path = os.environ["PATH"]
    program = tmp_path / "bin" / "rake"
    if request.param == "of the image":
        (tmp_path / "path").mkdir()
        program = tmp_path / "path" / "scalelite"
        path = f"{program.parent}:{path}"
        shutil.copy(RAKE, tmp_path / "bin" / "rake")
    program.write_text(f"#!{sys.executable}\nimport sys\nfrom scalelite.admin.cli import main\nsys.exit(main())\n")
    program.chmod(0o755)
    return Shell(tmp_path, REDIS_URL=redis.url, SERVER_ID_IS_HOSTNAME="true", PATH=path)


SCRIPT = """\
set -e
./bin/rake 'servers:add[https://bbb7.example.net/bigbluebutton/api,s3,2.0,gold]' | sed -n 's/^id: //p' > id
id=$(cat id)
./bin/rake "servers:enable[$id]" > /dev/null
./bin/rake servers | grep -A8 "^id: $id" | sed -n '4p'
./bin/rake servers:yaml > servers.yml
./bin/rake "servers:update[$id,,1.5]"
./bin/rake "servers:tag[$id]"
./bin/rake "servers:loadMultiplier[$id,3]"
./bin/rake 'servers:sync[servers.yml]'
cat servers.yml | ./bin/rake servers:sync[-,keep]
echo yes | ./bin/rake meetings:end
./bin/rake liveness
"""


def test_a_script_for_rake_runs_unchanged(shell: Shell, redis: RedisServer, tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", SCRIPT], check=False, cwd=tmp_path, env=shell.environ, capture_output=True, text=True
    )
    assert done.stderr == "No meetings to clear\n"
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "\tenabled",
        "Updating server bbb7.example.net...",
        "OK",
        "OK",
        "OK",
        "[bbb7.example.net] Server updated: load_multiplier=2.0",
        "[bbb7.example.net] Server updated: tag=gold",
        "WARNING: You are trying to clear active meetings.",
        "If you still wish to continue please enter `yes`",
        "OK",
        "success",
    ]
    assert dump(redis) == {
        "scalelite:servers": ["bbb7.example.net"],
        "scalelite:server_enabled": ["bbb7.example.net"],
        "scalelite:server:bbb7.example.net": FIELDS | {"state": "enabled"},
    }


def test_every_change_is_in_the_audit_log_and_no_secret(shell: Shell, redis: RedisServer) -> None:
    shell.ok("servers:add", URL, "a-secret-word")
    shell.ok("servers:update", "bbb7.example.net", "-", "-", "gold")
    shell.ok("servers")
    rows = json.loads(shell.ok("audit", "--json"))
    assert [(row["command"], row["result"], row["origin"]) for row in rows] == [
        ("servers:add", "ok", "command line"),
        ("servers:update", "ok", "command line"),
    ]
    assert "a-secret-word" not in redis.command("HGETALL", "scalelite:balancer:audit")


def test_a_list_that_is_cut_off_in_a_character_changes_nothing(
    shell: Shell, redis: RedisServer, tmp_path: Path
) -> None:
    shell.ok("servers:add", URL, "s")
    done = subprocess.run(
        [*shell.command, "servers:sync", "-", "force", "--force"],
        check=False, cwd=tmp_path, env=shell.environ, input=b"servers: {}\n# \xc3", capture_output=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, b"ERROR: The input is not UTF-8\n")
    assert redis.command("SMEMBERS", "scalelite:servers") == "bbb7.example.net"


def test_orphans_that_scalelite_left_are_mended(shell: Shell, redis: RedisServer) -> None:
    record_meeting(redis, "m1", "gone", "12345")
    redis.command("SADD", "scalelite:meetings", "expired")
    done = shell.run("doctor")
    assert done.returncode == 1
    assert "meeting m1 is on server gone, which does not exist; --fix forgets the meeting\n" in done.stdout
    shell.run("doctor", "--fix")
    assert dump(redis) == {}


def test_poll_stands_by_and_ends_on_a_signal(shell: Shell, redis: RedisServer, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*shell.command, "rake", "poll[1]"],
        cwd=tmp_path,
        env=shell.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    until = time.monotonic() + PATIENCE
    while redis.command("EXISTS", "scalelite:balancer:lease:poller") != "1" and time.monotonic() < until:
        os.sched_yield()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (0, b"")
    assert err.decode().splitlines() == ["Running poller with interval 1.0", "Exiting poller on signal: SIGTERM"]
    assert redis.command("EXISTS", "scalelite:balancer:lease:poller") == "0"


def test_watch_ends_with_ctrl_c(shell: Shell) -> None:
    shell.ok("servers:add", URL, "s")
    status, seen = shell.on_terminal("watch", type_in="\x03", after="bbb7.example.net")
    assert status == 130
    assert "0 of 1 servers online, 0 meetings, 0 users" in seen
    assert "\x1b[H" in seen


@pytest.mark.parametrize("words", [("status",), ("servers", "--json")])
def test_listings_take_as_many_round_trips_for_many_servers_as_for_few(
    shell: Shell, redis: RedisServer, words: tuple[str, ...]
) -> None:
    fill = (
        "for i = 1, tonumber(ARGV[1]) do local id = 'b' .. i "
        "redis.call('HSET', 'scalelite:server:' .. id, 'url', 'https://' .. id .. '/api', 'secret', 's') "
        "redis.call('SADD', 'scalelite:servers', id) end "
        "for i = 1, tonumber(ARGV[2]) do redis.call('SADD', 'scalelite:meetings', i) "
        "redis.call('HSET', 'scalelite:meeting:' .. i, 'server_id', 'b1') end"
    )

    def round_trips() -> int:
        redis.command("CONFIG", "RESETSTAT")
        shell.ok(*words)
        stats = redis.command("INFO", "commandstats")
        return sum(
            int(line.partition("calls=")[2].split(",")[0]) for line in stats.splitlines() if "cmdstat_eval" in line
        )

    redis.command("EVAL", fill, "0", "5", "10")
    shell.ok(*words)
    few = round_trips()
    redis.command("EVAL", fill, "0", "500", "10000")
    assert round_trips() == few == 1
