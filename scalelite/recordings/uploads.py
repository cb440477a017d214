"""Uploads under way, in files of the spool folder, so that any process can go on with them. All of it blocks.

`.uploads/<id>.part` holds what has come, `.uploads/<id>.json` what it is; a lock of the first keeps others from
writing. A complete one becomes `<record id>.tar` in the spool, and its note stays for a day, to tell so.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import attrs

from scalelite.recordings.files import FILE_MODE, Owner, flush_folder, make_folder
from scalelite.recordings.spool import SUFFIX
from scalelite.recordings.upload_tokens import Upload

FOLDER: Final = ".uploads"
#: Seconds after which an upload that nobody goes on with is removed.
STALE: Final = 86_400.0
#: Bytes that uploads leave free on the filesystem.
MARGIN: Final = 256 * 1024 * 1024

_PART: Final = ".part"
_NOTE: Final = ".json"
_READ: Final = 1024 * 1024
_HASHES: Final = 64
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class UploadError(Exception):
    """An upload can't go on; the text says why."""


class UnknownUpload(UploadError):
    """There is no such upload: it must be created first, anew if it was there before."""


class UploadBusy(UploadError):
    """Another request is at this upload."""


class WrongOffset(UploadError):
    """Not where the upload ends; `offset` is."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"the upload goes on at {offset}")
        self.offset = offset


class TooMuch(UploadError):
    """More bytes than were announced."""


class WrongContent(UploadError):
    """All bytes have come, and they are not those that were announced. The upload is gone."""


class NoSpace(UploadError):
    """There is no room on the disk."""


@attrs.frozen
class _Note:
    """What is known of an upload. `nonce` tells one from an earlier one of the same content."""

    nonce: str
    length: int
    done: bool


class UploadFolder:
    """The uploads of a spool. Methods raise UploadError and OSError.

    `free` tells how many bytes are free where a folder is, `now` the time in seconds since 1970.
    """

    def __init__(self, spool: Path, now: Callable[[], float], free: Callable[[Path], int]) -> None:
        self._spool = spool
        self._folder = spool / FOLDER
        self._now = now
        self._free = free
        # How far each upload has been hashed by this process, which in most cases has seen all of it.
        self._hashes: OrderedDict[str, tuple[int, Any]] = OrderedDict()
        self._guard = threading.Lock()

    def create(self, upload: Upload) -> int:
        """Begin an upload, or find the one that was begun; how many bytes of it are there."""
        self._prepare()
        with suppress(UnknownUpload):
            note = self._note(upload)
            if not (note.done and not self._part(upload).exists()):
                return self.offset(upload)
        # None so far, or one that was completed, and is sent again on purpose.
        self._check_space(upload.length, upload)
        self._write_note(upload, _Note(secrets.token_hex(8), upload.length, done=False))
        with suppress(FileExistsError):
            os.close(os.open(self._part(upload), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
        flush_folder(self._folder)
        return self.offset(upload)

    def offset(self, upload: Upload) -> int:
        """How many bytes are there. All of them: the tar is in the spool, or was."""
        note = self._note(upload)
        try:
            size = self._part(upload).stat().st_size
        except FileNotFoundError:
            if note.done:
                return upload.length
            raise UnknownUpload("there is no such upload") from None
        if size < upload.length and not note.done:
            return size
        # It was complete when its process ended.
        writer = self.open(upload, size)
        try:
            writer.finish()
        finally:
            writer.close()
        return upload.length

    def open(self, upload: Upload, offset: int) -> UploadWriter:
        """Go on with an upload at `offset`; whoever gets the writer closes it."""
        note = self._note(upload)
        path = self._part(upload)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            if note.done:
                raise WrongOffset(upload.length) from None
            raise UnknownUpload("there is no such upload") from None
        try:
            size = self._lock(descriptor, path)
            if size != offset:
                raise WrongOffset(size)
            self._check_space(upload.length - size, upload)
        except BaseException:
            os.close(descriptor)
            raise
        return UploadWriter(self, upload, self._note(upload), descriptor, size)

    def sweep(self, age: float = STALE) -> int:
        """Remove uploads that nobody has gone on with for `age` seconds, and what tells of complete ones; how many."""
        before = self._now() - age
        removed = 0
        newest: dict[str, float] = {}
        with suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    name = entry.name.split(".")[0]
                    newest[name] = max(newest.get(name, 0.0), entry.stat(follow_symlinks=False).st_mtime)
        for name in (name for name, touched in newest.items() if touched < before):
            try:
                self._remove(name)
            except UploadBusy:
                continue
            removed += 1
        return removed

    def _remove(self, name: str) -> None:
        part = self._folder / f"{name}{_PART}"
        with suppress(FileNotFoundError):
            descriptor = os.open(part, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                self._lock(descriptor, part)
                part.unlink()
            finally:
                os.close(descriptor)
        for left in (f"{name}{_NOTE}", f"{name}.new"):
            (self._folder / left).unlink(missing_ok=True)

    def _prepare(self) -> None:
        make_folder(self._spool)
        make_folder(self._folder, Owner.of(self._spool))

    def _lock(self, descriptor: int, path: Path) -> int:
        """Keep others from the part; its size."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UploadBusy("another request is at this upload") from None
        found = os.fstat(descriptor)
        with suppress(FileNotFoundError):
            if os.path.samestat(found, path.lstat()):
                return found.st_size
        # Completed or removed between our opening and locking it.
        raise UploadBusy("another request was at this upload")

    def _check_space(self, wanted: int, upload: Upload) -> None:
        """What others have announced counts as if it were there."""
        for path in self._folder.glob(f"*{_NOTE}"):
            note = _read_note(path)
            if note is not None and not note.done and path.stem != upload.id:
                with suppress(FileNotFoundError):
                    wanted += max(0, note.length - path.with_suffix(_PART).stat().st_size)
        if self._free(self._folder) < wanted + MARGIN:
            raise NoSpace("there is no room for it on the disk")

    def _part(self, upload: Upload) -> Path:
        return self._folder / f"{upload.id}{_PART}"

    def _note(self, upload: Upload) -> _Note:
        note = _read_note(self._folder / f"{upload.id}{_NOTE}")
        if note is None:
            raise UnknownUpload("there is no such upload")
        return note

    def _write_note(self, upload: Upload, note: _Note) -> None:
        hidden = self._folder / f"{upload.id}.new"
        with open(hidden, "w", encoding="ascii") as writing:
            json.dump({**attrs.asdict(note), "server": upload.server_id, "record_id": upload.record_id}, writing)
            writing.flush()
            os.fsync(writing.fileno())
        hidden.rename(self._folder / f"{upload.id}{_NOTE}")

    # For the writer

    def known_hash(self, nonce: str) -> tuple[int, Any]:
        """How many bytes of an upload this process has hashed in a row, and the hash; handed over, not shared."""
        with self._guard:
            return self._hashes.pop(nonce, (0, hashlib.sha256()))

    def keep_hash(self, nonce: str, position: int, digest: Any) -> None:
        """Keep a hash for the next request of that upload."""
        with self._guard:
            self._hashes[nonce] = (position, digest)
            while len(self._hashes) > _HASHES:
                self._hashes.popitem(last=False)

    def complete(self, upload: Upload, note: _Note, descriptor: int) -> None:
        """Give a complete and flushed part its place in the spool, where it replaces one not imported yet."""
        os.fchmod(descriptor, FILE_MODE)
        owner = Owner.of(self._spool)
        if owner is not None:
            os.fchown(descriptor, owner.uid, owner.gid)
        os.fsync(descriptor)
        # First: if this is all that is done, the next request finds out, and does the rest.
        self._write_note(upload, attrs.evolve(note, done=True))
        flush_folder(self._folder)
        self._part(upload).rename(self._spool / f"{upload.record_id}{SUFFIX}")
        flush_folder(self._spool)
        flush_folder(self._folder)

    def discard(self, upload: Upload) -> None:
        """Remove an upload."""
        self._part(upload).unlink(missing_ok=True)
        (self._folder / f"{upload.id}{_NOTE}").unlink(missing_ok=True)
        flush_folder(self._folder)


