"""A real PostgreSQL for the tests: a cluster of its own in a temporary folder, reached by a UNIX socket.

with PostgresServer() as server:
    url = server.fresh_database()
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.integration.requirements import missing

#: Seconds that a server has to answer its first query, or to end.
PATIENCE = 30.0
#: Who runs the server, where the tests run as root: PostgreSQL refuses to.
USER = "postgres"

# Nothing outlives a test session, so nothing needs to reach the disk.
_SETTINGS = (
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=off",
    "listen_addresses=",
    "max_connections=60",
    "shared_buffers=64MB",
    "logging_collector=off",
    "log_min_messages=fatal",
)


def find_binaries() -> Path | None:
    """The folder with `initdb` and `postgres`: Debian keeps them off the path."""
    on_path = shutil.which("initdb")
    if on_path is not None:
        return Path(on_path).resolve().parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


class PostgresServer:
    """One PostgreSQL server; its superuser is `postgres`, without a password."""

    def __init__(self) -> None:
        # Not pytest's tmp_path, which is too long for a UNIX socket, and closed to other users.
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self._binaries: Path | None = None
        self._templates: set[str] = set()

    def url(self, database: str = "postgres") -> str:
        """Of one of its databases, as `DATABASE_URL` takes it."""
        return f"postgresql://postgres@/{database}?host={self.folder}"

    @property
    def pid(self) -> int:
        """The running server's first process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Make the cluster unless there is one, start the server, and wait until it answers."""
        binaries = self._binaries = self._binaries or find_binaries()
        if binaries is None:
            missing("not installed here: PostgreSQL's server (initdb, postgres)")
        data = self.folder / "data"
        if not data.exists():
            if os.geteuid() == 0:
                shutil.chown(self.folder, USER, USER)
            subprocess.run(
                [
                    *_as_user(),
                    str(binaries / "initdb"),
                    "--no-sync",
                    "--auth=trust",
                    "--username=postgres",
                    "--encoding=UTF8",
                    "--locale=C.UTF-8",
                    f"--pgdata={data}",
                ],
                check=True,
                capture_output=True,
                cwd=self.folder,
                timeout=PATIENCE * 2,
            )
        options = [word for line in (*_SETTINGS, f"unix_socket_directories={self.folder}") for word in ("-c", line)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_as_user(), str(binaries / "postgres"), "-D", str(data), *options],
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {(self.folder / 'log').read_text()}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        import psycopg

        try:
            self.query("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def query(self, statement: str, *values: Any, database: str = "postgres") -> list[tuple[Any, ...]]:
        """The rows that a statement of its own, outside of any transaction, gives; none if it gives no result."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True, connect_timeout=5) as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return [] if cursor.description is None else cursor.fetchall()

    def fresh_database(self, template: str | None = None, fill: Callable[[str], None] | None = None) -> str:
        """The URL of a new database, empty, or a copy of `template`, which `fill` makes from its URL once."""
        if template is not None and template not in self._templates:
            self.query(f'CREATE DATABASE "{template}"')
            assert fill is not None
            fill(self.url(template))
            self._templates.add(template)
        name = f"test_{next(self._numbers)}"
        self.query(f'CREATE DATABASE "{name}" TEMPLATE "{template or "template1"}"')
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Remove a database, whoever uses it still."""
        name = url.partition("?")[0].rpartition("/")[2]
        self.query(f'DROP DATABASE "{name}" WITH (FORCE)')

    def stop(self) -> None:
        """End it as a service manager would: connections are broken off, nothing is lost."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End it without warning, as a crash would; `start` recovers."""
        self._end(signal.SIGQUIT)

    def restart(self) -> None:
        """`stop` and `start`."""
        self.stop()
        self.start()

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            try:
                process.wait(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def _as_user() -> list[str]:
    """What to put before a command so that it runs as PostgreSQL's user, and ends with this process."""
    identity = [f"--reuid={USER}", f"--regid={USER}", "--clear-groups"] if os.geteuid() == 0 else []
    return ["setpriv", *identity, "--pdeathsig=INT"]
