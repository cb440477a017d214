"""Imports one tar: unpacks it, checks every format in it, and lets rows and files appear together. All of it blocks.

The order of steps makes that a process that is killed at any of them leaves the tar to be imported again, or imported
once: files are staged beside their place; one transaction writes the rows, notes the tar's fingerprint, queues the
notification and swaps the files; then the tar is removed, and its fingerprint forgotten.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Final, Protocol, TypeVar

import attrs
from sqlalchemy import Connection, Engine

from scalelite.recordings.database import DatabaseError, DatabaseUnavailable, transact
from scalelite.recordings.extraction import METADATA, BadTar, CutTar, Limits, Unpacked, unpack
from scalelite.recordings.failures import short
from scalelite.recordings.files import make_folder, remove_path
from scalelite.recordings.metadata_xml import MAX_SIZE, BadMetadata, FormatMetadata, read_metadata, without_secrets
from scalelite.recordings.outbox import enqueue_recording_ready
from scalelite.recordings.recording_rows import (
    ImportRules,
    SavedRecording,
    forget_import,
    forget_removed,
    imported_record,
    make_lasting,
    remember_import,
    save_recording,
)
from scalelite.recordings.spool import Claim, Spool
from scalelite.recordings.storage import Staged, Storage, StorageError
from scalelite.recordings.text_tracks import add_files
from scalelite.recordings.times import utc

T = TypeVar("T")

#: Seconds for which a tar that seems to be cut off may be one that is still being written.
SETTLING: Final = 60.0

#: Seconds before a repetition after a failure of the database: the first, and at most.
FIRST_PAUSE: Final = 0.5
MAX_PAUSE: Final = 10.0

#: Seconds after which nobody is at work any more on what looks left behind.
LEFT_BEHIND: Final = 86_400.0

#: The format with whose files text tracks that were uploaded are kept.
CAPTIONED: Final = "presentation"

_WORK: Final = "import-"


class Result(Enum):
    """What became of a tar."""

    IMPORTED = "imported"
    #: It was imported before a crash, and is removed now.
    REPEATED = "repeated"
    #: Its recording was deleted, and stays so; the tar is removed.
    DELETED = "deleted"
    #: Others have it, or have had it.
    TAKEN = "taken"
    #: It is still being written, and left alone.
    UNFINISHED = "unfinished"
    FAILED = "failed"


@attrs.frozen
class Outcome:
    """What became of a tar, in detail as far as there is any. `size` in bytes, `retry_at` in seconds since 1970."""

    result: Result
    name: str
    record_id: str | None = None
    formats: tuple[str, ...] = ()
    published: bool | None = None
    size: int = 0
    reason: str | None = None
    retry_at: float | None = None


class Watcher(Protocol):
    """Is told how an import goes on."""

    def step(self, name: str, done: int, total: int) -> None:
        """What is being done, and how many bytes of how many."""

    def warn(self, text: str) -> None:
        """Something went wrong that does not stop the import."""


@attrs.frozen
class ImportSettings:
    """How to import. `retries`: how often a failure of the database is met with a repetition."""

    work_dir: Path
    limits: Limits
    rules: ImportRules
    retries: int


class _Failed(Exception):
    """The tar can't be imported; the text says why."""


class _AlreadyImported(Exception):
    """Rolls an import back that a former attempt has committed."""


