"""Our own tables beside Scalelite's."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "balancer_callbacks",
        _id(),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("meeting_id", sa.String, nullable=False),
        sa.Column("recording_ready_url", sa.Text),
        sa.Column("analytics_url", sa.Text),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("updated_at", sa.DateTime, nullable=False),
    )
    op.create_index(
        "index_balancer_callbacks_on_meeting", "balancer_callbacks", ["meeting_id", "tenant_id"], unique=True
    )
    op.create_index("index_balancer_callbacks_on_updated_at", "balancer_callbacks", ["updated_at"])
    op.create_table(
        "balancer_outbox",
        _id(),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("meeting_id", sa.String, nullable=False),
        sa.Column("record_id", sa.String),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("target", sa.String, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("event_key", sa.String),
        sa.Column("state", sa.String, nullable=False, server_default=sa.text("'waiting'")),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("last_error", sa.Text),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("next_attempt_at", sa.DateTime, nullable=False),
    )
    op.create_index("index_balancer_outbox_on_due", "balancer_outbox", ["state", "next_attempt_at"])
    op.create_index("index_balancer_outbox_on_event_key", "balancer_outbox", ["event_key"], unique=True)
    op.create_index("index_balancer_outbox_on_meeting", "balancer_outbox", ["meeting_id", "tenant_id"])
    op.create_table(
        "balancer_imports",
        _id(),
        sa.Column("record_id", sa.String, nullable=False),
        sa.Column("fingerprint", sa.String, nullable=False),
        sa.Column("imported_at", sa.DateTime, nullable=False),
    )
    op.create_index("index_balancer_imports_on_fingerprint", "balancer_imports", ["fingerprint"], unique=True)
    op.create_table(
        "balancer_text_tracks",
        _id(),
        sa.Column("recording_id", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("lang", sa.String, nullable=False),
        sa.Column("label", sa.String, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("path", sa.String, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
    )
    op.create_index(
        "index_balancer_text_tracks_on_recording",
        "balancer_text_tracks",
        ["recording_id", "kind", "lang"],
        unique=True,
    )


def _id() -> sa.Column[int]:
    return sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True)
