"""The table of tenants' recordings is right whoever writes to Scalelite's tables, and hinders nobody."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, text

from scalelite.recordings.engines import is_sqlite, open_engine
from scalelite.recordings.examination import HEAD
from scalelite.recordings.upgrade import Upgrade, found_in
from tests.recordings.scalelite_database import VARIANTS, execute, make_scalelite

KEPT = "SELECT recording_id, tenant_id, starttime, state FROM balancer_tenant_recordings ORDER BY recording_id"
WANTED = (
    "SELECT r.id, m.value, r.starttime, r.state FROM recordings r JOIN metadata m "
    "ON m.recording_id = r.id AND m.key = 'tenant-id' AND length(m.value) <= 255 ORDER BY r.id"
)

START = (
    "INSERT INTO recordings (id, record_id, state, starttime) VALUES "
    "(11, 'k1', 'published', '2024-01-01'), (12, 'k2', 'unpublished', '2024-01-02'), (13, 'k3', 'published', NULL)",
    "INSERT INTO metadata (recording_id, key, value) VALUES "
    "(11, 'tenant-id', 't1'), (11, 'tenant-name', 'one'), (12, 'tenant-id', 't2'), (13, 'course', 'c')",
)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    with opened(database_url) as found:
        yield found


@contextmanager
def opened(url: str) -> Iterator[Engine]:
    engine = open_engine(url, pool=4, timeout=10)
    yield engine
    engine.dispose()


def run(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def rows(engine: Engine, statement: str) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(statement))]


def is_right(engine: Engine) -> bool:
    return rows(engine, KEPT) == rows(engine, WANTED)


CHANGES: dict[str, tuple[list[str], int]] = {
    "nothing": ([], 2),
    "another tenant's id": (["UPDATE metadata SET value = 't9' WHERE value = 't1'"], 2),
    "a tenant's id with a quote": (["UPDATE metadata SET value = 't''; x' WHERE value = 't1'"], 2),
    "a tenant's id that is no index entry": (
        ["UPDATE metadata SET value = replace(hex(zeroblob(3000)), '0', 'x') WHERE value = 't1'"], 1,
    ),
    "no tenant's id any more": (["UPDATE metadata SET value = NULL WHERE value = 't1'"], 1),
    "another key": (["UPDATE metadata SET key = 'x' WHERE value = 't1'"], 1),
    "another key that becomes it": (["UPDATE metadata SET key = 'tenant-id', value = 't3' WHERE key = 'course'"], 3),
    "metadata of another recording": (["UPDATE metadata SET recording_id = 13 WHERE value = 't1'"], 2),
    "metadata of no recording": (["UPDATE metadata SET recording_id = NULL WHERE value = 't1'"], 1),
    "metadata removed": (["DELETE FROM metadata WHERE key = 'tenant-id'"], 0),
    "metadata inserted again": (
        ["DELETE FROM metadata WHERE recording_id = 11",
         "INSERT INTO metadata (recording_id, key, value) VALUES (11, 'tenant-id', 't4')"], 2,
    ),
    "metadata written over": (
        ["INSERT INTO metadata (recording_id, key, value) VALUES (11, 'tenant-id', 't5') "
         "ON CONFLICT (recording_id, key) DO UPDATE SET value = excluded.value"], 2,
    ),
    "metadata before their recording": (
        ["INSERT INTO metadata (recording_id, key, value) VALUES (14, 'tenant-id', 't1')",
         "INSERT INTO recordings (id, record_id, state) VALUES (14, 'k4', 'published')"], 3,
    ),
    "other metadata": (["UPDATE metadata SET value = 't9' WHERE key <> 'tenant-id'"], 2),
    "another state": (["UPDATE recordings SET state = 'deleted', published = false WHERE id = 11"], 2),
    "no state": (["UPDATE recordings SET state = NULL"], 2),
    "another time": (["UPDATE recordings SET starttime = '2025-05-05 05:05:05.123456'"], 2),
    "another row id": (["UPDATE recordings SET id = 15 WHERE id = 11"], 1),
    "row ids that change places": (
        ["UPDATE recordings SET id = -1 WHERE id = 11", "UPDATE recordings SET id = 11 WHERE id = 12",
         "UPDATE recordings SET id = 12 WHERE id = -1"], 2,
    ),
    "a recording removed": (["DELETE FROM recordings WHERE id = 11"], 1),
    "all removed": (["DELETE FROM metadata", "DELETE FROM recordings"], 0),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_is_written_to_scalelites_tables_is_kept(engine: Engine, change: str) -> None:
    statements, left = CHANGES[change]
    if not is_sqlite(engine):
        statements = [statement.replace("hex(zeroblob(3000))", "repeat('0', 6000)") for statement in statements]
    run(engine, *START)
    assert len(rows(engine, KEPT)) == 2

    run(engine, *statements)

    assert is_right(engine)
    assert len(rows(engine, KEPT)) == left


def test_a_transaction_that_is_undone_changes_nothing(engine: Engine) -> None:
    run(engine, *START)
    with engine.connect() as connection:
        connection.execute(text("DELETE FROM recordings WHERE id = 11"))
        connection.execute(text("UPDATE metadata SET value = 't9'"))
        connection.rollback()
    assert is_right(engine)
    assert [row[:2] for row in rows(engine, KEPT)] == [(11, "t1"), (12, "t2")]


@pytest.mark.parametrize("variant", VARIANTS)
def test_recordings_of_scalelite_are_filled_in(empty_database_url: str, variant: str) -> None:
    make_scalelite(empty_database_url, variant)
    execute(empty_database_url, *START, "INSERT INTO metadata (recording_id, key, value) VALUES (99, 'tenant-id', 't')")
    upgrade(empty_database_url)
    with opened(empty_database_url) as engine:
        assert is_right(engine)
        assert len(rows(engine, KEPT)) == 2
        run(engine, "UPDATE recordings SET state = 'deleted'", "DELETE FROM metadata WHERE recording_id = 12")
        assert is_right(engine)


def upgrade(url: str) -> None:
    assert Upgrade(url, timeout=30).run().current


@pytest.mark.integration
def test_many_recordings_are_filled_in_slices(empty_postgres_url: str) -> None:
    make_scalelite(empty_postgres_url)
    execute(
        empty_postgres_url,
        "INSERT INTO recordings (id, record_id, state) SELECT 10 + 3 * n, 'x' || n, 'published' "
        "FROM generate_series(1, 5000) n",
        "INSERT INTO metadata (recording_id, key, value) SELECT 10 + 3 * n, 'tenant-id', 't' || n % 7 "
        "FROM generate_series(1, 5000) n WHERE n % 2 = 0",
        "INSERT INTO recordings (id, record_id) VALUES (-5, 'negative'), (9000000000, 'far away')",
        "INSERT INTO metadata (recording_id, key, value) VALUES (-5, 'tenant-id', 't'), (9000000000, 'tenant-id', 't')",
    )
    upgrade(empty_postgres_url)
    with opened(empty_postgres_url) as engine:
        assert is_right(engine)
        assert len(rows(engine, KEPT)) == 2502


DAMAGE = (
    ("sqlite_url", "DROP TABLE balancer_tenant_recordings"),
    ("sqlite_url", "DROP TRIGGER balancer_keep_tenant_recordings_on_insert_of_metadata"),
    ("postgres_url", "DROP TABLE balancer_tenant_recordings"),
    ("postgres_url", "DROP TRIGGER balancer_keep_tenant_recordings ON metadata"),
    ("postgres_url", "ALTER TABLE recordings DISABLE TRIGGER balancer_keep_tenant_recordings"),
    ("postgres_url", "DROP FUNCTION balancer_keep_tenant_recordings CASCADE"),
)


@pytest.mark.integration
@pytest.mark.parametrize(("url", "damage"), DAMAGE)
def test_what_keeps_the_table_is_mended_by_an_upgrade(request: pytest.FixtureRequest, url: str, damage: str) -> None:
    database_url: str = request.getfixturevalue(url)
    with opened(database_url) as engine:
        _damage_and_mend(engine, database_url, damage)


def _damage_and_mend(engine: Engine, database_url: str, damage: str) -> None:
    run(engine, START[0], damage)
    if not is_sqlite(engine):
        run(engine, *START[1:])
    found = found_in(engine)
    assert (found.revision, found.usable, found.current) == (HEAD, True, False)
    assert "without the triggers" in found.text

    upgrade(database_url)

    assert found_in(engine).current
    assert is_right(engine)
    run(engine, "INSERT INTO metadata (recording_id, key, value) VALUES (13, 'tenant-id', 't3')")
    run(engine, "UPDATE recordings SET state = 'deleted'")
    assert is_right(engine)
    assert (13, "t3") in [row[:2] for row in rows(engine, KEPT)]


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[Engine]:
    with opened(postgres_url) as found:
        run(found, *START)
        yield found


SPOILS = {
    "the table is gone": "DROP TABLE balancer_tenant_recordings",
    "the table is another": "ALTER TABLE balancer_tenant_recordings RENAME COLUMN state TO condition",
    "the table refuses": "ALTER TABLE balancer_tenant_recordings ADD CHECK (state = 'published') NOT VALID",
    "a column is renamed": "ALTER TABLE recordings RENAME COLUMN starttime TO began",
    "a column has another type": "ALTER TABLE recordings ALTER COLUMN state TYPE text, ALTER COLUMN id TYPE numeric",
}


@pytest.mark.integration
@pytest.mark.parametrize("spoil", SPOILS)
def test_no_statement_on_scalelites_tables_fails_by_the_triggers(postgres: Engine, spoil: str) -> None:
    run(postgres, SPOILS[spoil])
    run(
        postgres,
        "UPDATE recordings SET state = 'deleted' WHERE id = 11",
        "INSERT INTO recordings (id, record_id, state) VALUES (14, 'k4', 'published')",
        "INSERT INTO metadata (recording_id, key, value) VALUES (14, 'tenant-id', 't1')",
        "UPDATE metadata SET value = 't9' WHERE recording_id = 12",
        "DELETE FROM metadata WHERE recording_id = 11",
        "DELETE FROM recordings WHERE id = 12",
        "TRUNCATE metadata",
    )
    assert rows(postgres, "SELECT id, state FROM recordings ORDER BY id") == [
        (11, "deleted"), (13, "published"), (14, "published"),
    ]  # fmt: skip


@pytest.mark.integration
def test_tables_that_are_emptied_empty_it(postgres: Engine) -> None:
    run(postgres, "TRUNCATE recordings")
    assert rows(postgres, KEPT) == []
    run(postgres, "TRUNCATE metadata", *START)
    assert len(rows(postgres, KEPT)) == 2
    run(postgres, "TRUNCATE metadata")
    assert rows(postgres, KEPT) == []


@pytest.mark.integration
def test_who_has_no_rights_on_it_keeps_it_all_the_same(postgres: Engine) -> None:
    run(postgres, "DROP ROLE IF EXISTS old_scalelite", "CREATE ROLE old_scalelite")
    try:
        run(
            postgres,
            "GRANT ALL ON recordings, metadata TO old_scalelite",
            "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO old_scalelite",
        )
        run(
            postgres,
            "SET LOCAL ROLE old_scalelite",
            "SET LOCAL search_path = pg_catalog, public",
            "UPDATE recordings SET state = 'deleted'",
            "INSERT INTO metadata (recording_id, key, value) VALUES (13, 'tenant-id', 't3')",
        )
        assert is_right(postgres)
        assert [row[3] for row in rows(postgres, KEPT)] == ["deleted"] * 3
    finally:
        run(postgres, "DROP OWNED BY old_scalelite", "DROP ROLE old_scalelite")


@pytest.fixture
def others() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


def until(engine: Engine, condition: str) -> None:
    """Return once PostgreSQL answers that with a row."""
    pause = threading.Event()
    for _ in range(600):
        if rows(engine, condition):
            return
        pause.wait(0.02)
    raise AssertionError(condition)


WAITING = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


@pytest.mark.integration
def test_a_state_that_changes_while_a_tenant_is_given_is_kept(postgres: Engine, others: ThreadPoolExecutor) -> None:
    with postgres.connect() as giving:
        giving.execute(text("INSERT INTO metadata (recording_id, key, value) VALUES (13, 'tenant-id', 't3')"))
        changed = others.submit(run, postgres, "UPDATE recordings SET state = 'deleted' WHERE id = 13")
        until(postgres, WAITING)
        giving.commit()
        changed.result(30)
    assert is_right(postgres)
    assert (13, "t3", None, "deleted") in rows(postgres, KEPT)


@pytest.mark.integration
def test_a_tenant_that_is_given_does_not_wait_for_long(postgres: Engine) -> None:
    with postgres.connect() as changing:
        changing.execute(text("UPDATE recordings SET state = 'deleted' WHERE id = 13"))
        run(postgres, "INSERT INTO metadata (recording_id, key, value) VALUES (13, 'tenant-id', 't3')")
        changing.rollback()
    assert is_right(postgres)
    assert len(rows(postgres, KEPT)) == 3


@pytest.mark.integration
def test_what_changes_while_it_is_filled_is_kept(
    postgres: Engine, postgres_url: str, others: ThreadPoolExecutor
) -> None:
    run(postgres, "DROP FUNCTION balancer_keep_tenant_recordings CASCADE")
    with postgres.connect() as writing, postgres.connect() as deleting:
        # Lets the triggers on metadata be made, and no more.
        writing.execute(text("UPDATE recordings SET name = 'n' WHERE id = 13"))
        upgraded = others.submit(upgrade, postgres_url)
        until(
            postgres,
            "SELECT 1 FROM pg_trigger WHERE tgrelid = 'metadata'::regclass AND tgname LIKE 'balancer_%' "
            "HAVING count(*) = 2",
        )
        run(postgres, "UPDATE metadata SET value = 't8' WHERE value = 't2'")
        deleting.execute(text("DELETE FROM metadata WHERE recording_id = 11"))
        writing.commit()
        # It is filled in, with a recording that will be gone; its index is waiting for that.
        until(postgres, "SELECT 1 FROM pg_stat_progress_create_index WHERE phase LIKE 'waiting%'")
        assert [row[:2] for row in rows(postgres, KEPT)] == [(11, "t1"), (12, "t8")]
        deleting.commit()
        upgraded.result(60)
    assert is_right(postgres)
    assert [row[:2] for row in rows(postgres, KEPT)] == [(12, "t8")]


@pytest.mark.integration
def test_writers_do_not_queue_up_behind_a_trigger_that_cannot_be_made(
    postgres: Engine, postgres_url: str, others: ThreadPoolExecutor
) -> None:
    run(postgres, "DROP FUNCTION balancer_keep_tenant_recordings CASCADE")
    with postgres.connect() as writing:
        writing.execute(text("UPDATE metadata SET value = 'x' WHERE key = 'course'"))
        upgraded = others.submit(upgrade, postgres_url)
        until(postgres, WAITING)
        run(
            postgres,
            "SET LOCAL lock_timeout = '5s'",
            "INSERT INTO metadata (recording_id, key, value) VALUES (13, 'tenant-id', 't3')",
        )
        assert not upgraded.done()
        writing.commit()
        upgraded.result(60)
    assert is_right(postgres)
    assert len(rows(postgres, KEPT)) == 3
