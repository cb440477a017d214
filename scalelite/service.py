"""The composition root of `twistd scalelite`: reads the settings, binds, and hangs all parts into one service."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import attrs
from twisted.application.service import Service
from twisted.logger import ILogObserver, Logger
from twisted.python import usage
from twisted.python.components import Componentized

from scalelite.api.listening import CannotBind, Listening, bind
from scalelite.api.service import WebService
from scalelite.archive import leading_services, shared_services
from scalelite.composition import (
    Connections,
    Parts,
    bbb_client,
    build_parts,
    lease_holder,
    notice_services,
    poll_service,
    ssh_service,
    web_site,
)
from scalelite.demo import Demo, NotInProduction, demo_environ, leaflet, port_taken
from scalelite.importing import import_services
from scalelite.log import LogChoice
from scalelite.process import DNS_THREADS, END_MARGIN, Ending, Group, Stack, raise_file_limit, settle_memory
from scalelite.settings import Settings, SettingsError, load_settings
from scalelite.store.embedded import EmbeddedServer
from scalelite.store.errors import StoreError
from scalelite.workers import Supervisor, worker_command, worker_environ

__all__ = ["Options", "Parts", "bbb_client", "build_parts", "makeService", "poll_service", "web_site"]

_log = Logger()


class Options(usage.Options):
    """Command line of `twistd scalelite`; all settings are environment variables (docs/configuration.md)."""

    synopsis = "twistd [twistd options] scalelite [--demo]"
    longdesc = "Everything else is set by environment variables: see docs/configuration.md, or `scalelite config`."
    optFlags: ClassVar = [
        ["demo", None, "Add three simulated BigBlueButton servers and print links to try (not in production)."],
    ]


class Balancer(Stack):
    """The whole program. Brings its own observer of the log to the application, and ends as `ending` says."""

    def __init__(self, reactor: Any, ending: Ending, pidfile: str | None, observer: ILogObserver | None) -> None:
        super().__init__()
        self._reactor = reactor
        self._ending = ending
        self._pidfile = pidfile
        self._observer = observer

    def setServiceParent(self, parent: Any) -> None:
        # twistd takes the observer from there. Its own formats every event as text, which costs more than a request.
        if self._observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._observer)
        super().setServiceParent(parent)

    def startService(self) -> None:
        try:
            super().startService()
        except StoreError as error:
            if self._pidfile:
                Path(self._pidfile).unlink(missing_ok=True)
            fail(str(error), 1)
        self._reactor.callWhenRunning(self._running)

    def _running(self) -> None:
        self._ending.install()
        settle_memory()


def fail(problem: str, status: int) -> NoReturn:
    """End the start with one line on standard error."""
    # twistd may have turned sys.stderr into its log by now.
    os.write(2, f"scalelite: {problem}\n".encode())
    raise SystemExit(status)


def settings_or_exit(load: Callable[[], Settings]) -> Settings:
    """The settings; with unusable ones, all problems on standard error and exit status 2."""
    try:
        return load()
    except SettingsError as error:
        fail("\n  ".join(("cannot start with these settings:", *error.problems)), 2)


def listening_or_exit(settings: Settings) -> Listening:
    """Bind, before anything is started, and before twistd drops its privileges and its terminal."""
    try:
        return bind(settings.bind)
    except CannotBind as error:
        fail(str(error), 1)


def worker_count(settings: Settings, parts: Parts) -> int:
    """How many worker processes there are to be; 0: this process serves."""
    if settings.web_concurrency <= 1:
        return 0
    if parts.redis.embedded == "memory":
        _log.critical(
            "WEB_CONCURRENCY={count} IS IGNORED: the store in memory cannot be shared between processes. "
            "Install redis-server, or set REDIS_URL.",
            count=settings.web_concurrency,
        )
        return 0
    return settings.web_concurrency


class SocketFiles(Service):
    """Removes the files of UNIX sockets in the end."""

    def __init__(self, listening: Listening) -> None:
        self._listening = listening

    def stopService(self) -> None:
        super().stopService()
        self._listening.remove_files()


def demo_environ_or_exit(twistd: Mapping[str, Any]) -> dict[str, str]:
    """The environment of the demonstration; exit status 2 where it can't be given."""
    if not twistd.get("nodaemon", True):
        fail("--demo prints links to try, so it needs twistd -n", 2)
    try:
        return demo_environ(os.environ, taken=port_taken)
    except NotInProduction as error:
        fail(str(error), 2)


