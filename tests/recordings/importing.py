"""What tests of the importer share: a spool, folders and a database, and questions about what came of an import."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Table, insert, select

from scalelite.recordings.engines import open_engine
from scalelite.recordings.extraction import Limits
from scalelite.recordings.folders import FolderStorage
from scalelite.recordings.importer import Importer, ImportSettings, Outcome
from scalelite.recordings.recording_rows import ImportRules
from scalelite.recordings.spool import Spool
from scalelite.recordings.tables import imports, outbox, playback_formats, recording_metadata, recordings, thumbnails
from tests.recordings.tars import RECORD, Member, write_tar

NOON = datetime(2026, 11, 1, 12)


class Notes:
    """A watcher that keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.warnings: list[str] = []

    def step(self, name: str, done: int, total: int) -> None:
        self.steps.append(name)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


class Site:
    """A spool, work folder and storage below `root`, over the database at `url`."""

    def __init__(self, root: Path, url: str) -> None:
        self.root = root
        self.url = url
        self.time = 4_000_000_000.0
        self.pauses: list[float] = []
        self.spool = Spool(root / "spool", lambda: self.time)
        self.spool.prepare()
        self.storage = FolderStorage(root / "published", root / "unpublished")
        self.engine: Engine = open_engine(url, pool=2, timeout=10)
        self.notes = Notes()

    def importer(
        self,
        *,
        unpublished: bool = False,
        protected: bool = False,
        retries: int = 3,
        size: int = 10_000_000,
        pause: Callable[[float], object] | None = None,
    ) -> Importer:
        settings = ImportSettings(self.root / "work", Limits(size, 1000), ImportRules(unpublished, protected), retries)
        return Importer(self.spool, self.storage, self.engine, settings, lambda: self.time, pause or self.pauses.append)

    def put(self, members: Iterable[Member], name: str = RECORD) -> Path:
        return write_tar(self.spool.folder, members, name)

    def run(self, members: Iterable[Member], name: str = RECORD, *, force: bool = False, **rules: Any) -> Outcome:
        """Import a tar of these members."""
        return self.importer(**rules).run(self.put(members, name), self.notes, force=force)

    def rows(self, table: Table, **values: Any) -> list[dict[str, Any]]:
        with self.engine.connect() as connection:
            query = select(table).filter_by(**values).order_by(table.c.id)
            return [dict(row._mapping) for row in connection.execute(query)]

    def add(self, table: Table, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(insert(table).values(**values))

    def change(self, statement: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(statement)

    @property
    def recording(self) -> dict[str, Any]:
        (row,) = self.rows(recordings)
        return row

    @property
    def meta(self) -> dict[str, str]:
        return {row["key"]: row["value"] for row in self.rows(recording_metadata)}

    @property
    def formats(self) -> dict[str, dict[str, Any]]:
        return {row["format"]: row for row in self.rows(playback_formats)}

    @property
    def thumbnails(self) -> list[dict[str, Any]]:
        return self.rows(thumbnails)

    @property
    def notices(self) -> list[dict[str, Any]]:
        return self.rows(outbox)

    @property
    def noted(self) -> list[dict[str, Any]]:
        return self.rows(imports)

    def files(self, record_id: str = RECORD) -> dict[str, str]:
        """Side and format -> the text in its slide."""
        found = {}
        for playback_format, published in self.storage.kept(record_id):
            path = self.storage.path(playback_format, record_id, published=published)
            found[f"{'published' if published else 'unpublished'}/{playback_format}"] = (
                path / "slides" / "1.svg"
            ).read_text()
        return found

    def left(self) -> list[str]:
        """What has no business to be there any more: in the spool, the work folder, and hidden beside recordings."""
        waiting = [path for path in (self.root / "spool").rglob("*") if path.is_file()]
        work = list((self.root / "work").glob("*"))
        hidden = [path for side in ("published", "unpublished") for path in (self.root / side).rglob(".*")]
        return sorted(str(path.relative_to(self.root)) for path in [*waiting, *work, *hidden])
