"""Servers administered by the command line on a real redis-server, and what it leaves there, key by key."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.command_line import Shell, dump, record_meeting, spelled
from tests.integration.redis_server import RedisServer, free_port

pytestmark = pytest.mark.integration

URL = "https://bbb7.example.net/bigbluebutton/api"
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def shell(tmp_path: Path, redis: RedisServer) -> Shell:
    return Shell(tmp_path, REDIS_URL=redis.url)


@pytest.mark.parametrize("spelling", ["plain", "rake"])
def test_the_life_of_a_server_key_by_key(shell: Shell, redis: RedisServer, spelling: str) -> None:
    added = re.fullmatch(rf"OK\nid: ({UUID})\n", shell.ok(*spelled(spelling, "servers:add", URL, "0f3c", "2", "gold")))
    assert added
    sid = added[1]
    fields = {"url": URL, "secret": "0f3c", "online": "false", "load_multiplier": "2.0", "tag": "gold"}
    assert dump(redis) == {"scalelite:servers": [sid], f"scalelite:server:{sid}": fields}

    assert shell.ok(*spelled(spelling, "servers:enable", sid)) == f"Enabling server {sid}...\nOK\n"
    assert dump(redis) == {
        "scalelite:servers": [sid],
        f"scalelite:server:{sid}": fields | {"state": "enabled"},
        "scalelite:server_enabled": [sid],
    }

    redis.command("ZADD", "scalelite:server_load", "21", sid)
    redis.command("HSET", f"scalelite:{sid}", "healthy_counter", "0", "unhealthy_counter", "0")
    assert shell.ok(*spelled(spelling, "servers:cordon", sid)) == f"Cordoning server {sid}...\nOK\n"
    assert dump(redis) == {
        "scalelite:servers": [sid],
        f"scalelite:server:{sid}": fields | {"state": "cordoned"},
        "scalelite:cordoned_server_load": [sid, "21"],
        f"scalelite:{sid}": {"healthy_counter": "0", "unhealthy_counter": "0"},
    }

    assert shell.ok(*spelled(spelling, "servers:enable", sid)) == f"Enabling server {sid}...\nOK\n"
    state = dump(redis)
    assert state["scalelite:server_load"] == [sid, "21"]
    assert state["scalelite:server_enabled"] == [sid]
    assert "scalelite:cordoned_server_load" not in state

    assert shell.ok(*spelled(spelling, "servers:disable", sid), "--yes") == f"Disabling server {sid}...\nOK\n"
    state = dump(redis)
    assert state[f"scalelite:server:{sid}"] == fields | {"state": "disabled"}
    assert not {"scalelite:server_load", "scalelite:cordoned_server_load", "scalelite:server_enabled"} & set(state)

    assert shell.ok(*spelled(spelling, "servers:remove", sid)) == f"Removing server {sid}...\nOK\n"
    assert dump(redis) == {}


def test_listings_of_what_scalelite_has_written(shell: Shell, redis: RedisServer) -> None:
    redis.command("SADD", "scalelite:servers", "old")
    redis.command("HSET", "scalelite:server:old", "url", URL, "secret", "0f3c", "online", "true", "meetings", "2")
    redis.command("SADD", "scalelite:server_enabled", "old")
    redis.command("ZADD", "scalelite:server_load", "104.5", "old")
    lines = [
        "id: old",
        f"\turl: {URL}",
        "\tsecret: *****",
        "\tenabled",
        "\tload: 104.5",
        "\tload multiplier: 1.0",
        "\tbbb version: ",
        "\ttag: ",
        "\tonline",
    ]
    assert shell.ok("servers").splitlines() == lines
    lines[2] = "\tsecret: 0f3c"
    assert shell.ok("servers", "--show-secrets").splitlines() == lines
    assert shell.ok("rake", "servers").splitlines() == lines
    assert json.loads(shell.ok("servers", "--json"))[0]["load"] == 104.5
    assert shell.ok("status") == (
        "\n"
        "     HOSTNAME       STATE   STATUS  MEETINGS  USERS  LARGEST MEETING  VIDEOS   LOAD  BBB VERSION  TAG \n"
        " bbb7.example.net  enabled  online  2                                         104.5                   \n"
    )


def test_a_secret_on_standard_input_is_in_no_argument(shell: Shell, redis: RedisServer) -> None:
    sid = shell.ok("servers:add", URL, "-", stdin="0f3c\n").split()[-1]
    assert redis.command("HGET", f"scalelite:server:{sid}", "secret") == "0f3c"


def test_a_secret_typed_at_the_terminal_is_not_shown(shell: Shell, redis: RedisServer) -> None:
    status, seen = shell.on_terminal("servers:add", URL, "-", type_in="0f3c\n", after="Secret: ")
    assert status == 0
    assert "0f3c" not in seen
    assert redis.command("HGET", f"scalelite:server:{seen.split()[-1]}", "secret") == "0f3c"


@pytest.mark.parametrize(
    ("typed", "status", "last", "left"),
    [
        ("yes\n", 0, "OK", False),
        ("YES\n", 0, "OK", False),
        ("no\n", 1, "Aborted", True),
        ("\n", 1, "Aborted", True),
        (b"\x04", 1, "Aborted", True),
        (b"\x03", 1, "Aborted", True),
    ],
)
@pytest.mark.parametrize("name", ["servers:disable", "servers:panic"])
def test_questions_are_asked_on_a_terminal(
    shell: Shell, redis: RedisServer, name: str, typed: str | bytes, status: int, last: str, left: bool
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}/bigbluebutton/api"
    shell.environ["SERVER_ID_IS_HOSTNAME"] = "true"
    shell.ok("servers:add", nowhere, "0f3c")
    shell.ok("servers:enable", "127.0.0.1")
    record_meeting(redis, "m1", "127.0.0.1", "123456789")
    before = dump(redis)
    result, seen = shell.on_terminal(name, "127.0.0.1", type_in=typed, after="please enter `yes`\n".strip())
    assert (result, seen.splitlines()[-1]) == (status, last)
    if left:
        assert dump(redis) == before
    else:
        state = dump(redis)
        assert state["scalelite:server:127.0.0.1"]["state"] == "disabled"
        assert not {"scalelite:meeting:m1", "scalelite:meetings", "scalelite:voice_bridges"} & set(state)
        assert "WARNING: Could not end meeting id=m1: " in seen


@pytest.mark.parametrize("name", ["servers:disable", "servers:panic", "servers:remove"])
@pytest.mark.parametrize("spelling", ["plain", "rake"])
def test_without_a_terminal_nothing_happens_unless_it_was_agreed_to(
    shell: Shell, redis: RedisServer, spelling: str, name: str
) -> None:
    sid = shell.ok("servers:add", URL, "0f3c").split()[-1]
    record_meeting(redis, "m1", sid, "123456789")
    before = dump(redis)
    done = shell.run(*spelled(spelling, name, sid))
    assert done.returncode == (1 if name == "servers:remove" else 2)
    assert done.stderr.startswith("ERROR: ")
    assert done.stderr.count("\n") == 1
    assert "OK" not in done.stdout
    assert dump(redis) == before


def test_a_forced_removal_takes_the_meetings_records_along(shell: Shell, redis: RedisServer) -> None:
    sid = shell.ok("servers:add", URL, "0f3c").split()[-1]
    record_meeting(redis, "m1", sid, "123456789")
    done = shell.run("servers:remove", sid, "--force")
    assert (done.returncode, done.stdout) == (0, f"Removing server {sid}...\nOK\n")
    assert dump(redis) == {}
