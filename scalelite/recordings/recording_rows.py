"""The rows of an imported recording. Plain functions over a connection, within the import's one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import attrs
from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update

from scalelite.recordings.metadata_xml import FormatMetadata, Thumbnail
from scalelite.recordings.sql import upsert
from scalelite.recordings.tables import callback_data, imports, playback_formats, recording_metadata, recordings
from scalelite.recordings.tables import thumbnails as thumbnails_table

DELETED: Final = "deleted"

_TENANT_KEY: Final = "tenant-id"
_INT4: Final = 2**31 - 1
#: SQLite takes a limited number of values in a statement.
_AT_ONCE: Final = 1000


@attrs.frozen
class ImportRules:
    """How recordings land: unpublished whatever metadata.xml says, and new ones protected."""

    unpublished: bool
    protected: bool


@attrs.frozen
class SavedRecording:
    """What came of saving a recording. `tenant_id`: "" without a tenant."""

    row_id: int
    published: bool
    meeting_id: str
    tenant_id: str
    #: There was such a recording before.
    known: bool


def make_lasting(connection: Connection) -> None:
    """Have the commit wait until it survives a crash, whatever the database is set to: the tar is removed after it."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(
            "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"
        )


def save_recording(
    connection: Connection, formats: Sequence[FormatMetadata], rules: ImportRules, *, force: bool, now: datetime
) -> SavedRecording | None:
    """Insert or update the rows of a recording with one or more formats; None for one that was deleted.

    Where formats differ in what they say of the recording, the last one counts. What somebody has decided since the
    first import stays: published by hand or not, protected or not, and deleted unless `force`.
    """
    record_id = formats[-1].record_id
    row, known = _locked(connection, record_id)
    deleted = row.state == DELETED
    if deleted and not force:
        return None
    values = _recording_values(None if deleted or not known else row, formats, rules)
    if deleted:
        values |= {"deleted_at": None, "publish_updated": False}
    connection.execute(update(recordings).where(recordings.c.id == row.id).values(**values))
    _save_metadata(connection, row.id, formats)
    for found in formats:
        _save_format(connection, row.id, found)
    meeting_id = values["meeting_id"]
    _save_callback_data(connection, meeting_id, row.id, now)
    return SavedRecording(
        row_id=row.id,
        published=values["published"],
        meeting_id=meeting_id,
        tenant_id=_tenant(connection, row.id),
        known=known,
    )


def _locked(connection: Connection, record_id: str) -> tuple[Row[Any], bool]:
    """The recording's row, kept from others until the transaction ends; and whether it was there before."""
    query = select(recordings).where(recordings.c.record_id == record_id).with_for_update()
    row = connection.execute(query).one_or_none()
    if row is not None:
        return row, True
    new = upsert(connection, recordings).values(
        record_id=record_id, published=False, protected=False, publish_updated=False
    )
    new = new.on_conflict_do_nothing(index_elements=["record_id"]).returning(recordings.c.id)
    inserted = connection.execute(new).one_or_none() is not None
    return connection.execute(query).one(), not inserted


def _recording_values(row: Row[Any] | None, formats: Sequence[FormatMetadata], rules: ImportRules) -> dict[str, Any]:
    """What is written to the recording's own row; `row` is that of a recording that is there already."""

    def last(name: str) -> Any:
        stated = [value for found in formats if (value := getattr(found, name)) is not None]
        return stated[-1] if stated else getattr(row, name, None)

    if row is not None and row.publish_updated:
        published, state = bool(row.published), row.state
    else:
        published = False if rules.unpublished else bool(last("published"))
        state = last("state")
        if state == "published" and not published:
            state = "unpublished"
    protected = getattr(row, "protected", None)
    return {
        "meeting_id": formats[-1].meeting_id,
        "name": formats[-1].name,
        "published": published,
        "state": state,
        "participants": last("participants"),
        "starttime": last("starttime"),
        "endtime": last("endtime"),
        "protected": rules.protected if protected is None else protected,
    }


