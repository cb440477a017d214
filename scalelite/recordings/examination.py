"""What a database is: empty, Scalelite's, ours already, or one that the program must not touch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import attrs
from sqlalchemy import Boolean, Connection, DateTime, Integer, Table, text

from scalelite.recordings.database import DatabaseError
from scalelite.recordings.tables import OWN_TABLES, SCALELITE_TABLES, tenant_recordings

#: Which of our revisions the database is at.
VERSION_TABLE: Final = "balancer_alembic_version"
#: All revisions of `migrations`, in their order.
REVISIONS: Final = ("0001", "0002", "0003", "0004")
HEAD: Final = REVISIONS[-1]
#: From this one on all tables are there, and the rest is done while they are used.
USABLE: Final = "0002"

#: From this one on triggers keep the table of tenants' recordings; how many, by engine.
KEEPING: Final = "0004"
_TRIGGERS: Final = {"postgresql": 4, "sqlite": 6}

#: Scalelite 1.8's own migrations.
RAILS_VERSIONS: Final = frozenset(
    {"20181123180008", "20210425184558", "20210630205630", "20210725200414", "20221111194252", "20230627141045"}
)

#: Columns that must be unique together: what is written twice must not be there twice.
_UNIQUE: Final = (
    ("recordings", ("record_id",)),
    ("metadata", ("recording_id", "key")),
    ("playback_formats", ("recording_id", "format")),
)

_ADVICE: Final = "Let DATABASE_URL name Scalelite's database, or an empty one"


class UnsuitableDatabase(DatabaseError):
    """The database is not one that the program can use; the text says what was found, and what to do."""


@attrs.frozen
class Found:
    """A database that the program can use, perhaps after an upgrade.

    `revision` is ours, None before the first upgrade. `scalelite`: it has Scalelite's tables. `notes` are for the
    operator. `kept`: the table of tenants' recordings and its triggers are as that revision leaves them.
    """

    revision: str | None
    scalelite: bool
    notes: tuple[str, ...] = ()
    kept: bool = True

    @property
    def usable(self) -> bool:
        """Whether all tables are there."""
        return self.revision is not None and REVISIONS.index(self.revision) >= REVISIONS.index(USABLE)

    @property
    def current(self) -> bool:
        """Whether there is nothing to upgrade."""
        return self.revision == HEAD and self.kept

    @property
    def text(self) -> str:
        """What it is, for an operator's eyes."""
        if self.current:
            return f"up to date (revision {HEAD})"
        if self.revision == HEAD:
            return f"of revision {HEAD}, but without the triggers that keep {tenant_recordings.name}"
        if self.revision is not None:
            return f"of an earlier version (revision {self.revision}; this one needs {HEAD})"
        return "Scalelite's, not adopted yet" if self.scalelite else "empty"


@attrs.frozen
class _Column:
    kind: str
    nullable: bool
    has_default: bool


def examine(connection: Connection) -> Found:
    """What the database is. Raises UnsuitableDatabase."""
    tables = _tables(connection)
    revision = _revision(connection) if VERSION_TABLE in tables else None
    if revision is not None and revision not in REVISIONS:
        raise UnsuitableDatabase(
            f"the database is at revision {revision[:40]!r}, which is newer than this program (it knows up to {HEAD}). "
            "Install the version that upgraded it, or restore the backup from before"
        )
    rails = _rails_versions(connection) if "schema_migrations" in tables else frozenset()
    if rails and not rails & RAILS_VERSIONS:
        raise UnsuitableDatabase(
            f"the database is another Rails application's: its schema_migrations has {_some(rails)}, and none of "
            f"Scalelite's. {_ADVICE}"
        )
    if rails and RAILS_VERSIONS - rails:
        raise UnsuitableDatabase(
            f"the database is of a Scalelite before 1.8: it lacks the migrations {_some(RAILS_VERSIONS - rails)}. "
            "Upgrade it by Scalelite 1.8 (rake db:migrate) first"
        )
    expected = [table.name for table in SCALELITE_TABLES]
    there = [name for name in expected if name in tables]
    if not there and revision is None and not rails:
        _check_own(connection, tables)
        return Found(None, scalelite=False)
    if there != expected:
        raise UnsuitableDatabase(
            f"the database has {_some(there) if there else 'none of the tables'} of Scalelite, but not "
            f"{_some(set(expected) - set(there))}. If it is Scalelite's, restore it or complete it by Scalelite's "
            f"rake db:migrate. {_ADVICE}"
        )
    for table in SCALELITE_TABLES:
        _check_columns(connection, table)
    _check_unique(connection)
    _check_own(connection, tables)
    notes = (
        (f"Scalelite's schema_migrations has versions unknown here: {_some(rails - RAILS_VERSIONS)}",)
        if rails - RAILS_VERSIONS
        else ()
    )
    kept = revision is None or REVISIONS.index(revision) < REVISIONS.index(KEEPING) or _is_kept(connection, tables)
    return Found(revision, scalelite=True, notes=notes, kept=kept)


def _revision(connection: Connection) -> str | None:
    found: str | None = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608
    return found


def _rails_versions(connection: Connection) -> frozenset[str]:
    return frozenset(map(str, connection.scalars(text("SELECT version FROM schema_migrations"))))


def _check_own(connection: Connection, tables: frozenset[str]) -> None:
    for table in OWN_TABLES:
        if table.name in tables:
            columns = _columns(connection, table.name)
            lacking = [column.name for column in table.columns if column.name not in columns]
            if lacking:
                raise UnsuitableDatabase(
                    f"the table {table.name} lacks {_some(lacking)}: it is not this version's. Rename it if it is "
                    "another program's, or drop it if it is a trial's"
                )


