"""publishRecordings, updateRecordings and deleteRecordings: rows and files together."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, delete, exists, select, update
from twisted.logger import Logger

from scalelite.bbb.errors import DELETE_FAILED, PUBLISH_FAILED, InternalError, RecordingsNotFound
from scalelite.recordings.database import Database
from scalelite.recordings.file_work import FileWork
from scalelite.recordings.selection import TENANT_KEY, MetadataChanges
from scalelite.recordings.sql import upsert
from scalelite.recordings.storage import Storage, StorageError
from scalelite.recordings.tables import playback_formats, recording_metadata, recordings, text_tracks, thumbnails
from scalelite.store.errors import StoreError

_PATH_PART: Final = re.compile(r"[A-Za-z0-9_-]+")

_log = Logger()


class RecordingChanges:
    """Changes recordings. `now` gives the time in UTC, without a zone.

    `invalidate` is told each record id that was changed, in the reactor's thread.
    """

    def __init__(
        self,
        files: FileWork,
        database: Database,
        storage: Storage,
        now: Callable[[], datetime],
        invalidate: Callable[[str], None],
    ) -> None:
        self._database = database
        self._storage = storage
        self._now = now
        self._invalidate = invalidate
        self._files = files

    async def publish(self, record_ids: Sequence[str], *, published: bool, tenant_id: str | None) -> None:
        """Publish or unpublish; ids that are not known are left aside.

        Raises RecordingsNotFound if none is, and InternalError at the first that fails: that one stays as it was,
        those before are done.
        """
        state = _state(published)

        def find(connection: Connection) -> list[Any]:
            columns = recordings.c
            return list(
                connection.execute(
                    select(columns.id, columns.record_id, columns.published, columns.state)
                    .where(*chosen(record_ids, tenant_id), columns.state.in_(("published", "unpublished")))
                    .order_by(columns.id)
                )
            )

        try:
            found = await self._database.read(find)
            if not found:
                raise RecordingsNotFound
            for row in found:
                if row.published is not published or row.state != state:
                    await self._with_files(row.record_id, partial(self._publish, row.id, published))
        except (StoreError, StorageError) as error:
            _log.error("could not make a recording {state}: {error}", state=state, error=error)
            raise InternalError(PUBLISH_FAILED) from error

    def _publish(self, row_id: int, published: bool, connection: Connection) -> None:
        columns = recordings.c
        row = connection.execute(
            select(columns.record_id, columns.state).where(columns.id == row_id).with_for_update()
        ).one_or_none()
        if row is None or row.state not in ("published", "unpublished"):
            # Deleted meanwhile.
            return
        formats = connection.scalars(
            select(playback_formats.c.format)
            .where(playback_formats.c.recording_id == row_id)
            .order_by(playback_formats.c.format)
        ).all()
        connection.execute(
            update(recordings)
            .where(columns.id == row_id)
            .values(published=published, state=_state(published), publish_updated=True)
        )
        self._move(row.record_id, formats, published)

    def _move(self, record_id: str, formats: Sequence[str | None], published: bool) -> None:
        """Move all formats' files, or none."""
        parts = [part for part in (record_id, *formats) if not safe_part(part)]
        if parts:
            raise StorageError(f"{record_id!r} or its formats can't be names of folders: {parts!r}")
        elsewhere = {kind for kind, side in self._storage.kept(record_id) if side is not published}
        moved = []
        try:
            for kind in formats:
                assert kind is not None
                self._storage.publish(kind, record_id, published=published)
                if kind in elsewhere:
                    moved.append(kind)
        except StorageError:
            for kind in moved:
                try:
                    self._storage.publish(kind, record_id, published=not published)
                except StorageError as error:
                    _log.error(
                        "{kind} of {record_id} stays moved: {error}", kind=kind, record_id=record_id, error=error
                    )
            raise

    async def update(
        self,
        record_ids: Sequence[str],
        changes: MetadataChanges,
        *,
        protect: bool | None,
        tenant_id: str | None,
    ) -> bool:
        """Change metadata and protection of all these recordings, or nothing if one of them is not known.

        Whether anything was to be changed, and could be. Raises StoreError.
        """
        wanted = tuple(dict.fromkeys(record_ids))
        if not wanted or (not changes and protect is None):
            return False

        def work(connection: Connection) -> bool:
            ids = connection.scalars(
                select(recordings.c.id).where(*chosen(wanted, tenant_id)).order_by(recordings.c.id).with_for_update()
            ).all()
            if len(ids) != len(wanted):
                return False
            _change_metadata(connection, ids, changes)
            if protect is not None:
                connection.execute(update(recordings).where(recordings.c.id.in_(ids)).values(protected=protect))
            return True

        done = await self._database.run(work)
        for record_id in wanted:
            self._invalidate(record_id)
        return done

    async def delete(self, record_ids: Sequence[str], *, tenant_id: str | None) -> None:
        """Remove all files and rows but the recording's own, which says `deleted`; ids not known are left aside.

        Raises RecordingsNotFound if none is, and InternalError at the first that fails: it is still there, and may
        be deleted again.
        """

        def find(connection: Connection) -> list[Any]:
            return list(
                connection.execute(
                    select(recordings.c.id, recordings.c.record_id)
                    .where(*chosen(record_ids, tenant_id))
                    .order_by(recordings.c.id)
                )
            )

        try:
            found = await self._database.read(find)
            if not found:
                raise RecordingsNotFound
            for row in found:
                await self._with_files(row.record_id, partial(self._delete, row.id, row.record_id))
        except (StoreError, StorageError) as error:
            _log.error("could not delete a recording: {error}", error=error)
            raise InternalError(DELETE_FAILED) from error

    def _delete(self, row_id: int, record_id: str, connection: Connection) -> None:
        connection.execute(select(recordings.c.id).where(recordings.c.id == row_id).with_for_update())
        formats = select(playback_formats.c.id).where(playback_formats.c.recording_id == row_id)
        connection.execute(delete(thumbnails).where(thumbnails.c.playback_format_id.in_(formats)))
        for table in (playback_formats, recording_metadata, text_tracks):
            connection.execute(delete(table).where(table.c.recording_id == row_id))
        connection.execute(
            update(recordings)
            .where(recordings.c.id == row_id)
            .values(state="deleted", published=False, deleted_at=self._now())
        )
        # Before the rows are gone for good: what fails here can be tried again.
        if safe_part(record_id):
            self._storage.remove(record_id)

    async def _with_files(self, record_id: str, work: Callable[[Connection], None]) -> None:
        await self._files.run(record_id, work, lambda: self._invalidate(record_id))


