"""The whole program as a process of its own, started by twistd as an operator starts it.

with Program(folder, WEB_CONCURRENCY="2") as program:
    program.ready()
    program.get(program.signed("create", meetingID="m"))
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlencode

T = TypeVar("T")

SECRET = "the secret of the front-end"
NODE_SECRET = "the secret of the node"
#: Seconds after which something no longer is believed to happen.
PATIENCE = 40.0
TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
NAMESPACE = "scalelite_development"


def eventually(attempt: Callable[[], T], *expected: type[Exception]) -> T:
    """The first true result of `attempt` that does not raise one of the `expected` errors."""
    limit = time.monotonic() + PATIENCE
    while True:
        try:
            if result := attempt():
                return result
            trouble: object = result
        except expected as error:
            trouble = error
        assert time.monotonic() < limit, f"it did not happen: {trouble!r}"
        time.sleep(0.01)


def environment(**settings: str) -> dict[str, str]:
    """The environment of a program: nothing of the tests' own but what Python needs."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "LOADBALANCER_SECRET": SECRET,
        "SCALELITE_SSH_DISABLED": "true",
        **settings,
    }


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Program:
    """`twistd -n scalelite` in `folder`, with `settings` as its environment; listens on a free port of loopback."""

    def __init__(self, folder: Path, *, options: Sequence[str] = (), twistd: Sequence[str] = ("-n",), **settings: str):
        self.folder = folder
        self.output = folder / "output"
        self._options = options
        self._twistd = twistd
        self._environ = environment(**{"BIND": "tcp://127.0.0.1:0", "RAILS_LOG_LEVEL": "debug", **settings})
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.output.open("wb") as output:
            self._process = subprocess.Popen(
                [*TWISTD, *self._twistd, "scalelite", *self._options],
                cwd=self.folder,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # So that signals of the tests' terminal do not get there.
                start_new_session=True,
            )

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    @property
    def text(self) -> str:
        """What it has written."""
        return self.output.read_text() if self.output.exists() else ""

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events of its log."""
        lines = [json.loads(line) for line in self.text.splitlines() if line.startswith("{") and line.endswith("}")]
        return [line for line in lines if "level" in line]

    def logged(self, pattern: str) -> dict[str, Any]:
        """The first event, awaited, whose message matches."""
        return eventually(lambda: next((e for e in self.events if re.search(pattern, e["message"])), None)) or {}

    @property
    def urls(self) -> list[str]:
        """Where it listens."""
        return str(self.logged("^listening on ")["urls"]).split(", ")

    @property
    def port(self) -> int:
        return int(self.urls[0].rpartition(":")[2])

    def ready(self) -> None:
        """Wait until it answers."""
        eventually(lambda: self.get("/bigbluebutton/api")[0] == 200, OSError, http.client.HTTPException)

    def open(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def get(self, path: str) -> tuple[int, str]:
        """Status and body."""
        connection = self.open()
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def signed(self, action: str, **params: str) -> str:
        """The path of a signed call."""
        query = urlencode(params, quote_via=quote)
        checksum = hashlib.sha256((action + query + SECRET).encode()).hexdigest()
        return f"/bigbluebutton/api/{action}?{query}&checksum={checksum}"

    def create(self, meeting_id: str) -> str:
        """The answer to a create."""
        return self.get(self.signed("create", meetingID=meeting_id, name="A meeting"))[1]

    def refuses(self) -> bool:
        """Whether nothing listens any more."""
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE).close()
        except ConnectionRefusedError:
            return True
        return False

    @property
    def children(self) -> list[int]:
        """Its child processes that run."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return [int(pid) for task in tasks for pid in (task / "children").read_text().split() if alive(int(pid))]

    @property
    def workers(self) -> list[int]:
        """Its worker processes."""
        found = []
        for pid in self.children:
            with suppress(FileNotFoundError):
                if b"scalelite.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found

    def workers_up(self) -> list[int]:
        """Its two workers, once both serve."""
        eventually(lambda: len({e["worker"] for e in self.events if e["message"].endswith("is up")}) == 2)
        return eventually(lambda: len(self.workers) == 2 and self.workers) or []

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """The exit status; a negative one is the signal that ended it."""
        return self.process.wait(timeout=PATIENCE)

    def stop(self) -> int:
        """End it as an operator would; its exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            children = self.children
            self.process.kill()
            self.process.wait(timeout=PATIENCE)
            for pid in children:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if error is not None:
            sys.stdout.write(self.text[-20_000:])


def redis(path: Path, *command: str) -> str:
    """What the Redis behind a UNIX socket says to a command."""
    done = subprocess.run(
        ["redis-cli", "-e", "-s", str(path), *command], check=False, capture_output=True, text=True, timeout=PATIENCE
    )
    if done.returncode:
        raise ConnectionError(done.stderr)
    return done.stdout.strip()


class Simulated:
    """A simulated BBB server in a process of its own."""

    def __init__(self, port: int) -> None:
        self.port = port

    def control(self, command: str, **arguments: Any) -> Any:
        """Its control API: POST with arguments."""
        return self._call("POST", command, json.dumps(arguments))

    def look(self, command: str) -> Any:
        """Its control API: GET."""
        return self._call("GET", command, None)

    def _call(self, method: str, command: str, body: str | None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, f"/_sim/{command}", body)
            response = connection.getresponse()
            content = json.loads(response.read())
            assert response.status == 200, content
            return content
        finally:
            connection.close()

    def asked(self, action: str) -> int:
        """How many calls of an action have come."""
        return len(self.look(f"requests?action={action}"))

    def join_pool(self, socket_path: Path, server_id: str) -> None:
        """Put it into the pool of the balancer whose Redis is there, enabled and online."""
        url = f"http://127.0.0.1:{self.port}/bigbluebutton/api"
        fields = ("url", url, "secret", NODE_SECRET, "online", "true", "load_multiplier", "1.0")
        eventually(lambda: redis(socket_path, "PING") == "PONG", ConnectionError)
        redis(socket_path, "HSET", f"{NAMESPACE}:server:{server_id}", *fields)
        redis(socket_path, "SADD", f"{NAMESPACE}:servers", server_id)
        redis(socket_path, "SADD", f"{NAMESPACE}:server_enabled", server_id)
        redis(socket_path, "ZADD", f"{NAMESPACE}:server_load", "0", server_id)


@contextmanager
def simulated(count: int) -> Iterator[list[Simulated]]:
    """So many simulated servers."""
    command = [sys.executable, "-m", "scalelite.simulator", "--print-ports", "--secret", NODE_SECRET]
    process = subprocess.Popen(
        [*command, *["--port=0"] * count], env=environment(), stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert process.stdout is not None
        ports = json.loads(process.stdout.readline())["ports"]
        yield [Simulated(port) for port in ports]
    finally:
        process.kill()
        process.wait(timeout=PATIENCE)
        if process.stdout is not None:
            process.stdout.close()
