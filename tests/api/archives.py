"""Balancers with recordings: rows in a database, files in folders."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import attrs
from sqlalchemy import Connection, select

from scalelite.recordings.tables import recording_metadata, recordings
from tests.api.support import add_tenant
from tests.balancer import Answer, Balancer
from tests.recordings.rows import add_recording

T = TypeVar("T")


@attrs.frozen
class Library:
    """A running balancer, and its folders `published` and `unpublished`."""

    balancer: Balancer
    published: Path
    unpublished: Path

    async def sql(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, done in a transaction."""
        assert self.balancer.parts.archive is not None
        return await self.balancer.parts.archive.database.run(work)

    async def add(self, record_id: str, *, files: bool = True, **fields: Any) -> int:
        """A recording and a file for each of its formats; its row id."""
        row_id = await self.sql(lambda connection: add_recording(connection, record_id, **fields))
        if files:
            side = self.published if fields.get("state", "published") == "published" else self.unpublished
            for kind in fields.get("formats", ("presentation",)):
                self.put(side, kind, record_id)
        return row_id

    def put(self, side: Path, kind: str, record_id: str) -> None:
        """A folder with a file, as a format's."""
        folder = side / kind / record_id
        folder.mkdir(parents=True)
        (folder / "index.html").write_text(f"{kind} of {record_id}")

    def kept(self, record_id: str) -> list[str]:
        """Where there are files of a recording: `published/video` and so on."""
        return sorted(
            f"{side.name}/{path.parent.name}"
            for side in (self.published, self.unpublished)
            for path in side.glob(f"*/{record_id}")
        )

    async def row(self, record_id: str) -> Any:
        """A recording's row."""
        return await self.sql(
            lambda connection: connection.execute(select(recordings).where(recordings.c.record_id == record_id)).one()
        )

    async def metadata(self, record_id: str) -> dict[str, str | None]:
        """A recording's metadata."""

        def read(connection: Connection) -> dict[str, str | None]:
            rows = connection.execute(
                select(recording_metadata.c.key, recording_metadata.c.value)
                .join(recordings, recordings.c.id == recording_metadata.c.recording_id)
                .where(recordings.c.record_id == record_id)
            )
            return {row.key: row.value for row in rows}

        return await self.sql(read)

    async def as_tenant(self, name: str, action: str, **params: str) -> Answer:
        """A call by that tenant."""
        url = self.balancer.url(action, secret=name, **params)
        return await self.balancer.request("GET", url, headers={"Host": f"{name}.lb.example"})

    async def listed(self, **params: str) -> list[str]:
        """The record ids that getRecordings tells, in its order."""
        answer = await self.balancer.call("getRecordings", **params)
        return record_ids(answer)


def record_ids(answer: Answer) -> list[str]:
    """The record ids in an answer of getRecordings."""
    assert answer.returncode == "SUCCESS", answer.body
    found = [str(element.text) for element in answer.xml.findall("recordings/recording/recordID")]
    assert bool(found) is (answer.key is None)
    return found


@asynccontextmanager
async def library(url: str, folder: Path, *, tenants: bool = False, **settings: Any) -> AsyncIterator[Library]:
    """A balancer over that database, with two tenants, `one` and `two`, if asked for."""
    published, unpublished = folder / "published", folder / "unpublished"
    balancer = await Balancer.start(
        database_url=url,
        recording_publish_dir=published,
        recording_unpublish_dir=unpublished,
        multitenancy_enabled=tenants,
        **settings,
    )
    try:
        if tenants:
            await add_tenant(balancer, "one", secrets="one")
            await add_tenant(balancer, "two", secrets="two")
        yield Library(balancer, published, unpublished)
    finally:
        await balancer.stop()
