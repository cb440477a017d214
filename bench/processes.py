"""The processes that are measured, each on its core, and what they cost."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Protocol, Self

ROOT = Path(__file__).resolve().parent.parent
#: The core of what is measured, and the core of everything that it is measured with.
SERVER_CORE, LOAD_CORE = 0, 1
BOTH_CORES = "0,1"
SECRET = "bench-secret"
BACKEND_SECRET = "secret"
#: Seconds that a process has until it answers.
STARTING = 60.0


class BenchError(Exception):
    """The figures of this run can't be believed, or a part of it did not start."""


def pinned(core: int | str, command: Sequence[str]) -> list[str]:
    """`command` bound to one core, or to several in a list."""
    return ["taskset", "-c", str(core), *command]


def environment(**settings: str) -> dict[str, str]:
    """The surroundings of a child: nothing of ours but the path, so that no setting leaks in."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, "PYTHONPATH": str(ROOT), **settings}


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def cpu_seconds(pid: int) -> float:
    """CPU time that all threads of a process have used; to the nanosecond where the kernel tells it so finely."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").glob("*/schedstat"))
        if tasks:
            return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9
    except FileNotFoundError:
        pass
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int, field: str = "VmRSS") -> float:
    """Resident memory of a process in MB (10^6 bytes), now (VmRSS) or at its peak (VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    raise BenchError(f"no {field} of process {pid}")


def get(port: int, path: str, timeout: float = 30) -> tuple[int, bytes]:
    """Status and body of one GET to a local server."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


