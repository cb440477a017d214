"""Builds what operators' commands about recordings work with, in the service or in a process of the operator's own."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.threads import deferToThreadPool

from scalelite.archive import Archive, build_archive
from scalelite.settings import Settings
from scalelite.store.connection import Redis

if TYPE_CHECKING:
    from scalelite.recordings.desk import RecordingDesk
    from scalelite.recordings.import_service import ImportService, Observer
    from scalelite.recordings.upgrade import Upgrade


def build_desk(reactor: Any, settings: Settings, redis: Redis) -> RecordingDesk | None:
    """A desk on an archive of its own, of which nothing is started yet; None without a database. Raises OSError."""
    archive = build_archive(reactor, settings, redis)
    return None if archive is None else recording_desk(archive)


def recording_desk(archive: Archive) -> RecordingDesk:
    """A desk on an archive that runs."""
    from scalelite.importing import import_process, import_service
    from scalelite.recordings.changes import RecordingChanges
    from scalelite.recordings.desk import RecordingDesk
    from scalelite.recordings.file_work import FileWork
    from scalelite.recordings.spool import Spool
    from scalelite.recordings.upgrade import Upgrade

    settings, reactor = archive.settings, archive.reactor
    files = FileWork(reactor, archive.database)
    changed = archive.lookup.invalidate

    def watcher(interval: float, observer: Observer) -> ImportService:
        settings = attrs.evolve(archive.settings, recording_import_poll_interval=interval)
        watching = attrs.evolve(archive, settings=settings)
        holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        return import_service(watching, holder, os.environ, Path.cwd(), observer=observer)

    def upgrade(tell: Callable[[str], None]) -> Upgrade:
        url = settings.effective_database_url
        assert url is not None
        return Upgrade(url, timeout=settings.db_timeout, tell=tell)

    return RecordingDesk(
        archive.database,
        archive.schema,
        archive.storage,
        Spool(settings.recording_spool_dir, time.time),
        files,
        RecordingChanges(files, archive.database, archive.storage, _now, changed),
        changed,
        partial(deferToThreadPool, reactor, reactor.getThreadPool()),
        watcher,
        lambda: import_process(reactor, os.environ, Path.cwd()),
        upgrade,
    )


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def no_database(settings: Settings) -> str:
    """Why there is none, and what to do."""
    if settings.db_disabled:
        return "There is no database: DB_DISABLED is true"
    return "There is no database: set DATABASE_URL, as for the service (postgresql://USER:PASSWORD@HOST/DATABASE)"
