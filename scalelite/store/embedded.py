"""The embedded store: a redis-server of our own, supervised, kept in one folder, reached by a UNIX socket.

Any number of processes may name the same folder: the first one runs the server, the others only connect to it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import sys
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from scalelite.store.endpoints import UnixEndpoint
from scalelite.store.errors import StoreError, StoreUnavailable

_SERVERS: Final = ("redis-server", "valkey-server")

#: Seconds before the first and, at most, before any other restart of a server that died.
FIRST_DELAY: Final = 0.1
MAX_DELAY: Final = 5.0
#: Seconds after which a server counts as having started well.
STEADY: Final = 10.0
#: Seconds to wait for a server that starts, before saying so.
PATIENCE: Final = 2.0
#: Seconds between two looks at whether the process that runs the server has ended.
WATCH: Final = 0.25
#: Seconds that a server has to write its data and end.
GRACE: Final = 10.0

# The paths are relative to the server's working directory, so the socket's own may be as long as it likes.
_CONFIG: Final = b"""\
port 0
unixsocket redis.sock
unixsocketperm 700
daemonize no
dir .
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
loglevel notice
logfile ""
"""

# Run by an interpreter between us and the server, as twisted.internet.process offers no hook after the fork: asks
# the kernel for SIGTERM (15) when the parent dies (PR_SET_PDEATHSIG is 1), unless it is dead already. In a session of
# its own a Ctrl-C on the terminal does not reach the server, which requests under way still need while we drain.
_LAUNCHER: Final = """\
import ctypes, os, sys
if sys.platform == "linux": ctypes.CDLL(None).prctl(1, 15, 0, 0, 0)
if os.getppid() != int(sys.argv[1]): sys.exit(0)
os.setsid()
os.execv(sys.argv[2], [sys.argv[2], "-"])
"""


def find_server() -> str | None:
    """The path of a redis-server binary, if there is one on PATH."""
    return next(filter(None, map(shutil.which, _SERVERS)), None)


class EmbeddedServer(Service):
    """Runs `binary` on the folder `home` and restarts it when it dies; connects to the one that runs there already.

    `locate` is for `Redis`. Raises StoreError where the folder cannot be used.
    """

    name = "redis-server"
    _log = Logger()

    def __init__(self, reactor: Any, binary: str, home: Path) -> None:
        self._reactor = reactor
        self._binary = binary
        self._home = home.absolute()
        self.unix_path = str(self._home / "redis.sock")
        self._owner: int | None = None
        self._child: _Child | None = None
        self._restart: IDelayedCall | None = None
        self._failures = 0
        self._up = False
        self._starting: list[Deferred[None]] = []
        self._ended: list[Deferred[None]] = []

    @property
    def owner(self) -> bool:
        """Whether this process runs the server, and no other."""
        return self._owner is not None

    @property
    def url(self) -> str:
        """What `REDIS_URL` has to be for another process that is to use this server, and never to run one."""
        return f"unix://{quote(self.unix_path)}"

    @property
    def pid(self) -> int | None:
        """The server's process, where we run it."""
        return None if self._child is None else self._child.pid

    async def locate(self) -> IStreamClientEndpoint:
        """The server's socket, once the server answers. Raises StoreUnavailable where that takes too long."""
        if self.owner and not self._up:
            waiting: Deferred[None] = Deferred()
            self._starting.append(waiting)
            waiting.addTimeout(PATIENCE, self._reactor, _not_up)
            await waiting
        return UnixEndpoint(self._reactor, self.unix_path, PATIENCE)

    def startService(self) -> None:
        self._prepare()
        super().startService()
        self._take_over()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None
        child = self._child
        if child is not None:
            ended: Deferred[None] = Deferred()
            self._ended.append(ended)
            kill = self._reactor.callLater(GRACE, child.signal, "KILL")
            child.signal("TERM")
            await ended
            if kill.active():
                kill.cancel()
        if self._owner is not None:
            os.close(self._owner)
            self._owner = None

    def _prepare(self) -> None:
        try:
            self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self._home.stat()
            if found.st_uid != os.geteuid():
                raise StoreError(f"{self._home} belongs to another user")
            if stat.S_IMODE(found.st_mode) != 0o700:
                self._home.chmod(0o700)
        except OSError as error:
            raise StoreError(f"the embedded Redis cannot use {self._home}: {error.strerror}") from error

    def _take_over(self) -> None:
        """Become the one that runs the server, as soon as nobody else does."""
        self._restart = None
        if self._owner is None:
            self._owner = _lock(self._home / "owner.lock")
        if self._owner is None:
            # Another process runs the server. Should it end, this one is next.
            self._later(WATCH, self._take_over)
            return
        self._spawn()

    def _spawn(self) -> None:
        self._restart = None
        # The server inherits this lock and holds it to its end: two servers never share a folder, even if the
        # process that ran the first one was killed.
        busy = _lock(self._home / "server.lock")
        if busy is None:
            self._later(FIRST_DELAY, self._spawn)
            return
        child = _Child(self)
        try:
            transport = self._reactor.spawnProcess(
                child,
                sys.executable,
                [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), self._binary],
                env={"LC_ALL": "C"},
                path=str(self._home),
                childFDs={0: "w", 1: "r", 2: "r", 3: busy},
            )
        finally:
            os.close(busy)
        child.started = self._reactor.seconds()
        self._child = child
        transport.write(_CONFIG)
        transport.closeStdin()

    def _later(self, delay: float, function: Any) -> None:
        self._restart = self._reactor.callLater(delay, function)

    def child_up(self) -> None:
        """Called when the server answers."""
        self._up = True
        starting, self._starting = self._starting, []
        for waiting in starting:
            if not waiting.called:
                waiting.callback(None)

    def child_ended(self, child: _Child, reason: str) -> None:
        """Called when the server has ended; starts it again unless the service is stopping."""
        self._child = None
        self._up = False
        if self.running:
            steady = self._reactor.seconds() - child.started >= STEADY
            self._failures = 1 if steady else self._failures + 1
            delay = min(MAX_DELAY, FIRST_DELAY * 2 ** min(self._failures - 1, 10))
            self._log.error(
                "the embedded redis-server ended ({reason}); starting it again in {delay} s",
                reason=reason,
                delay=delay,
            )
            self._later(delay, self._spawn)
        ended, self._ended = self._ended, []
        for waiting in ended:
            waiting.callback(None)


class _Child(ProcessProtocol):
    """The server's process; its log lines become events."""

    _log = Logger(namespace="scalelite.store.embedded")

    def __init__(self, owner: EmbeddedServer) -> None:
        self._owner = owner
        self._rest = b""
        self._last: deque[str] = deque(maxlen=5)
        self.started = 0.0

    @property
    def pid(self) -> int | None:
        return None if self.transport is None else self.transport.pid

    def signal(self, name: str) -> None:
        if self.transport is not None:
            with suppress(ProcessExitedAlready):
                self.transport.signalProcess(name)

    def outReceived(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-4096:]
        for line in lines:
            text = line.decode(errors="replace").strip()
            if text:
                self._last.append(text)
                self._log.debug("redis-server: {text}", text=text)
            if "eady to accept connections" in text:
                self._owner.child_up()

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        self._owner.child_ended(self, "; ".join([reason.getErrorMessage(), *self._last]))


def _not_up(_result: object, seconds: float) -> None:
    raise StoreUnavailable(f"the embedded redis-server did not start within {seconds:g} s")


def _lock(path: Path) -> int | None:
    """Hold this lock file until the returned descriptor, and its heirs, are closed; None while another does."""
    held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        return None
    return held
