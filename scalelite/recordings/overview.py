"""What operators see of recordings: plain functions over a connection. Times are UTC without a zone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import attrs
from sqlalchemy import ColumnElement, Connection, Row, func, or_, select

from scalelite.recordings.selection import TENANT_KEY
from scalelite.recordings.tables import (
    INDEXED_TENANT,
    playback_formats,
    recording_metadata,
    recordings,
    text_tracks,
    thumbnails,
)

DELETED: Final = "deleted"


@attrs.frozen
class Filter:
    """Which recordings; None is no filter. Without `states`, all but deleted ones."""

    meeting_id: str | None = None
    states: tuple[str, ...] | None = None
    tenant_id: str | None = None
    protected: bool | None = None


@attrs.frozen
class Recording:
    """A recording's own row, its tenant, and the names of its formats."""

    row_id: int
    record_id: str
    meeting_id: str
    name: str
    state: str | None
    published: bool
    protected: bool
    #: Somebody has published or unpublished it by hand, which imports respect.
    by_hand: bool
    participants: int | None
    started: datetime | None
    ended: datetime | None
    deleted_at: datetime | None
    tenant_id: str | None
    formats: tuple[str, ...]


@attrs.frozen
class Format:
    """A playback format; `length` in minutes, `url` the path of its player."""

    name: str
    url: str | None
    length: int | None
    processing_time: int | None
    thumbnails: int


@attrs.frozen
class TextTrack:
    """A text track; `path` in the folder of its format."""

    kind: str
    lang: str
    label: str
    source: str
    path: str


@attrs.frozen
class Details:
    """All rows of a recording."""

    recording: Recording
    formats: tuple[Format, ...]
    metadata: Mapping[str, str | None]
    tracks: tuple[TextTrack, ...]


def newest(connection: Connection, wanted: Filter, limit: int) -> list[Recording]:
    """Recordings in the order in which getRecordings has them, `limit` at most."""
    columns = recordings.c
    query = (
        select(recordings).where(*_tests(wanted)).order_by(columns.starttime.desc().nulls_first(), columns.id.desc())
    )
    return _with_formats(connection, connection.execute(query.limit(limit)).all())


def details(connection: Connection, record_id: str) -> Details | None:
    """Everything about one recording; None if there is none."""
    rows = connection.execute(select(recordings).where(recordings.c.record_id == record_id)).all()
    if not rows:
        return None
    (recording,) = _with_formats(connection, rows)
    formats = playback_formats.c
    pictures = (
        select(func.count())
        .select_from(thumbnails)
        .where(thumbnails.c.playback_format_id == formats.id)
        .scalar_subquery()
    )
    found = connection.execute(
        select(formats.format, formats.url, formats.length, formats.processing_time, pictures)
        .where(formats.recording_id == recording.row_id)
        .order_by(formats.format)
    )
    metadata = connection.execute(
        select(recording_metadata.c.key, recording_metadata.c.value)
        .where(recording_metadata.c.recording_id == recording.row_id)
        .order_by(recording_metadata.c.key)
    )
    tracks = text_tracks.c
    kept = connection.execute(
        select(tracks.kind, tracks.lang, tracks.label, tracks.source, tracks.path)
        .where(tracks.recording_id == recording.row_id)
        .order_by(tracks.lang, tracks.kind)
    )
    return Details(
        recording,
        tuple(Format(row[0] or "", *row[1:]) for row in found),
        {row.key or "": row.value for row in metadata},
        tuple(TextTrack(*row) for row in kept),
    )


def states_of(connection: Connection, record_ids: Sequence[str]) -> dict[str, str | None]:
    """The state of each of these recordings that there is."""
    columns = recordings.c
    return {
        row.record_id: row.state
        for row in connection.execute(select(columns.record_id, columns.state).where(columns.record_id.in_(record_ids)))
    }


def ids_beginning_with(connection: Connection, prefix: str, limit: int) -> list[str]:
    """The ids of recordings that are not deleted."""
    column = recordings.c.record_id
    query = select(column).where(column.startswith(prefix, autoescape=True), _not_deleted()).order_by(column)
    return [record_id for record_id in connection.scalars(query.limit(limit)) if record_id is not None]


def _not_deleted() -> ColumnElement[bool]:
    return or_(recordings.c.state != DELETED, recordings.c.state.is_(None))


def _tests(wanted: Filter) -> list[ColumnElement[bool]]:
    columns = recordings.c
    tests = [_not_deleted() if wanted.states is None else columns.state.in_(wanted.states)]
    if wanted.meeting_id is not None:
        tests.append(columns.meeting_id == wanted.meeting_id)
    if wanted.protected is not None:
        tests.append(func.coalesce(columns.protected, False) == wanted.protected)
    if wanted.tenant_id is not None:
        value = recording_metadata.c.value
        of_tenant = select(recording_metadata.c.recording_id).where(
            recording_metadata.c.key == TENANT_KEY,
            # By this much, its own index is used.
            func.length(value) <= INDEXED_TENANT,
            value == wanted.tenant_id,
        )
        tests.append(columns.id.in_(of_tenant))
    return tests


def _with_formats(connection: Connection, rows: Sequence[Row[Any]]) -> list[Recording]:
    ids = [row.id for row in rows]
    formats: dict[int, list[str]] = defaultdict(list)
    for row in connection.execute(
        select(playback_formats.c.recording_id, playback_formats.c.format)
        .where(playback_formats.c.recording_id.in_(ids))
        .order_by(playback_formats.c.format)
    ):
        formats[row.recording_id].append(row.format or "")
    tenants = {
        row.recording_id: row.value
        for row in connection.execute(
            select(recording_metadata.c.recording_id, recording_metadata.c.value).where(
                recording_metadata.c.recording_id.in_(ids), recording_metadata.c.key == TENANT_KEY
            )
        )
    }
    return [
        Recording(
            row.id, row.record_id or "", row.meeting_id or "", row.name or "", row.state, bool(row.published),
            bool(row.protected), bool(row.publish_updated), row.participants, row.starttime, row.endtime,
            row.deleted_at, tenants.get(row.id), tuple(formats[row.id]),
        )
        for row in rows
    ]  # fmt: skip
