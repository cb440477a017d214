"""OpenSSH's client against the SSH server of a running balancer: logins, commands, pipes, limits."""

from __future__ import annotations

import json
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread
from twisted.logger import LogEvent

from tests.integration.openssh import PATIENCE, Done, Running
from tests.integration.ssh_door import Door, public

pytestmark = pytest.mark.integration

reactor: Any = _reactor


@pytest_twisted.async_yield_fixture()
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    opened = await Door.open(tmp_path)
    yield opened
    await opened.close()


async def all_of(running: list[Running]) -> list[Done]:
    return list(await gatherResults([client.done for client in running]))


async def refused(door: Door, **login: Any) -> Done:
    """A login that must not succeed."""
    done = await door.client.run("status", **login)
    assert done.status == 255
    assert done.out == ""
    return done


# Commands


@pytest_twisted.ensureDeferred
async def test_a_command_is_run_with_its_exit_status_and_both_streams_apart(door: Door) -> None:
    done = await door.client.run("test:both", key=door.ada)
    assert done == Done(41, "to standard output: å\n", "to standard error\n")


@pytest_twisted.ensureDeferred
async def test_status_shows_the_pool_as_it_is_now(door: Door) -> None:
    await door.balancer.add_servers(2)
    done = await door.client.run("status", "--json", key=door.ada)
    assert (done.status, done.err) == (0, "")
    assert [(row["id"], row["online"]) for row in json.loads(done.out)] == [("s1", True), ("s2", True)]


