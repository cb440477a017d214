"""Our indexes on Scalelite's tables, built while others read and write them."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

OF_TENANT = sa.text("key = 'tenant-id' AND length(value) <= 255")

#: Name, table, columns or expressions, and what PostgreSQL takes besides.
INDEXES: tuple[tuple[str, str, tuple[Any, ...], dict[str, Any]], ...] = (
    (
        "index_balancer_metadata_on_key_and_value",
        "metadata",
        ("key", sa.text("substr(value, 1, 64)"), "recording_id"),
        {},
    ),
    (
        "index_balancer_metadata_on_tenant",
        "metadata",
        ("value", "recording_id"),
        {"postgresql_where": OF_TENANT, "sqlite_where": OF_TENANT},
    ),
    ("index_balancer_recordings_on_starttime", "recordings", ("starttime", "id", "state"), {}),
    (
        "index_balancer_recordings_on_record_id_prefix",
        "recordings",
        ("record_id",),
        {"postgresql_ops": {"record_id": "text_pattern_ops"}},
    ),
    ("index_balancer_callback_data_on_meeting_id", "callback_data", ("meeting_id",), {}),
)


def upgrade() -> None:
    """Build those that are not there yet."""
    if op.get_bind().dialect.name == "sqlite":
        for name, table, columns, options in INDEXES:
            op.create_index(name, table, list(columns), if_not_exists=True, **options)
        return
    # Outside of any transaction, as PostgreSQL demands for it. Each one that is done stays, whatever happens next.
    with op.get_context().autocommit_block():
        for name, table, columns, options in INDEXES:
            valid = op.get_bind().scalar(
                sa.text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"), {"name": name}
            )
            if valid is False:
                # Left behind by a build that was broken off: it is kept up to date, and never used.
                op.drop_index(name, table_name=table, postgresql_concurrently=True)
            if not valid:
                op.create_index(name, table, list(columns), postgresql_concurrently=True, **options)
        # The planner knows nothing of an indexed expression before that.
        for table in ("metadata", "recordings"):
            op.execute(f"ANALYZE {table}")
