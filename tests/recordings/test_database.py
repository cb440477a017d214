"""The database's threads, over both engines."""

from __future__ import annotations

import pytest_twisted
from sqlalchemy import select

from scalelite.recordings.database import Database, probe
from scalelite.recordings.tables import recordings


@pytest_twisted.ensureDeferred
async def test_work_runs_in_a_transaction(database: Database) -> None:
    await database.run(probe)
    await database.run(lambda c: c.execute(recordings.insert().values(record_id="r1", published=True)))

    rows = await database.run(lambda c: c.execute(select(recordings.c.record_id, recordings.c.published)).all())

    assert [tuple(row) for row in rows] == [("r1", True)]
