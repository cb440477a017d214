"""The demonstration: what it sets, what it prints, and which servers it touches."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_twisted

from scalelite.bbb.checksum import verify
from scalelite.demo import (
    SERVER_IDS,
    Demo,
    NotInProduction,
    address,
    administration,
    command_line,
    demo_environ,
    leaflet,
    port_taken,
)
from scalelite.settings import Settings, load_settings
from scalelite.settings.redis import RedisSettings
from tests.balancer import Balancer, reactor


def environ(taken: bool = False, **given: str) -> dict[str, str]:
    return demo_environ(given, taken=lambda port: taken)


def test_what_nobody_has_set_is_made_up() -> None:
    made = environ()
    assert re.fullmatch("[0-9a-f]{48}", made["LOADBALANCER_SECRET"])
    assert made["LOADBALANCER_SECRET"] != environ()["LOADBALANCER_SECRET"]
    assert made["BIND"] == "tcp://127.0.0.1:3000"
    assert load_settings(made).poll_interval == 10


def test_what_was_set_stays() -> None:
    given = {
        "LOADBALANCER_SECRET": "mine",
        "BIND": "unix:///run/x.sock",
        "POLL_INTERVAL": "3",
        "REDIS_URL": "redis://host",
        "SCALELITE_SSH_PORT": "22",
    }
    assert environ(**given) == given


def test_a_list_of_secrets_is_enough() -> None:
    assert "LOADBALANCER_SECRET" not in environ(LOADBALANCER_SECRETS="a:b")


@pytest.mark.parametrize(
    ("given", "taken", "bind"),
    [
        ({}, False, "tcp://127.0.0.1:3000"),
        ({}, True, "tcp://127.0.0.1:0"),
        ({"PORT": "4000"}, False, "tcp://127.0.0.1:4000"),
        ({"PORT": "4000"}, True, "tcp://127.0.0.1:4000"),
        ({"PORT": "  "}, False, "tcp://127.0.0.1:3000"),
        ({"BIND": "tcp://0.0.0.0:5000", "PORT": "4000"}, True, "tcp://0.0.0.0:5000"),
    ],
)
def test_it_listens_on_loopback_unless_told_otherwise(given: dict[str, str], taken: bool, bind: str) -> None:
    assert environ(taken, **given)["BIND"] == bind


@pytest.mark.parametrize("name", ["SCALELITE_ENV", "RAILS_ENV"])
def test_it_is_refused_in_production(name: str) -> None:
    with pytest.raises(NotInProduction, match="not for production"):
        environ(**{name: "production"})


def test_a_port_is_taken_while_somebody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert port_taken(port)
    assert not port_taken(port)


@pytest.mark.parametrize(
    ("urls", "expected"),
    [
        (["tcp://127.0.0.1:3000"], "http://127.0.0.1:3000"),
        (["tcp://0.0.0.0:3000"], "http://127.0.0.1:3000"),
        (["tcp://[::]:3000"], "http://[::1]:3000"),
        (["tcp://[::1]:3000"], "http://[::1]:3000"),
        (["unix:///run/x.sock", "tcp://127.0.0.1:3000"], "http://127.0.0.1:3000"),
        (["unix:///run/x.sock"], "http://localhost"),
    ],
)
def test_the_printed_address_is_one_this_machine_can_open(urls: list[str], expected: str) -> None:
    assert address(urls) == expected


@pytest.mark.parametrize("algorithm", ["SHA1", "SHA256", "SHA512"])
def test_the_printed_links_are_signed(algorithm: str) -> None:
    settings = Settings.for_tests(loadbalancer_secrets=(b"the secret", b"other"), outgoing_algorithm=algorithm)
    text = leaflet(settings, ["tcp://127.0.0.1:3000"])
    assert "http://127.0.0.1:3000/bigbluebutton/api\n" in text
    assert "the secret" in text
    links = [urlsplit(link) for link in re.findall(r"http\S+checksum=\S+", text)]
    assert [link.path.rpartition("/")[2] for link in links] == ["create", "join", "join"]
    for link in links:
        checksum = link.query.rpartition("=")[2]
        verify(link.path.rpartition("/")[2], link.query.encode(), checksum, [b"the secret"], [algorithm])


def test_a_unix_socket_comes_with_a_hint_how_to_reach_it() -> None:
    assert "curl --unix-socket /run/x.sock" in leaflet(Settings.for_tests(), ["unix:///run/x.sock"])


@pytest.mark.parametrize(
    ("taken", "port"),
    [(set(), "2222"), ({2222, 2223}, "2224"), (set(range(2222, 2300)), "0")],
)
def test_ssh_is_on_a_port_that_nobody_has(taken: set[int], port: str) -> None:
    assert demo_environ({}, taken=taken.__contains__)["SCALELITE_SSH_PORT"] == port


def development(**settings: Any) -> Settings:
    return Settings.for_tests(environment="development", data_dir=Path.cwd() / "var", **settings)


def test_it_tells_how_to_administer_the_pool_from_another_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/no/such/python")
    text = leaflet(development(ssh_port=2223, redis=RedisSettings(configured=True)), ["tcp://127.0.0.1:3000"])
    assert "    /no/such/python -m scalelite.admin.cli status\n" in text
    assert "    cat ~/.ssh/*.pub >> var/ssh_authorized_keys\n    ssh -p 2223 127.0.0.1 status\n" in text


def test_the_command_line_is_named_by_its_shortest_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / ".venv" / "bin" / "scalelite"
    script.parent.mkdir(parents=True)
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(script.with_name("python")))
    monkeypatch.setenv("PATH", "/nowhere")
    assert command_line() == str(script)
    monkeypatch.chdir(tmp_path)
    assert command_line() == ".venv/bin/scalelite"
    monkeypatch.setenv("PATH", str(script.parent))
    assert command_line() == "scalelite"


def test_what_cannot_reach_the_pool_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without redis-server, the store is in the balancer's own memory.
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("scalelite.store.embedded._SERVERS", ("no-such-server",))
    assert "    ssh -p PORT 127.0.0.1 status\n" in administration(development(ssh_port=0))
    assert "cli status" not in administration(development())
    assert administration(development(ssh_disabled=True)) == ""


async def online(balancer: Balancer) -> list[str]:
    return [server.id for server in await balancer.parts.servers.all() if server.online]


@pytest_twisted.ensureDeferred
async def test_its_servers_are_added_enabled_and_polled_before_it_is_ready(balancer: Balancer) -> None:
    ready: list[bool] = []
    demo = Demo(reactor, balancer.parts.servers, balancer.poll.poll_now, 1, lambda: ready.append(True))
    demo.startService()
    await demo.started
    assert ready == [True]
    assert await online(balancer) == list(SERVER_IDS)
    assert (await balancer.call("create", meetingID="room", name="Room")).returncode == "SUCCESS"
    await demo.stopService()
    assert await balancer.parts.servers.all() == []


@pytest_twisted.ensureDeferred
async def test_servers_of_an_earlier_run_are_replaced_and_others_are_not_touched(balancer: Balancer) -> None:
    for server_id in ("demo-2", "demo-4", "mine"):
        await balancer.parts.servers.add(server_id, f"http://{server_id}.invalid/bigbluebutton/api", "old secret")
    demo = Demo(reactor, balancer.parts.servers, balancer.poll.poll_now, 1, lambda: None)
    demo.startService()
    await demo.started
    assert await online(balancer) == list(SERVER_IDS)
    await demo.stopService()
    assert [server.id for server in await balancer.parts.servers.all()] == ["demo-4", "mine"]
