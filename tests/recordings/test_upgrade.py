"""Databases made, adopted and refused, on both engines."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from scalelite.recordings import upgrade as upgrade_module
from scalelite.recordings.database import DatabaseError, DatabaseUnavailable, transact
from scalelite.recordings.engines import open_engine
from scalelite.recordings.examination import HEAD, REVISIONS, USABLE, VERSION_TABLE, Found, UnsuitableDatabase, examine
from scalelite.recordings.tables import OWN_INDEXES, OWN_TABLES, SCALELITE_TABLES, metadata
from scalelite.recordings.upgrade import Upgrade, UpgradeCancelled
from tests.integration.postgres import PostgresServer
from tests.recordings.scalelite_database import VARIANTS, VERSIONS, execute, make_scalelite

BOOKS = ("schema_migrations", "ar_internal_metadata")
SCALELITES = tuple(table.name for table in SCALELITE_TABLES)


def upgrade(url: str, **options: Any) -> Found:
    return Upgrade(url, timeout=30, **options).run()


def ask(url: str, work: Any) -> Any:
    """What `work` finds on a connection."""
    engine = open_engine(url, pool=1, timeout=30)
    try:
        return transact(engine, work)
    finally:
        engine.dispose()


def rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = ask(url, lambda c: [tuple(row) for row in c.execute(text(statement))])
    return found


def layout(connection: Connection) -> dict[str, Any]:
    """Columns and indexes of each table, as the engine describes them."""
    found: dict[str, Any] = {}
    inspector = inspect(connection)
    for table in inspector.get_table_names():
        if connection.dialect.name == "sqlite":
            columns = connection.execute(text(f"SELECT * FROM pragma_table_info('{table}')")).all()
            described = [(c.name, c.type.lower(), bool(c.notnull), c.dflt_value, bool(c.pk)) for c in columns]
            indexes = connection.scalars(
                text(f"SELECT sql FROM sqlite_master WHERE tbl_name = '{table}' AND sql LIKE '%INDEX%'")
            )
        else:
            described = connection.execute(
                text(
                    "SELECT attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid) "
                    "FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum "
                    f"WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped"
                )
            ).all()
            indexes = connection.scalars(text(f"SELECT indexdef FROM pg_indexes WHERE tablename = '{table}'"))
        found[table] = (sorted(map(tuple, described)), sorted(indexes))
    return found


def without_ours(found: dict[str, Any]) -> dict[str, Any]:
    """The layout of Scalelite's tables, without the indexes that are ours."""
    return {
        table: (columns, [index for index in indexes if "index_balancer_" not in index])
        for table, (columns, indexes) in found.items()
        if table in (*SCALELITES, *BOOKS)
    }


@pytest.fixture
def wanted(request: pytest.FixtureRequest, empty_database_url: str, tmp_path: Path) -> dict[str, Any]:
    """The layout that `tables` describes, on the test's engine."""
    if empty_database_url.startswith("sqlite"):
        url = f"sqlite:///{tmp_path}/wanted.sqlite3"
    else:
        url = request.getfixturevalue("postgres_server").fresh_database()
    ask(url, metadata.create_all)
    found: dict[str, Any] = ask(url, layout)
    return found


def test_the_names_of_the_revisions_are_those_of_the_migrations() -> None:
    scripts = ScriptDirectory(str(upgrade_module._MIGRATIONS))
    assert [script.revision for script in scripts.walk_revisions()][::-1] == list(REVISIONS)
    assert scripts.get_current_head() == HEAD


def test_an_empty_database_gets_exactly_the_tables_that_the_program_uses(
    empty_database_url: str, wanted: dict[str, Any]
) -> None:
    found = upgrade(empty_database_url)

    assert (found.revision, found.current, found.usable) == (HEAD, True, True)
    made = ask(empty_database_url, layout)
    assert {name: made.pop(name) for name in wanted} == wanted
    assert set(made) == {*BOOKS, VERSION_TABLE}