def _save_metadata(connection: Connection, row_id: int, formats: Sequence[FormatMetadata]) -> None:
    # Keys are added and overwritten, never removed: updateRecordings may have set them.
    merged = {key: value for found in formats for key, value in found.meta.items()}
    rows = [{"recording_id": row_id, "key": key, "value": value} for key, value in merged.items()]
    for start in range(0, len(rows), _AT_ONCE):
        statement = upsert(connection, recording_metadata).values(rows[start : start + _AT_ONCE])
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["recording_id", "key"], set_={"value": statement.excluded.value}
            )
        )


def _save_format(connection: Connection, row_id: int, found: FormatMetadata) -> None:
    statement = upsert(connection, playback_formats).values(
        recording_id=row_id, format=found.format, url=found.url, length=found.length
    )
    statement = statement.on_conflict_do_update(
        index_elements=["recording_id", "format"],
        set_={name: func.coalesce(statement.excluded[name], playback_formats.c[name]) for name in ("url", "length")},
    )
    format_id = connection.execute(statement.returning(playback_formats.c.id)).scalar_one()
    _save_thumbnails(connection, format_id, found.thumbnails)


def _save_thumbnails(connection: Connection, format_id: int, found: Sequence[Thumbnail]) -> None:
    """Make the rows what was found, keeping those that are the same."""
    columns = thumbnails_table.c
    wanted = {sequence: attrs.asdict(thumbnail) for sequence, thumbnail in enumerate(found)}
    stored: dict[int, Row[Any]] = {}
    gone: list[int] = []
    for row in connection.execute(select(thumbnails_table).where(columns.playback_format_id == format_id)):
        if row.sequence in wanted and row.sequence not in stored:
            stored[row.sequence] = row
        else:
            gone.append(row.id)
    for start in range(0, len(gone), _AT_ONCE):
        connection.execute(delete(thumbnails_table).where(columns.id.in_(gone[start : start + _AT_ONCE])))
    changed = [
        {"row_id": stored[sequence].id, **values}
        for sequence, values in wanted.items()
        if sequence in stored and any(getattr(stored[sequence], name) != value for name, value in values.items())
    ]
    if changed:
        connection.execute(update(thumbnails_table).where(columns.id == bindparam("row_id")), changed)
    new = [
        {"playback_format_id": format_id, "sequence": sequence, **values}
        for sequence, values in wanted.items()
        if sequence not in stored
    ]
    if new:
        connection.execute(insert(thumbnails_table), new)


def _save_callback_data(connection: Connection, meeting_id: str, row_id: int, now: datetime) -> None:
    # Scalelite's column is of four bytes, and its ids of eight.
    if row_id <= _INT4:
        connection.execute(
            update(callback_data)
            .where(callback_data.c.meeting_id == meeting_id)
            .values(recording_id=row_id, updated_at=now)
        )


def _tenant(connection: Connection, row_id: int) -> str:
    """The recording's tenant, which need not come from metadata.xml."""
    value: str | None = connection.execute(
        select(recording_metadata.c.value).where(
            recording_metadata.c.recording_id == row_id, recording_metadata.c.key == _TENANT_KEY
        )
    ).scalar_one_or_none()
    return value or ""


def imported_record(connection: Connection, fingerprint: str) -> str | None:
    """The recording that this very tar file was imported as; None if it was not."""
    found: str | None = connection.execute(
        select(imports.c.record_id).where(imports.c.fingerprint == fingerprint)
    ).scalar_one_or_none()
    return found


def remember_import(connection: Connection, record_id: str, fingerprint: str, now: datetime) -> None:
    """Note that this very tar file is imported, until it is removed."""
    connection.execute(insert(imports).values(record_id=record_id, fingerprint=fingerprint, imported_at=now))


def forget_import(connection: Connection, fingerprint: str) -> None:
    """The tar file is removed."""
    connection.execute(delete(imports).where(imports.c.fingerprint == fingerprint))


def forget_removed(connection: Connection, present: set[str], before: datetime) -> None:
    """Forget tar files, noted before a time, that are not there any more: others will get their inodes."""
    rows = connection.execute(
        select(imports.c.id, imports.c.fingerprint).where(imports.c.imported_at < before).limit(_AT_ONCE)
    ).all()
    gone = [row.id for row in rows if row.fingerprint not in present]
    if gone:
        connection.execute(delete(imports).where(imports.c.id.in_(gone)))
