"""The supervisor: what it starts, replaces, and waits for."""

from __future__ import annotations

import errno
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from scalelite.api.listening import Listening
from scalelite.workers import (
    BEAT,
    FIRST_DELAY,
    FIRST_SOCKET,
    LIFELINE,
    MAX_DELAY,
    MISSING_BEATS,
    PULSE,
    STEADY,
    Supervisor,
    worker_command,
    worker_environ,
)


@attrs.define(eq=False)
class Process:
    """A process that was started; the transport of its protocol."""

    protocol: Any
    args: list[str]
    env: dict[str, str]
    path: str
    fds: dict[int, int | str]
    pid: int
    signals: list[str] = attrs.field(factory=list)
    closed: list[int] = attrs.field(factory=list)
    over: bool = False

    def closeChildFD(self, descriptor: int) -> None:
        self.closed.append(descriptor)

    def signalProcess(self, name: str) -> None:
        if self.over:
            raise ProcessExitedAlready
        self.signals.append(name)

    def beat(self) -> None:
        self.protocol.childDataReceived(PULSE, b".")

    def end(self, reason: Exception | None = None) -> None:
        self.over = True
        self.protocol.processEnded(Failure(reason or ProcessDone(0)))


class Reactor(Clock):
    """A clock that starts processes."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[Process] = []
        self.full = False

    def spawnProcess(
        self, protocol: Any, executable: str, args: list[str], env: dict[str, str], path: str, childFDs: dict[int, Any]
    ) -> None:
        if self.full:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        process = Process(protocol, args, env, path, childFDs, pid=1_000_000_000 + len(self.processes))
        self.processes.append(process)
        protocol.makeConnection(process)

    @property
    def running(self) -> list[Process]:
        return [process for process in self.processes if not process.over]


@pytest.fixture
def reactor() -> Reactor:
    return Reactor()


@pytest.fixture
def listening() -> Iterator[Listening]:
    made = Listening([socket.create_server(("127.0.0.1", 0)) for _ in range(2)])
    yield made
    made.close()


@pytest.fixture
def supervisor(reactor: Reactor, listening: Listening) -> Supervisor:
    made = Supervisor(reactor, listening, 2, ["python", "-m", "worker"], {"A": "b"}, Path("/srv"), drain_timeout=25)
    made.startService()
    return made


def test_every_worker_gets_the_sockets_and_two_pipes(
    supervisor: Supervisor, reactor: Reactor, listening: Listening
) -> None:
    first, second = reactor.processes
    assert first.args == ["python", "-m", "worker", "--number=1", "--sockets=2"]
    assert second.args[-2:] == ["--number=2", "--sockets=2"]
    assert (first.env, first.path) == ({"A": "b"}, "/srv")
    one, two = (made.fileno() for made in listening.sockets)
    assert first.fds == {0: 0, 1: 1, 2: 2, LIFELINE: "w", PULSE: "r", FIRST_SOCKET: one, FIRST_SOCKET + 1: two}
    assert supervisor.pids == [first.pid, second.pid]


def test_a_worker_that_dies_is_replaced_by_one_of_the_same_number(supervisor: Supervisor, reactor: Reactor) -> None:
    reactor.processes[1].end(ProcessTerminated(signal=signal.SIGKILL))
    assert len(reactor.running) == 1
    reactor.advance(FIRST_DELAY)
    assert [process.args[3] for process in reactor.running] == ["--number=1", "--number=2"]


def test_a_worker_that_keeps_dying_is_replaced_ever_more_slowly(supervisor: Supervisor, reactor: Reactor) -> None:
    for delay in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, MAX_DELAY, MAX_DELAY):
        reactor.processes[-1].end(ProcessTerminated(exitCode=1))
        reactor.advance(delay - 0.01)
        assert len(reactor.running) == 1
        reactor.advance(0.011)
        assert len(reactor.running) == 2


def test_a_worker_that_ran_well_is_replaced_quickly_however_often_it_died_before(
    supervisor: Supervisor, reactor: Reactor
) -> None:
    for _ in range(5):
        reactor.processes[-1].end()
        reactor.advance(MAX_DELAY)
    reactor.processes[-1].beat()
    reactor.advance(STEADY)
    reactor.processes[-1].end()
    reactor.advance(FIRST_DELAY)
    assert len(reactor.running) == 2


def test_a_worker_that_cannot_be_started_is_tried_again(
    supervisor: Supervisor, reactor: Reactor, events: list[Any]
) -> None:
    reactor.full = True
    reactor.processes[0].end()
    reactor.advance(FIRST_DELAY)
    assert events[-1]["reason"] == "it could not be started: Resource temporarily unavailable"
    reactor.full = False
    reactor.advance(2 * FIRST_DELAY)
    assert len(reactor.running) == 2
    assert supervisor.pids == [process.pid for process in reactor.running]


def test_a_worker_that_gives_no_sign_of_life_is_killed(supervisor: Supervisor, reactor: Reactor) -> None:
    stuck, lively = reactor.processes
    for _ in range(MISSING_BEATS + 1):
        lively.beat()
        reactor.advance(BEAT)
    assert (stuck.signals, lively.signals) == (["KILL"], [])


def test_a_machine_that_slept_finds_no_worker_stuck(supervisor: Supervisor, reactor: Reactor) -> None:
    reactor.advance(100_000)
    assert [process.signals for process in reactor.processes] == [[], []]


def test_the_end_closes_the_sockets_and_waits_for_the_workers(
    supervisor: Supervisor, reactor: Reactor, listening: Listening
) -> None:
    stopped = supervisor.stopService()
    assert [made.fileno() for made in listening.sockets] == [-1, -1]
    assert [process.closed for process in reactor.processes] == [[LIFELINE], [LIFELINE]]
    assert [process.signals for process in reactor.processes] == [[], []]
    reactor.processes[0].end()
    assert not stopped.called
    reactor.processes[1].end()
    assert stopped.called
    assert reactor.getDelayedCalls() == []


def test_a_worker_that_outstays_the_drain_is_killed(
    supervisor: Supervisor, reactor: Reactor, killed: list[int]
) -> None:
    stopped = supervisor.stopService()
    reactor.processes[0].end()
    reactor.advance(25)
    assert killed == []
    reactor.advance(25)
    assert killed == [reactor.processes[1].pid]
    reactor.processes[1].end(ProcessTerminated(signal=signal.SIGKILL))
    assert stopped.called


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The processes that were sent SIGKILL."""
    found: list[int] = []

    def kill(pid: int, number: int) -> None:
        assert number == signal.SIGKILL
        found.append(pid)

    monkeypatch.setattr("scalelite.workers.os.kill", kill)
    return found