class Importer:
    """Imports tars of a spool. `now` is the time in seconds since 1970, `pause` waits for seconds."""

    def __init__(
        self,
        spool: Spool,
        storage: Storage,
        engine: Engine,
        settings: ImportSettings,
        now: Callable[[], float],
        pause: Callable[[float], object],
    ) -> None:
        self._spool = spool
        self._storage = storage
        self._engine = engine
        self._settings = settings
        self._now = now
        self._pause = pause

    def run(self, path: Path, watcher: Watcher, *, force: bool = False) -> Outcome:
        """Import the tar at `path`, `force` even if its recording was deleted.

        Raises StoreError, StorageError, SpoolError and OSError for trouble that is not the tar's: it stays where it is.
        """
        claim = self._spool.claim(path)
        if claim is None:
            return Outcome(Result.TAKEN, path.name.removesuffix(".tar"))
        try:
            return self._claimed(claim, watcher, force)
        finally:
            claim.release()

    def recover(self) -> None:
        """Put in order what imports that were killed have left behind; others may import meanwhile. Raises as `run`."""
        self._spool.prepare()
        self._spool.recover()
        self._tidy_work_folder()
        self._storage.tidy(LEFT_BEHIND)
        present = self._spool.fingerprints()
        before = utc(self._now() - LEFT_BEHIND)
        self._transaction(partial(forget_removed, present=present, before=before))

    def _tidy_work_folder(self) -> None:
        with suppress(FileNotFoundError), os.scandir(self._settings.work_dir) as entries:
            for entry in entries:
                if not entry.name.startswith(_WORK):
                    continue
                lock = self._spool.lock(entry.name.removeprefix(_WORK))
                if lock is not None:
                    try:
                        remove_path(Path(entry.path))
                    finally:
                        lock.release()

    def _claimed(self, claim: Claim, watcher: Watcher, force: bool) -> Outcome:
        record_id = self._transaction(partial(imported_record, fingerprint=claim.fingerprint))
        if record_id is not None:
            self._storage.settle(record_id)
            self._remove(claim)
            return Outcome(Result.REPEATED, claim.name, record_id)
        make_folder(self._settings.work_dir)
        work = self._settings.work_dir / f"{_WORK}{short(claim.name)}"
        remove_path(work)
        work.mkdir(0o700)
        try:
            try:
                outcome = self._import(claim, work, watcher, force)
            finally:
                remove_path(work)
        except (BadTar, _Failed, StorageError, DatabaseError) as error:
            return self._failed(claim, error)
        except OSError as error:
            return self._failed(claim, _Failed(f"{error.strerror or error}: {error.filename}"))
        if outcome.result in (Result.IMPORTED, Result.DELETED, Result.REPEATED):
            self._remove(claim)
        return outcome

    def _failed(self, claim: Claim, error: Exception) -> Outcome:
        if isinstance(error, CutTar) and claim.changed_since(self._now() - SETTLING):
            return Outcome(Result.UNFINISHED, claim.name, reason=str(error))
        failed = claim.fail(str(error))
        return Outcome(
            Result.FAILED,
            claim.name,
            size=claim.size,
            reason=str(error),
            retry_at=None if failed is None else failed.next_retry_at,
        )

    def _remove(self, claim: Claim) -> None:
        claim.done()
        self._transaction(partial(forget_import, fingerprint=claim.fingerprint))

    def _import(self, claim: Claim, work: Path, watcher: Watcher, force: bool) -> Outcome:
        unpacked = unpack(
            claim.file, work, self._settings.limits, lambda done: watcher.step("unpacking", done, claim.size)
        )
        formats = [read_format(unpacked, playback_format) for playback_format in unpacked.formats]
        # A tar of another name may be of the same recording.
        own = None if unpacked.record_id == claim.name else self._spool.lock(unpacked.record_id)
        if own is None and unpacked.record_id != claim.name:
            return Outcome(Result.TAKEN, claim.name, unpacked.record_id)
        try:
            return self._store(claim, unpacked, formats, watcher, force)
        finally:
            if own is not None:
                own.release()

    def _store(
        self, claim: Claim, unpacked: Unpacked, formats: Sequence[FormatMetadata], watcher: Watcher, force: bool
    ) -> Outcome:
        likely = not self._settings.rules.unpublished and bool(formats[-1].published)
        attempt = _Attempt(self._storage, unpacked.record_id)
        try:
            if CAPTIONED in unpacked.formats:
                captions = partial(add_files, record_id=unpacked.record_id, folder=unpacked.of(CAPTIONED))
                self._transaction(captions)
            for number, playback_format in enumerate(unpacked.formats):
                watcher.step(f"storing {playback_format}", number, len(unpacked.formats))
                attempt.stage(playback_format, unpacked.of(playback_format), published=likely)
            watcher.step("writing rows", 0, 1)
            saved = self._transaction(partial(self._save, claim, formats, attempt, force))
        except _AlreadyImported:
            if attempt.saved is None:
                attempt.undo(watcher)
                return Outcome(Result.REPEATED, claim.name, unpacked.record_id)
            # By a try of ours in which only the answer to the commit was lost.
            saved = attempt.saved
        except DatabaseUnavailable:
            # It may be committed all the same, and if the files are in place, they have to stay.
            if not attempt.placing:
                attempt.undo(watcher)
            raise
        except BaseException:
            attempt.undo(watcher)
            raise
        details = Outcome(Result.IMPORTED, claim.name, unpacked.record_id, unpacked.formats, size=unpacked.size)
        if saved is None:
            attempt.undo(watcher)
            return attrs.evolve(details, result=Result.DELETED)
        attempt.finish(watcher)
        return attrs.evolve(details, published=saved.published)

    def _save(
        self, claim: Claim, formats: Sequence[FormatMetadata], attempt: _Attempt, force: bool, connection: Connection
    ) -> SavedRecording | None:
        if imported_record(connection, claim.fingerprint) is not None:
            raise _AlreadyImported
        make_lasting(connection)
        now = utc(self._now())
        saved = save_recording(connection, formats, self._settings.rules, force=force, now=now)
        if saved is None:
            return None
        record_id = formats[-1].record_id
        remember_import(connection, record_id, claim.fingerprint, now)
        enqueue_recording_ready(
            connection, meeting_id=saved.meeting_id, tenant_id=saved.tenant_id, record_id=record_id, now=now
        )
        # Last: whatever fails in SQL has failed by now, save the commit.
        attempt.place(saved)
        return saved

    def _transaction(self, work: Callable[[Connection], T]) -> T:
        for attempt in range(self._settings.retries):
            try:
                return transact(self._engine, work)
            except DatabaseUnavailable:
                self._pause(min(MAX_PAUSE, FIRST_PAUSE * 2**attempt))
        return transact(self._engine, work)


