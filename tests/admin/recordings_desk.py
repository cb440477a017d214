"""A desk over a balancer with recordings: rows on either engine, files and a spool below a temporary folder."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest_twisted
from sqlalchemy import Connection, Table, select

from scalelite.recordings.folders import FolderStorage
from scalelite.recordings.spool import Spool
from tests.admin.desk import Desk, Result
from tests.balancer import Balancer
from tests.recordings.rows import add_recording

#: Later than any clock that the tests run by: 2096-10-02 07:06:40Z.
NOW = 4_000_000_000.0


@attrs.frozen
class Shelf:
    """Runs commands, and looks at what they left."""

    desk: Desk
    balancer: Balancer
    root: Path

    @property
    def spool(self) -> Spool:
        return Spool(self.root / "spool", lambda: NOW)

    @property
    def storage(self) -> FolderStorage:
        return FolderStorage(self.root / "published", self.root / "unpublished")

    async def run(self, *words: str, **options: Any) -> Result:
        return await self.desk.run(*words, **options)

    async def sql(self, work: Any) -> Any:
        assert self.balancer.parts.archive is not None
        return await self.balancer.parts.archive.database.run(work)

    async def rows(self, table: Table, *columns: str) -> list[tuple[Any, ...]]:
        def read(connection: Connection) -> list[tuple[Any, ...]]:
            query = select(*(table.c[name] for name in columns)).order_by(table.c.id)
            return [tuple(row) for row in connection.execute(query)]

        found: list[tuple[Any, ...]] = await self.sql(read)
        return found

    async def add(self, record_id: str, *, files: bool = True, **fields: Any) -> int:
        """A recording with its files on the side where they belong; see `add_recording`."""
        row_id: int = await self.sql(partial(add_recording, record_id=record_id, **fields))
        published = fields.get("published", fields.get("state", "published") == "published")
        for kind in fields.get("formats", ("presentation",)) if files else ():
            self.put(kind, record_id, published=published)
        return row_id

    def put(self, kind: str, record_id: str, *, published: bool) -> None:
        """Files of a format."""
        folder = self.root / ("published" if published else "unpublished") / kind / record_id
        folder.mkdir(parents=True)
        (folder / "metadata.xml").write_text(f"{kind} of {record_id}")

    def take_away(self, kind: str, record_id: str) -> None:
        """No files of a format any more, on either side."""
        for side in ("published", "unpublished"):
            shutil.rmtree(self.root / side / kind / record_id, ignore_errors=True)

    def kept(self, record_id: str) -> list[tuple[str, bool]]:
        return self.storage.kept(record_id)


@pytest_twisted.async_yield_fixture()
async def shelf(database_url: str, tmp_path: Path) -> AsyncIterator[Shelf]:
    """A desk with recordings, over SQLite and PostgreSQL in turn."""
    root = tmp_path / "recordings"
    balancer = await Balancer.start(
        database_url=database_url,
        recording_publish_dir=root / "published",
        recording_unpublish_dir=root / "unpublished",
        recording_spool_dir=root / "spool",
        recording_work_dir=root / "work",
    )
    shelf = Shelf(Desk.of(balancer), balancer, root)
    shelf.spool.prepare()
    yield shelf
    await balancer.stop()
