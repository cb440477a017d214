"""Recordings for tests: rows as an import leaves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, insert

from scalelite.recordings.tables import playback_formats, recording_metadata, recordings, thumbnails

EPOCH = datetime(2021, 1, 1)


def add_recording(
    connection: Connection,
    record_id: str,
    *,
    formats: Sequence[str] = ("presentation",),
    metadata: Mapping[str, str | None] | None = None,
    tenant: str | None = None,
    images: int = 0,
    start: datetime | None = EPOCH,
    **fields: Any,
) -> int:
    """Insert a published recording; its row id. `fields` are columns of `recordings`."""
    values = {
        "record_id": record_id, "meeting_id": f"meeting of {record_id}", "name": f"name of {record_id}",
        "published": fields.get("state", "published") == "published", "state": "published", "starttime": start,
        "endtime": None if start is None else start + timedelta(hours=1), "participants": 3, "protected": False,
        "publish_updated": False, **fields,
    }  # fmt: skip
    row_id = int(connection.execute(insert(recordings).values(**values)).inserted_primary_key[0])  # type: ignore[index]
    pairs = dict(metadata or {})
    if tenant is not None:
        pairs = {"tenant-id": tenant, **pairs}
    if pairs:
        connection.execute(
            insert(recording_metadata),
            [{"recording_id": row_id, "key": key, "value": value} for key, value in pairs.items()],
        )
    for kind in formats:
        format_id = connection.execute(
            insert(playback_formats).values(
                recording_id=row_id, format=kind, url=f"/playback/{kind}/2.3/{record_id}", length=60
            )
        ).inserted_primary_key[0]  # type: ignore[index]
        for number in range(images):
            connection.execute(
                insert(thumbnails).values(
                    playback_format_id=format_id,
                    width=176,
                    height=136,
                    alt=f"slide {number}",
                    url=f"/{kind}/{record_id}/thumb-{number}.png",
                    sequence=number,
                )
            )
    return row_id
