"""What operators' commands about recordings work with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import attrs
from twisted.application.service import IService
from twisted.internet.defer import Deferred

from scalelite.recordings.changes import RecordingChanges
from scalelite.recordings.database import Database
from scalelite.recordings.examination import Found, examine
from scalelite.recordings.file_work import FileWork
from scalelite.recordings.import_process import ImportProcess
from scalelite.recordings.import_service import ImportService, Observer
from scalelite.recordings.spool import Spool
from scalelite.recordings.storage import Storage
from scalelite.recordings.upgrade import Upgrade

T = TypeVar("T")


class InThread(Protocol):
    """Calls a function in a thread."""

    def __call__(self, work: Callable[..., T], *args: Any) -> Deferred[T]: ...


@attrs.frozen
class RecordingDesk:
    """Rows, files and spool, and what changes them. `changed` must be told the ids of recordings that were changed.

    `schema` brings about the database's tables, and holds it until they are there. `watcher` makes a service that
    imports, looking into the spool in that interval (seconds); `importer` a process that imports single tars; `upgrade`
    makes an upgrade of the database, which is told what to do with its texts.
    """

    database: Database
    schema: IService
    storage: Storage
    spool: Spool
    files: FileWork
    changes: RecordingChanges
    changed: Callable[[str], None]
    in_thread: InThread
    watcher: Callable[[float, Observer], ImportService]
    importer: Callable[[], ImportProcess]
    upgrade: Callable[[Callable[[str], None]], Upgrade]

    async def examine(self) -> Found:
        """What the database is. Raises StoreError, UnsuitableDatabase among them."""
        return await self.database.read(examine)
