"""Builds what imports recordings: the service of the program, and the importer of an import process."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from twisted.application.service import IService
from twisted.internet.threads import deferToThreadPool

from scalelite.archive import Archive, recording_storage
from scalelite.poll.election import Election
from scalelite.settings import Settings
from scalelite.store.leases import LeaseStore

if TYPE_CHECKING:
    from scalelite.recordings.import_process import ImportProcess
    from scalelite.recordings.import_service import ImportService, Observer
    from scalelite.recordings.importer import Importer

LEASE: Final = "importer"


def import_services(archive: Archive, holder: str, environ: Mapping[str, str], root: Path) -> list[IService]:
    """The importer for the first process, unless it is switched off; see `import_service`."""
    settings = archive.settings
    if not (settings.recordings_enabled and settings.import_enabled):
        return []
    return [import_service(archive, holder, environ, root)]


def import_service(
    archive: Archive, holder: str, environ: Mapping[str, str], root: Path, *, observer: Observer | None = None
) -> ImportService:
    """Imports recordings, if it is elected as `holder`, in processes that read their settings from `environ`.

    `root` is the folder that relative paths in them start from.
    """
    from scalelite.recordings.database import probe
    from scalelite.recordings.import_service import ImportService
    from scalelite.recordings.spool import Spool

    settings, reactor = archive.settings, archive.reactor
    leases = LeaseStore(archive.redis, settings.redis.prefix)
    made = ImportService(
        reactor,
        partial(deferToThreadPool, reactor, reactor.getThreadPool()),
        Spool(settings.recording_spool_dir, time.time),
        [import_process(reactor, environ, root) for _ in range(settings.import_workers)],
        lambda: archive.database.read(probe),
        Election(leases, reactor, LEASE, holder, lambda: made.elected()),  # noqa: PLW0108 - it is yet to be made
        interval=settings.recording_import_poll_interval,
        drain_timeout=settings.drain_timeout,
        observer=observer,
    )
    return made


def import_process(reactor: Any, environ: Mapping[str, str], root: Path) -> ImportProcess:
    """A process that imports, which is started when it has something to do; see `import_service`."""
    from scalelite.recordings.import_process import ImportProcess

    command = [sys.executable, "-P", "-m", "scalelite.import_worker"]
    inherited = {**environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return ImportProcess(reactor, command, inherited, root)


def build_importer(settings: Settings) -> Importer:
    """The importer of a process that does nothing else, with a connection of its own. Raises ValueError."""
    from scalelite.recordings.engines import open_engine
    from scalelite.recordings.extraction import Limits
    from scalelite.recordings.importer import Importer, ImportSettings
    from scalelite.recordings.recording_rows import ImportRules
    from scalelite.recordings.spool import Spool

    url = settings.effective_database_url
    if url is None:
        raise ValueError("there is no database")
    engine: Any = open_engine(url, pool=1, timeout=settings.db_timeout, prepare=settings.prepared_statements)
    return Importer(
        Spool(settings.recording_spool_dir, time.time),
        recording_storage(settings),
        engine,
        ImportSettings(
            settings.recording_work_dir,
            Limits(settings.import_max_size, settings.import_max_files),
            ImportRules(settings.recording_import_unpublished, settings.protected_recordings_enabled),
            settings.db_connection_retry_count,
        ),
        time.time,
        time.sleep,
    )
