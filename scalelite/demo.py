"""The demonstration: three simulated BigBlueButton servers in the pool, and links to try."""

from __future__ import annotations

import secrets
import shlex
import shutil
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from scalelite.admin.ssh import ssh_keys
from scalelite.bbb.checksum import digest
from scalelite.cluster.records import ServerState
from scalelite.settings import Settings
from scalelite.simulator import Simulator
from scalelite.store.embedded import find_server
from scalelite.store.errors import StoreError
from scalelite.store.servers import ServerStore

SERVER_IDS: Final = ("demo-1", "demo-2", "demo-3")
PREFERRED_PORT: Final = 3000
SSH_PORTS: Final = range(2222, 2232)
MEETING_ID: Final = "demo"
#: Seconds between two attempts to reach the store at the start, and how many there are.
RETRY: Final = 0.5
ATTEMPTS: Final = 60


class NotInProduction(Exception):
    """The demonstration was asked for in production."""


def demo_environ(environ: Mapping[str, str], *, taken: Callable[[int], bool]) -> dict[str, str]:
    """`environ` with what the demonstration needs and nobody has set: a secret, places to listen, quick polls.

    Listens on this machine only unless `BIND` is set, on free ports if the usual ones are `taken`. Raises
    NotInProduction.
    """
    made = {name: value for name, value in environ.items() if value.strip()}
    if (made.get("SCALELITE_ENV") or made.get("RAILS_ENV")) == "production":
        raise NotInProduction("--demo is not for production: it puts simulated servers into the pool")
    if not made.keys() & {"LOADBALANCER_SECRET", "LOADBALANCER_SECRETS"}:
        made["LOADBALANCER_SECRET"] = secrets.token_hex(24)
    if "BIND" not in made:
        port = made.get("PORT") or ("0" if taken(PREFERRED_PORT) else str(PREFERRED_PORT))
        made["BIND"] = f"tcp://127.0.0.1:{port}"
    if "SCALELITE_SSH_PORT" not in made:
        # Known beforehand, so that it can be printed; if all are taken, the log tells which one it is.
        free = (port for port in SSH_PORTS if not taken(port))
        made["SCALELITE_SSH_PORT"] = str(next(free, 0))
    made.setdefault("POLL_INTERVAL", "10")
    return made


def port_taken(port: int) -> bool:
    """Whether a port of the loopback interface cannot be listened on."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return True
    return False


def address(urls: list[str]) -> str:
    """The balancer's own address for this machine, from where it listens; the first that a browser can reach."""
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme == "tcp" and parts.port:
            host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(parts.hostname or "", parts.hostname or "")  # noqa: S104
            return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{parts.port}"
    return "http://localhost"


def signed(api: str, action: str, params: Mapping[str, str], secret: bytes, algorithm: str) -> str:
    """The URL of a signed call."""
    query = urlencode(params, quote_via=quote)
    return f"{api}/{action}?{query}&checksum={digest(algorithm, action, query.encode(), secret)}"


def leaflet(settings: Settings, urls: list[str]) -> str:
    """What is printed when the demonstration is ready."""
    api = f"{address(urls)}/bigbluebutton/api"
    secret, algorithm = settings.loadbalancer_secrets[0], settings.outgoing_algorithm
    room = {"meetingID": MEETING_ID, "name": "Demo room", "attendeePW": "ap", "moderatorPW": "mp"}
    moderator = {"meetingID": MEETING_ID, "fullName": "Moderator", "password": room["moderatorPW"]}
    attendee = {"meetingID": MEETING_ID, "fullName": "Attendee", "password": room["attendeePW"]}

    def link(action: str, params: Mapping[str, str]) -> str:
        return signed(api, action, params, secret, algorithm)

    hint = "".join(
        f"\nIt listens on a UNIX socket: curl --unix-socket {urlsplit(url).path} and the links below.\n"
        for url in urls
        if url.startswith("unix:")
    )
    return f"""
The balancer is ready, with the simulated BigBlueButton servers {", ".join(SERVER_IDS)}.
{hint}
  API address   {api}
  secret        {secret.decode(errors="replace")}

Open these in a browser, or with curl, in this order:

  create the room
    {link("create", room)}
  join as moderator
    {link("join", moderator)}
  join as attendee
    {link("join", attendee)}
{administration(settings)}
Ctrl-C ends the balancer and the simulated servers.

"""


