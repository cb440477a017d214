"""sync, yaml and addAll: files in, files out, and what becomes of the pool."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted

from scalelite.cluster.records import ServerState
from scalelite.simulator import Fault
from tests.admin.desk import Desk, Result, hold_meetings, meetings_on, running_on, state_of
from tests.balancer import Balancer

URL = "https://bbb7.example.net/bigbluebutton/api"


def named(*server_ids: str) -> str:
    return "servers:\n" + "".join(f"  {server_id}:\n    secret: x\n" for server_id in server_ids)


# The file


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", "Invalid YAML document"),
        ("", "Invalid YAML document"),
        ("text", "Invalid YAML document"),
        ("servers:\n", "Servers parameter not a hash"),
        ("servers: [a]", "Servers parameter not a hash"),
        ("servers:\n  a b:\n    secret: x\n", "Server id=a b contains invalid characters"),
        ("servers:\n  a:\n", "Server id=a has no secret"),
        ("servers:\n  a:\n    secret: ' '\n", "Server id=a has no secret"),
        ("servers:\n  a:\n    secret: x\n    foo: 1\n", 'Server id=a has bad parameters: ["foo"]'),
        ("servers:\n  a:\n    secret: x\n    load_multiplier: 0\n", "Server id=a has invalid load_multiplier=0"),
        ("servers:\n  a:\n    secret: x\n    load_multiplier: .nan\n", "Server id=a has invalid load_multiplier=.nan"),
        ("servers:\n  a:\n    secret: x\n    url: ftp://a\n", "Server id=a has invalid url=ftp://a"),
        (
            f"servers:\n  a:\n    secret: s\n    tag: {'g' * 1001}\n",
            "Server id=a has a tag of more than 1000 characters",
        ),
        ("servers:\n  a: &x\n    secret: s\n  b: *x\n", "Invalid YAML document: aliases are not allowed"),
        (
            "servers:\n  ok:\n    secret: x\n  a:\n    secret: x\n    zoo: 1\n",
            'Server id=a has bad parameters: ["zoo"]',
        ),
        ("a: " + "[" * 100 + "]" * 100, "Invalid YAML document: nested too deeply"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_faulty_file_changes_nothing(balancer: Balancer, desk: Desk, text: str, message: str) -> None:
    result = await desk.run("servers:sync", "-", answers=(text,))
    assert result == Result(1, "", f"ERROR: {message}\n")
    assert await balancer.parts.servers.all() == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["servers:sync"], "Missing 'path' parameter"),
        (["servers:sync[/nowhere/x.yml]"], "No such file or directory @ rb_sysopen - /nowhere/x.yml"),
        (["servers:sync[-,all]"], "Unknown sync mode 'all' (choose: keep cordon force)"),
        (["servers:sync[/]"], "Is a directory - /"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_faulty_arguments(desk: Desk, words: list[str], message: str) -> None:
    assert await desk.run(*words) == Result(1, "", f"ERROR: {message}\n")


@pytest_twisted.ensureDeferred
async def test_syntax_errors_are_one_line(desk: Desk) -> None:
    result = await desk.run("servers:sync", "-", answers=("servers: {",))
    assert (result.status, result.err.count("\n")) == (1, 1)


@pytest_twisted.ensureDeferred
async def test_from_afar_no_file_can_be_named(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "x.yml"
    path.write_text(named("a"))
    desk.own_process = False
    result = await desk.run("servers:sync", str(path))
    assert result.status == 1
    assert "standard input" in result.err


@pytest_twisted.ensureDeferred
async def test_text_stays_as_it_is_written(balancer: Balancer, desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "x.yml"
    path.write_text("servers:\n  007:\n    secret: 0123\n    tag: 2026-01-01\n    enabled: 'false'\n")
    assert (await desk.run(f"servers:sync[{path}]")).status == 0
    (server,) = await balancer.parts.servers.all()
    assert (server.id, server.secret, server.tag, server.url) == (
        "007",
        "0123",
        "2026-01-01",
        "https://007/bigbluebutton/api",
    )
    assert server.state is ServerState.ENABLED


# The first pass


@pytest_twisted.ensureDeferred
async def test_servers_are_created_updated_and_switched(balancer: Balancer, desk: Desk) -> None:
    servers = balancer.parts.servers
    await servers.add("old", URL, "s", 1.0, "gold")
    await servers.add("on", "https://on/bigbluebutton/api", "x")
    await servers.set_state("on", ServerState.ENABLED)
    await servers.add("off", "https://off/bigbluebutton/api", "x")
    text = (
        f"servers:\n  new:\n    secret: x\n  idle:\n    secret: x\n    enabled: no\n"
        f"  old:\n    url: {URL}/\n    secret: t\n    load_multiplier: 2\n    tag: ''\n"
        "  on:\n    secret: x\n    enabled: off\n  off:\n    secret: x\n    enabled: false\n"
    )
    expected = (
        "[new] Server created\n[new] Server enabled\n[idle] Server created\n"
        f"[old] Server updated: url={URL}/\n[old] Server updated: secret=*****\n"
        "[old] Server updated: load_multiplier=2.0\n[old] Server updated: tag=\n[old] Server enabled\n"
        "[on] Server disabled (cordoned)\n"
    )
    dry = await desk.run("servers:sync[-,,true]", answers=(text,))
    assert dry == Result(0, expected.replace("[new] Server enabled\n", ""), "")
    assert {server.id for server in await servers.all()} == {"old", "on", "off"}
    assert await desk.run("servers:sync[-]", answers=(text,)) == Result(0, expected, "")
    assert {s.id: s.state.value for s in await servers.all()} == {
        "new": "enabled", "idle": "disabled", "old": "enabled", "on": "cordoned", "off": "disabled",
    }  # fmt: skip
    assert await balancer.redis("HGET", balancer.key("server:idle"), "state") is None
    assert await desk.run("servers:sync[-]", answers=(text,)) == Result(0, "", "")


@pytest_twisted.ensureDeferred
async def test_a_server_that_was_cordoned_by_hand_is_enabled_again(balancer: Balancer, desk: Desk) -> None:
    await balancer.parts.servers.add("a", "https://a/bigbluebutton/api", "x")
    await balancer.parts.servers.set_state("a", ServerState.CORDONED)
    assert await desk.run("servers:sync[-]", answers=(named("a"),)) == Result(0, "[a] Server enabled\n", "")


# The second pass


@pytest.mark.parametrize(
    ("mode", "out", "state"),
    [
        ("keep", "[s1] Server not removed\n", "enabled"),
        ("cordon", "[s1] Server not empty. Cordoned for removal\n", "cordoned"),
        (
            "force",
            "[s1] Server not empty. Cordoned for removal\n[s1] Server not empty. Ending meetings now...\n"
            "[s1] Try to end meeting id=m1\n[s1] Server removed\n",
            None,
        ),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_server_with_meetings_that_is_not_named(
    balancer: Balancer, desk: Desk, mode: str, out: str, state: str | None
) -> None:
    await hold_meetings(balancer, "m1")
    text = "servers: {}"
    assert await desk.run(f"servers:sync[-,{mode},1]", answers=(text,)) == Result(0, out, "")
    assert (await state_of(balancer, "s1"), await meetings_on(balancer, "s1")) == ("enabled", ["m1"])
    assert await desk.run(f"servers:sync[-,{mode}]", answers=(text,)) == Result(0, out, "")
    assert await state_of(balancer, "s1") == state
    assert running_on(balancer, "m1") == ([] if mode == "force" else ["s1"])
    assert await meetings_on(balancer, "s1") == ([] if mode == "force" else ["m1"])


@pytest_twisted.ensureDeferred
async def test_an_empty_server_that_is_not_named_is_removed(balancer: Balancer, desk: Desk) -> None:
    await balancer.add_server("s1")
    assert await desk.run("servers:sync[-]", answers=("servers: {}",)) == Result(0, "[s1] Server removed\n", "")
    assert await balancer.parts.servers.all() == []


@pytest_twisted.ensureDeferred
async def test_force_in_the_plain_spelling_wants_to_be_agreed_to(balancer: Balancer, desk: Desk) -> None:
    await hold_meetings(balancer, "m1")
    result = await desk.run("servers:sync", "-", "force", answers=("servers: {}",))
    assert result.status == 2
    assert await meetings_on(balancer, "s1") == ["m1"]
    assert (await desk.run("servers:sync", "-", "force", "--force", answers=("servers: {}",))).status == 0
    assert await balancer.parts.servers.all() == []


@pytest_twisted.ensureDeferred
async def test_meetings_that_cannot_be_ended_are_told(balancer: Balancer, desk: Desk) -> None:
    await hold_meetings(balancer, "m1")
    balancer.nodes["s1"].faults.set("end", Fault.HANG_BEFORE_HEADERS)
    desk.deadline = 0.2
    result = await desk.run("servers:sync[-,force]", answers=("servers: {}",))
    assert result.err == "[s1] Failed to end meeting id=m1: no answer before the command's time was up\n"
    assert result.out.endswith("[s1] Server removed\n")


# yaml and addAll


@pytest_twisted.ensureDeferred
async def test_yaml_is_scalelites(balancer: Balancer, desk: Desk) -> None:
    await balancer.parts.servers.add("bbb7.example.net", URL, "s3", 2.0)
    await balancer.parts.servers.set_state("bbb7.example.net", ServerState.ENABLED)
    await balancer.redis("HSET", balancer.key("server:bbb7.example.net"), "online", "true")
    brief = (
        "---\nservers:\n  bbb7.example.net:\n"
        f"    url: {URL}\n    secret: s3\n    load_multiplier: 2.0\n    tag: ''\n    enabled: true\n"
    )
    more = "    state: enabled\n    load: -1.0\n    bbb_version: ''\n    online: true\n"
    assert await desk.run("servers:yaml") == Result(0, brief, "")
    assert await desk.run("servers:yaml[verbose]") == Result(0, brief + more, "")
    assert await desk.run("servers:yaml[false]") == Result(0, brief, "")


@pytest.mark.parametrize("secret", ["0123", "yes", "a: b", "~", "1e3", "2026-01-01", "'\"", "ä☃", "*x", "x\ny", "null"])
@pytest_twisted.ensureDeferred
async def test_what_yaml_prints_sync_reads_without_a_difference(balancer: Balancer, desk: Desk, secret: str) -> None:
    await balancer.parts.servers.add("007", URL, secret, 1.0, secret)
    await balancer.parts.servers.set_state("007", ServerState.ENABLED)
    text = (await desk.run("servers:yaml", "true")).out
    assert await desk.run("servers:sync[-,force]", answers=(text,)) == Result(0, "", "")


@pytest_twisted.ensureDeferred
async def test_add_all_adds_a_list(balancer: Balancer, desk: Desk) -> None:
    text = f"servers:\n- url: {URL}\n  secret: a\n  tag: ignored\n- url: http://b/api\n  secret: 0b\n"
    result = await desk.run("servers:addAll[-]", answers=(text,))
    assert result == Result(0, f"server: {URL}\nid: new-1\nserver: http://b/api\nid: new-2\n", "")
    assert [(s.url, s.secret) for s in await balancer.parts.servers.all()] == [(URL, "a"), ("http://b/api", "0b")]


@pytest.mark.parametrize(
    "text", ["servers: {}", "servers:\n- url: x\n  secret: y\n", "servers:\n- url: http://b/api\n"]
)
@pytest_twisted.ensureDeferred
async def test_add_all_fails_with_status_1(balancer: Balancer, desk: Desk, text: str) -> None:
    result = await desk.run("servers:addAll[-]", answers=(text,))
    assert (result.status, result.err.count("\n")) == (1, 1)
    assert await balancer.parts.servers.all() == []
