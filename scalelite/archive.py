"""Builds the parts of the recordings: all that needs the database. Everything is handed what it needs.

SQLAlchemy is imported where there is a database only: it takes a while.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from twisted.application.service import IService

from scalelite.settings import Settings
from scalelite.store.connection import Redis

if TYPE_CHECKING:
    from scalelite.recordings.database import Database


@attrs.frozen
class Archive:
    """What the parts of the recordings share; each process has its own."""

    reactor: Any
    settings: Settings
    redis: Redis
    database: Database


def build_archive(reactor: Any, settings: Settings, redis: Redis) -> Archive | None:
    """The archive; None where there is no database. Nothing is connected yet."""
    if settings.effective_database_url is None:
        return None
    return Archive(reactor, settings, redis, _database(reactor, settings, settings.effective_database_url))


def _database(reactor: Any, settings: Settings, url: str) -> Database:
    from scalelite.recordings.database import Database, open_engine
    from scalelite.recordings.url import engine_url

    engine = open_engine(
        engine_url(url),
        pool=settings.db_pool,
        timeout=settings.db_timeout,
        prepare=settings.prepared_statements,
    )
    return Database(reactor, engine, settings.db_pool)


def shared_services(archive: Archive) -> list[IService]:
    """What runs in every process that serves clients, in the order of its start."""
    return [archive.database]


def leading_services(archive: Archive) -> list[IService]:  # noqa: ARG001
    """What runs in the first process only, beside the poller: it may elect a leader among several instances."""
    return []
