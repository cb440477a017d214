"""The SSH server against clients that are slow, many, or do not keep to the protocol; on a clock that tests move."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.conch.ssh.common import NS
from twisted.conch.ssh.keys import Key
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from scalelite.admin.console import LONGEST_LINE
from scalelite.admin.ssh.channel import MAX_CHANNELS, MAX_WAITING, WINDOW
from scalelite.admin.ssh.gate import CONNECTIONS_PER_SESSION, EXCHANGE_TIME, LOGIN_TIME, MAX_STRANGERS
from scalelite.admin.ssh.slots import PATIENCE
from scalelite.admin.ssh.transport import KEY_EXCHANGES
from scalelite.admin.table import Call, Context
from tests.admin.ssh_keys import conch_key
from tests.admin.ssh_memory import Client, Server, commands

SERVICE_REQUEST, SERVICE_ACCEPT, DISCONNECT = 5, 6, 1
AUTH_REQUEST, AUTH_FAILURE, AUTH_SUCCESS, KEY_IS_FINE = 50, 51, 52, 60
GLOBAL_REQUEST, REQUEST_FAILURE = 80, 82


class World:
    """Commands of the tests, and what they have seen."""

    def __init__(self) -> None:
        self.hold: Deferred[None] = Deferred()
        self.cancelled = 0

    async def wait(self, context: Context, call: Call) -> int:
        context.console.out("waiting")
        try:
            await self.hold
        except CancelledError:
            self.cancelled += 1
            raise
        return 0

    async def both(self, context: Context, call: Call) -> int:
        context.console.out("out")
        context.console.err("err")
        return 7

    async def flood(self, context: Context, call: Call) -> int:
        for number in range(1000):
            context.console.out(f"{number:099}")
        return 0

    async def stubborn(self, context: Context, call: Call) -> int:
        """Goes on although it was cancelled."""
        context.console.out("waiting")
        try:
            await self.hold
        except CancelledError:
            context.console.out("going on")
        return 0

    async def deluge(self, context: Context, call: Call) -> int:
        for _ in range(MAX_WAITING // 2**20 + 2):
            context.console.out("x" * 2**20)
        return 0

    async def ask(self, context: Context, call: Call) -> int:
        context.console.out(repr(await context.console.ask("Sure?")))
        return 0


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def server(tmp_path: Path, world: World) -> Server:
    table = commands(
        wait=world.wait,
        both=world.both,
        flood=world.flood,
        deluge=world.deluge,
        ask=world.ask,
        stubborn=world.stubborn,
    )
    made = Server(tmp_path, table, ssh_max_sessions=2, ssh_idle_timeout=100.0)
    made.keys.write_text(f"{public(conch_key('ed25519'))} ada\n")
    return made


@pytest.fixture
def key() -> Key:
    return conch_key("ed25519")


@pytest.fixture
def log() -> Any:
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        if event.get("log_namespace", "").startswith("scalelite."):
            lines.append(f"{event['log_level'].name} {formatEvent(event)}")

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


def public(key: Key) -> str:
    return key.public().toString("OPENSSH").decode()


# Who has not logged in


def test_a_connection_that_does_not_log_in_is_dropped_in_time(server: Server) -> None:
    _, silent = server.connect()
    client = server.client()
    assert client.ssh.secure
    server.advance(LOGIN_TIME - 1)
    assert not silent.ended
    assert not client.wire.ended
    server.advance(1)
    assert silent.aborted
    assert client.wire.aborted


def test_who_has_waited_longest_makes_room_for_newcomers(server: Server, key: Key) -> None:
    silent = [server.connect() for _ in range(MAX_STRANGERS)]
    assert not any(wire.ended for _, wire in silent)
    client = server.client(key)
    assert client.logged_in
    assert [wire.aborted for _, wire in silent] == [True] + [False] * (MAX_STRANGERS - 1)


def test_there_are_only_so_many_connections_in_all(server: Server, key: Key, log: list[str]) -> None:
    operators = [server.client(key) for _ in range(2 * CONNECTIONS_PER_SESSION)]
    assert all(client.logged_in for client in operators)
    for _ in range(MAX_STRANGERS):
        assert server.connect()[0] is not None
    assert server.connect()[0] is None
    assert sum("too many are open" in line for line in log) == 1
    operators[0].hang_up()
    assert server.connect()[0] is not None


def test_what_anybody_can_cause_is_logged_now_and_then_only(server: Server, log: list[str]) -> None:
    for _ in range(1000):
        transport, _ = server.connect()
        assert transport is not None
        transport.dataReceived(b"GET / HTTP/1.0\r\n\r\n")
        transport.connectionLost()
    server.advance(20)
    transport, _ = server.connect()
    assert transport is not None
    transport.dataReceived(b"GET / HTTP/1.0\r\n\r\n")
    dropped = [line for line in log if "is dropped" in line]
    assert len(dropped) == 2
    assert "999 more" in dropped[1]


@pytest.mark.parametrize("message", [(5, NS(b"ssh-userauth")), (21, b""), (30, b"\0\0\0\x20" + b"x" * 32), (90, b"")])
def test_nothing_comes_before_the_key_exchange(server: Server, message: tuple[int, bytes]) -> None:
    transport, wire = server.connect()
    assert transport is not None
    body = bytes([message[0]]) + message[1]
    padding = 8 - (5 + len(body)) % 8 + 8
    packet = struct.pack(">LB", 1 + len(body) + padding, padding) + body + b"\0" * padding
    transport.dataReceived(b"SSH-2.0-x\r\n" + packet)
    assert wire.ended


@pytest.mark.parametrize("exchange", KEY_EXCHANGES, ids=bytes.decode)
def test_every_key_exchange_leads_to_a_login(server: Server, key: Key, exchange: bytes) -> None:
    client = server.client(key, exchanges=[exchange])
    assert client.logged_in
    assert client.ssh.kexAlg == exchange


# The login


def request(method: bytes, rest: bytes = b"", service: bytes = b"ssh-connection") -> bytes:
    return NS(b"operator") + NS(service) + NS(method) + rest


def asks_for(key: Key, algorithm: bytes = b"ssh-ed25519") -> bytes:
    """A question whether a key would do."""
    return request(b"publickey", b"\0" + NS(algorithm) + NS(key.public().blob()))


def signed(client: Client, key: Key, **wrong: bytes) -> bytes:
    """A login with a signature; `wrong` are parts of it that are not as they should be."""
    head = request(b"publickey", b"\1" + NS(b"ssh-ed25519") + NS(key.public().blob()))
    session = wrong.get("session", client.ssh.sessionID or b"")
    signature = wrong.get("signature") or key.sign(NS(session) + b"\x32" + wrong.get("head", head))
    return head + NS(signature) + wrong.get("trailing", b"")


def authenticating(server: Server) -> Client:
    client = server.client()
    assert [number for number, _ in client.send(SERVICE_REQUEST, NS(b"ssh-userauth"))] == [SERVICE_ACCEPT]
    return client


def test_a_right_signature_logs_in(server: Server, key: Key) -> None:
    client = authenticating(server)
    assert client.send(AUTH_REQUEST, asks_for(key))[0][0] == KEY_IS_FINE
    assert client.send(AUTH_REQUEST, signed(client, key)) == [(AUTH_SUCCESS, b"")]


@pytest.mark.parametrize(
    "wrong",
    [
        {"session": b"another session"},
        {"head": b"another request"},
        {"signature": NS(b"ssh-ed25519") + NS(b"\0" * 64)},
        {"signature": NS(b"ssh-rsa") + NS(b"\0" * 64)},
        {"trailing": b"x"},
    ],
    ids=str,
)
def test_a_wrong_signature_does_not(server: Server, key: Key, wrong: dict[str, bytes]) -> None:
    client = authenticating(server)
    assert client.send(AUTH_REQUEST, signed(client, key, **wrong)) == []
    server.advance(1)
    client.pump()
    assert client.received == [(AUTH_FAILURE, NS(b"publickey") + b"\0")]


def test_a_key_is_not_taken_under_the_name_of_another_algorithm(server: Server, key: Key) -> None:
    client = authenticating(server)
    client.send(AUTH_REQUEST, asks_for(key, b"rsa-sha2-512"))
    server.advance(1)
    client.pump()
    assert client.received[0][0] == AUTH_FAILURE


def test_refusals_come_later_each_time_and_the_third_ends_the_connection(server: Server) -> None:
    client = authenticating(server)
    stranger = conch_key("ecdsa-256")
    for delay in (0.1, 0.2):
        assert client.send(AUTH_REQUEST, asks_for(stranger)) == []
        server.reactor.advance(delay - 0.01)
        client.pump()
        assert client.received == []
        server.reactor.advance(0.02)
        client.pump()
        assert client.received == [(AUTH_FAILURE, NS(b"publickey") + b"\0")]
    client.send(AUTH_REQUEST, request(b"password", b"\0" + NS(b"hunter2")))
    server.reactor.advance(1)
    client.pump()
    assert client.received == [(DISCONNECT, b"too many refused attempts to log in")]


def test_a_refusal_of_one_connection_delays_the_next_one_but_never_a_good_key(server: Server, key: Key) -> None:
    for _ in range(6):
        client = authenticating(server)
        client.send(AUTH_REQUEST, asks_for(conch_key("ecdsa-256")))
        client.hang_up()
    client = authenticating(server)
    client.send(AUTH_REQUEST, asks_for(conch_key("ecdsa-256")))
    server.reactor.advance(3)
    client.pump()
    assert client.received == []
    assert server.client(key).logged_in


def test_requests_that_do_not_wait_are_answered_one_after_another(server: Server, key: Key) -> None:
    client = authenticating(server)
    client.received.clear()
    client.ssh.sendPacket(AUTH_REQUEST, asks_for(conch_key("ecdsa-256")))
    client.ssh.sendPacket(AUTH_REQUEST, signed(client, key))
    client.pump()
    assert client.received == []
    server.reactor.advance(0.2)
    client.pump()
    assert [number for number, _ in client.received] == [AUTH_FAILURE, AUTH_SUCCESS]


def test_too_many_requests_at_once_end_the_connection(server: Server) -> None:
    client = authenticating(server)
    for _ in range(20):
        client.ssh.sendPacket(AUTH_REQUEST, asks_for(conch_key("ecdsa-256")))
    client.pump()
    assert client.wire.ended


def test_asking_for_the_methods_is_no_attempt(server: Server) -> None:
    client = authenticating(server)
    for _ in range(10):
        assert client.send(AUTH_REQUEST, request(b"none")) == [(AUTH_FAILURE, NS(b"publickey") + b"\0")]


@pytest.mark.parametrize(
    "payload", [b"", b"\xff" * 20, request(b"publickey"), request(b"publickey", b"\1\0\0\xff\xff")]
)
def test_a_malformed_request_ends_the_connection(server: Server, payload: bytes, log: list[str]) -> None:
    client = authenticating(server)
    client.send(AUTH_REQUEST, payload)
    server.advance(10)
    assert client.wire.ended
    assert not client.logged_in
    assert not [line for line in log if line.startswith(("error", "critical"))]


@pytest.mark.parametrize("service", [b"ssh-userauth", b"ssh-connection", b"sftp", b""])
def test_a_login_leads_to_no_other_service(server: Server, service: bytes) -> None:
    client = server.client()
    assert all(number == SERVICE_ACCEPT for number, _ in client.send(SERVICE_REQUEST, NS(service))) == (
        service == b"ssh-userauth"
    )
    client.send(AUTH_REQUEST, request(b"none", service=b"ssh-userauth"))
    assert client.wire.ended


def test_nobody_logs_in_twice_on_one_connection(server: Server, key: Key) -> None:
    client = server.client(key)
    assert client.send(AUTH_REQUEST, signed(client, key)) == []
    assert client.send(SERVICE_REQUEST, NS(b"ssh-userauth")) == [(DISCONNECT, b"no such service")]


# Sessions and channels


def test_a_command_ends_with_status_then_end_of_output_then_close(server: Server, key: Key) -> None:
    channel = server.client(key).open()
    channel.run("both")
    assert (channel.out, channel.errors, channel.status) == (b"out\n", b"err\n", 7)
    assert channel.events == ["data", "errors", "status", "eof", "closed"]


def test_a_command_line_has_an_end(server: Server, key: Key) -> None:
    channel = server.client(key).open()
    channel.run("both " + "x" * LONGEST_LINE)
    assert (channel.out, channel.status) == (b"", 2)
    assert b"longer than" in channel.errors


@pytest.mark.parametrize("kind", [b"direct-tcpip", b"forwarded-tcpip", b"x11", b"auth-agent@openssh.com", b"\xff"])
def test_other_channels_are_refused(server: Server, key: Key, kind: bytes, log: list[str]) -> None:
    client = server.client(key)
    assert client.open(kind).opened is False
    assert client.open().opened
    assert not [line for line in log if line.startswith(("error", "critical"))]


def test_a_connection_has_only_so_many_channels(server: Server, key: Key) -> None:
    client = server.client(key)
    opened = [client.open().opened for _ in range(MAX_CHANNELS + 1)]
    assert opened == [True] * MAX_CHANNELS + [False]


def test_a_channel_with_useless_packets_is_refused(server: Server, key: Key) -> None:
    client = server.client(key)
    assert client.open(packet=16).opened is False


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (b"subsystem", NS(b"sftp")),
        (b"env", NS(b"LANG") + NS(b"C")),
        (b"auth-agent-req@openssh.com", b""),
        (b"x11-req", b"\0" + NS(b"MIT") + NS(b"00") + b"\0\0\0\0"),
        (b"pty-req", b"\0\0"),
        (b"window-change", b"\0\0"),
        (b"exec", b"\xff"),
        (b"exec", NS(b"\xff\xfe")),
        (b"signal", NS(b"INT")),
        (b"\xff\xfe", b""),
        (b"closed", b""),
    ],
)
def test_other_requests_and_malformed_ones_are_refused(server: Server, key: Key, kind: bytes, data: bytes) -> None:
    client = server.client(key)
    channel = client.open()
    assert channel.ask(kind, data) is False
    assert not client.wire.ended


def test_a_channel_runs_one_command(server: Server, key: Key) -> None:
    channel = server.client(key).open()
    channel.run("wait")
    assert channel.ask(b"exec", NS(b"both")) is False
    assert channel.ask(b"shell") is False
    assert channel.ask(b"pty-req", NS(b"xterm") + b"\0" * 16 + NS(b"")) is False


@pytest.mark.parametrize("name", [b"tcpip-forward", b"cancel-tcpip-forward", b"keepalive@openssh.com", b"\xff"])
def test_global_requests_are_refused(server: Server, key: Key, name: bytes) -> None:
    client = server.client(key)
    assert client.send(GLOBAL_REQUEST, NS(name) + b"\1" + NS(b"0.0.0.0") + b"\0\0\0\0") == [(REQUEST_FAILURE, b"")]


def test_a_signal_cancels_the_command(server: Server, key: Key, world: World) -> None:
    channel = server.client(key).open()
    channel.run("wait")
    assert channel.ask(b"signal", NS(b"INT"))
    assert (channel.status, world.cancelled) == (130, 1)


def test_a_command_that_is_cancelled_and_goes_on_ends_with_130_all_the_same(server: Server, key: Key) -> None:
    channel = server.client(key).open()
    channel.run("stubborn")
    channel.ask(b"signal", NS(b"TERM"))
    assert (channel.out, channel.status) == (b"waiting\ngoing on\n", 130)


def test_output_waits_for_a_small_window_and_arrives_whole(server: Server, key: Key) -> None:
    channel = server.client(key).open(window=1000, packet=300)
    channel.run("flood")
    assert channel.out == b"".join(b"%099d\n" % number for number in range(1000))
    assert (channel.status, channel.events[-3:]) == (0, ["status", "eof", "closed"])


def test_output_waits_for_a_socket_that_does_not_take_it(server: Server, key: Key) -> None:
    client = server.client(key)
    channel = client.open()
    client.transport.transport.producer.pauseProducing()  # type: ignore[union-attr]
    channel.run("flood")
    assert channel.out == b""
    client.transport.transport.producer.resumeProducing()  # type: ignore[union-attr]
    client.pump()
    assert len(channel.out) == 100_000
    assert channel.status == 0


def test_a_client_that_takes_nothing_is_dropped_before_its_output_fills_the_memory(server: Server, key: Key) -> None:
    client = server.client(key)
    channel = client.open()
    client.transport.transport.producer.pauseProducing()  # type: ignore[union-attr]
    channel.run("deluge")
    assert client.wire.aborted


def test_a_client_may_not_send_more_than_its_window(server: Server, key: Key) -> None:
    client = server.client(key)
    channel = client.open()
    channel.run("wait")
    sent = 0
    while channel.remoteWindowLeft >= 2**15 and sent < 10 * WINDOW:
        channel.write(b"x" * 2**15)
        sent += 2**15
        client.pump()
    assert sent <= 2 * WINDOW


def test_a_session_beyond_the_cap_is_refused_after_a_while(server: Server, key: Key, world: World) -> None:
    client = server.client(key)
    channels = [client.open() for _ in range(3)]
    for channel in channels:
        channel.run("wait")
    assert channels[2].out == b""
    server.advance(PATIENCE)
    client.pump()
    assert channels[2].status == 1
    assert channels[2].errors == b"ERROR: 2 sessions are open already (SCALELITE_SSH_MAX_SESSIONS)\n"
    world.hold.callback(None)
    client.pump()
    assert [channel.status for channel in channels[:2]] == [0, 0]


# Idle, rekeying, end


def test_an_idle_connection_is_closed(server: Server, key: Key) -> None:
    client = server.client(key)
    server.advance(95)
    client.pump()
    assert not client.wire.ended
    server.advance(10)
    client.pump()
    assert client.received[-1] == (DISCONNECT, b"you were idle for 100 seconds")


def test_signs_of_life_that_a_client_sends_by_itself_do_not_count(server: Server, key: Key) -> None:
    client = server.client(key)
    for _ in range(11):
        server.advance(10)
        if not client.wire.ended:
            client.send(GLOBAL_REQUEST, NS(b"keepalive@openssh.com") + b"\1")
    assert client.wire.ended


def test_work_counts(server: Server, key: Key, world: World) -> None:
    client = server.client(key)
    channel = client.open()
    channel.run("wait")
    server.advance(1000)
    client.pump()
    assert not client.wire.ended
    world.hold.callback(None)
    client.pump()
    server.advance(110)
    client.pump()
    assert client.wire.ended


def test_a_command_that_waits_for_the_operator_is_idle(server: Server, key: Key) -> None:
    client = server.client(key)
    channel = client.open()
    channel.run("ask")
    server.advance(110)
    client.pump()
    assert client.wire.ended


def test_a_key_exchange_that_does_not_end_is_not_waited_for(server: Server, key: Key) -> None:
    client = server.client(key)
    client.ssh.ssh_KEXINIT = lambda _packet: None  # type: ignore[method-assign]
    client.ssh.sendKexInit()
    client.pump()
    assert client.transport.exchanging
    server.advance(EXCHANGE_TIME + 11)
    assert client.wire.aborted


def test_a_role_that_changes_ends_the_sessions_of_the_key(server: Server, key: Key) -> None:
    client = server.client(key)
    server.keys.write_text(f"role=viewer {public(key)}\n")
    server.advance(11)
    client.pump()
    assert client.received[-1] == (DISCONNECT, b"your key is not authorised any more")


def test_a_file_that_is_empty_for_a_moment_ends_nothing(server: Server, key: Key) -> None:
    client = server.client(key)
    before = server.keys.read_text()
    server.keys.write_text("")
    server.gate.look()
    server.keys.write_text(before)
    server.gate.look()
    server.keys.write_text("")
    server.gate.look()
    server.keys.write_text(before)
    server.gate.look()
    client.pump()
    assert not client.wire.ended


def test_a_peer_that_does_not_hang_up_is_cut_off(server: Server, key: Key) -> None:
    client = server.client(key)
    client.transport.sendDisconnect(11, b"bye")
    assert not client.wire.aborted
    server.advance(6)
    assert client.wire.aborted


def test_the_end_of_the_service_waits_for_the_connections(server: Server, key: Key) -> None:
    clients = [server.client(key) for _ in range(3)]
    _, silent = server.connect()
    stopped: list[Any] = []
    server.service.stopService().addBoth(stopped.append)
    assert all(client.wire.ended for client in clients)
    assert silent.ended
    assert stopped == []
    for client in clients:
        client.hang_up()
    transport = server.gate.connections[0]
    transport.connectionLost()
    assert stopped == [None]


class NoPortReactor(MemoryReactorClock):
    def listenTCP(self, *given: Any, **options: Any) -> Any:
        raise CannotListenError("127.0.0.1", 2222, OSError(98, "Address already in use"))


def test_a_port_that_is_taken_is_told_and_nothing_else_ends(tmp_path: Path, log: list[str]) -> None:
    server = Server(tmp_path, reactor=NoPortReactor())
    assert server.service.address is None
    assert log == [
        "error there is NO SSH server: cannot listen on 127.0.0.1:2222 (SCALELITE_SSH_BIND, SCALELITE_SSH_PORT): "
        "address already in use"
    ]
    stopped: list[Any] = []
    server.service.stopService().addBoth(stopped.append)
    assert stopped == [None]


def test_a_host_key_that_cannot_be_used_is_told_and_nothing_else_ends(tmp_path: Path, log: list[str]) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "ssh_host_ed25519_key").write_text("garbage")
    server = Server(tmp_path)
    assert server.service.address is None
    assert server.connect()[0] is None
    assert len(log) == 1
    assert log[0].startswith("error there is NO SSH server: the host key cannot be used")


# Whatever it is


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(1, 255), st.binary(max_size=80)), max_size=12))
def test_no_stranger_can_break_anything(
    server: Server, key: Key, log: list[str], packets: list[tuple[int, bytes]]
) -> None:
    client = authenticating(server)
    client.ssh.raw = True
    for number, payload in packets:
        # What ends the client itself, and what only Conch's client can do in turn, is left out.
        if number not in {1, 20, 21, 30, 31}:
            client.ssh.sendPacket(number, payload)
            client.pump()
    assert not client.logged_in
    client.hang_up()
    assert server.client(key).logged_in
    assert not [line for line in log if line.startswith(("error", "critical"))]
    for transport in list(server.gate.connections):
        transport.connectionLost()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=200), max_size=6))
def test_no_bytes_can_break_anything(server: Server, key: Key, log: list[str], pieces: list[bytes]) -> None:
    transport, _ = server.connect()
    assert transport is not None
    transport.dataReceived(b"SSH-2.0-x\r\n")
    for piece in pieces:
        transport.dataReceived(piece)
    transport.connectionLost()
    assert server.client(key).logged_in
    assert not [line for line in log if line.startswith(("error", "critical"))]
    for transport in list(server.gate.connections):
        transport.connectionLost()
