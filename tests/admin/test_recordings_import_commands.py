"""Failed imports, single tars and the importer on its own, by command."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import pytest_twisted

from scalelite.recordings.tables import outbox, recordings
from tests.admin.desk import Desk, Result
from tests.admin.recordings_desk import NOW, Shelf, shelf
from tests.admin.test_progress import on_screen
from tests.balancer import Balancer
from tests.recordings.tars import RECORD, metadata_xml, recording, write_tar

__all__ = ["shelf"]

BROKEN = [("presentation/x-1/metadata.xml", b"<no")]


def fail(shelf: Shelf, name: str, reason: str) -> None:
    """A tar that an import has failed on."""
    claim = shelf.spool.claim(write_tar(shelf.spool.folder, BROKEN, name))
    assert claim is not None
    claim.fail(reason)
    claim.release()


@pytest.fixture
def inherited(shelf: Shelf, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an import process reads its settings from."""
    monkeypatch.setenv("SCALELITE_ENV", "test")
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("RECORDING_SPOOL_DIR", str(shelf.root / "spool"))
    monkeypatch.setenv("RECORDING_WORK_DIR", str(shelf.root / "work"))
    monkeypatch.setenv("RECORDING_PUBLISH_DIR", str(shelf.root / "published"))
    monkeypatch.setenv("RECORDING_UNPUBLISH_DIR", str(shelf.root / "unpublished"))


@pytest_twisted.ensureDeferred
async def test_failed_imports_are_listed_with_reason_and_next_try(shelf: Shelf) -> None:
    assert await shelf.run("recordings:failed") == Result(0, "", "No import has failed\n")
    fail(shelf, "b-2", "no room\x1b on the disk")
    fail(shelf, "a-1", "it is not XML")
    write_tar(shelf.spool.folder / "failed", BROKEN, "c-3")
    result = await shelf.run("recordings:failed")
    assert (result.status, result.err) == (0, "")
    rows = [line.split(maxsplit=2) for line in result.out.splitlines()]
    assert rows[0][:2] == ["NAME", "ATTEMPTS"]
    assert [row[:2] for row in rows[1:]] == [["a-1", "1"], ["b-2", "1"], ["c-3", "0"]]
    assert rows[2][2] == "2096-10-02 07:06:40Z  2096-10-02 07:07:40Z  no room\\x1b on the disk"
    assert rows[3][2].split() == ["soon", "it", "was", "put", "here"]


@pytest_twisted.ensureDeferred
async def test_failed_imports_as_json(shelf: Shelf) -> None:
    fail(shelf, "a-1", "it is not XML")
    (row,) = json.loads((await shelf.run("recordings:failed", "--json")).out)
    size = row.pop("size")
    assert row == {
        "name": "a-1",
        "reason": "it is not XML",
        "attempts": 1,
        "first_failed": "2096-10-02 07:06:40Z",
        "last_failed": "2096-10-02 07:06:40Z",
        "next_retry": "2096-10-02 07:07:40Z",
    }
    assert size == (shelf.spool.folder / "failed" / "a-1.tar").stat().st_size


def due(shelf: Shelf) -> list[str]:
    """Failed tars that are tried at once: commands have the machine's clock, which is behind the spool's."""
    return sorted(failed.name for failed in shelf.spool.failures.all() if failed.next_retry_at < NOW)


