"""A PostgreSQL that is started, measured and removed with what it is measured for."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg

from bench.processes import LOAD_CORE, STARTING, BenchError, Process, cpu_seconds, environment

#: Who runs it where the benchmark runs as root: PostgreSQL refuses to.
USER = "postgres"
#: Of a small server of today. What is committed reaches the disk; statistics are gathered when they are asked for.
SETTINGS = {
    "listen_addresses": "",
    "max_connections": "60",
    "shared_buffers": "512MB",
    "maintenance_work_mem": "256MB",
    "max_wal_size": "1GB",
    "min_wal_size": "80MB",
    "random_page_cost": "1.1",
    "autovacuum": "off",
    "log_min_messages": "error",
}


def binaries() -> Path:
    """The folder with `initdb` and `postgres`: Debian keeps them off the path. Raises BenchError."""
    on_path = shutil.which("initdb")
    if on_path is not None:
        return Path(on_path).resolve().parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise BenchError("PostgreSQL's server (initdb, postgres) is not installed")
    return found[-1].parent


class PostgreSQL(Process):
    """A server on a UNIX socket; its superuser is `postgres`, without a password.

    `kept`: a folder for its files that outlives it, so that another run finds its databases.
    """

    def __init__(self, kept: Path | None = None, core: int | str = LOAD_CORE) -> None:
        self._kept = kept is not None
        # A name short enough for a UNIX socket.
        self.home = Path(tempfile.mkdtemp(prefix="bench-pg-")) if kept is None else kept.absolute()
        self.home.mkdir(parents=True, exist_ok=True)
        self._binaries = binaries()
        data = self.home / "data"
        if not data.exists():
            self._make(data)
        stated = {**SETTINGS, "unix_socket_directories": str(self.home)}
        options = [word for name, value in stated.items() for word in ("-c", f"{name}={value}")]
        command = [*_as_user(), str(self._binaries / "postgres"), "-D", str(data), *options]
        super().__init__(command, core, environment())
        self._wait()

    def _make(self, data: Path) -> None:
        if os.geteuid() == 0:
            shutil.chown(self.home, USER, USER)
        options = ["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8"]
        subprocess.run(
            [*_as_user(), str(self._binaries / "initdb"), *options, f"--pgdata={data}"],
            check=True, capture_output=True, cwd=self.home,
        )  # fmt: skip

    def _wait(self) -> None:
        limit = time.monotonic() + STARTING
        while True:
            try:
                self.query("SELECT 1")
                return
            except psycopg.OperationalError as error:
                if self.popen.poll() is not None or time.monotonic() > limit:
                    raise BenchError(f"PostgreSQL did not start: {self.output}") from error
            time.sleep(0.02)

    def url(self, database: str = "postgres") -> str:
        """Of one of its databases, as `DATABASE_URL` takes it."""
        return f"postgresql://postgres@/{database}?host={self.home}"

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        """A connection whose statements are transactions of their own."""
        return psycopg.connect(self.url(database), autocommit=True)

    def query(self, statement: str, *values: Any, database: str = "postgres") -> list[tuple[Any, ...]]:
        """The rows that a statement gives; none if it gives no result."""
        with self.connect(database) as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return [] if cursor.description is None else cursor.fetchall()

    def has(self, database: str) -> bool:
        """Whether there is such a database."""
        return bool(self.query("SELECT 1 FROM pg_database WHERE datname = %s", database))

    def create(self, database: str, template: str = "template1") -> None:
        """Make a database: empty, or a copy."""
        self.query(f'CREATE DATABASE "{database}" TEMPLATE "{template}" STRATEGY file_copy')

    def drop(self, database: str) -> None:
        """Remove a database, whoever uses it still."""
        self.query(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')

    def give_way(self) -> None:
        """Let it, and what it starts from now on, run where nothing else on its core wants to."""
        for pid in (self.pid, *self._children()):
            os.setpriority(os.PRIO_PROCESS, pid, 10)

    def _children(self) -> list[int]:
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def cpu(self) -> float:
        """CPU seconds of all its processes that serve connections; those that have ended are not counted."""
        used = 0.0
        for child in self._children():
            try:
                if b"[local]" in Path(f"/proc/{child}/cmdline").read_bytes():
                    used += cpu_seconds(child)
            except FileNotFoundError:
                continue
        return used

    def stop(self) -> None:
        """End it, whoever is connected."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGINT)
            try:
                self.popen.wait(60)
            except subprocess.TimeoutExpired:
                self.popen.send_signal(signal.SIGQUIT)
        super().stop()
        if not self._kept:
            shutil.rmtree(self.home, ignore_errors=True)


def _as_user() -> list[str]:
    """What to put before a command so that it runs as PostgreSQL's user, and ends with this process."""
    identity = [f"--reuid={USER}", f"--regid={USER}", "--clear-groups"] if os.geteuid() == 0 else []
    return ["setpriv", *identity, "--pdeathsig=INT"]