@pytest.mark.parametrize(
    ("line", "status", "complaint"),
    [
        ("nonsense", 2, "Unknown command 'nonsense'"),
        ("servers:cordn x", 2, "did you mean servers:cordon?"),
        ("status 'open", 2, "A quote is not closed"),
        ("servers:cordon", 2, "ID is missing"),
        ("servers:cordon nobody", 1, "No server found with id: nobody"),
        ("rake servers:cordon[nobody]", 1, "No server found with id: nobody"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_cannot_be_done_is_said_on_standard_error(
    door: Door, line: str, status: int, complaint: str
) -> None:
    done = await door.client.run(line, key=door.ada)
    assert done.status == status
    assert complaint in done.err


@pytest_twisted.ensureDeferred
async def test_rakes_spelling_and_quotes_work(door: Door) -> None:
    add = "servers:add['https://a.example.com/bigbluebutton/api,a secret, 2']"
    assert await door.client.run(add, key=door.ada) == Done(0, "OK\nid: new-0\n", "")
    server = await door.balancer.parts.servers.find("new-0")
    assert server is not None
    assert (server.secret, server.load_multiplier) == ("a secret", 2.0)


@pytest_twisted.ensureDeferred
async def test_a_secret_with_a_hash_is_kept_whole(door: Door) -> None:
    line = "servers:add https://a.example.com/bigbluebutton/api se#cret 2 gold # a comment"
    assert await door.client.run(line, key=door.ada) == Done(0, "OK\nid: new-0\n", "")
    server = await door.balancer.parts.servers.find("new-0")
    assert server is not None
    assert (server.secret, server.load_multiplier, server.tag) == ("se#cret", 2.0, "gold")


@pytest_twisted.ensureDeferred
async def test_help_is_given(door: Door) -> None:
    done = await door.client.run("help", key=door.ada)
    assert done.status == 0
    assert "servers:panic" in done.out
    done = await door.client.run("servers:add", "--help", key=door.ada)
    assert "Its secret" in done.out


@pytest_twisted.ensureDeferred
async def test_a_command_knows_who_gives_it_and_from_where(door: Door) -> None:
    done = await door.client.run("test:who", "x", "y", key=door.ada)
    name, _, origin = done.out.strip().partition(" | ")
    assert name == "ada@laptop"
    assert origin.startswith("SHA256:")
    assert origin.endswith(" from 127.0.0.1")


@pytest_twisted.ensureDeferred
async def test_logins_and_commands_are_logged_but_never_arguments_that_may_be_secret(door: Door) -> None:
    await door.client.run("test:who", "server-1", "hunter2", key=door.ada)
    await door.client.run("no-such-command", "hunter2", key=door.ada)
    text = "\n".join(door.logged)
    assert "ada@laptop (admin, SHA256:" in text
    assert " from 127.0.0.1): test:who server-1 *****: ok" in text
    assert "logs out of SSH from 127.0.0.1, as operator" in text
    assert "hunter2" not in text
    assert "no-such-command" not in text


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("servers:cordon nobody", ["servers:cordon nobody: No server found with id: nobody"]),
        ("tenants", ["runs tenants: status 1"]),
        ("servers:cordon nobody --nonsense", ["runs servers:cordon: status 2"]),
        ("rake status servers:cordon[nobody]", ["servers:cordon nobody: No server found", "runs status: status 1"]),
        ("rake servers:cordon[nobody] servers:cordon[noone]", ["servers:cordon nobody: No server found"]),
    ],
)
@pytest_twisted.ensureDeferred
async def test_each_command_is_logged_once(door: Door, line: str, told: list[str]) -> None:
    await door.client.run(line, key=door.ada)
    lines = [text for text in door.logged if "servers:cordon" in text or "runs " in text]
    assert len(lines) == len(told)
    assert all(part in text for part, text in zip(told, lines, strict=True))


@pytest_twisted.ensureDeferred
async def test_a_command_that_breaks_ends_with_an_error_and_a_traceback_in_the_log(
    door: Door, unhandled_errors: list[LogEvent]
) -> None:
    done = await door.client.run("test:broken", key=door.ada)
    assert done == Done(1, "", "ERROR: The command broke; the service's log tells why\n")
    assert "as a test wants it" in unhandled_errors.pop()["log_failure"].getErrorMessage()
    assert (await door.client.run("test:both", key=door.ada)).status == 41


@pytest_twisted.ensureDeferred
async def test_destructive_commands_without_a_terminal_need_yes(door: Door) -> None:
    node = await door.balancer.add_server("s1")
    await door.balancer.poll_now()
    await door.balancer.call("create", meetingID="m1", name="m1")
    done = await door.client.run("servers:panic", "s1", key=door.ada)
    assert done.status == 2
    assert "add --yes" in done.err
    assert not node.meetings["m1"].forcibly_ended
    done = await door.client.run("servers:panic", "s1", "--yes", key=door.ada)
    assert done.status == 0
    assert node.meetings["m1"].forcibly_ended


# Pipes


@pytest_twisted.ensureDeferred
async def test_a_secret_can_be_piped_in(door: Door) -> None:
    words = ("servers:add", "https://a.example.com/bigbluebutton/api", "-")
    done = await door.client.run(*words, key=door.ada, stdin=b"the secret\n")
    assert done.status == 0
    server = await door.balancer.parts.servers.find("new-0")
    assert server is not None
    assert server.secret == "the secret"


@pytest_twisted.ensureDeferred
async def test_a_file_with_servers_can_be_piped_in(door: Door) -> None:
    file = b"servers:\n  a.example.com:\n    secret: s1\n  b.example.com:\n    secret: s2\n    enabled: false\n"
    done = await door.client.run("servers:sync", "-", key=door.ada, stdin=file)
    assert (done.status, done.err) == (0, "")
    assert "[a.example.com] Server created" in done.out
    servers = await door.balancer.parts.servers.all()
    assert [(server.id, server.secret) for server in servers] == [("a.example.com", "s1"), ("b.example.com", "s2")]


@pytest_twisted.ensureDeferred
async def test_files_of_the_services_machine_are_out_of_reach(door: Door) -> None:
    done = await door.client.run("servers:sync", str(door.keys), key=door.ada)
    assert done.status == 1
    assert "ada@laptop" not in done.out + done.err


@pytest_twisted.ensureDeferred
async def test_a_here_document_is_run_line_by_line_and_the_last_status_counts(door: Door) -> None:
    script = (
        b"test:both\n\n# a comment\nnonsense\nservers:add https://a.example.com/b/api -\nfrom the next line\ntest:both"
    )
    done = await door.client.run(key=door.ada, stdin=script, options=("-T",))
    assert done.out == "to standard output: å\nOK\nid: new-0\nto standard output: å\n"
    assert done.err == "to standard error\nERROR: Unknown command 'nonsense'\nto standard error\n"
    assert done.status == 41
    server = await door.balancer.parts.servers.find("new-0")
    assert server is not None
    assert server.secret == "from the next line"


@pytest_twisted.ensureDeferred
async def test_exit_ends_a_here_document_with_the_status_so_far(door: Door) -> None:
    done = await door.client.run(key=door.ada, stdin=b"test:both\nexit\nstatus\n", options=("-T",))
    assert (done.status, done.out) == (41, "to standard output: å\n")


@pytest_twisted.ensureDeferred
async def test_large_input_arrives_whole(door: Door) -> None:
    lines = b"".join(b"%07d %s\n" % (i, b"x" * 91) for i in range(60_000))
    done = await door.client.run("test:swallow", key=door.ada, stdin=lines)
    assert done == Done(0, "60000 lines, 5940000 characters\n", "")


@pytest_twisted.ensureDeferred
async def test_input_that_a_command_does_not_read_does_not_hold_it_up(door: Door) -> None:
    done = await door.client.run("test:both", key=door.ada, stdin=b"x" * 5_000_000)
    assert done.status == 41


@pytest.mark.parametrize(
    ("stdin", "complaint"),
    [
        (b"x" * 70_000 + b"\n", "longer than 65536"),
        (b"\xff\xfe\n", "not UTF-8"),
        (b"%s\n" % (b"x" * 1000) * 17_000, "longer than 16"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_input_that_cannot_be_used_is_refused(door: Door, stdin: bytes, complaint: str) -> None:
    done = await door.client.run("test:swallow", key=door.ada, stdin=stdin)
    assert done.status == 1
    assert complaint in done.err


@pytest_twisted.ensureDeferred
async def test_large_output_arrives_whole_and_in_order(door: Door) -> None:
    done = await door.client.run("test:flood", "100000", key=door.ada)
    assert done.status == 0
    lines = done.out.splitlines()
    assert [line[:7] for line in lines] == [f"{i:07}" for i in range(100_000)]
    assert {len(line) for line in lines} == {99}


@pytest_twisted.ensureDeferred
async def test_a_client_that_reads_nothing_is_dropped_before_it_fills_the_memory(door: Door) -> None:
    client = door.client.start("test:flood", "1000000", key=door.ada, stdin=None)
    client.process.pauseProducing()
    while not any("does not read" in line for line in door.logged):
        await wait_a_turn()
    client.kill()
    assert (await door.client.run("test:both", key=door.ada)).status == 41


async def wait_a_turn() -> None:
    turn: Deferred[None] = Deferred()
    reactor.callLater(0.01, turn.callback, None)
    await turn


# Keys


@pytest.mark.parametrize(
    "kind",
    [
        ("ed25519",),
        ("rsa", "-b", "2048"),
        ("rsa", "-b", "4096"),
        ("ecdsa", "-b", "256"),
        ("ecdsa", "-b", "384"),
        ("ecdsa", "-b", "521"),
    ],
    ids=" ".join,
)
@pytest_twisted.ensureDeferred
async def test_every_modern_kind_of_key_logs_in(door: Door, kind: tuple[str, ...]) -> None:
    key = door.client.make_key("new", *kind)
    door.authorise(public(key))
    assert (await door.client.run("test:both", key=key)).status == 41


@pytest.mark.parametrize("algorithm", ["rsa-sha2-256", "rsa-sha2-512"])
@pytest_twisted.ensureDeferred
async def test_rsa_keys_sign_with_sha2(door: Door, algorithm: str) -> None:
    key = door.client.make_key("new", "rsa", "-b", "2048")
    door.authorise(public(key))
    done = await door.client.run("test:both", key=key, options=("-o", f"PubkeyAcceptedAlgorithms={algorithm}"))
    assert done.status == 41


@pytest_twisted.ensureDeferred
async def test_rsa_with_sha1_is_refused(door: Door) -> None:
    key = door.client.make_key("new", "rsa", "-b", "2048")
    door.authorise(public(key))
    await refused(door, key=key, options=("-o", "PubkeyAcceptedAlgorithms=ssh-rsa"))


@pytest_twisted.ensureDeferred
async def test_a_key_that_is_not_authorised_is_refused(door: Door) -> None:
    done = await refused(door, key=door.client.make_key("eve"))
    assert "Permission denied (publickey)" in done.err
    assert any("login of operator from 127.0.0.1 refused" in line for line in door.logged)


@pytest_twisted.ensureDeferred
async def test_nothing_but_keys_is_offered(door: Door) -> None:
    options = ("-o", "PreferredAuthentications=password,keyboard-interactive,hostbased", "-o", "BatchMode=no")
    done = await refused(door, key=door.ada, options=options)
    assert "Permission denied (publickey)" in done.err


@pytest_twisted.ensureDeferred
async def test_a_key_that_is_added_later_logs_in_without_a_restart(door: Door) -> None:
    new = door.client.make_key("new")
    await refused(door, key=new)
    door.authorise(public(door.ada), public(new))
    assert (await door.client.run("test:both", key=new)).status == 41


@pytest_twisted.ensureDeferred
async def test_a_key_that_is_removed_is_refused_and_its_sessions_are_closed(door: Door) -> None:
    waiting = door.client.start("test:wait", key=door.ada, stdin=None)
    staying = door.client.start("test:wait", key=door.vic, stdin=None)
    await waiting.until("waiting")
    await staying.until("waiting")
    door.authorise(f'role="viewer" {public(door.vic)}')
    door.look()
    done = await waiting.done
    assert done.status == 255
    assert "your key is not authorised any more" in done.err
    assert door.cancelled == ["ada@laptop"]
    await refused(door, key=door.ada)
    door.hold.callback(None)
    assert (await staying.done).status == 0


@pytest_twisted.ensureDeferred
async def test_a_file_that_vanishes_lets_nobody_in(door: Door) -> None:
    door.keys.unlink()
    await refused(door, key=door.ada)
    assert any("cannot be used: no such file" in line for line in door.logged)


@pytest_twisted.ensureDeferred
async def test_a_key_with_an_unknown_option_is_skipped_and_the_others_are_not(door: Door) -> None:
    eve = door.client.make_key("eve")
    door.authorise(f'command="status" {public(eve)}', public(door.ada))
    await refused(door, key=eve)
    assert (await door.client.run("test:both", key=door.ada)).status == 41
    assert any("'command' is not known" in line for line in door.logged)


@pytest_twisted.ensureDeferred
async def test_the_third_refused_key_ends_the_connection(door: Door) -> None:
    strangers = [door.client.make_key(f"stranger {i}") for i in range(3)]
    assert (await door.client.run("test:both", key=[*strangers[:2], door.ada])).status == 41
    done = await refused(door, key=[*strangers, door.ada])
    assert "too many refused attempts" in done.err


# Viewers


@pytest_twisted.ensureDeferred
async def test_a_viewer_reads_and_changes_nothing(door: Door) -> None:
    await door.balancer.add_servers(1)
    assert (await door.client.run("status", key=door.vic)).status == 0
    done = await door.client.run("servers:cordon", "s1", key=door.vic)
    assert done.status == 1
    assert done.err == "ERROR: servers:cordon is not for viewers, and your key is a viewer's\n"
    server = await door.balancer.parts.servers.find("s1")
    assert server is not None
    assert server.state == "enabled"


@pytest.mark.parametrize(
    "line", ["servers --show-secrets", "config --show-secrets", "test:leaky", "servers rake test:ask"]
)
@pytest_twisted.ensureDeferred
async def test_a_viewer_may_not_ask_for_secrets(door: Door, line: str) -> None:
    done = await door.client.run(line, key=door.vic)
    assert done.status != 0
    assert done.out == ""


@pytest.mark.parametrize("line", ["servers", "rake servers", "servers status", "servers[]"])
@pytest_twisted.ensureDeferred
async def test_a_viewer_sees_no_secrets_in_any_spelling(door: Door, line: str) -> None:
    await door.balancer.add_servers(1)
    done = await door.client.run(line, key=door.vic)
    assert "secret: *****" in done.out
    assert "secret of s1" not in done.out


# The host


@pytest_twisted.ensureDeferred
async def test_the_host_key_is_kept_private_and_stays(door: Door, tmp_path: Path) -> None:
    kept = tmp_path / "var" / "ssh_host_ed25519_key"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    before = kept.read_bytes()
    done = await door.client.run("ssh:fingerprint", key=door.ada)
    # OpenSSH has noted the key at its first connection, under the port that was free.
    shown = done.out.splitlines()[1].split()[1:]
    assert shown == door.client.known_hosts.read_text().split()[1:3]
    await door.service.stopService()
    door.service.startService()
    door.client.port = door.service.address.port
    assert kept.read_bytes() == before
    assert (await door.client.run("test:both", key=door.ada)).status == 41


@pytest.mark.parametrize(
    "options",
    [
        ("-o", "KexAlgorithms=diffie-hellman-group14-sha1"),
        ("-o", "KexAlgorithms=diffie-hellman-group-exchange-sha256,ecdh-sha2-nistp256"),
        ("-c", "aes128-cbc"),
        ("-c", "3des-cbc"),
        ("-m", "hmac-sha1"),
        ("-o", "HostKeyAlgorithms=ssh-rsa,rsa-sha2-512"),
    ],
    ids=" ".join,
)
@pytest_twisted.ensureDeferred
async def test_old_algorithms_are_refused(door: Door, options: tuple[str, ...]) -> None:
    done = await refused(door, key=door.ada, options=(*options, "-o", "LogLevel=INFO"))
    assert "no matching" in done.err


@pytest.mark.parametrize(
    "options",
    [
        ("-o", "KexAlgorithms=curve25519-sha256"),
        ("-o", "KexAlgorithms=curve25519-sha256@libssh.org"),
        ("-c", "aes256-ctr"),
        ("-c", "aes128-ctr"),
        ("-m", "hmac-sha2-512"),
        ("-m", "hmac-sha2-256"),
        ("-o", "RekeyLimit=64K"),
        ("-C",),
    ],
    ids=" ".join,
)
@pytest_twisted.ensureDeferred
async def test_modern_algorithms_are_served(door: Door, options: tuple[str, ...]) -> None:
    done = await door.client.run("test:flood", "5000", key=door.ada, options=options)
    assert done.status == 0
    assert len(done.out) == 5000 * 100


@pytest_twisted.ensureDeferred
async def test_the_version_tells_nothing_of_the_libraries(door: Door) -> None:
    banner = await deferToThread(_banner, door.client.port)
    assert banner == b"SSH-2.0-Scalelite\r\n"


def _banner(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as link, link.makefile("rb") as file:
        return file.readline()


@pytest.mark.parametrize("option", ["-R0:127.0.0.1:9", "-W127.0.0.1:9", "-N", "-s"])
@pytest_twisted.ensureDeferred
async def test_there_is_no_forwarding_and_no_subsystem(door: Door, option: str) -> None:
    words = {"-s": ("-s", "sftp"), "-N": ()}.get(option, ())
    options = {"-s": (), "-N": ("-N", "-R127.0.0.1:0:127.0.0.1:9")}.get(option, (option,))
    done = await door.client.run(*words, key=door.ada, options=(*options, "-o", "ExitOnForwardFailure=yes"))
    assert done.status != 0
    assert done.out == ""


@pytest_twisted.ensureDeferred
async def test_the_agent_is_not_asked_for(door: Door) -> None:
    done = await door.client.run("test:both", key=door.ada, options=("-A",))
    assert done.status == 41


# Many at once


@pytest_twisted.ensureDeferred
async def test_fifty_logins_at_once_all_get_their_answer(door: Door) -> None:
    done = await all_of([door.client.start("test:both", key=door.ada) for _ in range(50)])
    assert [one.status for one in done] == [41] * 50


@pytest_twisted.ensureDeferred
async def test_a_slow_command_holds_up_neither_the_api_nor_other_sessions(door: Door) -> None:
    slow = door.client.start("test:wait", key=door.ada, stdin=None)
    await slow.until("waiting")
    assert (await door.client.run("test:both", key=door.ada)).status == 41
    assert (await door.balancer.call("getMeetings")).returncode == "SUCCESS"
    door.hold.callback(None)
    assert await slow.done == Done(0, "waiting\ndone\n", "")


@pytest_twisted.ensureDeferred
async def test_a_client_that_goes_away_takes_its_command_along(door: Door) -> None:
    client = door.client.start("test:wait", key=door.ada, stdin=None)
    await client.until("waiting")
    client.kill()
    await client.done
    while not door.cancelled:
        await wait_a_turn()
    assert door.cancelled == ["ada@laptop"]


@pytest_twisted.ensureDeferred
async def test_sessions_beyond_the_cap_wait_for_their_turn(tmp_path: Path) -> None:
    door = await Door.open(tmp_path, ssh_max_sessions=1)
    first = door.client.start("test:wait", key=door.ada, stdin=None)
    await first.until("waiting")
    second = door.client.start("test:both", key=door.ada)
    while len(door.service.gate.connections) < 2 or not door.service.gate.slots.wanted:
        await wait_a_turn()
    door.hold.callback(None)
    assert [one.status for one in await all_of([first, second])] == [0, 41]
    await door.close()


@pytest_twisted.ensureDeferred
async def test_a_stopping_service_says_so_and_ends_sessions(door: Door) -> None:
    client = door.client.start("test:wait", key=door.ada, stdin=None)
    await client.until("waiting")
    await door.service.stopService()
    done = await client.done
    assert done.status == 255
    assert "the service is stopping" in done.err
    assert door.cancelled == ["ada@laptop"]


GARBAGE = [
    b"",
    b"\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500,
    b"SSH-",
    b"SSH-1.5-old\r\n",
    b"SSH-2.0\r\n",
    b"SSH\r\n",
    b"S" * 100_000,
    b"SSH-2.0-" + b"x" * 100_000,
    b"SSH-2.0-x\r\n" + b"\xff" * 1000,
    b"SSH-2.0-x\r\n" + b"\0" * 1000,
    b"SSH-2.0-x\r\n\0\0\0\x0c\x0a\x14" + b"\0" * 100,
    b"SSH-2.0-x\r\n\0\0\0\x1c\x0a\x05\0\0\0\x0cssh-userauth" + b"\0" * 10,
    b"SSH-2.0-x\r\n\0\0\0\x0c\x0a\x15" + b"\0" * 10,
    b"SSH-2.0-x\r\n\0\0\0\x0c\x0a\x1e" + b"\0" * 10,
]


@pytest_twisted.ensureDeferred
async def test_garbage_on_the_port_is_dropped_and_harms_nobody(door: Door) -> None:
    await gatherResults([deferToThread(_send, door.client.port, data) for data in GARBAGE])
    assert (await door.client.run("test:both", key=door.ada)).status == 41
    assert not [line for line in door.logged if line.startswith(("error", "critical"))]


def _send(port: int, data: bytes) -> bytes:
    """What comes back until the server hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as link:
        received = b""
        try:
            link.sendall(data)
            link.shutdown(socket.SHUT_WR)
            while piece := link.recv(65536):
                received += piece
        except (ConnectionResetError, BrokenPipeError):
            pass
        return received
