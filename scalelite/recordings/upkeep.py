"""Changes to all recordings at once, in slices: plain functions over a connection."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, String, cast, func, literal, select

from scalelite.recordings.selection import TENANT_KEY
from scalelite.recordings.sql import upsert
from scalelite.recordings.tables import playback_formats, recording_metadata, recordings


def count_recordings(connection: Connection) -> int:
    """How many there are, deleted ones included."""
    return connection.execute(select(func.count()).select_from(recordings)).scalar_one()


def ids_after(connection: Connection, after: int, size: int) -> tuple[int, int]:
    """The last row id of the next slice of `size` recordings, and how many it has: 0 at the end."""
    ids = select(recordings.c.id).where(recordings.c.id > after).order_by(recordings.c.id).limit(size).subquery()
    last, count = connection.execute(select(func.max(ids.c.id), func.count())).one()
    return last or after, count


def link_to_tenant(connection: Connection, tenant_id: str, after: int, until: int) -> int:
    """Give the recordings of a slice to a tenant, but those that have one. How many."""
    columns = recording_metadata.c
    taken = (
        select(columns.id)
        .where(columns.recording_id == recordings.c.id, columns.key == TENANT_KEY)
        .correlate(recordings)
    )
    chosen = select(recordings.c.id, cast(literal(TENANT_KEY), String), cast(literal(tenant_id), String)).where(
        recordings.c.id > after, recordings.c.id <= until, ~taken.correlate(recordings).exists()
    )
    statement = upsert(connection, recording_metadata).from_select(["recording_id", "key", "value"], chosen)
    return int(connection.execute(statement.on_conflict_do_nothing(index_elements=["recording_id", "key"])).rowcount)


def count_unpublished(connection: Connection) -> int:
    """How many are unpublished, deleted ones included."""
    query = select(func.count()).select_from(recordings).where(recordings.c.published.is_(False))
    return connection.execute(query).scalar_one()


def unpublished_after(connection: Connection, after: int, size: int) -> list[tuple[int, str]]:
    """The next slice of unpublished recordings, deleted ones included: row ids and record ids, in order."""
    columns = recordings.c
    rows = connection.execute(
        select(columns.id, columns.record_id)
        .where(columns.id > after, columns.published.is_(False), columns.record_id.is_not(None))
        .order_by(columns.id)
        .limit(size)
    )
    return [(row.id, row.record_id) for row in rows]


def formats_if_unpublished(connection: Connection, row_id: int) -> Sequence[str]:
    """A recording's formats, and its row locked; none unless it is unpublished."""
    columns = recordings.c
    row = connection.execute(select(columns.published).where(columns.id == row_id).with_for_update()).one_or_none()
    if row is None or row.published is not False:
        return []
    names = connection.scalars(
        select(playback_formats.c.format)
        .where(playback_formats.c.recording_id == row_id)
        .order_by(playback_formats.c.format)
    )
    return [name for name in names if name]