def test_scalelite_can_take_over_a_database_that_was_made_here(
    postgres_server: PostgresServer, empty_postgres_url: str
) -> None:
    upgrade(empty_postgres_url)
    scalelites = postgres_server.fresh_database()
    make_scalelite(scalelites)

    made, wanted = ask(empty_postgres_url, layout), ask(scalelites, layout)

    assert without_ours(made) == without_ours(wanted)
    assert {row[0] for row in rows(empty_postgres_url, "SELECT version FROM schema_migrations")} == set(VERSIONS)
    assert rows(empty_postgres_url, "SELECT key, value FROM ar_internal_metadata") == [("environment", "production")]
    execute(empty_postgres_url, "INSERT INTO recordings (record_id) VALUES ('r')")
    assert rows(empty_postgres_url, "SELECT id, published, protected FROM recordings") == [(1, False, False)]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_database_of_scalelite_is_adopted_as_it_is(
    empty_database_url: str, variant: str, wanted: dict[str, Any]
) -> None:
    make_scalelite(empty_database_url, variant)
    kept = {name: f"SELECT * FROM {name} ORDER BY 1" for name in (*SCALELITES, *BOOKS)}
    before = ask(empty_database_url, layout), {name: rows(empty_database_url, sql) for name, sql in kept.items()}
    told: list[str] = []

    found = upgrade(empty_database_url, tell=told.append)

    assert found.current
    assert told[0] == f"the database is Scalelite's, not adopted yet; upgrading it to revision {HEAD}"
    after = ask(empty_database_url, layout), {name: rows(empty_database_url, sql) for name, sql in kept.items()}
    assert without_ours(after[0]) == without_ours(before[0])
    assert after[1] == before[1]
    ours = {table.name for table in OWN_TABLES}
    assert {name: after[0][name] for name in ours} == {name: wanted[name] for name in ours}
    for table in SCALELITES:
        assert indexes_of_ours(after[0][table][1]) == indexes_of_ours(wanted[table][1])


def indexes_of_ours(indexes: list[str]) -> list[str]:
    return [index for index in indexes if "index_balancer_" in index]


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection:sqlalchemy.exc.SAWarning")
def test_alembic_sees_no_difference_between_tables_and_migrations(empty_postgres_url: str) -> None:
    upgrade(empty_postgres_url)
    assert ask(empty_postgres_url, differences) == []


def differences(connection: Connection) -> list[Any]:
    """How the database differs from `tables`, but for the bookkeeping of Rails and of alembic."""

    def compared(_object: Any, name: str, kind: str, _reflected: bool, _compared: Any) -> bool:
        return kind != "table" or name not in (*BOOKS, VERSION_TABLE)

    options = {"include_object": compared, "compare_type": True, "compare_server_default": True}
    found: list[Any] = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
    return found


def test_an_upgrade_of_what_is_up_to_date_changes_nothing(empty_database_url: str) -> None:
    upgrade(empty_database_url)
    before = ask(empty_database_url, layout)
    told: list[str] = []
    assert upgrade(empty_database_url, tell=told.append).current
    assert (ask(empty_database_url, layout), told) == (before, [])


def test_tables_can_be_used_before_the_indexes_are_built(empty_database_url: str) -> None:
    states: list[bool] = []
    upgrade(empty_database_url, usable=lambda: states.append(ask(empty_database_url, examine).usable))
    assert states
    assert all(states)


FOREIGN = {
    "another recordings table": (
        ["CREATE TABLE recordings (id uuid, room_id uuid, name text)"],
        "has recordings of Scalelite, but not .*callback_data.*DATABASE_URL",
    ),
    "another Rails application": (
        [
            "CREATE TABLE schema_migrations (version varchar PRIMARY KEY)",
            "INSERT INTO schema_migrations VALUES ('20990101000000')",
        ],
        "another Rails application's: its schema_migrations has 20990101000000",
    ),
    "an empty version table of ours alone": (
        [f"CREATE TABLE {VERSION_TABLE} (version_num varchar)", f"INSERT INTO {VERSION_TABLE} VALUES ('{HEAD}')"],
        "has none of the tables of Scalelite",
    ),
    "a trial's outbox": (["CREATE TABLE balancer_outbox (id integer)"], "balancer_outbox lacks kind, tenant_id"),
}
SPOILT = {
    "an older Scalelite": (
        ["DELETE FROM schema_migrations WHERE version = '20230627141045'"],
        "before 1.8: it lacks the migrations 20230627141045",
    ),
    "a newer version of ours": (
        [f"CREATE TABLE {VERSION_TABLE} (version_num varchar)", f"INSERT INTO {VERSION_TABLE} VALUES ('0099')"],
        "revision '0099', which is newer than this program",
    ),
    "a table missing": (["DROP TABLE thumbnails"], "but not thumbnails"),
    "a column missing": (["ALTER TABLE recordings DROP COLUMN protected"], r"recordings is.* protected \(missing\)"),
    "a demanding column": (
        ["DROP TABLE thumbnails", "CREATE TABLE thumbnails (id integer DEFAULT 1, playback_format_id bigint, width "
         "integer, height integer, alt varchar, url varchar, sequence integer, size integer NOT NULL)"],
        "thumbnails demands values for size",
    ),
    "another type": (
        ["DROP TABLE metadata",
         "CREATE TABLE metadata (id integer DEFAULT 1, recording_id bigint, key varchar, value bytea)"],
        r"metadata is not Scalelite's: of its columns, value \(bytea\)",
    ),
    "recordings without their unique index": (
        ["DROP INDEX index_recordings_on_record_id"],
        r"CREATE UNIQUE INDEX index_recordings_on_record_id ON recordings \(record_id\)",
    ),
    "metadata with an index that is not unique": (
        [
            "DROP INDEX index_metadata_on_recording_id_and_key",
            "CREATE INDEX index_metadata_on_recording_id_and_key ON metadata (recording_id, key)",
        ],
        r"GROUP BY recording_id, key HAVING",
    ),
    "formats whose unique index is partial": (
        [
            "DROP INDEX index_playback_formats_on_recording_id_and_format",
            "CREATE UNIQUE INDEX x ON playback_formats (recording_id, format) WHERE format = 'video'",
        ],
        r"playback_formats has no unique index on \(recording_id, format\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", [*FOREIGN, *SPOILT])
def test_a_database_that_cannot_be_used_is_told_and_left_alone(empty_database_url: str, case: str) -> None:
    statements, reason = (FOREIGN | SPOILT)[case]
    if case in SPOILT:
        make_scalelite(empty_database_url)
    execute(empty_database_url, *statements)
    before = ask(empty_database_url, layout)

    with pytest.raises(UnsuitableDatabase, match=f"(?s){reason}"):
        upgrade(empty_database_url)

    assert ask(empty_database_url, layout) == before


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE of_somebody_else (id integer)",
        "ALTER TABLE recordings ADD COLUMN size bigint",
        "ALTER TABLE recordings ADD COLUMN size bigint NOT NULL DEFAULT 0",
        "DROP INDEX index_recordings_on_meeting_id",
        "CREATE UNIQUE INDEX by_key ON metadata (key, recording_id)",
    ],
)
def test_what_others_added_is_no_hindrance(empty_database_url: str, statement: str) -> None:
    make_scalelite(empty_database_url)
    execute(empty_database_url, statement)
    assert upgrade(empty_database_url).current


