"""The tables: Scalelite's own, column for column, and ours beside them.

Scalelite's tables stay as its schema has them, so that going back works. Of the two real-world variants of
`recordings` (by `schema:load` with NOT NULL flags, by migrations with nullable ones) new databases get the first;
every reader takes NULL for false, every writer writes a boolean. Times are UTC without a zone.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    false,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP

metadata: Final = MetaData()

#: SQLite numbers rows by itself in columns of exactly this type only.
_ID: Final = BigInteger().with_variant(Integer, "sqlite")
#: As Rails declares its own times.
_MICROSECONDS: Final = DateTime().with_variant(TIMESTAMP(precision=6), "postgresql")


def _id() -> Column[int]:
    return Column("id", _ID, primary_key=True, autoincrement=True)


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False, server_default=false())


recordings: Final = Table(
    "recordings",
    metadata,
    _id(),
    Column("record_id", String),
    Column("meeting_id", String),
    Column("name", String),
    _flag("published"),
    Column("participants", Integer),
    Column("state", String),
    Column("starttime", DateTime),
    Column("endtime", DateTime),
    Column("deleted_at", DateTime),
    _flag("publish_updated"),
    _flag("protected"),
    Index("index_recordings_on_record_id", "record_id", unique=True),
    Index("index_recordings_on_meeting_id", "meeting_id"),
)

recording_metadata: Final = Table(
    "metadata",
    metadata,
    _id(),
    Column("recording_id", BigInteger),
    Column("key", String),
    Column("value", String),
    Index("index_metadata_on_recording_id_and_key", "recording_id", "key", unique=True),
)

playback_formats: Final = Table(
    "playback_formats",
    metadata,
    _id(),
    Column("recording_id", BigInteger),
    Column("format", String),
    Column("url", String),
    Column("length", Integer),
    Column("processing_time", Integer),
    Index("index_playback_formats_on_recording_id_and_format", "recording_id", "format", unique=True),
)

thumbnails: Final = Table(
    "thumbnails",
    metadata,
    _id(),
    Column("playback_format_id", BigInteger),
    Column("width", Integer),
    Column("height", Integer),
    Column("alt", String),
    Column("url", String),
    Column("sequence", Integer),
    Index("index_thumbnails_on_playback_format_id", "playback_format_id"),
)

callback_data: Final = Table(
    "callback_data",
    metadata,
    _id(),
    Column("meeting_id", String),
    Column("recording_id", Integer),
    # YAML with symbol keys, as Ruby writes it.
    Column("callback_attributes", Text),
    Column("created_at", _MICROSECONDS, nullable=False),
    Column("updated_at", _MICROSECONDS, nullable=False),
)

SCALELITE_TABLES: Final = (recordings, recording_metadata, playback_formats, thumbnails, callback_data)

callbacks: Final = Table(
    # Callback URLs by meeting and tenant: callback_data knows no tenants. Where a meeting's end is told, its own URL of
    # ours says (cluster.callbacks).
    "balancer_callbacks",
    metadata,
    _id(),
    Column("tenant_id", String, nullable=False),
    Column("meeting_id", String, nullable=False),
    Column("recording_ready_url", Text),
    Column("analytics_url", Text),
    Column("created_at", DateTime, nullable=False),
    Column("updated_at", DateTime, nullable=False),
    Index("index_balancer_callbacks_on_meeting", "meeting_id", "tenant_id", unique=True),
    Index("index_balancer_callbacks_on_updated_at", "updated_at"),
)

outbox: Final = Table(
    # Notifications to front-ends that are under way; delivered ones are removed.
    "balancer_outbox",
    metadata,
    _id(),
    # `recording_ready`, `analytics` or `meeting_ended`
    Column("kind", String, nullable=False),
    Column("tenant_id", String, nullable=False),
    Column("meeting_id", String, nullable=False),
    Column("record_id", String),
    # "" where it is to be looked up when it is delivered
    Column("url", Text, nullable=False),
    # host and port of the URL
    Column("target", String, nullable=False),
    # the report (JSON) or the query that is sent; "" for `recording_ready`
    Column("payload", Text, nullable=False),
    # makes that the same event is queued once only; NULL for any number
    Column("event_key", String),
    # `waiting` or `dead`
    Column("state", String, nullable=False, server_default=text("'waiting'")),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("last_error", Text),
    Column("created_at", DateTime, nullable=False),
    Column("next_attempt_at", DateTime, nullable=False),
    Index("index_balancer_outbox_on_due", "state", "next_attempt_at"),
    Index("index_balancer_outbox_on_event_key", "event_key", unique=True),
    Index("index_balancer_outbox_on_meeting", "meeting_id", "tenant_id"),
)

imports: Final = Table(
    # Tar files whose rows are committed: one that a crash left in the spool is not imported twice.
    "balancer_imports",
    metadata,
    _id(),
    Column("record_id", String, nullable=False),
    # tells this very file from a later one of the same name
    Column("fingerprint", String, nullable=False),
    Column("imported_at", DateTime, nullable=False),
    Index("index_balancer_imports_on_fingerprint", "fingerprint", unique=True),
)

text_tracks: Final = Table(
    "balancer_text_tracks",
    metadata,
    _id(),
    Column("recording_id", BigInteger, nullable=False),
    # `subtitles` or `captions`
    Column("kind", String, nullable=False),
    Column("lang", String, nullable=False),
    Column("label", String, nullable=False),
    # `live`, `automatic` or `upload`
    Column("source", String, nullable=False),
    # in the folder of the format `presentation`, where its player looks for it
    Column("path", String, nullable=False),
    # WebVTT: what the files are written from again, after an import has replaced them
    Column("content", Text, nullable=False),
    Column("created_at", DateTime, nullable=False),
    Index("index_balancer_text_tracks_on_recording", "recording_id", "kind", "lang", unique=True),
)

tenant_recordings: Final = Table(
    # Which recordings are a tenant's, in the order of getRecordings. Triggers on Scalelite's tables keep it, whoever
    # writes to them; nothing else does. Complete from revision 0004 on.
    "balancer_tenant_recordings",
    metadata,
    Column("recording_id", _ID, primary_key=True, autoincrement=False),
    Column("tenant_id", String, nullable=False),
    Column("starttime", DateTime),
    Column("state", String),
)
Index(
    "index_balancer_tenant_recordings_on_order",
    tenant_recordings.c.tenant_id,
    tenant_recordings.c.starttime.desc(),
    tenant_recordings.c.recording_id.desc(),
    # So that pages and their totals are found without a look at any row.
    tenant_recordings.c.state,
)

OWN_TABLES: Final = (callbacks, outbox, imports, text_tracks, tenant_recordings)

#: Characters of a metadata value that its index holds, and of the longest tenant's id that is indexed.
INDEXED_VALUE: Final = 64
INDEXED_TENANT: Final = 255

_OF_TENANT: Final = text(f"key = 'tenant-id' AND length(value) <= {INDEXED_TENANT}")

OWN_INDEXES: Final = (
    # getRecordings: by metadata value, by tenant, in order of time, by prefix of the record id.
    # Only the value's beginning: an index entry has a limit (2,704 bytes in PostgreSQL), a value has none.
    Index(
        "index_balancer_metadata_on_key_and_value",
        recording_metadata.c.key,
        func.substr(recording_metadata.c.value, 1, text(str(INDEXED_VALUE))),
        recording_metadata.c.recording_id,
    ),
    # A tenant's recordings.
    Index(
        "index_balancer_metadata_on_tenant",
        recording_metadata.c.value,
        recording_metadata.c.recording_id,
        postgresql_where=_OF_TENANT,
        sqlite_where=_OF_TENANT,
    ),
    Index("index_balancer_recordings_on_starttime", recordings.c.starttime, recordings.c.id, recordings.c.state),
    Index(
        "index_balancer_recordings_on_record_id_prefix",
        recordings.c.record_id,
        postgresql_ops={"record_id": "text_pattern_ops"},
    ),
    # Scalelite looks for a meeting's callbacks without an index.
    Index("index_balancer_callback_data_on_meeting_id", callback_data.c.meeting_id),
)
"""Indexes that we add to Scalelite's tables."""
