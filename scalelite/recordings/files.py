"""Files and folders that survive a crash: flushed, moved across filesystems, exchanged, removed. All of it blocks."""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs

#: As Scalelite has them: its group, which the web server may be in, writes as well.
FOLDER_MODE: Final = 0o775
FILE_MODE: Final = 0o664

_COPY_CHUNK: Final = 1024 * 1024
_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2
_NO_EXCHANGE: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
_libc: Final = ctypes.CDLL(None, use_errno=True)


class NotPlain(OSError):
    """Something in a tree is neither a regular file nor a folder."""


@attrs.frozen
class Owner:
    """Whom files are given to."""

    uid: int
    gid: int

    @classmethod
    def of(cls, folder: Path) -> Owner | None:
        """The owner of `folder`; None where this process may not give files away, and makes them as itself."""
        if os.geteuid() != 0:
            return None
        status = folder.stat()
        return cls(status.st_uid, status.st_gid)


def make_folder(path: Path, owner: Owner | None = None) -> None:
    """Make `path` and what is missing above it, for good; nothing to do if it is there."""
    if path.is_dir():
        return
    make_folder(path.parent, owner)
    try:
        path.mkdir(FOLDER_MODE)
    except FileExistsError:
        if not path.is_dir():
            raise
        return
    path.chmod(FOLDER_MODE)
    if owner is not None:
        os.chown(path, owner.uid, owner.gid)
    flush_folder(path.parent)


def flush_folder(path: Path) -> None:
    """See to it that the names in a folder survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_small(path: Path, content: bytes, owner: Owner | None) -> None:
    """Write a file for good: readers and a crash find the former one or this one."""
    hidden = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    descriptor = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            _settle(file.fileno(), FILE_MODE, owner)
        hidden.rename(path)
    except BaseException:
        hidden.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def settle_tree(root: Path, owner: Owner | None) -> None:
    """Give everything below and including `root` its mode and owner, and flush it. Raises NotPlain, OSError."""
    for folder, files in _walk(root):
        # All are on their way to the disk before the first one is waited for, so that they arrive together.
        for path in files:
            with _opened(path) as descriptor:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        for path in files:
            with _opened(path) as descriptor:
                _settle(descriptor, FILE_MODE, owner)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _settle(descriptor, FOLDER_MODE, owner)
        finally:
            os.close(descriptor)


@contextmanager
def _opened(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _settle(descriptor: int, mode: int, owner: Owner | None) -> None:
    status = os.fstat(descriptor)
    if stat.S_IMODE(status.st_mode) & ~stat.S_ISGID != mode:
        # A group that is handed down by its folder is handed down further.
        os.fchmod(descriptor, mode | (status.st_mode & stat.S_ISGID))
    if owner is not None and (status.st_uid, status.st_gid) != (owner.uid, owner.gid):
        os.fchown(descriptor, owner.uid, owner.gid)
    os.fsync(descriptor)


def _walk(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Each folder with the files in it, the innermost folders first."""
    folders: list[str] = []
    files: list[str] = []
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif entry.is_file(follow_symlinks=False):
                files.append(entry.path)
            else:
                raise NotPlain(errno.EINVAL, "neither a regular file nor a folder", entry.path)
    for folder in folders:
        yield from _walk(Path(folder))
    yield os.fspath(root), files


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder of plain files to the new folder `target`. Raises NotPlain, OSError."""
    target.mkdir(FOLDER_MODE)
    with os.scandir(source) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                copy_tree(Path(entry.path), target / entry.name)
            elif entry.is_file(follow_symlinks=False):
                with open(entry.path, "rb") as reading, open(target / entry.name, "xb") as writing:
                    shutil.copyfileobj(reading, writing, _COPY_CHUNK)
            else:
                raise NotPlain(errno.EINVAL, "neither a regular file nor a folder", entry.path)


def exchange(one: Path, other: Path) -> bool:
    """Let two paths of a filesystem change places in one step; False where the system cannot do that (NFS)."""
    try:
        renameat2 = _libc.renameat2
    except AttributeError:
        return False
    names = os.fsencode(one), os.fsencode(other)
    if renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), os.fspath(one), None, os.fspath(other))


def remove_path(path: Path) -> None:
    """Remove a file, a link or a whole folder; nothing to do if there is none."""
    try:
        is_folder = stat.S_ISDIR(path.lstat().st_mode)
    except FileNotFoundError:
        return
    if is_folder:
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def exists(path: Path) -> bool:
    """Whether there is anything at `path`, a dangling link included. Raises OSError where that can't be told."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
