"""A table of tenants' recordings in the order of getRecordings, and the triggers that keep it.

Triggers, because Scalelite writes to its tables as well. None of its statements may fail by them: on PostgreSQL, they
catch whatever happens, and wait for nobody for long; on SQLite, where there is only one writer, nothing can happen.
"""

# ruff: noqa: S608 - statements are joined from fixed texts

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLE = "balancer_tenant_recordings"
INDEX = "index_balancer_tenant_recordings_on_order"
FUNCTION = "balancer_keep_tenant_recordings"
COLUMNS: tuple[Any, ...] = ("tenant_id", sa.text("starttime DESC"), sa.text("recording_id DESC"), "state")
#: Trigger, table, events and level.
TRIGGERS = (
    ("balancer_keep_tenant_recordings", "metadata", "INSERT OR UPDATE OR DELETE", "ROW"),
    ("balancer_empty_tenant_recordings", "metadata", "TRUNCATE", "STATEMENT"),
    ("balancer_keep_tenant_recordings", "recordings", "INSERT OR UPDATE OR DELETE", "ROW"),
    ("balancer_empty_tenant_recordings", "recordings", "TRUNCATE", "STATEMENT"),
)

#: Recordings that are filled in at once. A trigger that meets them waits, but not for longer than it says below.
SLICE = 2000
#: Milliseconds for which writers may be kept waiting by a trigger that is made, and seconds between two tries.
LOCK_TIMEOUT, PAUSE = 500, 0.5
#: Seconds after which tables that are never free are given up.
PATIENCE = 600

CHOSEN = """
SELECT r.id, m.value, r.starttime, r.state FROM {schema}recordings r JOIN {schema}metadata m
ON m.recording_id = r.id AND m.key = 'tenant-id' AND length(m.value) <= 255
"""

# Defined with its owner's rights, as who writes to Scalelite's tables may have none on ours. The lock on the recording
# lets nobody change its state before this transaction's row can be seen. Waits end before PostgreSQL would look for
# deadlocks (after one second).
BODY = """
CREATE OR REPLACE FUNCTION {schema}{function}() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '500ms' AS $keep$
DECLARE
  changed bigint[] := '{{}}';
  one bigint;
BEGIN
  BEGIN
    IF TG_OP = 'TRUNCATE' THEN
      DELETE FROM {schema}{table};
      RETURN NULL;
    END IF;
    IF TG_TABLE_NAME = 'metadata' THEN
      IF TG_OP = 'UPDATE' THEN
        IF (OLD.recording_id, OLD.key, OLD.value) IS NOT DISTINCT FROM (NEW.recording_id, NEW.key, NEW.value) THEN
          RETURN NULL;
        END IF;
      END IF;
      IF TG_OP IN ('UPDATE', 'DELETE') THEN
        IF OLD.key = 'tenant-id' THEN
          changed := changed || OLD.recording_id;
        END IF;
      END IF;
      IF TG_OP IN ('INSERT', 'UPDATE') THEN
        IF NEW.key = 'tenant-id' AND NOT NEW.recording_id = ANY (changed) THEN
          changed := changed || NEW.recording_id;
        END IF;
      END IF;
    ELSIF TG_OP = 'UPDATE' THEN
      IF (OLD.id, OLD.starttime, OLD.state) IS NOT DISTINCT FROM (NEW.id, NEW.starttime, NEW.state) THEN
        RETURN NULL;
      END IF;
      changed := ARRAY[OLD.id, NEW.id];
    ELSIF TG_OP = 'DELETE' THEN
      changed := ARRAY[OLD.id];
    ELSE
      changed := ARRAY[NEW.id];
    END IF;
    FOREACH one IN ARRAY changed LOOP
      IF TG_TABLE_NAME = 'metadata' THEN
        BEGIN
          PERFORM 1 FROM {schema}recordings WHERE id = one FOR SHARE;
        EXCEPTION WHEN OTHERS THEN
          RAISE LOG '{function}: recording % is not locked: %', one, SQLERRM;
        END;
      END IF;
      INSERT INTO {schema}{table} AS kept (recording_id, tenant_id, starttime, state)
      {chosen} WHERE r.id = one
      ON CONFLICT (recording_id) DO UPDATE SET
        tenant_id = excluded.tenant_id, starttime = excluded.starttime, state = excluded.state;
      IF NOT FOUND THEN
        DELETE FROM {schema}{table} WHERE recording_id = one;
      END IF;
    END LOOP;
  EXCEPTION WHEN OTHERS THEN
    RAISE LOG '{function}: %', SQLERRM;
  END;
  RETURN NULL;
END
$keep$
"""


