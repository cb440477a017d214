"""Scalelite's tables, as its own `db:schema:load` makes them; nothing where they are there already.

Its bookkeeping comes with them, so that Scalelite can take the database over.
"""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

VERSIONS = ("20181123180008", "20210425184558", "20210630205630", "20210725200414", "20221111194252", "20230627141045")


def upgrade() -> None:
    """Make them."""
    if sa.inspect(op.get_bind()).has_table("recordings"):
        return
    op.create_table(
        "recordings",
        _id(),
        sa.Column("record_id", sa.String),
        sa.Column("meeting_id", sa.String),
        sa.Column("name", sa.String),
        _flag("published"),
        sa.Column("participants", sa.Integer),
        sa.Column("state", sa.String),
        sa.Column("starttime", sa.DateTime),
        sa.Column("endtime", sa.DateTime),
        sa.Column("deleted_at", sa.DateTime),
        _flag("publish_updated"),
        _flag("protected"),
    )
    op.create_index("index_recordings_on_record_id", "recordings", ["record_id"], unique=True)
    op.create_index("index_recordings_on_meeting_id", "recordings", ["meeting_id"])
    op.create_table(
        "metadata",
        _id(),
        sa.Column("recording_id", sa.BigInteger),
        sa.Column("key", sa.String),
        sa.Column("value", sa.String),
    )
    op.create_index("index_metadata_on_recording_id_and_key", "metadata", ["recording_id", "key"], unique=True)
    op.create_table(
        "playback_formats",
        _id(),
        sa.Column("recording_id", sa.BigInteger),
        sa.Column("format", sa.String),
        sa.Column("url", sa.String),
        sa.Column("length", sa.Integer),
        sa.Column("processing_time", sa.Integer),
    )
    op.create_index(
        "index_playback_formats_on_recording_id_and_format",
        "playback_formats",
        ["recording_id", "format"],
        unique=True,
    )
    op.create_table(
        "thumbnails",
        _id(),
        sa.Column("playback_format_id", sa.BigInteger),
        sa.Column("width", sa.Integer),
        sa.Column("height", sa.Integer),
        sa.Column("alt", sa.String),
        sa.Column("url", sa.String),
        sa.Column("sequence", sa.Integer),
    )
    op.create_index("index_thumbnails_on_playback_format_id", "thumbnails", ["playback_format_id"])
    op.create_table(
        "callback_data",
        _id(),
        sa.Column("meeting_id", sa.String),
        sa.Column("recording_id", sa.Integer),
        sa.Column("callback_attributes", sa.Text),
        sa.Column("created_at", _microseconds(), nullable=False),
        sa.Column("updated_at", _microseconds(), nullable=False),
    )
    _keep_books()


def _id() -> sa.Column[int]:
    return sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean, nullable=False, server_default=sa.false())


def _microseconds() -> sa.types.TypeEngine[datetime]:
    return sa.DateTime().with_variant(sa.dialects.postgresql.TIMESTAMP(precision=6), "postgresql")


def _keep_books() -> None:
    """What Rails takes for the database's version: without it, Scalelite would call itself ill."""
    migrations = op.create_table("schema_migrations", sa.Column("version", sa.String, primary_key=True))
    op.bulk_insert(migrations, [{"version": version} for version in VERSIONS])
    facts = op.create_table(
        "ar_internal_metadata",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("value", sa.String),
        sa.Column("created_at", _microseconds(), nullable=False),
        sa.Column("updated_at", _microseconds(), nullable=False),
    )
    now = datetime.now(UTC).replace(tzinfo=None)
    op.bulk_insert(facts, [{"key": "environment", "value": "production", "created_at": now, "updated_at": now}])
