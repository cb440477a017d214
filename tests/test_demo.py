"""The demonstration: what it sets, what it prints, and which servers it touches."""

from __future__ import annotations

import re
import socket
from urllib.parse import urlsplit

import pytest
import pytest_twisted

from scalelite.bbb.checksum import verify
from scalelite.demo import SERVER_IDS, Demo, NotInProduction, address, demo_environ, leaflet, port_taken
from scalelite.settings import Settings, load_settings
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