def upgrade() -> None:
    """Make the table and triggers, and fill it."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"DROP TABLE IF EXISTS {TABLE}")
        _create_table()
        _create_index(concurrently=False)
        for statement in sqlite_triggers():
            op.execute(statement)
        op.execute(f"INSERT INTO {TABLE} {CHOSEN.format(schema='')}")
        return
    with op.get_context().autocommit_block():
        _upgrade_postgresql(op.get_bind())


def _upgrade_postgresql(connection: sa.Connection) -> None:
    # The schema in which Scalelite's tables are, as the triggers may be run with any search path.
    schema = connection.scalar(
        sa.text("SELECT quote_ident(nspname) || '.' FROM pg_namespace WHERE oid = "
                "(SELECT relnamespace FROM pg_class WHERE oid = to_regclass('recordings'))")
    )  # fmt: skip
    if not _has_triggers(connection):
        # What was filled in without all of them may be wrong.
        connection.execute(sa.text("BEGIN"))
        op.execute(f"DROP TABLE IF EXISTS {TABLE}")
        _create_table()
        chosen = CHOSEN.format(schema=schema)
        op.execute(BODY.format(schema=schema, table=TABLE, function=FUNCTION, chosen=chosen))
        connection.execute(sa.text("COMMIT"))
        for trigger in TRIGGERS:
            _create_trigger(connection, *trigger)
    last = connection.scalar(sa.text("SELECT coalesce(max(id), 0) FROM recordings"))
    _fill(connection, last)
    valid = connection.scalar(
        sa.text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"), {"name": INDEX}
    )
    if valid is False:
        op.drop_index(INDEX, table_name=TABLE, postgresql_concurrently=True)
    if not valid:
        _create_index(concurrently=True)
    # Recordings that others were deleting while they were filled in. The index has waited for all of these.
    op.execute(
        f"DELETE FROM {TABLE} k WHERE NOT EXISTS "
        "(SELECT 1 FROM metadata m WHERE m.recording_id = k.recording_id AND m.key = 'tenant-id')"
    )
    # Pages are found by index alone once it is known which rows all can see.
    op.execute(f"VACUUM (ANALYZE) {TABLE}")


def _create_table() -> None:
    op.create_table(
        TABLE,
        sa.Column(
            "recording_id",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("starttime", sa.DateTime),
        sa.Column("state", sa.String),
    )


def _create_index(*, concurrently: bool) -> None:
    op.create_index(INDEX, TABLE, list(COLUMNS), postgresql_concurrently=concurrently)


def _has_triggers(connection: sa.Connection) -> bool:
    found = connection.execute(
        sa.text(
            "SELECT tgname, tgrelid::regclass::oid FROM pg_trigger WHERE tgenabled <> 'D' AND tgname LIKE 'balancer_%' "
            "AND tgrelid IN (to_regclass('recordings'), to_regclass('metadata')) AND to_regclass(:table) IS NOT NULL"
        ),
        {"table": TABLE},
    ).all()
    return len(found) == len(TRIGGERS)


def _create_trigger(connection: sa.Connection, name: str, table: str, events: str, level: str) -> None:
    """Make it in a moment in which nobody writes: writers would queue up behind one that waits."""
    limit = time.monotonic() + PATIENCE
    while True:
        try:
            connection.execute(sa.text("BEGIN"))
            connection.execute(sa.text(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT}"))
            connection.execute(sa.text(f"DROP TRIGGER IF EXISTS {name} ON {table}"))
            connection.execute(
                sa.text(
                    f"CREATE TRIGGER {name} AFTER {events} ON {table} FOR EACH {level} EXECUTE FUNCTION {FUNCTION}()"
                )
            )
            connection.execute(sa.text("COMMIT"))
            return
        except sa.exc.OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != "55P03" or time.monotonic() > limit:
                raise
            connection.execute(sa.text("ROLLBACK"))
        time.sleep(PAUSE)


def _fill(connection: sa.Connection, last: int) -> None:
    """Fill in what is there already; what is changed meanwhile, the triggers see to, and they are right."""
    statement = sa.text(
        f"INSERT INTO {TABLE} (recording_id, tenant_id, starttime, state) {CHOSEN.format(schema='')} "
        "WHERE r.id > :after AND r.id <= :until AND m.recording_id > :after AND m.recording_id <= :until "
        "ON CONFLICT DO NOTHING"
    )
    next_id = sa.text("SELECT id FROM recordings WHERE id > :after ORDER BY id OFFSET :size LIMIT 1")
    connection.execute(sa.text("SET synchronous_commit = off"))
    after = connection.scalar(sa.text("SELECT coalesce(min(id), 0) - 1 FROM recordings"))
    while after < last:
        until = connection.scalar(next_id, {"after": after, "size": SLICE - 1}) or last
        connection.execute(statement, {"after": after, "until": until})
        after = until
    connection.execute(sa.text("RESET synchronous_commit"))


def sqlite_triggers() -> list[str]:
    """The statements that make SQLite's."""
    statements = []
    for table, row_id, only, columns in (
        ("metadata", "recording_id", "{row}.key = 'tenant-id'", "recording_id, key, value"),
        ("recordings", "id", "true", "id, starttime, state"),
    ):
        for event, rows in (("INSERT", ("NEW",)), ("UPDATE", ("OLD", "NEW")), ("DELETE", ("OLD",))):
            name = f"balancer_keep_tenant_recordings_on_{event.lower()}_of_{table}"
            of = f"UPDATE OF {columns}" if event == "UPDATE" else event
            when = " OR ".join(only.format(row=row) for row in rows)
            ids = ", ".join(f"{row}.{row_id}" for row in rows)
            statements += [
                f"DROP TRIGGER IF EXISTS {name}",
                f"CREATE TRIGGER {name} AFTER {of} ON {table} WHEN {when} BEGIN "
                f"DELETE FROM {TABLE} WHERE recording_id IN ({ids}); "
                f"INSERT INTO {TABLE} {CHOSEN.format(schema='')} WHERE r.id IN ({ids}); END",
            ]
    return statements