def makeService(options: Options) -> Balancer:
    """Build the service that twistd runs. The reactor is imported here, once twistd has chosen it."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    twistd: Mapping[str, Any] = options.parent or {}
    root = Path(twistd.get("rundir") or ".").absolute()
    environ = demo_environ_or_exit(twistd) if options["demo"] else dict(os.environ)
    settings = settings_or_exit(lambda: load_settings(environ, root=root))
    if settings.access_log == "-" and not twistd.get("nodaemon", True):
        settings = attrs.evolve(settings, access_log=str(root / "log" / "access.log"))
    choice = LogChoice.made(settings, root, twistd)
    listening = listening_or_exit(settings)
    raise_file_limit()
    reactor.suggestThreadPoolSize(DNS_THREADS)
    for warning in settings.warnings:
        _log.warn("{warning}", warning=warning)
        if choice.elsewhere:
            # The log goes elsewhere, and whoever starts the program should see it all the same.
            os.write(2, f"scalelite: WARNING: {warning}\n".encode())
    try:
        parts = build_parts(reactor, settings)
        count = worker_count(settings, parts)
        observer = None if choice.left_to_twistd(shared=count > 0) else choice.observer(settings)
        edge, abandon = web_edge(parts, listening, choice, environ, count, root)
    except (StoreError, OSError) as error:
        fail(str(error), 1)

    poll = poll_service(parts, jitter=0 if options["demo"] else None)
    ending = Ending(reactor, settings.drain_timeout + END_MARGIN, abandon)
    top = Balancer(reactor, ending, twistd.get("pidfile"), observer)
    SocketFiles(listening).setServiceParent(top)
    parts.redis.setServiceParent(top)
    archive = parts.archive
    for shared in () if archive is None else shared_services(archive):
        shared.setServiceParent(top)
    for delivering in parts.notices.services:
        delivering.setServiceParent(top)
    Connections(parts.pools).setServiceParent(top)
    if options["demo"]:
        show = partial(os.write, 1, leaflet(settings, listening.urls).encode())
        Demo(reactor, parts.servers, poll.poll_now, settings.server_healthy_threshold, show).setServiceParent(top)
    serving = Group()
    for part in (
        poll,
        edge,
        ssh_service(parts),
        *notice_services(parts),
        *(() if archive is None else leading_services(archive)),
        *(() if archive is None else import_services(archive, lease_holder(), environ, root)),
    ):
        if part is not None:
            part.setServiceParent(serving)
    serving.setServiceParent(top)
    _log.info(
        "listening on {urls} with {processes}, environment {environment}",
        urls=", ".join(listening.urls),
        processes=f"{count} workers" if count else "one process",
        environment=settings.environment,
    )
    return top


def web_edge(
    parts: Parts, listening: Listening, choice: LogChoice, environ: Mapping[str, str], count: int, root: Path
) -> tuple[Service, Callable[[], object]]:
    """What serves clients, in this process or in `count` workers; and what must be done before an end at once."""
    settings = parts.settings
    if not count:
        site = web_site(parts)
        return WebService(parts.reactor, site, listening, settings.drain_timeout), site.flush_log
    companion = parts.redis.companion
    redis_url = companion.url if isinstance(companion, EmbeddedServer) else None
    supervisor = Supervisor(
        parts.reactor,
        listening,
        count,
        [*worker_command(), *choice.arguments],
        worker_environ(environ, settings.access_log, redis_url),
        root,
        settings.drain_timeout,
    )
    return supervisor, supervisor.kill