class _Attempt:
    """The files of one import, all formats together."""

    def __init__(self, storage: Storage, record_id: str) -> None:
        self._storage = storage
        self._record_id = record_id
        self._staged: dict[str, Staged] = {}
        #: Formats that are not in the tar, and followed the others to this side.
        self._moved: list[tuple[str, bool]] = []
        self.placing = False
        self.saved: SavedRecording | None = None

    def stage(self, playback_format: str, source: Path, *, published: bool) -> None:
        self._staged[playback_format] = self._storage.stage(
            playback_format, self._record_id, source, published=published
        )

    def place(self, saved: SavedRecording) -> None:
        """Let readers see the files. May be repeated."""
        self.placing = True
        self.saved = saved
        for staged in self._staged.values():
            staged.place(published=saved.published)
        if not saved.known:
            return
        for playback_format, published in self._storage.kept(self._record_id):
            if playback_format not in self._staged and published != saved.published:
                self._storage.publish(playback_format, self._record_id, published=saved.published)
                self._moved.append((playback_format, saved.published))

    def undo(self, watcher: Watcher) -> None:
        """Let everything be as before; what can't be is told."""
        for playback_format, published in reversed(self._moved):
            _tell(watcher, partial(self._storage.publish, playback_format, self._record_id, published=not published))
        for staged in reversed(self._staged.values()):
            _tell(watcher, staged.undo)

    def finish(self, watcher: Watcher) -> None:
        """Remove what the new files have replaced; what can't be is told, and removed another day."""
        for staged in self._staged.values():
            _tell(watcher, staged.finish)


def _tell(watcher: Watcher, step: Callable[[], object]) -> None:
    try:
        step()
    except StorageError as error:
        watcher.warn(str(error))


def read_format(unpacked: Unpacked, playback_format: str) -> FormatMetadata:
    """What an unpacked format's metadata.xml says; raises BadTar if that is not of this format and recording.

    Secrets are taken out of the file.
    """
    where = f"{playback_format}/{unpacked.record_id}/{METADATA}"
    path = unpacked.of(playback_format) / METADATA
    with open(path, "rb") as reading:
        document = reading.read(MAX_SIZE + 1)
    try:
        found = read_metadata(document)
    except BadMetadata as error:
        raise _Failed(f"{where}: {error}") from error
    if found.record_id != unpacked.record_id:
        raise _Failed(f"{where}: its id {found.record_id!r} is not that of its folder")
    if found.format != playback_format:
        raise _Failed(f"{where}: its playback/format {found.format!r} is not that of its folder")
    cleaned = without_secrets(document)
    if cleaned is not document:
        path.write_bytes(cleaned)
    return found
