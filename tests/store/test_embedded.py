"""The supervision of the embedded redis-server, with a process that only pretends to run."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from scalelite.store.embedded import GRACE, MAX_DELAY, PATIENCE, STEADY, WATCH, EmbeddedServer, find_server
from scalelite.store.errors import StoreError, StoreUnavailable

_trial = SynchronousTestCase()
READY = b"1:M 01 Jan 2026 00:00:00.000 * Ready to accept connections unix\n"


class Process:
    """A child process; ends when told to by the test, or by a signal that it heeds."""

    pid = 4711

    def __init__(self, protocol: Any, command: list[str], options: dict[str, Any]) -> None:
        self.protocol = protocol
        self.command = command
        self.options = options
        # As the kernel does it: the child has its own descriptor of what it inherits.
        self.inherited = [os.dup(number) for number in options["childFDs"].values() if isinstance(number, int)]
        self.stdin = b""
        self.heeds = {"TERM", "KILL"}
        self.signals: list[str] = []
        self.ended = False

    def write(self, data: bytes) -> None:
        self.stdin += data

    def closeStdin(self) -> None:
        self.stdin += b"EOF"

    def signalProcess(self, name: str) -> None:
        if self.ended:
            raise ProcessExitedAlready
        self.signals.append(name)
        if name in self.heeds:
            self.end()

    def end(self, status: int = 0) -> None:
        self.ended = True
        for number in self.inherited:
            os.close(number)
        reason = ProcessTerminated(status) if status else ProcessDone(0)
        self.protocol.processEnded(Failure(reason))


class Machine(Clock):
    """A reactor that starts such processes."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[Process] = []

    def spawnProcess(self, protocol: Any, executable: str, args: list[str], **options: Any) -> Process:
        process = Process(protocol, args, options)
        protocol.makeConnection(process)
        self.processes.append(process)
        return process

    @property
    def process(self) -> Process:
        """The newest."""
        return self.processes[-1]


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def server(machine: Machine, tmp_path: Path) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(machine, "/usr/bin/redis-server", tmp_path / "data" / "redis")
    server.startService()
    yield server
    if server.running:
        _trial.successResultOf(server.stopService())


def locate(server: EmbeddedServer) -> Deferred[IStreamClientEndpoint]:
    return Deferred.fromCoroutine(server.locate())


def test_folder_is_open_to_its_owner_only(server: EmbeddedServer, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "data" / "redis").stat().st_mode) == 0o700


