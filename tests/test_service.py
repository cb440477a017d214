"""Starting and stopping: where it listens, in which order things end, and how soon."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.application.service import Application, IService, Service
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver
from zope.interface import implementer

from scalelite.api.listening import CannotBind, Listening, bind
from scalelite.process import Ending, Group, Stack
from scalelite.service import Balancer, Options, makeService, settings_or_exit
from scalelite.settings import Listen, SettingsError

LOOPBACK = Listen("tcp", host="127.0.0.1", port=0)


@pytest.fixture
def opened() -> Iterator[list[Listening]]:
    """What a test has bound, to be closed after it."""
    found: list[Listening] = []
    yield found
    for listening in found:
        listening.close()
        listening.remove_files()


def test_every_address_is_bound_and_told_with_its_port(tmp_path: Path, opened: list[Listening]) -> None:
    path = str(tmp_path / "web.sock")
    listening = bind([LOOPBACK, Listen("tcp", host="::1", port=0), Listen("unix", path=path)])
    opened.append(listening)
    ports = [made.getsockname()[1] for made in listening.sockets[:2]]
    assert listening.urls == [f"tcp://127.0.0.1:{ports[0]}", f"tcp://[::1]:{ports[1]}", f"unix://{path}"]
    assert not any(made.getblocking() for made in listening.sockets)


def test_localhost_is_every_address_of_that_name_on_one_port(opened: list[Listening]) -> None:
    listening = bind([Listen("tcp", host="localhost", port=0)])
    opened.append(listening)
    names = {address[4][0] for address in socket.getaddrinfo("localhost", None)}
    assert {made.getsockname()[0] for made in listening.sockets} <= names
    assert len({made.getsockname()[1] for made in listening.sockets}) == 1


def test_the_ipv6_wildcard_takes_ipv4_as_well(opened: list[Listening]) -> None:
    listening = bind([Listen("tcp", host="::", port=0)])
    opened.append(listening)
    port = listening.sockets[0].getsockname()[1]
    for host in ("127.0.0.1", "::1"):
        socket.create_connection((host, port), timeout=5).close()


def test_both_wildcards_may_share_a_port(opened: list[Listening]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    listening = bind([Listen("tcp", host="::", port=port), Listen("tcp", host="0.0.0.0", port=port)])
    opened.append(listening)
    assert len(listening.sockets) == 2


def test_an_address_in_use_is_told_and_nothing_else_stays_bound(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as probe:
        port = taken.getsockname()[1]
        free = probe.getsockname()[1]
        probe.close()
        listens = [Listen("tcp", host="127.0.0.1", port=free), Listen("tcp", host="127.0.0.1", port=port)]
        with pytest.raises(CannotBind, match=rf"tcp://127\.0\.0\.1:{port} \(set by BIND or PORT\): address already"):
            bind(listens)
        bind(listens[:1]).close()


@pytest.mark.parametrize(
    ("listen", "reason"),
    [
        (Listen("tcp", host="no-such-host.invalid", port=0), "name"),
        (Listen("tcp", host="192.0.2.1", port=0), "cannot assign requested address"),
        (Listen("unix", path="/no/such/folder/web.sock"), "no such file or directory"),
    ],
    ids=lambda value: getattr(value, "url", None),
)
def test_other_reasons_are_told_too(listen: Listen, reason: str) -> None:
    with pytest.raises(CannotBind, match=reason):
        bind([listen])


def test_a_socket_file_that_was_left_behind_is_replaced(tmp_path: Path, opened: list[Listening]) -> None:
    path = tmp_path / "web.sock"
    listen = Listen("unix", path=str(path))
    bind([listen]).close()
    assert path.exists()
    opened.append(bind([listen]))
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(str(path))


def test_a_socket_file_in_use_is_left_alone(tmp_path: Path, opened: list[Listening]) -> None:
    listen = Listen("unix", path=str(tmp_path / "web.sock"))
    opened.append(bind([listen]))
    with pytest.raises(CannotBind, match="address already in use"):
        bind([listen])


def test_a_file_that_is_no_socket_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(CannotBind):
        bind([Listen("unix", path=str(path))])
    assert path.read_text() == "data"


@pytest.mark.parametrize(("umask", "mode"), [(None, 0o660), (0o000, 0o777), (0o077, 0o700)])
def test_the_mode_of_a_socket_file_follows_umask(
    tmp_path: Path, opened: list[Listening], umask: int | None, mode: int
) -> None:
    path = tmp_path / "web.sock"
    opened.append(bind([Listen("unix", path=str(path), umask=umask)]))
    assert path.stat().st_mode & 0o777 == mode


def test_a_socket_file_is_removed_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    listen = Listen("unix", path=str(path))
    first = bind([listen])
    first.close()
    second = bind([listen])
    first.remove_files()
    assert path.exists()
    second.close()
    second.remove_files()
    assert not path.exists()


@attrs.define(eq=False)
class Part(Service):
    """A service that ends when told."""

    label: str
    order: list[str]
    ended: Deferred[None] = attrs.field(factory=Deferred)

    def startService(self) -> None:
        super().startService()
        self.order.append(f"start {self.label}")

    def stopService(self) -> Deferred[None]:
        super().stopService()
        self.order.append(f"stop {self.label}")
        return self.ended


def test_a_stack_stops_from_the_top_each_after_the_one_above() -> None:
    order: list[str] = []
    store, web = Part("store", order), Part("web", order)
    stack = Stack()
    for part in (store, web):
        part.setServiceParent(stack)
    stack.startService()
    stopped = stack.stopService()
    assert order == ["start store", "start web", "stop web"]
    web.ended.callback(None)
    assert order[-1] == "stop store"
    assert not stopped.called
    store.ended.callback(None)
    assert stopped.called


def test_a_group_stops_all_at_the_same_time_and_waits_for_all() -> None:
    order: list[str] = []
    parts = [Part("a", order), Part("b", order)]
    group = Group()
    for part in parts:
        part.setServiceParent(group)
    group.startService()
    stopped = group.stopService()
    assert order[2:] == ["stop a", "stop b"]
    parts[1].ended.callback(None)
    assert not stopped.called
    parts[0].ended.callback(None)
    assert stopped.called


@pytest.mark.parametrize("kind", [Stack, Group])
def test_a_part_that_fails_to_stop_keeps_no_other_from_stopping(
    kind: type[Stack | Group], unhandled_errors: list[Any]
) -> None:
    order: list[str] = []
    parts = [Part("a", order), Part("b", order)]
    services = kind()
    for part in parts:
        part.setServiceParent(services)
    services.startService()
    stopped = services.stopService()
    parts[1].ended.errback(ValueError("stuck"))
    parts[0].ended.callback(None)
    assert stopped.called
    (event,) = unhandled_errors
    assert event["log_failure"].check(ValueError)
    unhandled_errors.clear()


class Reactor:
    """Counts how often it is stopped."""

    def __init__(self) -> None:
        self.stops = 0

    def stop(self) -> None:
        self.stops += 1


def test_the_end_is_begun_once_however_often_it_is_asked_for() -> None:
    reactor = Reactor()
    ending = Ending(reactor, 1000, lambda: None)
    ending.begin("one reason")
    ending.begin("another")
    assert reactor.stops == 1


def test_an_end_that_takes_too_long_is_cut_short(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    statuses: list[int] = []
    over = threading.Event()

    def leave(status: int) -> None:
        statuses.append(status)
        over.set()

    monkeypatch.setattr("scalelite.process.os._exit", leave)
    abandoned: list[bool] = []
    Ending(Reactor(), 0.01, lambda: abandoned.append(True)).begin("a reason")
    assert over.wait(30)
    assert statuses == [1]
    assert abandoned == [True]
    assert capfd.readouterr().err == "scalelite: the end took too long, and was cut short\n"


def test_all_problems_of_the_settings_are_told_at_once(capfd: Any) -> None:
    def load() -> Any:
        raise SettingsError(["PORT='x': expected a port", "BIND='y': expected a URL"])

    with pytest.raises(SystemExit) as ended:
        settings_or_exit(load)
    assert ended.value.code == 2
    told = capfd.readouterr().err
    assert "PORT='x': expected a port\n" in told
    assert "BIND='y': expected a URL\n" in told


@implementer(ILogObserver)
class Silent:
    """An observer."""

    def __call__(self, event: Any) -> None:
        """Observes nothing."""


@pytest.mark.parametrize("observer", [Silent(), None])
def test_the_application_gets_the_observer_before_twistd_looks_for_one(observer: Any) -> None:
    application: Any = Application("scalelite")
    balancer = Balancer(Reactor(), Ending(Reactor(), 1000, lambda: None), None, observer)
    balancer.setServiceParent(application)
    assert application.getComponent(ILogObserver, None) is observer
    assert list(IService(application)) == [balancer]  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("environ", "status", "told"),
    [
        ({"PORT": "many"}, 2, "PORT='many'"),
        ({"SCALELITE_ENV": "production"}, 2, "SECRET_KEY_BASE is unset"),
        ({"BIND": "unix:///no/such/folder/web.sock"}, 1, "no such file or directory"),
    ],
)
def test_what_cannot_be_started_is_told_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: Any, environ: dict[str, str], status: int, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", environ)
    options = Options()
    options.parseOptions([])
    with pytest.raises(SystemExit) as ended:
        makeService(options)
    assert ended.value.code == status
    written = capfd.readouterr().err
    assert written.startswith("scalelite: ")
    assert told in written