def administration(settings: Settings) -> str:
    """How to look after the pool meanwhile, by the command line and over SSH; "" if by neither."""
    redis = settings.redis
    shared = redis.configured or bool(redis.sentinels) or find_server() is not None
    ways = [f"    {command_line()} status\n"] if shared else []
    keys = ssh_keys(settings)
    if keys is not None:
        port = settings.ssh_port or "PORT"
        host = settings.ssh_bind.strip("[]")
        here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
        ways += [
            f"    cat ~/.ssh/*.pub >> {shlex.quote(from_here(keys))}\n"
            f"    ssh -p {port} {here} status\n"
            f"    ssh -p {port} {here}          # a shell: help, watch, Tab completes\n"
        ]
        if not settings.ssh_port:
            ways.append("    (the log names the PORT)\n")
    if not ways:
        return ""
    return "\nSee what the servers do, in another terminal and this folder:\n\n" + "\n".join(ways)


def command_line() -> str:
    """How the command line of this installation is called."""
    script = Path(sys.executable).with_name("scalelite")
    if not script.exists():
        return f"{shlex.quote(sys.executable)} -m scalelite.admin.cli"
    found = shutil.which("scalelite")
    return "scalelite" if found and Path(found) == script else shlex.quote(from_here(script))


def from_here(path: Path) -> str:
    """The path as short as it can be written in the working folder."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


class Demo(Service):
    """Runs the simulated servers in this process, and keeps them in the pool for as long.

    Servers of these ids, left over from a run that was killed, are replaced; no other server is touched. `ready` is
    called once `poll` has been done so often (`polls`) that all servers must be online.
    """

    name = "demo"
    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        servers: ServerStore,
        poll: Callable[[], Awaitable[None]],
        polls: int,
        ready: Callable[[], object],
    ) -> None:
        self._reactor = reactor
        self._servers = servers
        self._poll = poll
        self._polls = polls
        self._ready = ready
        self._simulator = Simulator(reactor, seed=secrets.randbits(32))
        #: Fires once the servers are there, or were given up.
        self.started: Deferred[None] | None = None

    def startService(self) -> None:
        super().startService()
        self.started = Deferred.fromCoroutine(self._start())
        self.started.addErrback(lambda failure: failure.trap(CancelledError) and None)
        self.started.addErrback(lambda failure: self._log.failure("the demonstration failed", failure))

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _start(self) -> None:
        await self._store_reached()
        for server_id in SERVER_IDS:
            secret = secrets.token_hex(24)
            node = await self._simulator.add_node(secret=secret)
            await self._servers.remove(server_id, force=True)
            await self._servers.add(server_id, node.url, secret)
            await self._servers.set_state(server_id, ServerState.ENABLED)
        # The first one may have begun before the servers were there.
        for _ in range(1 + self._polls):
            await self._poll()
        self._ready()

    async def _store_reached(self) -> None:
        """Wait for the store, which may be starting as well."""
        for attempt in range(ATTEMPTS):
            try:
                await self._servers.find(SERVER_IDS[0])
            except StoreError:
                if attempt == ATTEMPTS - 1:
                    raise
                await deferLater(self._reactor, RETRY)
            else:
                return

    async def _stop(self) -> None:
        if self.started is not None:
            self.started.cancel()
        try:
            for server_id in SERVER_IDS:
                await self._servers.remove(server_id, force=True)
        except StoreError as error:
            self._log.warn("the simulated servers are still in the pool: {error}", error=str(error))
        await self._simulator.stop()
