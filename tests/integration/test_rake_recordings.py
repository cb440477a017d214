"""Recordings by command, as processes on a real redis-server and both databases; and scripts for Scalelite's tasks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.command_line import PATIENCE, Shell
from tests.integration.processes import eventually
from tests.integration.redis_server import RedisServer
from tests.recordings.tars import RECORD, recording, write_tar

pytestmark = pytest.mark.integration


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def shell(tmp_path: Path, redis: RedisServer, empty_database_url: str) -> Shell:
    """A shell over an empty database, with `bin/rake` as in Scalelite's image."""
    rake = tmp_path / "bin" / "rake"
    rake.parent.mkdir()
    rake.write_text(f"#!{sys.executable}\nimport sys\nfrom scalelite.admin.cli import main\nsys.exit(main())\n")
    rake.chmod(0o755)
    return Shell(
        tmp_path,
        REDIS_URL=redis.url,
        DATABASE_URL=empty_database_url,
        PATH=os.environ["PATH"],
        **{
            f"RECORDING_{name}_DIR": str(tmp_path / "recordings" / name.lower())
            for name in ("SPOOL", "WORK", "PUBLISH", "UNPUBLISH")
        },
    )


class Watching:
    """`rake recordings:watch` in the background."""

    def __init__(self, shell: Shell, *words: str) -> None:
        self._errors = shell.folder / "watch.err"
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [shell.folder / "bin" / "rake", *words],
                cwd=shell.folder, env=shell.environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
            )  # fmt: skip

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    def until(self, text: str) -> None:
        assert eventually(lambda: text in self.errors), self.errors

    def end(self, number: signal.Signals) -> str:
        """What it printed; it must end well."""
        self.process.send_signal(number)
        out, _ = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, self.errors
        return out.decode()


@pytest.fixture
def watching(shell: Shell) -> Iterator[Watching]:
    """An importer, which makes the tables at its start as the service does."""
    started = Watching(shell, "recordings:watch[true,60]")
    yield started
    started.process.kill()
    started.process.communicate()


SCRIPT = f"""\
set -e
./bin/rake 'recordings:addToTenant[0b7c]'
./bin/rake recordings:update
./bin/rake 'recordings:unpublish[{RECORD}]'
./bin/rake recordings:update
./bin/rake recordings:addToTenant && exit 9
echo "status $?"
"""


def test_the_importer_and_scripts_for_scalelites_tasks(shell: Shell, watching: Watching, tmp_path: Path) -> None:
    root = tmp_path / "recordings"
    watching.until("this instance holds the lease importer")
    write_tar(root / "spool", recording())
    watching.until(f"imported {RECORD}: presentation")
    done = subprocess.run(
        ["bash", "-c", SCRIPT], check=False, cwd=tmp_path, env=shell.environ, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == [
        "All existing recordings have been successfully linked to tenant 0b7c",
        "OK",
        "status 1",
    ]
    assert done.stderr == "No tenant ID was provided\n"
    assert done.returncode == 0
    assert (root / "unpublish" / "presentation" / RECORD / "metadata.xml").is_file()
    (row,) = json.loads(shell.ok("recordings:list", "--tenant", "0b7c", "--json"))
    assert (row["record_id"], row["state"]) == (RECORD, "unpublished")
    write_tar(root / "spool", [("presentation/x/metadata.xml", b"<no")], "broken")
    watching.until("could not import broken.tar")
    assert json.loads(shell.ok("recordings:failed", "--json"))[0]["name"] == "broken"
    assert shell.ok("recordings:retry", "broken") == "1 import will be tried again\nOK\n"
    assert eventually(lambda: watching.errors.count("could not import broken.tar") == 2)
    assert watching.end(signal.SIGTERM) == ""
    assert watching.errors.splitlines()[-1] == "Exiting importer on signal: SIGTERM"


def test_a_recording_is_imported_deleted_and_brought_back(shell: Shell, tmp_path: Path) -> None:
    root = tmp_path / "recordings"
    shell.ok("db:upgrade")
    tar = write_tar(tmp_path / "elsewhere", recording(), "sent")
    assert shell.ok("recordings:import", str(tar)).startswith(f"Imported {RECORD}: presentation, ")
    assert shell.run("recordings:delete", RECORD).returncode == 2
    assert shell.run("rake", f"recordings:delete[{RECORD}]", stdin="yes\n").returncode == 0
    assert not (root / "publish" / "presentation" / RECORD).exists()
    again = shell.run("recordings:import", str(tar))
    assert (again.returncode, again.stderr) == (1, f"ERROR: Recording {RECORD} was deleted; --force brings it back\n")
    shell.ok("recordings:import", str(tar), "--force")
    assert (root / "publish" / "presentation" / RECORD / "slides" / "1.svg").read_text() == "text"
    assert shell.ok("recordings:orphans") == "Nothing is wrong: 1 recording, 1 folder\n"
    commands = [row["command"] for row in json.loads(shell.ok("audit", "--json"))]
    assert commands[:2] == ["db:upgrade", "recordings:import"]
    assert commands.count("recordings:delete") == 2


def test_the_importer_ends_with_ctrl_c_on_a_terminal(shell: Shell) -> None:
    shell.ok("db:upgrade")
    status, seen = shell.on_terminal("recordings:watch", type_in="\x03", after="holds the lease importer")
    assert status == 0
    assert "Exiting importer on signal: SIGINT" in seen


def test_other_commands_do_without_sqlalchemy(shell: Shell) -> None:
    words = [
        ["status"], ["servers"], ["meetings"], ["tenants"], ["audit"], ["config"], ["liveness"], ["--help"],
        ["recordings:list", "--help"],
    ]  # fmt: skip
    program = (
        "import sys\nfrom scalelite.admin.cli import main\nmain(sys.argv[1:])\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'sqlalchemy', 'alembic', 'psycopg', 'boto3'}))"
    )
    for one in words:
        done = subprocess.run(
            [sys.executable, "-c", program, *one],
            check=False, cwd=shell.folder, env=shell.environ, capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        assert done.stdout.splitlines()[-1] == "[]", (one, done.stdout, done.stderr)
