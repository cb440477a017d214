"""The command line as operators and scripts run it: a process of its own, in an empty folder."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import scalelite
from tests.integration.redis_server import RedisServer

HERE = Path(scalelite.__file__).parents[1]
PRODUCTION = {"SCALELITE_ENV": "production", "SECRET_KEY_BASE": "x" * 64, "LOADBALANCER_SECRET": "y" * 32}
#: Seconds that a command may take before the test gives up.
PATIENCE = 60


class Shell:
    """Runs `scalelite` in an empty folder, with the environment of a service in production."""

    def __init__(self, folder: Path, **environ: str) -> None:
        self.folder = folder
        self.environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(HERE), "LANG": "C", **PRODUCTION, **environ}
        self.command = [sys.executable, "-m", "scalelite.admin.cli"]

    def run(self, *words: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a command line to its end, with a pipe as standard input."""
        return subprocess.run(
            [*self.command, *words],
            check=False,
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            cwd=self.folder,
            env=self.environ | environ,
            timeout=PATIENCE,
        )

    def ok(self, *words: str, **options: str) -> str:
        """Run one that must succeed without a word on standard error; what it printed."""
        done = self.run(*words, **options)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def on_terminal(self, *words: str, type_in: str | bytes, after: str) -> tuple[int, str]:
        """Run on a terminal of its own, type as soon as `after` is to be read there; status and what it shows."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(self.folder)
            os.execve(self.command[0], [*self.command, *words], self.environ)
        seen = b""
        typed = False
        deadline = time.monotonic() + PATIENCE
        try:
            while time.monotonic() < deadline:
                if not select.select([terminal], [], [], 1)[0]:
                    continue
                try:
                    seen += os.read(terminal, 4096)
                except OSError:
                    # Linux's way to say that nobody holds the other side any more.
                    break
                if not typed and after.encode() in seen:
                    os.write(terminal, type_in.encode() if isinstance(type_in, str) else type_in)
                    typed = True
        finally:
            os.close(terminal)
            if time.monotonic() >= deadline:
                os.kill(pid, signal.SIGKILL)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return status, seen.decode().replace("\r\n", "\n")


# An empty value is a line that redis-cli's output loses at its end.
HASH = "return cjson.encode(redis.call('HGETALL', KEYS[1]))"


def dump(redis: RedisServer) -> dict[str, Any]:
    """The whole of Redis but the audit log: hashes as dicts, sets sorted, sorted sets as lists of member and score."""
    found: dict[str, Any] = {}
    for key in redis.command("KEYS", "*").splitlines():
        if key.endswith("balancer:audit"):
            continue
        kind = redis.command("TYPE", key)
        if kind == "hash":
            lines = json.loads(redis.command("EVAL", HASH, "1", key))
            found[key] = dict(zip(lines[::2], lines[1::2], strict=True))
        elif kind == "set":
            found[key] = sorted(redis.command("SMEMBERS", key).splitlines())
        elif kind == "zset":
            found[key] = redis.command("ZRANGE", key, "0", "-1", "WITHSCORES").splitlines()
        else:
            found[key] = kind
    return found


def record_meeting(redis: RedisServer, meeting_id: str, server_id: str, number: str) -> None:
    """A meeting as Scalelite itself records it."""
    redis.command(
        "HSET", f"scalelite:meeting:{meeting_id}", "server_id", server_id, "moderator_pw", "mp",
        "voice_bridge", number, "tenant_id", "",
    )  # fmt: skip
    redis.command("SADD", "scalelite:meetings", meeting_id)
    redis.command("HSET", "scalelite:voice_bridges", number, meeting_id)


def spelled(spelling: str, name: str, *arguments: str) -> list[str]:
    return [name, *arguments] if spelling == "plain" else [f"{name}[{','.join(arguments)}]"]
