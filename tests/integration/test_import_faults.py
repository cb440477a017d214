"""Imports while what they stand on gives way: PostgreSQL restarted or killed, a full disk, a program that is killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from sqlalchemy import Engine, event

from scalelite.recordings.folders import FolderStorage
from scalelite.recordings.importer import Result
from tests.integration.postgres import PostgresServer
from tests.integration.processes import Program, eventually
from tests.recordings.importing import Site
from tests.recordings.tars import RECORD, metadata_xml, recording, write_tar

pytestmark = pytest.mark.integration


@pytest.fixture
def site(tmp_path: Path, postgres_url: str) -> Iterator[Site]:
    made = Site(tmp_path / "bigbluebutton", postgres_url)
    yield made
    made.engine.dispose()


class Trouble:
    """Ends PostgreSQL at the N-th statement or commit of an engine."""

    def __init__(self, server: PostgresServer, engine: Engine, turn: int, *, crash: bool) -> None:
        self._server = server
        self._turn = turn
        self._crash = crash
        self.count = 0
        for name in ("before_cursor_execute", "commit"):
            event.listen(engine, name, self._tick)

    def _tick(self, *_: object) -> None:
        if self.count == self._turn:
            if self._crash:
                self._server.kill()
            else:
                self._server.stop()
        self.count += 1


@pytest.mark.parametrize("crash", [True, False], ids=["killed", "stopped"])
@pytest.mark.parametrize("turn", [0, 2, 4, 6, 8, 10, 11, 12, 13, 14])
def test_postgresql_restarted_at_any_moment_costs_a_repetition(
    site: Site, postgres_server: PostgresServer, turn: int, crash: bool
) -> None:
    site.run(recording(text="old"))
    trouble = Trouble(postgres_server, site.engine, turn, crash=crash)

    def wait(seconds: float) -> None:
        site.pauses.append(seconds)
        if postgres_server._process is None:
            postgres_server.start()

    path = site.put(recording({"presentation": metadata_xml(name="new")}, text="new"))
    try:
        outcome = site.importer(pause=wait).run(path, site.notes)
    finally:
        if postgres_server._process is None:
            postgres_server.start()
    assert outcome.result is Result.IMPORTED
    assert trouble.count > turn
    assert site.pauses != []
    assert (site.recording["name"], site.files()) == ("new", {"published/presentation": "new"})
    assert (len(site.notices), site.left()) == (1, [])
    # A crash may have lost that a fingerprint was to be forgotten, which does no harm and is made up for.
    site.time += 2 * 86_400
    site.importer().recover()
    assert site.noted == []


@pytest.fixture
def tiny() -> Iterator[Path]:
    """A filesystem of one mebibyte."""
    folder = Path(tempfile.mkdtemp(prefix="tiny-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tiny", str(folder)], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        folder.rmdir()
        pytest.skip("filesystems can't be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
    folder.rmdir()


def test_a_disk_that_is_full_loses_nothing_and_is_no_end(site: Site, tiny: Path) -> None:
    site.storage = FolderStorage(tiny / "published", tiny / "unpublished")
    site.run(recording(text="old"))
    big = (f"presentation/{RECORD}/big", bytes(3_000_000))
    outcome = site.run([*recording({"presentation": metadata_xml(name="new")}, text="new"), big])
    assert outcome.result is Result.FAILED
    assert "No space left on device" in (outcome.reason or "")
    assert (site.recording["name"], site.files()) == ("Algebra", {"published/presentation": "old"})
    assert list(tiny.rglob(".*")) == []
    subprocess.run(["mount", "-o", "remount,size=8m", str(tiny)], check=True)
    site.time += 60
    (path,) = site.spool.waiting()
    assert site.importer().run(path, site.notes).result is Result.IMPORTED
    assert (site.recording["name"], site.files()) == ("new", {"published/presentation": "new"})
    assert site.left() == []


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not pytest's tmp_path, which is too long for redis' UNIX socket.
    with tempfile.TemporaryDirectory(prefix="sl-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def put(folder: Path, *names: str, size: int = 0) -> None:
    spool = folder / "var" / "bigbluebutton" / "spool"
    for name in names:
        members = recording({"video": metadata_xml("video", name)}, name)
        write_tar(spool, [*members, (f"video/{name}/film", bytes(size))], name)


def listed(program: Program) -> list[str]:
    """The recordings that getRecordings has."""
    status, body = program.get(program.signed("getRecordings"))
    assert status == 200, body
    return sorted(found.text or "" for found in ElementTree.fromstring(body).iter("recordID"))


def import_processes(program: Program) -> list[int]:
    return [pid for pid in program.children if b"import_worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_the_program_imports_what_comes(folder: Path) -> None:
    with Program(folder) as program:
        program.ready()
        put(folder, "rec-1", "rec-2")
        put(folder, "rec-3")
        eventually(lambda: listed(program) == ["rec-1", "rec-2", "rec-3"])
        spool = folder / "var" / "bigbluebutton" / "spool"
        eventually(lambda: [path for path in spool.rglob("*") if path.is_file()] == [] or None)
        assert program.stop() == 0
        imported = [found["message"] for found in program.events if found["message"].startswith("imported ")]
        assert len(imported) == 3
        assert re.fullmatch(r"imported rec-1: video, \d+ bytes in [\d.]+ s, published", sorted(imported)[0])
        assert [found for found in program.events if found["level"] in {"error", "critical"}] == []


def test_without_the_importer_the_spool_is_left_alone(folder: Path) -> None:
    with Program(folder, SCALELITE_IMPORTER="false") as program:
        program.ready()
        put(folder, "rec-1")
        assert program.stop() == 0
    assert (folder / "var" / "bigbluebutton" / "spool" / "rec-1.tar").exists()


def test_a_killed_import_process_is_replaced_and_its_tar_imported(folder: Path) -> None:
    with Program(folder) as program:
        program.ready()
        put(folder, "rec-1", size=200_000_000)
        for pid in eventually(lambda: import_processes(program)) or []:
            os.kill(pid, signal.SIGKILL)
        put(folder, "rec-2")
        eventually(lambda: "rec-2" in listed(program))
        failed = folder / "var" / "bigbluebutton" / "spool" / "failed" / "rec-1.json"
        # It may have died before it was given the tar.
        eventually(lambda: failed.exists() or "rec-1" in listed(program))
        assert program.stop() == 0


def test_a_killed_program_goes_on_where_it_was(folder: Path) -> None:
    names = [f"rec-{number}" for number in range(6)]
    with Program(folder) as program:
        program.ready()
        put(folder, *names, size=20_000_000)
        eventually(lambda: import_processes(program))
        program.process.kill()
        program.wait()
    with Program(folder) as program:
        program.ready()
        eventually(lambda: listed(program) == names)
        spool = folder / "var" / "bigbluebutton" / "spool"
        eventually(lambda: not [path for path in spool.rglob("*") if path.is_file()])
        assert program.stop() == 0