def safe_part(name: str | None) -> bool:
    """Whether a record id or a format may become part of a path."""
    return name is not None and _PATH_PART.fullmatch(name) is not None


def _state(published: bool) -> str:
    return "published" if published else "unpublished"


def chosen(record_ids: Sequence[str], tenant_id: str | None) -> list[ColumnElement[bool]]:
    """These record ids, of that tenant."""
    tests: list[ColumnElement[bool]] = [recordings.c.record_id.in_(record_ids)]
    if tenant_id is not None:
        of_tenant = select(recording_metadata.c.id).where(
            recording_metadata.c.recording_id == recordings.c.id,
            recording_metadata.c.key == TENANT_KEY,
            recording_metadata.c.value == tenant_id,
        )
        tests.append(exists(of_tenant))
    return tests


def _change_metadata(connection: Connection, recording_ids: Sequence[int], changes: MetadataChanges) -> None:
    """Change each recording's metadata. A key that metadata.xml brought in other letter case keeps its spelling."""
    columns = recording_metadata.c
    touched = changes.removed | changes.values.keys()
    spelled: dict[str, list[int]] = defaultdict(list)
    having: dict[str, set[int]] = defaultdict(set)
    for row in connection.execute(
        select(columns.id, columns.recording_id, columns.key).where(columns.recording_id.in_(recording_ids))
    ):
        key = (row.key or "").lower()
        if key in touched:
            spelled[key].append(row.id)
            having[key].add(row.recording_id)
    removed = [row_id for key in changes.removed for row_id in spelled[key]]
    if removed:
        connection.execute(delete(recording_metadata).where(columns.id.in_(removed)))
    missing = []
    for key, value in changes.values.items():
        if spelled[key]:
            connection.execute(update(recording_metadata).where(columns.id.in_(spelled[key])).values(value=value))
        missing += [
            {"recording_id": recording_id, "key": key, "value": value}
            for recording_id in recording_ids
            if recording_id not in having[key]
        ]
    if missing:
        insert = upsert(connection, recording_metadata)
        connection.execute(
            insert.on_conflict_do_update(
                index_elements=[columns.recording_id, columns.key], set_={"value": insert.excluded.value}
            ),
            missing,
        )
