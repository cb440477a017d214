"""The spool folder, into which BigBlueButton servers put recordings as tar files.

A tar is claimed by a lock of its name, so that it is imported once at a time however many programs share the folder;
locks end with the process that has them. What fails is moved to `failed/`, beside a JSON file that tells why. All of
it blocks.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from scalelite.recordings.failures import FailedTar, FailureRecords, short
from scalelite.recordings.files import FILE_MODE, Owner, exists, flush_folder, make_folder

SUFFIX: Final = ".tar"
FAILED: Final = "failed"

_IMPORTING: Final = ".importing"
_LOCK: Final = ".lock"
_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


class SpoolError(Exception):
    """The spool folder can't be used; the text says why."""


class Lock:
    """The right to import what has a name. Ends with `release`, or with the process."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Give the right back; nothing to do the second time."""
        if self._descriptor is None:
            return
        # Before it is let go of: whoever opened it meanwhile sees that it is gone, and makes another.
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = None


class Claim:
    """One tar, open, that this process alone imports."""

    def __init__(self, spool: Spool, path: Path, file: BinaryIO, lock: Lock) -> None:
        self._spool = spool
        self._lock = lock
        self._first = os.fstat(file.fileno())
        self.path = path
        #: A file outside the spool is its owner's, and left as it is.
        self.foreign = path.parent not in (spool.folder, spool.folder / FAILED)
        self.file = file
        self.fingerprint = fingerprint(self._first)

    @property
    def name(self) -> str:
        """The tar's name, without the suffix."""
        return self.path.name.removesuffix(SUFFIX)

    @property
    def size(self) -> int:
        """Bytes."""
        return self._first.st_size

    def changed_since(self, when: float) -> bool:
        """Whether the tar was still written to at a time, or has been since it was claimed."""
        status = os.fstat(self.file.fileno())
        return fingerprint(status) != self.fingerprint or status.st_mtime > when

    def done(self) -> None:
        """Remove the tar, for good, and what is told of former failures. The claim remains."""
        if not self.foreign:
            self._spool.remove(self)

    def fail(self, reason: str) -> FailedTar | None:
        """Move the tar to the failed ones, to be retried later. None for one that stays where it is."""
        return None if self.foreign else self._spool.move_to_failed(self, reason)

    def release(self) -> None:
        """Let others have the tar."""
        self.file.close()
        self._lock.release()


class Spool:
    """The folder of waiting tars. Methods raise OSError; `now` is the time in seconds since 1970."""

    def __init__(self, folder: Path, now: Callable[[], float]) -> None:
        self.folder = folder
        self.failures = FailureRecords(folder / FAILED, now)
        self._importing = folder / _IMPORTING

    def prepare(self) -> None:
        """Make the folders that are missing."""
        make_folder(self.folder)
        owner = Owner.of(self.folder)
        make_folder(self._importing, owner)
        make_folder(self.folder / FAILED, owner)

    def waiting(self) -> list[Path]:
        """The tars to be imported: new ones in order of their names, then failed ones whose time has come."""
        fresh = _tars(self.folder)
        names = {path.name for path in fresh}
        # One that was sent again takes the place of the failed one.
        return fresh + [path for path in self.failures.due() if path.name not in names]

    def last_change(self) -> int:
        """A number that changes whenever a file comes or goes."""
        return self.folder.stat().st_mtime_ns

    def claim(self, path: Path) -> Claim | None:
        """Open a tar and keep others from it; None if others have it, or it is not there any more."""
        lock = self.lock(path.name.removesuffix(SUFFIX))
        if lock is None:
            return None
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            lock.release()
            return None
        except OSError:
            lock.release()
            raise
        return Claim(self, path, os.fdopen(descriptor, "rb"), lock)

    def lock(self, name: str) -> Lock | None:
        """The right to import what is called `name`; None if others have it. Raises SpoolError."""
        path = self._importing / f"{short(name)}{_LOCK}"
        while True:
            # For writing: network filesystems have it so.
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(descriptor, path):
                    return Lock(path, descriptor)
            except BlockingIOError:
                os.close(descriptor)
                return None
            except OSError as error:
                os.close(descriptor)
                if error.errno in _NO_LOCKS:
                    raise SpoolError(f"the filesystem of {self.folder} has no locks: {error.strerror}") from error
                raise
            # Its last holder removed it between our opening and locking it.
            os.close(descriptor)

    def remove(self, claim: Claim) -> None:
        """See `Claim.done`."""
        # A newer tar may have come under the name, and come even now: only under another name can it be told.
        hidden = self._importing / claim.path.name
        with suppress(FileNotFoundError):
            claim.path.rename(hidden)
            if fingerprint(hidden.lstat()) == claim.fingerprint:
                hidden.unlink()
                flush_folder(claim.path.parent)
            else:
                _put_back(hidden, claim.path)
        if claim.path.parent == self.folder:
            (self.folder / FAILED / claim.path.name).unlink(missing_ok=True)
        self.failures.forget(claim.name)

    def move_to_failed(self, claim: Claim, reason: str) -> FailedTar:
        """See `Claim.fail`."""
        # The reason first: a tar that fails at every start would else never be known to.
        failed = self.failures.record(claim.name, claim.fingerprint, claim.size, reason)
        target = self.folder / FAILED / claim.path.name
        if claim.path != target:
            with suppress(FileNotFoundError):
                if fingerprint(claim.path.lstat()) == claim.fingerprint:
                    claim.path.rename(target)
                    flush_folder(target.parent)
                    flush_folder(self.folder)
        return failed

    def recover(self) -> None:
        """Put back what a process that was killed had in hand."""
        for hidden in _tars(self._importing):
            lock = self.lock(hidden.name.removesuffix(SUFFIX))
            if lock is not None:
                _put_back(hidden, self.folder / hidden.name)
                lock.release()
        for path in self._importing.glob(f"*{_LOCK}"):
            left = self.lock(path.name.removesuffix(_LOCK))
            if left is not None:
                left.release()

    def fingerprints(self) -> set[str]:
        """Those of all tars in the spool, failed ones included."""
        found = set()
        for folder in (self.folder, self._importing, self.folder / FAILED):
            for path in _tars(folder):
                with suppress(FileNotFoundError):
                    found.add(fingerprint(path.lstat()))
        return found


def fingerprint(status: os.stat_result) -> str:
    """Tells a file from others of its name; the same wherever on its filesystem it is moved."""
    text = f"{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"
    return hashlib.sha256(text.encode()).hexdigest()


def _tars(folder: Path) -> list[Path]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        return sorted(
            Path(entry.path)
            for entry in entries
            if entry.name.endswith(SUFFIX) and not entry.name.startswith(".") and entry.is_file(follow_symlinks=False)
        )
    return []


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _put_back(hidden: Path, path: Path) -> None:
    """Give a tar its name back, unless another has come under it, which is newer."""
    try:
        os.link(hidden, path)
    except FileExistsError:
        hidden.unlink()
    except OSError:
        # No links there. What comes under the name in this moment would be lost to an older one, which is worse.
        if exists(path):
            hidden.unlink()
        else:
            hidden.rename(path)
    else:
        hidden.unlink()
