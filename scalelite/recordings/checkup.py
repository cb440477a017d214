"""What may be wrong around recordings: the database, the importer, the spool, the outbox, folders and disks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

import attrs
from sqlalchemy import Connection, func, select
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime

from scalelite.cluster.operations.diagnosis import NOT_LOOKED_AT, Finding
from scalelite.recordings.desk import RecordingDesk
from scalelite.recordings.examination import examine
from scalelite.recordings.outbox import DEAD, WAITING, count_outbox
from scalelite.recordings.spool import Spool
from scalelite.recordings.tables import outbox
from scalelite.recordings.times import utc
from scalelite.store.errors import StoreError
from scalelite.store.leases import LeaseStore

#: Seconds that a tar may wait, and that a notice may be due, before it is worth a word.
LATE: Final = 3600.0
OVERDUE: Final = 600.0
#: A disk with less than that free, in bytes or as a part of it, is nearly full.
LEAST_FREE: Final = 2 * 1024**3
LEAST_PART: Final = 0.05
#: Of whoever imports and delivers.
LEASES: Final = {"importer": "start the service, or recordings:watch", "outbox": "start the service"}


@attrs.frozen
class Place:
    """A folder, and what the program does there."""

    path: Path
    what: str


@attrs.frozen
class Checkup:
    """Looks at everything that `desk` works with. `now` is the time in seconds since the epoch.

    `deadline`: seconds for all of it; what there was no time for is a finding.
    """

    desk: RecordingDesk
    leases: LeaseStore
    clock: IReactorTime
    now: Callable[[], float]
    places: Sequence[Place]
    deadline: float

    async def examine(self) -> list[Finding]:
        """What is wrong. Raises StoreError if Redis can't be asked."""
        try:
            return await Deferred.fromCoroutine(self._examine()).addTimeout(self.deadline, self.clock)
        except TimeoutError:
            return [Finding("recordings", "", NOT_LOOKED_AT)]

    async def _examine(self) -> list[Finding]:
        findings = [
            Finding(name, "", f"does not run anywhere: {advice}")
            for name, advice in LEASES.items()
            if await self.leases.holder(name) is None
        ]
        findings += await self.desk.in_thread(_spool, self.desk.spool, self.now())
        findings += await self.desk.in_thread(_folders, self.places)
        try:
            findings += await self._database()
        except StoreError as error:
            findings.append(Finding("database", "", f"cannot be used: {error}"))
        return findings

    async def _database(self) -> list[Finding]:
        read = partial(self.desk.database.read, deadline=self.deadline / 2)
        found = await read(examine)
        if not found.current:
            problem = Finding("database", "", f"is {found.text}: run db:upgrade, or start the service")
            if not found.usable:
                return [problem]
            return [problem, *await read(partial(_outbox, now=self.now()))]
        return await read(partial(_outbox, now=self.now()))


def _outbox(connection: Connection, now: float) -> list[Finding]:
    findings = []
    dead = count_outbox(connection)[DEAD]
    if dead:
        findings.append(Finding("outbox", "", f"has {_some(dead, 'notice')} given up: see outbox --dead"))
    late = utc(now) - timedelta(seconds=OVERDUE)
    due = select(func.count()).where(outbox.c.state == WAITING, outbox.c.next_attempt_at < late)
    overdue = connection.execute(due).scalar_one()
    if overdue:
        what = f"has {_some(overdue, 'notice')} overdue for over {OVERDUE / 60:.0f} minutes: see outbox"
        findings.append(Finding("outbox", "", what))
    return findings


def _spool(spool: Spool, now: float) -> list[Finding]:
    findings = []
    try:
        late = [path for path in spool.folder.glob("*.tar") if now - path.lstat().st_mtime > LATE]
        failed = len(spool.failures.all())
    except OSError as error:
        return [Finding("spool", str(spool.folder), f"cannot be read: {error.strerror or error}")]
    if late:
        what = f"has {_some(len(late), 'tar')} waiting for over an hour"
        findings.append(Finding("spool", str(spool.folder), what))
    if failed:
        findings.append(Finding("spool", "", f"has {_some(failed, 'failed import')}: see recordings:failed"))
    return findings


def _folders(places: Sequence[Place]) -> list[Finding]:
    findings = []
    disks: set[int] = set()
    for place in places:
        # What is not there yet is made where it is needed.
        path = next(path for path in (place.path.absolute(), *place.path.absolute().parents) if path.exists())
        try:
            if not (path.is_dir() and os.access(path, os.W_OK | os.X_OK)):
                findings.append(Finding("folder", str(place.path), f"of {place.what} cannot be written by this user"))
            disk = path.stat().st_dev
            if disk in disks:
                continue
            disks.add(disk)
            usage = shutil.disk_usage(path)
        except OSError as error:
            findings.append(Finding("folder", str(place.path), f"cannot be looked at: {error.strerror or error}"))
            continue
        if usage.free < max(LEAST_FREE, LEAST_PART * usage.total):
            what = f"of {place.what} is nearly full: {usage.free / 1e9:.1f} GB of {usage.total / 1e9:.1f} GB are free"
            findings.append(Finding("disk", str(place.path), what))
    return findings


def _some(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