@pytest.mark.parametrize(
    ("words", "again"),
    [
        (["a-1"], ["a-1"]),
        (["a-1.tar", "b-2"], ["a-1", "b-2"]),
        (["a-1:b-2"], ["a-1", "b-2"]),
        (["--all"], ["a-1", "b-2", "c-3"]),
    ],
)
@pytest_twisted.ensureDeferred
async def test_failed_imports_are_tried_again_when_told(shelf: Shelf, words: list[str], again: list[str]) -> None:
    for name in ("a-1", "b-2", "c-3"):
        fail(shelf, name, "no room")
    assert due(shelf) == []
    os.utime(shelf.spool.folder, (1, 1))
    result = await shelf.run("recordings:retry", *words)
    number = "1 import" if len(again) == 1 else f"{len(again)} imports"
    assert result == Result(0, f"{number} will be tried again\nOK\n", "")
    assert due(shelf) == again
    # So the importer looks at once.
    assert shelf.spool.folder.stat().st_mtime > 1


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "Name the tars that are to be tried again, as recordings:failed shows them, or say --all"),
        (["a-1", "--all"], "Name the tars that are to be tried again, as recordings:failed shows them, or say --all"),
        (["a-1", "nothing"], "No import of nothing has failed"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_to_be_tried_again_must_be_there(shelf: Shelf, words: list[str], text: str) -> None:
    fail(shelf, "a-1", "no room")
    assert await shelf.run("recordings:retry", *words) == Result(1, "", f"ERROR: {text}\n")
    assert due(shelf) == []


@pytest_twisted.ensureDeferred
async def test_a_spool_that_cannot_be_read_is_a_plain_error(shelf: Shelf) -> None:
    (shelf.root / "spool" / "failed").rmdir()
    (shelf.root / "spool" / "failed").write_text("")
    result = await shelf.run("recordings:failed")
    assert (result.status, result.out) == (1, "")
    assert result.err.startswith("ERROR: The spool folder cannot be used: Not a directory (")


@pytest.mark.usefixtures("inherited")
@pytest_twisted.ensureDeferred
async def test_a_file_is_imported_and_stays(shelf: Shelf, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "elsewhere", recording(), "any name")
    result = await shelf.run("recordings:import", str(path))
    assert result.err == ""
    assert result.out.startswith(f"Imported {RECORD}: presentation, ")
    assert result.out.endswith(" bytes, published\n")
    assert path.exists()
    assert await shelf.rows(recordings, "record_id", "state") == [(RECORD, "published")]
    assert shelf.kept(RECORD) == [("presentation", True)]
    assert [row[0] for row in await shelf.rows(outbox, "kind")] == ["recording_ready"]


@pytest.mark.parametrize("folder", ["", "failed"])
@pytest.mark.usefixtures("inherited")
@pytest_twisted.ensureDeferred
async def test_a_tar_of_the_spool_is_imported_by_its_name_and_is_gone(shelf: Shelf, folder: str) -> None:
    path = write_tar(shelf.spool.folder / folder, recording())
    assert (await shelf.run("recordings:import", RECORD)).status == 0
    assert not path.exists()
    assert shelf.kept(RECORD) == [("presentation", True)]


@pytest.mark.usefixtures("inherited")
@pytest_twisted.ensureDeferred
async def test_a_deleted_recording_comes_back_by_force_only(shelf: Shelf) -> None:
    await shelf.add(RECORD, files=False, formats=(), state="deleted")
    path = write_tar(shelf.spool.folder, recording())
    result = await shelf.run("recordings:import", RECORD)
    assert result == Result(1, "", f"ERROR: Recording {RECORD} was deleted; --force brings it back\n")
    assert path.exists()
    assert (await shelf.run("recordings:import", RECORD, "--force")).status == 0
    assert await shelf.rows(recordings, "state") == [("published",)]


@pytest.mark.usefixtures("inherited")
@pytest_twisted.ensureDeferred
async def test_what_is_wrong_with_a_tar_is_told(shelf: Shelf, tmp_path: Path) -> None:
    bad = recording({"presentation": metadata_xml(fields={"state": "lost"})})
    path = write_tar(tmp_path, bad)
    result = await shelf.run("recordings:import", str(path))
    assert (result.status, result.out) == (1, "")
    assert result.err.startswith(f"ERROR: {RECORD} could not be imported: presentation/{RECORD}/metadata.xml: ")


@pytest.mark.parametrize("word", ["nothing", "/nowhere/x.tar", "../spool"])
@pytest_twisted.ensureDeferred
async def test_a_tar_that_is_not_there_is_told(shelf: Shelf, word: str) -> None:
    result = await shelf.run("recordings:import", word)
    assert result == Result(1, "", f"ERROR: There is no tar {word}, neither in the spool nor among those that failed\n")


@pytest.mark.parametrize("words", [["recordings:watch"], ["recordings:import", "x"], ["recordings:orphans"]])
@pytest_twisted.ensureDeferred
async def test_what_takes_the_process_for_itself_is_for_the_command_line(balancer: Balancer, words: list[str]) -> None:
    desk = Desk.of(balancer)
    desk.own_process = False
    result = await desk.run(*words)
    assert (result.status, result.out) == (1, "")
    assert "command line" in result.err


@pytest.mark.parametrize("latency", ["0", "soon", "nan"])
@pytest_twisted.ensureDeferred
async def test_latency_is_a_number_of_seconds(balancer: Balancer, latency: str) -> None:
    result = await Desk.of(balancer).run(f"recordings:watch[true,{latency}]")
    assert result == Result(1, "", f"ERROR: LATENCY must be a number of seconds from 0.1 to 86400, not '{latency}'\n")


@pytest.mark.usefixtures("inherited")
@pytest_twisted.ensureDeferred
async def test_importing_a_long_tar_shows_a_bar(shelf: Shelf, tmp_path: Path) -> None:
    path = write_tar(tmp_path, recording(text="x" * 3_000_000))
    screen = await on_screen(shelf.desk, ["recordings:import", str(path)])
    assert screen.bars
    assert all(bar.endswith(" kB unpacked") for bar in screen.bars)
    assert screen.rows[-2].startswith(f"Imported {RECORD}: ")