def test_nothing_is_replaced_once_the_end_has_begun(supervisor: Supervisor, reactor: Reactor) -> None:
    reactor.processes[0].end()
    stopped = supervisor.stopService()
    reactor.processes[1].end()
    assert stopped.called
    reactor.advance(100)
    assert len(reactor.processes) == 2


def test_with_no_worker_alive_the_end_is_immediate(supervisor: Supervisor, reactor: Reactor) -> None:
    for process in reactor.processes:
        process.end()
    assert supervisor.stopService().called
    assert reactor.getDelayedCalls() == []


def test_the_log_says_which_worker_is_replaced_and_why(
    supervisor: Supervisor, reactor: Reactor, events: list[Any]
) -> None:
    reactor.processes[0].end(ProcessTerminated(signal=signal.SIGSEGV))
    reactor.processes[1].end(ProcessTerminated(exitCode=3))
    told = [(e["worker"], e["process"], e["reason"]) for e in events if "reason" in e]
    first, second = (process.pid for process in reactor.processes)
    assert told == [(1, first, "it was ended by SIGSEGV"), (2, second, "it ended with status 3")]


@pytest.fixture
def events() -> Iterator[list[Any]]:
    """What is logged."""
    from twisted.logger import globalLogPublisher

    found: list[Any] = []
    globalLogPublisher.addObserver(found.append)
    yield found
    globalLogPublisher.removeObserver(found.append)


def test_a_workers_environment_is_inherited_and_names_the_embedded_store() -> None:
    made = worker_environ({"LOADBALANCER_SECRET": "s", "REDIS_URL": ""}, "off", "unix:///x")
    assert made["LOADBALANCER_SECRET"] == "s"
    assert made["REDIS_URL"] == "unix:///x"
    assert made["SCALELITE_ACCESS_LOG"] == "off"
    assert worker_environ({"REDIS_URL": "redis://h"}, "-", None)["REDIS_URL"] == "redis://h"


def test_a_worker_is_this_interpreter_and_imports_nothing_from_the_current_folder() -> None:
    assert worker_command()[1:] == ["-P", "-m", "scalelite.worker"]