class Process:
    """A child that is ended with its `with` block. What it writes goes to a file in its own folder."""

    def __init__(self, command: Sequence[str], core: int | str, env: Mapping[str, str], *, pipes: bool = False) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="bench-"))
        self._output = self.folder / "output"
        with self._output.open("wb") as output:
            self.popen = subprocess.Popen(
                pinned(core, command),
                cwd=self.folder,
                env=dict(env),
                stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else output,
                stderr=output,
                text=True,
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def output(self) -> str:
        """What it said so far, for messages."""
        return self._output.read_text(errors="replace")[-3000:]

    def cpu(self) -> float:
        """CPU seconds used so far."""
        return cpu_seconds(self.pid)

    def wait_for(self, port: int, path: str) -> None:
        """Wait until it answers 200. Raises BenchError."""
        limit = time.monotonic() + STARTING
        while True:
            try:
                if get(port, path)[0] == 200:
                    return
            except OSError:
                pass
            if self.popen.poll() is not None or time.monotonic() > limit:
                raise BenchError(f"did not start: {self.output}")
            time.sleep(0.01)

    def line(self) -> Any:
        """The next line of JSON it prints; only with pipes. Raises BenchError."""
        assert self.popen.stdout is not None
        text = self.popen.stdout.readline()
        if not text:
            raise BenchError(f"ended early: {self.output}")
        return json.loads(text)

    def ask(self, *question: Any) -> Any:
        """Send a line of JSON and wait for the line that answers it; only with pipes."""
        assert self.popen.stdin is not None
        self.popen.stdin.write(json.dumps(question) + "\n")
        self.popen.stdin.flush()
        return self.line()

    def stop(self) -> None:
        """End it, gently if it lets us."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(15)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def python(module: str, *args: str) -> list[str]:
    """The command that runs a module with this interpreter."""
    return [sys.executable, "-m", module, *args]


class Redis(Process):
    """A redis-server on a UNIX socket that keeps nothing."""

    def __init__(self) -> None:
        path = Path(tempfile.mkdtemp(prefix="bench-redis-"))
        self._socket = path / "redis.sock"
        options = ["--port", "0", "--unixsocket", str(self._socket), "--save", "", "--appendonly", "no"]
        super().__init__(["redis-server", *options], LOAD_CORE, environment())
        limit = time.monotonic() + STARTING
        while not self._socket.exists():
            if self.popen.poll() is not None or time.monotonic() > limit:
                raise BenchError(f"redis-server did not start: {self.output}")
            time.sleep(0.01)

    @property
    def url(self) -> str:
        """What REDIS_URL must be."""
        return f"unix://{self._socket}"

    def stop(self) -> None:
        super().stop()
        shutil.rmtree(self._socket.parent, ignore_errors=True)


class Simulator(Process):
    """Simulated BigBlueButton servers, all in one process. Their meetings live a thousand times as long as real ones.

    `delay` in milliseconds.
    """

    def __init__(self, servers: int, *, meetings: int = 0, attendees: int = 0, delay: float = 0) -> None:
        options = ["--meetings", str(meetings), "--attendees", str(attendees), "--delay", str(delay)]
        ports = ["--port", "0"] * servers
        command = python("scalelite.simulator", "--print-ports", "--scale", "0.001", *options, *ports)
        super().__init__(command, LOAD_CORE, environment(), pipes=True)
        self.meetings = meetings
        self.ports: list[int] = self.line()["ports"]

    def command(self, server: int, path: str, **arguments: Any) -> None:
        """A command of the control API for one server."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[server], timeout=30)
        connection.request("POST", f"/_sim/{path}", json.dumps(arguments), {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        if response.status != 200:
            raise BenchError(f"the simulator refused {path}: {answer!r}")


class Bare(Process):
    """What everything is compared with: twisted.web and a Resource with a small body."""

    def __init__(self) -> None:
        self.port = free_port()
        super().__init__(python("bench.bare", str(self.port)), SERVER_CORE, environment())
        self.wait_for(self.port, "/")


class Addressed(Protocol):
    """A Redis, or what stands in front of one."""

    @property
    def url(self) -> str: ...


def balancer_settings(redis: Addressed, namespace: str, **more: str) -> dict[str, str]:
    """The environment of a balancer in production."""
    return environment(
        SCALELITE_ENV="production",
        URL_HOST="127.0.0.1",
        SECRET_KEY_BASE="bench-key-base",
        LOADBALANCER_SECRET=SECRET,
        REDIS_URL=redis.url,
        REDIS_NAMESPACE=namespace,
        **more,
    )


def host_of(tenant: str) -> str:
    """The host name of a tenant of a balancer that has tenants."""
    return f"{tenant}.127.0.0.1"


class Balancer(Process):
    """`twistd -n scalelite` as in production: real Redis, access log into a file.

    `profile`: a file for cProfile's statistics, written at the end. Without `wait` it may not answer yet. `settings`
    are further ones. `path`: what it must answer to be ready.
    """

    def __init__(
        self,
        redis: Addressed,
        namespace: str,
        *,
        profile: Path | None = None,
        wait: bool = True,
        settings: Mapping[str, str] = MappingProxyType({}),
        core: int | str = SERVER_CORE,
        path: str = "/bigbluebutton/api",
    ) -> None:
        self.port = free_port()
        self._logs = Path(tempfile.mkdtemp(prefix="bench-log-"))
        self.access_log = self._logs / "access.log"
        options = ["-n", "--pidfile=", f"--logfile={self._logs / 'events.log'}"]
        if profile is not None:
            options += ["--profile", str(profile), "--profiler=cprofile", "--savestats"]
        command = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", *options, "scalelite"]
        bind, log = f"tcp://127.0.0.1:{self.port}", str(self.access_log)
        env = balancer_settings(redis, namespace, BIND=bind, SCALELITE_ACCESS_LOG=log, **settings)
        super().__init__(command, core, env)
        if wait:
            self.wait_for(self.port, path)

    def failures(self) -> list[str]:
        """Lines of the access log that tell of an error; the log is emptied."""
        # It is written twice a second.
        time.sleep(0.7)
        lines = self.access_log.read_text().splitlines()
        os.truncate(self.access_log, 0)
        return [line for line in lines if _failed(json.loads(line))]

    @property
    def output(self) -> str:
        """What it printed and the end of its log of events."""
        events = self._logs / "events.log"
        return super().output + (events.read_text(errors="replace")[-3000:] if events.exists() else "")

    def stop(self) -> None:
        super().stop()
        shutil.rmtree(self._logs, ignore_errors=True)


def _failed(entry: dict[str, Any]) -> bool:
    note = entry.get("note")
    return entry["status"] >= 400 or (note is not None and not note.startswith("server-"))