def test_folder_that_was_open_to_others_is_closed(machine: Machine, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    server = EmbeddedServer(machine, "redis-server", tmp_path)
    server.startService()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
    _trial.successResultOf(server.stopService())


def test_folder_that_cannot_be_made_is_an_error_that_names_it(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/redis: Not a directory"):
        EmbeddedServer(machine, "redis-server", tmp_path / "file" / "redis").startService()
    assert machine.processes == []


def test_server_keeps_an_append_only_file_and_listens_on_no_port(server: EmbeddedServer, machine: Machine) -> None:
    lines = machine.process.stdin.decode().splitlines()
    assert lines[-1] == "EOF"
    assert {"port 0", "unixsocket redis.sock", "unixsocketperm 700", "appendonly yes", "appendfsync everysec"} <= {
        *lines
    }


def test_command_line_and_environment_of_the_server_tell_nothing(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOADBALANCER_SECRET", "s3cret")
    server = EmbeddedServer(machine, "redis-server", tmp_path)
    server.startService()
    assert "s3cret" not in " ".join(machine.process.command) + str(machine.process.options["env"])
    _trial.successResultOf(server.stopService())


def test_server_is_located_once_it_is_ready(server: EmbeddedServer, machine: Machine) -> None:
    located = locate(server)
    machine.process.protocol.outReceived(READY[:20])
    _trial.assertNoResult(located)
    machine.process.protocol.outReceived(READY[20:])
    assert IStreamClientEndpoint.providedBy(_trial.successResultOf(located))
    _trial.successResultOf(locate(server))


def test_server_that_never_gets_ready_is_unavailable(server: EmbeddedServer, machine: Machine) -> None:
    located = locate(server)
    machine.advance(PATIENCE)
    _trial.failureResultOf(located, StoreUnavailable)
    machine.process.protocol.outReceived(READY)
    _trial.successResultOf(locate(server))


def test_server_that_dies_is_started_again(server: EmbeddedServer, machine: Machine) -> None:
    machine.process.protocol.outReceived(READY)
    machine.process.end(1)
    located = locate(server)
    machine.advance(0.1)
    assert len(machine.processes) == 2
    _trial.assertNoResult(located)
    machine.process.protocol.outReceived(READY)
    _trial.successResultOf(located)


def test_server_that_dies_again_and_again_is_started_ever_less_often(server: EmbeddedServer, machine: Machine) -> None:
    starts = []
    for _ in range(10):
        begun, count = machine.seconds(), len(machine.processes)
        machine.process.end(1)
        while len(machine.processes) == count:
            machine.advance(0.05)
        starts.append(machine.seconds() - begun)
    assert starts == sorted(starts)
    assert starts[0] < 0.2
    assert starts[-1] == pytest.approx(MAX_DELAY, abs=0.1)
    machine.advance(STEADY)
    machine.process.end(1)
    machine.advance(0.1)
    assert len(machine.processes) == 12


def test_server_is_asked_to_end_and_is_not_started_again(server: EmbeddedServer, machine: Machine) -> None:
    _trial.successResultOf(server.stopService())
    machine.advance(60)
    assert machine.process.signals == ["TERM"]
    assert len(machine.processes) == 1
    assert server.pid is None


def test_server_that_does_not_heed_is_killed(server: EmbeddedServer, machine: Machine) -> None:
    machine.process.heeds = {"KILL"}
    stopped = server.stopService()
    machine.advance(GRACE - 0.1)
    _trial.assertNoResult(stopped)
    machine.advance(0.2)
    _trial.successResultOf(stopped)
    assert machine.process.signals == ["TERM", "KILL"]


def test_stopping_between_two_starts_starts_nothing(server: EmbeddedServer, machine: Machine) -> None:
    machine.process.end(1)
    _trial.successResultOf(server.stopService())
    machine.advance(60)
    assert len(machine.processes) == 1


def test_second_process_uses_the_server_of_the_first_and_follows_it(
    server: EmbeddedServer, machine: Machine, tmp_path: Path
) -> None:
    second = EmbeddedServer(machine, "redis-server", tmp_path / "data" / "redis")
    second.startService()
    assert len(machine.processes) == 1
    assert (server.owner, second.owner) == (True, False)
    assert second.unix_path == server.unix_path
    _trial.successResultOf(locate(second))
    _trial.successResultOf(server.stopService())
    machine.advance(WATCH)
    assert second.owner
    assert len(machine.processes) == 2
    _trial.successResultOf(second.stopService())


def test_no_second_server_is_started_while_an_orphan_still_holds_the_folder(
    server: EmbeddedServer, machine: Machine, tmp_path: Path
) -> None:
    orphan = machine.process
    held = [os.dup(number) for number in orphan.inherited]
    _trial.successResultOf(server.stopService())
    heir = EmbeddedServer(machine, "redis-server", tmp_path / "data" / "redis")
    heir.startService()
    machine.advance(1)
    assert machine.processes == [orphan]
    for number in held:
        os.close(number)
    machine.advance(1)
    assert len(machine.processes) == 2
    _trial.successResultOf(heir.stopService())


def test_binary_is_found_on_the_path_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server() is None
    for name in ("valkey-server", "redis-server"):
        binary = tmp_path / name
        binary.write_text("#!/bin/sh\n")
        binary.chmod(0o755)
        assert find_server() == str(binary)