def test_migrations_of_a_later_scalelite_are_told(empty_database_url: str) -> None:
    make_scalelite(empty_database_url)
    execute(empty_database_url, "INSERT INTO schema_migrations VALUES ('20991231235959')")
    told: list[str] = []
    assert upgrade(empty_database_url, tell=told.append).current
    assert "versions unknown here: 20991231235959" in told[0]


def test_a_primary_key_without_its_sequence_is_told(empty_postgres_url: str) -> None:
    make_scalelite(empty_postgres_url)
    execute(empty_postgres_url, "ALTER TABLE thumbnails ALTER COLUMN id DROP DEFAULT")
    with pytest.raises(UnsuitableDatabase, match=r"thumbnails\.id has no default"):
        upgrade(empty_postgres_url)


def test_a_schema_that_does_not_exist_is_told(empty_postgres_url: str) -> None:
    with pytest.raises(UnsuitableDatabase, match="search path"):
        upgrade(f"{empty_postgres_url}&schema_search_path=nowhere")


def test_tables_are_made_in_the_schema_of_the_search_path(empty_postgres_url: str) -> None:
    execute(empty_postgres_url, "CREATE SCHEMA elsewhere")
    url = f"{empty_postgres_url}&schema_search_path=elsewhere,public"
    assert upgrade(url).current
    assert ask(url, differences) == []
    assert (
        rows(empty_postgres_url, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'") == []
    )


def test_who_may_not_make_tables_is_told_so(postgres_server: PostgresServer, empty_postgres_url: str) -> None:
    postgres_server.query("DROP ROLE IF EXISTS reader")
    postgres_server.query("CREATE ROLE reader LOGIN")
    url = empty_postgres_url.replace("postgres@", "reader@")
    with pytest.raises(DatabaseError, match="permission denied for schema public"):
        upgrade(url)


@pytest.fixture
def others() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


class Reading:
    """A transaction that goes on reading: an index that is built waits for it."""

    def __init__(self, url: str) -> None:
        self._engine = open_engine(url, pool=1, timeout=30)
        self._connection = self._engine.connect()
        self._connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        self._connection.execute(text("SELECT * FROM recordings"))

    def end(self) -> None:
        self._connection.close()
        self._engine.dispose()

    def lose(self) -> None:
        """End it where its server is gone."""
        self._connection.invalidate()
        self.end()


class Started:
    """An upgrade in a thread."""

    def __init__(self, others: ThreadPoolExecutor, url: str) -> None:
        self.told: list[str] = []
        self._changed = threading.Condition()
        self.usable = threading.Event()
        self.upgrade = Upgrade(url, timeout=30, tell=self._tell, usable=self.usable.set)
        self.result: Future[Found] = others.submit(self.upgrade.run)

    def _tell(self, words: str) -> None:
        with self._changed:
            self.told.append(words)
            self._changed.notify_all()

    def until(self, words: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: any(words in told for told in self.told), 30), self.told


def waits_for_readers(url: str) -> None:
    """Return once an index waits for older transactions to end."""
    pause = threading.Event()
    for _ in range(600):
        if rows(url, "SELECT 1 FROM pg_stat_progress_create_index WHERE phase LIKE 'waiting%'"):
            return
        pause.wait(0.05)
    raise AssertionError("no index is being built")


def test_readers_and_writers_go_on_while_the_indexes_are_built(
    empty_postgres_url: str, others: ThreadPoolExecutor
) -> None:
    make_scalelite(empty_postgres_url)
    reading = Reading(empty_postgres_url)
    started = Started(others, empty_postgres_url)
    waits_for_readers(empty_postgres_url)

    impatient = f"{empty_postgres_url}&options=-c%20lock_timeout%3D1000"
    execute(
        impatient,
        "INSERT INTO recordings (record_id) VALUES ('r2')",
        "INSERT INTO metadata (recording_id, key, value) VALUES (2, 'k', 'v')",
        "UPDATE recordings SET name = 'n'",
        "DELETE FROM callback_data",
    )
    assert len(rows(impatient, "SELECT * FROM recordings")) == 2
    assert ask(impatient, examine).revision == USABLE
    reading.end()

    assert started.result.result(30).current
    assert invalid_indexes(empty_postgres_url) == []


def invalid_indexes(url: str) -> list[tuple[Any, ...]]:
    return rows(url, "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid")


def test_an_upgrade_that_is_broken_off_begins_again(empty_postgres_url: str, others: ThreadPoolExecutor) -> None:
    make_scalelite(empty_postgres_url)
    reading = Reading(empty_postgres_url)
    started = Started(others, empty_postgres_url)
    waits_for_readers(empty_postgres_url)
    started.upgrade.cancel()
    with pytest.raises(UpgradeCancelled):
        started.result.result(30)
    reading.end()
    assert [index for (index,) in invalid_indexes(empty_postgres_url)] == ["index_balancer_metadata_on_key_and_value"]
    assert ask(empty_postgres_url, examine).revision == USABLE

    assert upgrade(empty_postgres_url).current

    assert invalid_indexes(empty_postgres_url) == []
    assert len(rows(empty_postgres_url, "SELECT 1 FROM pg_class WHERE relname LIKE 'index_balancer_%'")) > len(
        OWN_INDEXES
    )


def test_an_upgrade_that_postgresql_does_not_survive_begins_again(
    postgres_server: PostgresServer, empty_postgres_url: str, others: ThreadPoolExecutor
) -> None:
    make_scalelite(empty_postgres_url)
    reading = Reading(empty_postgres_url)
    started = Started(others, empty_postgres_url)
    waits_for_readers(empty_postgres_url)
    postgres_server.kill()
    try:
        with pytest.raises(DatabaseUnavailable):
            started.result.result(30)
        with pytest.raises(DatabaseUnavailable):
            upgrade(empty_postgres_url)
    finally:
        postgres_server.start()
        reading.lose()

    assert upgrade(empty_postgres_url).current
    assert invalid_indexes(empty_postgres_url) == []


def test_of_two_that_upgrade_at_once_the_second_waits(empty_postgres_url: str, others: ThreadPoolExecutor) -> None:
    make_scalelite(empty_postgres_url)
    reading = Reading(empty_postgres_url)
    first = Started(others, empty_postgres_url)
    waits_for_readers(empty_postgres_url)
    second = Started(others, empty_postgres_url)
    second.until("waiting for it")
    # The tables are there; it is the indexes that it waits for.
    assert second.usable.wait(30)
    assert not second.result.done()
    reading.end()

    assert first.result.result(30).current
    assert second.result.result(30).current
    assert second.told == ["another instance is upgrading the database; waiting for it"]


def test_an_upgrade_that_waits_can_be_cancelled(empty_postgres_url: str, others: ThreadPoolExecutor) -> None:
    make_scalelite(empty_postgres_url)
    reading = Reading(empty_postgres_url)
    first, second = Started(others, empty_postgres_url), Started(others, empty_postgres_url)
    waits_for_readers(empty_postgres_url)
    for started in (first, second):
        started.upgrade.cancel()
    for started in (first, second):
        with pytest.raises(UpgradeCancelled):
            started.result.result(30)
    reading.end()


def test_several_may_upgrade_an_empty_database_at_once(empty_database_url: str, others: ThreadPoolExecutor) -> None:
    all_of_them = [Started(others, empty_database_url) for _ in range(4)]
    assert all(started.result.result(60).current for started in all_of_them)
    assert sum("upgrading it" in told for started in all_of_them for told in started.told) == 1


def test_sqlite_files_let_readers_and_a_writer_work_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.sqlite3"
    upgrade(url)
    assert rows(url, "PRAGMA journal_mode") == [("wal",)]