class UploadWriter:
    """Appends to one upload that this process alone has. Methods raise UploadError and OSError."""

    def __init__(self, folder: UploadFolder, upload: Upload, note: _Note, descriptor: int, size: int) -> None:
        self._folder = folder
        self._upload = upload
        self._note = note
        self._descriptor: int | None = descriptor
        self.offset = size
        self._hashed, self._hash = folder.known_hash(note.nonce)

    def write(self, data: bytes) -> None:
        """Append."""
        assert self._descriptor is not None
        if self.offset + len(data) > self._upload.length:
            raise TooMuch(f"more than {self._upload.length} bytes")
        view = memoryview(data)
        while view:
            try:
                written = os.pwrite(self._descriptor, view, self.offset)
            except OSError as error:
                if error.errno in _FULL:
                    raise NoSpace("there is no room for it on the disk") from error
                raise
            if self._hashed == self.offset:
                self._hash.update(view[:written])
                self._hashed += written
            self.offset += written
            view = view[written:]

    def finish(self) -> bool:
        """If all has come, check it and put the tar into the spool; whether that is so."""
        assert self._descriptor is not None
        if self.offset < self._upload.length:
            return False
        while self._hashed < self.offset:
            # What other processes have written.
            data = os.pread(self._descriptor, _READ, self._hashed)
            if not data:
                raise WrongContent("the upload has become shorter")
            self._hash.update(data)
            self._hashed += len(data)
        if self._hash.hexdigest() != self._upload.sha256:
            self._folder.discard(self._upload)
            raise WrongContent("what has come is not what was announced; send it again")
        self._folder.complete(self._upload, self._note, self._descriptor)
        return True

    def close(self) -> None:
        """Flush what was written, and let others go on; nothing to do the second time."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        try:
            if self.offset < self._upload.length:
                os.fsync(descriptor)
                self._folder.keep_hash(self._note.nonce, self._hashed, self._hash)
        finally:
            os.close(descriptor)


def _read_note(path: Path) -> _Note | None:
    try:
        noted: Any = json.loads(path.read_bytes())
        return _Note(str(noted["nonce"]), int(noted["length"]), bool(noted["done"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
