"""Rows and files of recordings that do not fit each other: found in slices, and mended where nothing can be lost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from functools import partial
from itertools import islice
from typing import Any, Final

import attrs
from sqlalchemy import Connection, delete, or_, select

from scalelite.recordings.changes import safe_part
from scalelite.recordings.database import Database
from scalelite.recordings.desk import InThread
from scalelite.recordings.file_work import FileWork
from scalelite.recordings.overview import DELETED
from scalelite.recordings.storage import Storage
from scalelite.recordings.tables import playback_formats, recordings, text_tracks
from scalelite.recordings.text_tracks import restore_files
from scalelite.recordings.upkeep import ids_after

SLICE: Final = 500
#: What is told of at most: on a disk that is not mounted, every recording lacks its files.
MOST: Final = 10_000
_CAPTIONED: Final = "presentation"

Kept = dict[str, set[bool]]


class Kind(StrEnum):
    """What is wrong."""

    NO_FILES = "no_files"
    WRONG_SIDE = "wrong_side"
    BOTH_SIDES = "both_sides"
    NO_FORMAT = "no_format"
    NO_ROW = "no_row"
    DELETED = "deleted"
    TRACK_WITHOUT_RECORDING = "track_without_recording"
    TRACK_WITHOUT_FILE = "track_without_file"


@attrs.frozen
class Orphan:
    """One thing that is wrong. `fix` is what mending does, None where only an operator can know."""

    kind: Kind
    record_id: str
    format: str | None
    problem: str
    fix: str | None = None


@attrs.frozen
class Census:
    """What was found: `rows` recordings looked at, `files` folders of a format, and what is wrong.

    `cut_off`: there is more than MOST.
    """

    rows: int
    files: int
    orphans: tuple[Orphan, ...]
    cut_off: bool


@attrs.frozen
class _Row:
    id: int
    record_id: str
    published: bool
    formats: tuple[str, ...]


class Orphans:
    """Finds and mends. All methods raise StoreError and StorageError; `changed` is told ids of what was mended."""

    def __init__(
        self,
        database: Database,
        storage: Storage,
        files: FileWork,
        in_thread: InThread,
        changed: Callable[[str], None],
    ) -> None:
        self._database = database
        self._storage = storage
        self._files = files
        self._in_thread = in_thread
        self._changed = changed

    async def find(self, count: Callable[[int], object]) -> Census:
        """Compare all rows with all files. `count` is told how many recordings were looked at."""
        found: list[Orphan] = []
        rows = await self._compare_rows(found, count)
        files = await self._compare_files(found)
        found += await self._database.read(_lost_tracks)
        found += await self._tracks_without_files()
        return Census(rows, files, tuple(found[:MOST]), len(found) > MOST)

    async def _compare_rows(self, found: list[Orphan], count: Callable[[int], object]) -> int:
        after = looked_at = 0
        while len(found) <= MOST:
            until, number = await self._database.read(partial(ids_after, after=after, size=SLICE))
            if not number:
                break
            slice_ = await self._database.read(partial(_rows, after=after, until=until))
            found += await self._in_thread(_compare, self._storage, slice_)
            after, looked_at = until, looked_at + number
            count(looked_at)
        return looked_at

    async def _compare_files(self, found: list[Orphan]) -> int:
        kept = self._storage.everything()
        looked_at = 0
        deleted: set[str] = set()
        while len(found) <= MOST:
            piece = await self._in_thread(_next, kept)
            if not piece:
                break
            states = await self._database.read(partial(_states, record_ids=sorted({item[1] for item in piece})))
            for playback_format, record_id, published in piece:
                if record_id not in states:
                    found.append(_without_row(playback_format, record_id, published))
                elif states[record_id] == DELETED and record_id not in deleted:
                    deleted.add(record_id)
                    found.append(
                        Orphan(Kind.DELETED, record_id, None, "is deleted, and has files", "removes the files")
                    )
            looked_at += len(piece)
        return looked_at

    async def _tracks_without_files(self) -> list[Orphan]:
        tracks = await self._database.read(_tracks)
        return await self._in_thread(_compare_tracks, self._storage, tracks)

    async def mend(self, orphan: Orphan) -> None:
        """Do what `fix` says, unless it is right by now."""
        if orphan.kind is Kind.TRACK_WITHOUT_RECORDING:
            await self._database.run(partial(_drop_tracks, row_id=int(orphan.record_id)))
            return
        work = {
            Kind.WRONG_SIDE: self._move,
            Kind.BOTH_SIDES: self._move,
            Kind.DELETED: self._remove,
            Kind.TRACK_WITHOUT_FILE: self._restore,
        }[orphan.kind]
        await self._files.run(orphan.record_id, partial(work, orphan), partial(self._changed, orphan.record_id))

    def _move(self, orphan: Orphan, connection: Connection) -> None:
        row = _locked(connection, orphan.record_id)
        if row is not None and row.state != DELETED and orphan.format is not None:
            self._storage.publish(orphan.format, orphan.record_id, published=bool(row.published))

    def _remove(self, orphan: Orphan, connection: Connection) -> None:
        row = _locked(connection, orphan.record_id)
        if row is not None and row.state == DELETED:
            self._storage.remove(orphan.record_id)

    def _restore(self, orphan: Orphan, connection: Connection) -> None:
        if _locked(connection, orphan.record_id) is not None:
            restore_files(connection, self._storage, orphan.record_id)


def _rows(connection: Connection, after: int, until: int) -> list[_Row]:
    """The recordings of a slice that are not deleted."""
    columns = recordings.c
    within = (columns.id > after, columns.id <= until)
    formats: dict[int, list[str]] = defaultdict(list)
    for row in connection.execute(
        select(playback_formats.c.recording_id, playback_formats.c.format).where(
            playback_formats.c.recording_id > after, playback_formats.c.recording_id <= until
        )
    ):
        formats[row.recording_id].append(row.format or "")
    return [
        _Row(row.id, row.record_id or "", bool(row.published), tuple(sorted(formats[row.id])))
        for row in connection.execute(
            select(columns.id, columns.record_id, columns.published)
            .where(*within, or_(columns.state != DELETED, columns.state.is_(None)))
            .order_by(columns.id)
        )
    ]


def _compare(storage: Storage, rows: Sequence[_Row]) -> list[Orphan]:
    found = []
    for row in rows:
        if not safe_part(row.record_id):
            found.append(Orphan(Kind.NO_FILES, row.record_id, None, "has an id that no folder can have"))
            continue
        kept: Kept = defaultdict(set)
        for playback_format, published in storage.kept(row.record_id):
            kept[playback_format].add(published)
        found += [_fault(row, name, kept.get(name, set())) for name in row.formats if kept.get(name) != {row.published}]
        found += [
            Orphan(Kind.NO_FORMAT, row.record_id, name, f"has files of {name}, and no row of that format")
            for name in sorted(kept.keys() - set(row.formats))
        ]
    return found


def _fault(row: _Row, playback_format: str, sides: set[bool]) -> Orphan:
    if not sides:
        return Orphan(Kind.NO_FILES, row.record_id, playback_format, f"has no files of {playback_format}")
    is_, other = ("published", "unpublished") if row.published else ("unpublished", "published")
    if len(sides) == 2:
        problem = f"is {is_}, and has files of {playback_format} on both sides"
        return Orphan(Kind.BOTH_SIDES, row.record_id, playback_format, problem, f"removes the {other} ones")
    problem = f"is {is_}, and its files of {playback_format} are {other}"
    return Orphan(Kind.WRONG_SIDE, row.record_id, playback_format, problem, "moves them")


def _without_row(playback_format: str, record_id: str, published: bool) -> Orphan:
    side = "published" if published else "unpublished"
    return Orphan(Kind.NO_ROW, record_id, playback_format, f"has {side} files of {playback_format}, and no row")


def _next(kept: Iterator[tuple[str, str, bool]]) -> list[tuple[str, str, bool]]:
    return list(islice(kept, SLICE))


def _states(connection: Connection, record_ids: Sequence[str]) -> dict[str, str | None]:
    columns = recordings.c
    rows = connection.execute(select(columns.record_id, columns.state).where(columns.record_id.in_(record_ids)))
    return {row.record_id: row.state for row in rows}


def _lost_tracks(connection: Connection) -> list[Orphan]:
    columns = text_tracks.c
    ids = connection.scalars(
        select(columns.recording_id)
        .distinct()
        .outerjoin(recordings, recordings.c.id == columns.recording_id)
        .where(or_(recordings.c.id.is_(None), recordings.c.state == DELETED))
        .order_by(columns.recording_id)
        .limit(MOST)
    )
    problem = "is the number of a recording that is gone, and has text tracks"
    return [Orphan(Kind.TRACK_WITHOUT_RECORDING, str(row_id), None, problem, "removes them") for row_id in ids]


def _tracks(connection: Connection) -> list[tuple[str, str, str]]:
    columns = text_tracks.c
    rows = connection.execute(
        select(recordings.c.record_id, columns.lang, columns.path)
        .join(recordings, recordings.c.id == columns.recording_id)
        .where(or_(recordings.c.state != DELETED, recordings.c.state.is_(None)))
        .order_by(columns.id)
    )
    return [(row.record_id, row.lang, row.path) for row in rows if safe_part(row.record_id)]


def _compare_tracks(storage: Storage, tracks: Sequence[tuple[str, str, str]]) -> list[Orphan]:
    return [
        Orphan(
            Kind.TRACK_WITHOUT_FILE,
            record_id,
            _CAPTIONED,
            f"has a text track in {lang}, and no file of it",
            "writes it again",
        )
        for record_id, lang, path in tracks
        if any(name == _CAPTIONED for name, _ in storage.kept(record_id))
        and storage.read_file(_CAPTIONED, record_id, path) is None
    ]


def _drop_tracks(connection: Connection, row_id: int) -> None:
    living = select(recordings.c.id).where(
        recordings.c.id == row_id, or_(recordings.c.state != DELETED, recordings.c.state.is_(None))
    )
    connection.execute(delete(text_tracks).where(text_tracks.c.recording_id == row_id, ~living.exists()))


def _locked(connection: Connection, record_id: str) -> Any:
    columns = recordings.c
    query = select(columns.id, columns.state, columns.published).where(columns.record_id == record_id)
    return connection.execute(query.with_for_update()).one_or_none()