def _is_kept(connection: Connection, tables: frozenset[str]) -> bool:
    """Whether the table of tenants' recordings and all its triggers are there."""
    engine = connection.dialect.name
    if engine == "sqlite":
        query = (
            "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND tbl_name IN ('recordings', 'metadata') "
            "AND name LIKE 'balancer_keep_tenant_recordings_%'"
        )
    else:
        query = (
            "SELECT count(*) FROM pg_trigger WHERE tgrelid IN (to_regclass('recordings'), to_regclass('metadata')) "
            "AND tgname IN ('balancer_keep_tenant_recordings', 'balancer_empty_tenant_recordings') "
            "AND tgenabled <> 'D'"
        )
    return tenant_recordings.name in tables and connection.scalar(text(query)) == _TRIGGERS[engine]


def _check_columns(connection: Connection, table: Table) -> None:
    found = _columns(connection, table.name)
    wrong = [
        f"{column.name} ({found[column.name].kind if column.name in found else 'missing'})"
        for column in table.columns
        if column.name not in found or not _fits(column.type, found[column.name].kind)
    ]
    if wrong:
        raise UnsuitableDatabase(
            f"the table {table.name} is not Scalelite's: of its columns, {_some(wrong)} do not fit; it has "
            f"{_some(found)}. {_ADVICE}"
        )
    if not found["id"].has_default:
        raise UnsuitableDatabase(f"the column {table.name}.id has no default: restore Scalelite's sequence of it")
    demanding = [
        name
        for name, column in found.items()
        if name not in table.columns and not column.nullable and not column.has_default
    ]
    if demanding:
        raise UnsuitableDatabase(
            f"the table {table.name} demands values for {_some(demanding)}, which this program does not know: it is "
            "a newer Scalelite's. Install a newer version of this program"
        )


def _fits(wanted: object, kind: str) -> bool:
    """Whether a column's type, in SQL, holds what ours does."""
    plain = kind.lower()
    if isinstance(wanted, Boolean):
        return plain.startswith("bool")
    if isinstance(wanted, DateTime):
        return plain.startswith(("timestamp", "datetime")) and "with time zone" not in plain
    if isinstance(wanted, Integer):
        return plain.startswith(("int", "bigint", "smallint"))
    return plain.startswith(("character varying", "varchar", "text"))


def _check_unique(connection: Connection) -> None:
    for table, columns in _UNIQUE:
        if columns not in _unique_indexes(connection, table):
            listed = ", ".join(columns)
            raise UnsuitableDatabase(
                f"the table {table} has no unique index on ({listed}), so rows might be doubled. Remove those that are "  # noqa: S608
                f"(SELECT {listed}, count(*) FROM {table} GROUP BY {listed} HAVING count(*) > 1), "
                f"then: CREATE UNIQUE INDEX index_{table}_on_{'_and_'.join(columns)} ON {table} ({listed})"
            )


def _tables(connection: Connection) -> frozenset[str]:
    if connection.dialect.name == "sqlite":
        return frozenset(connection.scalars(text("SELECT name FROM sqlite_master WHERE type = 'table'")))
    if connection.scalar(text("SELECT current_schema()")) is None:
        raise UnsuitableDatabase("the search path names no schema that is there and may be used")
    return frozenset(
        connection.scalars(
            text("SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()")
        )
    )


def _columns(connection: Connection, table: str) -> dict[str, _Column]:
    if connection.dialect.name == "sqlite":
        rows = connection.execute(
            text('SELECT name, type, "notnull", dflt_value, pk FROM pragma_table_info(:table)'), {"table": table}
        )
        return {
            name: _Column(kind, not strict, default is not None or bool(key))
            for name, kind, strict, default, key in rows
        }
    rows = connection.execute(
        text(
            "SELECT column_name, data_type, is_nullable = 'YES', column_default IS NOT NULL OR is_identity = 'YES' "
            "FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = :table "
            "ORDER BY ordinal_position"
        ),
        {"table": table},
    )
    return {name: _Column(kind, nullable, default) for name, kind, nullable, default in rows}


def _unique_indexes(connection: Connection, table: str) -> set[tuple[str, ...]]:
    """The columns of each index that forbids doubled values in all rows; sorted as Scalelite sorts them."""
    if connection.dialect.name == "sqlite":
        names = connection.scalars(
            text('SELECT name FROM pragma_index_list(:table) WHERE "unique" AND NOT partial'), {"table": table}
        ).all()
        columns = [
            connection.scalars(text("SELECT name FROM pragma_index_info(:name) ORDER BY seqno"), {"name": name}).all()
            for name in names
        ]
    else:
        columns = list(
            connection.scalars(
                text(
                    "SELECT (SELECT array_agg(attname::text ORDER BY place) FROM unnest(indkey::smallint[]) "
                    "WITH ORDINALITY AS k(number, place) JOIN pg_attribute ON attrelid = indrelid AND attnum = number "
                    "WHERE place <= indnkeyatts) "
                    "FROM pg_index WHERE indrelid = to_regclass(:table) AND indisunique AND indisvalid "
                    "AND indpred IS NULL AND indexprs IS NULL"
                ),
                {"table": table},
            )
        )
    wanted = {frozenset(names): names for where, names in _UNIQUE if where == table}
    return {wanted.get(frozenset(found), tuple(found)) for found in columns if found}


def _some(names: Iterable[str]) -> str:
    """The first of these names, in their order if they have one."""
    listed = sorted(names) if isinstance(names, (set, frozenset)) else list(names)
    shown = ", ".join(name[:60] for name in listed[:12])
    return f"{shown} and {len(listed) - 12} more" if len(listed) > 12 else shown
