"""What SQLAlchemy spells differently for PostgreSQL and SQLite."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def upsert(connection: Connection, table: Table) -> Any:
    """An INSERT that knows `on_conflict_do_update` and `on_conflict_do_nothing`."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def bulk(connection: Connection, statement: Any) -> int:
    """Execute an UPDATE or DELETE; how many rows it touched."""
    return int(connection.execute(statement).rowcount)
