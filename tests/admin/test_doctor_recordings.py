"""doctor, where there are recordings: database, importer, spool, outbox, folders and disks."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import attrs
import pytest
import pytest_twisted
from sqlalchemy import insert

from scalelite.recordings import checkup
from scalelite.recordings.tables import outbox
from scalelite.recordings.times import utc
from tests.admin.desk import Result
from tests.admin.recordings_desk import Shelf, shelf
from tests.recordings.tars import recording, write_tar

__all__ = ["shelf"]


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture(autouse=True)
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk with room, whatever this machine's has."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, 10**12))


@pytest_twisted.async_yield_fixture()
async def well(shelf: Shelf) -> AsyncIterator[Shelf]:
    """A pool in which everything runs."""
    for name in ("poller", "importer", "outbox"):
        await shelf.balancer.parts.leases.take(name, "x", 60)
    shelf.root.joinpath("published").mkdir()
    yield shelf


async def notice(shelf: Shelf, **fields: Any) -> None:
    now = utc(time.time())
    usual = {
        "kind": "analytics", "tenant_id": "", "meeting_id": "m", "url": "", "target": "", "payload": "",
        "state": "waiting", "created_at": now, "next_attempt_at": now,
    }  # fmt: skip
    await shelf.sql(lambda connection: connection.execute(insert(outbox).values(**usual | fields)))


@pytest_twisted.ensureDeferred
async def test_where_all_is_well_nothing_is_wrong(well: Shelf) -> None:
    write_tar(well.spool.folder, recording())
    await notice(well)
    assert await well.run("doctor") == Result(0, "Nothing is wrong\n", "")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("importer", "importer does not run anywhere: start the service, or recordings:watch"),
        ("outbox", "outbox does not run anywhere: start the service"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_does_not_run_is_told(well: Shelf, name: str, line: str) -> None:
    await well.balancer.parts.leases.release(name, "x")
    assert await well.run("doctor") == Result(1, f"{line}\n", "")


@pytest_twisted.ensureDeferred
async def test_tars_that_wait_or_failed_are_told(well: Shelf) -> None:
    late = write_tar(well.spool.folder, recording(), "late")
    os.utime(late, (time.time() - 3700,) * 2)
    write_tar(well.spool.folder / "failed", recording(), "bad-1")
    write_tar(well.spool.folder / "failed", recording(), "bad-2")
    result = await well.run("doctor")
    assert result.out.splitlines() == [
        f"spool {well.spool.folder} has 1 tar waiting for over an hour",
        "spool has 2 failed imports: see recordings:failed",
    ]


@pytest_twisted.ensureDeferred
async def test_dead_and_overdue_notices_are_told(well: Shelf) -> None:
    await notice(well, state="dead", next_attempt_at=datetime(2020, 1, 1))
    await notice(well, next_attempt_at=utc(time.time()) - timedelta(minutes=11))
    result = await well.run("doctor")
    assert result.out.splitlines() == [
        "outbox has 1 notice given up: see outbox --dead",
        "outbox has 1 notice overdue for over 10 minutes: see outbox",
    ]


@pytest_twisted.ensureDeferred
async def test_a_database_that_does_not_answer_is_told_and_the_rest_is_looked_at(well: Shelf) -> None:
    assert well.balancer.parts.archive is not None
    well.balancer.parts.archive.database.hold("its tables are another program's")
    write_tar(well.spool.folder / "failed", recording(), "bad-1")
    result = await well.run("doctor")
    assert result.out.splitlines() == [
        "spool has 1 failed import: see recordings:failed",
        "database cannot be used: its tables are another program's",
    ]
    well.balancer.parts.archive.database.release()


@pytest_twisted.ensureDeferred
async def test_folders_that_are_no_folders_are_told(well: Shelf) -> None:
    path = well.root / "unpublished"
    path.write_text("")
    result = await well.run("doctor")
    assert result == Result(1, f"folder {path} of unpublished recordings cannot be written by this user\n", "")


@pytest_twisted.ensureDeferred
async def test_a_disk_that_is_nearly_full_is_told_once(well: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(100 * 10**9, 97 * 10**9, 3 * 10**9))
    result = await well.run("doctor")
    assert result.out.splitlines() == [f"disk {well.spool.folder} of tars is nearly full: 3.0 GB of 100.0 GB are free"]


@pytest_twisted.ensureDeferred
async def test_recordings_that_take_too_long_to_look_at_are_named(well: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    assert well.balancer.parts.archive is not None
    await well.balancer.schema_settled()
    well.balancer.parts.archive.database.hold()
    well.desk.deadline = 0.2
    result = await well.run("doctor")
    assert result.status == 1
    assert "recordings not looked at: the time was up" in result.out or "database cannot be used" in result.out
    well.balancer.parts.archive.database.release()


@pytest_twisted.ensureDeferred
async def test_where_recordings_are_switched_off_nobody_looks_at_them(
    well: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    await well.balancer.parts.leases.release("importer", "x")
    well.desk.settings = attrs.evolve(well.desk.settings, recording_disabled=True)
    monkeypatch.delattr(checkup, "Checkup")
    assert await well.run("doctor") == Result(0, "Nothing is wrong\n", "")
