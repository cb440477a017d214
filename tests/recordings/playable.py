"""Recordings to be played: rows as Scalelite writes them, and files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, update

from scalelite.recordings.tables import playback_formats, recording_metadata, recordings


def add_recording(
    connection: Connection,
    record_id: str,
    formats: Mapping[str, str | None],
    *,
    published: bool = True,
    protected: bool = False,
    tenant_id: str | None = None,
) -> None:
    """A recording with these formats and the URLs of their players."""
    row: Any = connection.execute(
        insert(recordings).values(
            record_id=record_id,
            meeting_id=f"meeting of {record_id}",
            published=published,
            protected=protected,
            state="published" if published else "unpublished",
        )
    ).inserted_primary_key
    for name, url in formats.items():
        connection.execute(insert(playback_formats).values(recording_id=row[0], format=name, url=url))
    pairs = {"bbb-origin": "Moodle", **({} if tenant_id is None else {"tenant-id": tenant_id})}
    for key, value in pairs.items():
        connection.execute(insert(recording_metadata).values(recording_id=row[0], key=key, value=value))


def change_recording(connection: Connection, record_id: str, **values: Any) -> None:
    """Set columns of a recording."""
    connection.execute(update(recordings).where(recordings.c.record_id == record_id).values(**values))


def put_file(root: Path, path: str, content: bytes) -> Path:
    """A file below the folder of published recordings."""
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return target
