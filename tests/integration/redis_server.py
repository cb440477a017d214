"""Real redis-server and redis-sentinel processes for the tests, each in its own folder, ended with it.

with RedisServer(tmp_path) as server:          # a UNIX socket and a free TCP port on 127.0.0.1
    connect(reactor, server.settings(), ...)
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from twisted.internet import reactor
from twisted.internet.task import deferLater

from scalelite.settings.redis import RedisSettings, parse_redis_url
from tests.integration.requirements import require

#: Seconds that a server has to answer its first PING.
STARTING = 10.0
#: Seconds after which `eventually` no longer believes that it will happen.
PATIENCE = 30.0


async def eventually(attempt: Callable[[], Awaitable[Any]], *expected: type[Exception]) -> Any:
    """The result of the first `attempt` that is neither None nor one of the `expected` errors."""
    clock: Any = reactor
    limit = clock.seconds() + PATIENCE
    while True:
        try:
            result = await attempt()
        except expected:
            if clock.seconds() > limit:
                raise
        else:
            if result is not None:
                return result
            assert clock.seconds() < limit, "it did not happen"
        await deferLater(clock, 0.02)


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RedisServer:
    """One redis-server; `options` are lines of redis.conf, `PORT` and `FOLDER` in them are filled in."""

    binary = "redis-server"

    def __init__(self, options: Sequence[str] = (), *, tls: bool = False) -> None:
        # Not pytest's tmp_path, which is too long for a UNIX socket.
        self.folder = Path(tempfile.mkdtemp(prefix="rs-"))
        self.port = free_port()
        self.unix_path = str(self.folder / "redis.sock")
        self._process: subprocess.Popen[bytes] | None = None
        listen = ["port 0", f"tls-port {self.port}"] if tls else [f"port {self.port}"]
        lines = [
            "bind 127.0.0.1",
            *listen,
            f"unixsocket {self.unix_path}",
            f"dir {self.folder}",
            'save ""',
            "appendonly no",
            "repl-diskless-sync-delay 0",
            f"logfile {self.folder}/log",
            *(line.replace("PORT", str(self.port)).replace("FOLDER", str(self.folder)) for line in options),
        ]
        self._config = self.folder / "redis.conf"
        self._config.write_text("\n".join(self._lines(lines)) + "\n")

    def _lines(self, lines: list[str]) -> list[str]:
        return lines

    @property
    def pid(self) -> int:
        """The running process."""
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        """Over TCP, without a password."""
        return f"redis://127.0.0.1:{self.port}"

    def settings(self, url: str | None = None) -> RedisSettings:
        """The settings that `REDIS_URL=url` gives; over the UNIX socket without one."""
        return parse_redis_url(url or f"unix://{self.unix_path}")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        require(self.binary, "redis-cli")
        command = [self.binary, str(self._config)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + STARTING
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                log = self.folder / "log"
                raise RuntimeError(f"{self.binary} did not start: {log.read_text() if log.exists() else ''}")
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            with self._socket() as link:
                link.settimeout(1.0)
                link.sendall(b"PING\r\n")
                # -NOAUTH is an answer as well; -LOADING is not yet.
                return link.recv(64).startswith((b"+PONG", b"-NOAUTH", b"-DENIED"))
        except OSError:
            return False

    def _socket(self) -> socket.socket:
        link = socket.socket(socket.AF_UNIX)
        try:
            link.connect(self.unix_path)
        except OSError:
            link.close()
            raise
        return link

    def command(self, *args: str, password: str | None = None) -> str:
        """What redis-cli prints for this command."""
        login = [] if password is None else ["-a", password, "--no-auth-warning"]
        done = subprocess.run(
            ["redis-cli", "-s", self.unix_path, *login, *args], capture_output=True, text=True, check=True, timeout=20
        )
        return done.stdout.strip()

    def stop(self) -> None:
        """End it as an operator would."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it without warning, as a crash would."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Let it hang: its sockets stay open and say nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(number)
            self._process.wait(timeout=20)
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class RedisSentinel(RedisServer):
    """One redis-sentinel that watches `master` under the name `mymaster`, impatiently (down after 1 s, quorum 1)."""

    binary = "redis-sentinel"

    def __init__(self, master: RedisServer, options: Sequence[str] = (), *, tls: bool = False) -> None:
        self._master = master
        super().__init__(options, tls=tls)

    def _lines(self, lines: list[str]) -> list[str]:
        data = ("save", "appendonly", "repl-")
        return [
            *(line for line in lines if not line.startswith(data)),
            f"sentinel monitor mymaster 127.0.0.1 {self._master.port} 1",
            "sentinel down-after-milliseconds mymaster 1000",
            "sentinel failover-timeout mymaster 2000",
        ]
