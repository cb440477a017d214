"""Unpacks a recording's tar: plain files and folders only, within its own tree, within limits."""

from __future__ import annotations

import errno
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

import attrs

from scalelite.recordings.files import FILE_MODE, FOLDER_MODE
from scalelite.recordings.metadata_xml import NAME

METADATA: Final = "metadata.xml"

_CHUNK: Final = 1024 * 1024
_END: Final = bytes(tarfile.BLOCKSIZE)
#: Parts of a path, and bytes of one and of all.
_MAX_DEPTH: Final = 40
_MAX_NAME: Final = 255
_MAX_PATH: Final = 2000
#: Bytes that are left free on the disk.
_SPARE: Final = 16 * 1024 * 1024


class BadTar(Exception):
    """A tar that is not taken; the text says what is wrong with it."""


class CutTar(BadTar):
    """It is damaged, or not all there yet."""


class DiskFull(OSError):
    """There is no room for what is in the tar."""


@attrs.frozen
class Limits:
    """What one tar may unpack to: bytes, and files with folders."""

    size: int
    files: int


@attrs.frozen
class Unpacked:
    """What was in a tar: `<folder>/<format>/<record id>/` for each of the formats, in order of their names."""

    folder: Path
    record_id: str
    formats: tuple[str, ...]
    files: int
    size: int

    def of(self, playback_format: str) -> Path:
        """The folder of a format."""
        return self.folder / playback_format / self.record_id


def unpack(
    tar: BinaryIO, folder: Path, limits: Limits, on_progress: Callable[[int], object] = lambda _: None
) -> Unpacked:
    """Unpack the open file `tar` into the empty `folder`.

    `on_progress` is called with the bytes unpacked so far. Raises BadTar, DiskFull, OSError.
    """
    size = os.fstat(tar.fileno()).st_size
    _check_room(folder, size)
    reading = _Bounded(tar)
    unpacking = _Unpacking(folder, limits, size, on_progress)
    try:
        with tarfile.open(fileobj=reading, mode="r:") as archive:  # type: ignore[call-overload]
            while (member := archive.next()) is not None:
                unpacking.take(archive, member)
                # Else it keeps all of them.
                archive.members.clear()
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        raise CutTar(f"it is no whole tar: {error}") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(error.errno, error.strerror, os.fspath(folder)) from error
        raise
    # tarfile takes garbage, and a file that was cut between two members, for the end.
    if reading.last != _END:
        raise CutTar("it is no whole tar: the end is missing")
    return unpacking.result()


def _check_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size + _SPARE:
        raise DiskFull(errno.ENOSPC, f"{size} bytes are needed, and {free} are free", os.fspath(folder))


class _Bounded:
    """The tar as tarfile reads it. It reads headers of any length at once: one that is too long is no good header."""

    def __init__(self, tar: BinaryIO) -> None:
        self._tar = tar
        self.seek = tar.seek
        self.tell = tar.tell
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _CHUNK:
            raise BadTar(f"it has a header of {size} bytes")
        self.last = self._tar.read(size)
        return self.last


class _Unpacking:
    def __init__(self, folder: Path, limits: Limits, tar_size: int, on_progress: Callable[[int], object]) -> None:
        self._folder = folder
        self._limits = limits
        self._tar_size = tar_size
        self._on_progress = on_progress
        self._made: set[tuple[str, ...]] = {()}
        self._records: set[str] = set()
        self._formats: set[str] = set()
        self._files = 0
        self._size = 0

    def take(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """Unpack the next member."""
        parts = _parts(member)
        self._count(member)
        if member.isdir():
            self._check_layout(member, parts[:2])
            self._make_folder(parts)
        elif member.isreg() and not member.issparse():
            if len(parts) < 3:
                raise BadTar(f"{_named(member)} is not below <format>/<record id>/")
            self._check_layout(member, parts[:2])
            self._make_folder(parts[:-1])
            self._write(archive, member, self._folder.joinpath(*parts))
        else:
            raise BadTar(f"{_named(member)} is {_kind(member)}: only plain files and folders are taken")

    def result(self) -> Unpacked:
        """What was unpacked, once all is."""
        if not self._records:
            raise BadTar("there is nothing in it")
        if len(self._records) > 1:
            raise BadTar(f"it has files of several recordings: {', '.join(sorted(self._records)[:5])}")
        (record_id,) = self._records
        formats = tuple(sorted(self._formats))
        unpacked = Unpacked(self._folder, record_id, formats, self._files, self._size)
        for playback_format in formats:
            if not (unpacked.of(playback_format) / METADATA).is_file():
                raise BadTar(f"there is no {playback_format}/{record_id}/{METADATA} in it")
        return unpacked

    def _count(self, member: tarfile.TarInfo) -> None:
        self._files += 1
        if self._files > self._limits.files:
            raise BadTar(f"it has more than {self._limits.files} files (SCALELITE_IMPORT_MAX_FILES)")
        if member.size < 0:
            raise BadTar(f"{_named(member)} has a negative size")
        if not member.isreg() or member.issparse():
            return
        self._size += member.size
        if self._size > self._limits.size:
            raise BadTar(f"it unpacks to more than {self._limits.size} bytes (SCALELITE_IMPORT_MAX_SIZE)")
        if self._size > self._tar_size:
            raise CutTar("it is no whole tar: the end is missing, or it unpacks to more than it is")

    def _check_layout(self, member: tarfile.TarInfo, parts: tuple[str, ...]) -> None:
        for part in parts:
            if not NAME.fullmatch(part):
                raise BadTar(f"{_named(member)} is not below <format>/<record id>/, of letters, digits, _ and - only")
        if len(parts) == 2:
            self._formats.add(parts[0])
            self._records.add(parts[1])

    def _make_folder(self, parts: tuple[str, ...]) -> None:
        if parts in self._made:
            return
        self._make_folder(parts[:-1])
        self._files += 1
        path = self._folder.joinpath(*parts)
        try:
            path.mkdir(FOLDER_MODE)
        except FileExistsError:
            raise BadTar(f"{'/'.join(parts)!a} is in it as a file and as a folder") from None
        self._made.add(parts)

    def _write(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, FILE_MODE)
        except FileExistsError:
            raise BadTar(f"{_named(member)} is in it twice") from None
        with open(descriptor, "wb", buffering=0) as writing:
            reading = archive.extractfile(member)
            assert reading is not None
            left = member.size
            while left:
                chunk = reading.read(min(left, _CHUNK))
                if not chunk:
                    raise CutTar("it is no whole tar: the end is missing")
                _write_all(writing.fileno(), chunk)
                left -= len(chunk)
                self._on_progress(self._size - left)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _parts(member: tarfile.TarInfo) -> tuple[str, ...]:
    """The parts of a member's path, none for `./`."""
    name = member.name
    raw = os.fsencode(name)
    if name.startswith("/") or b"\0" in raw:
        raise BadTar(f"{_named(member)} is no relative path")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise BadTar(f"{_named(member)} leads out of the tree")
    if len(parts) > _MAX_DEPTH or len(raw) > _MAX_PATH or any(len(os.fsencode(part)) > _MAX_NAME for part in parts):
        raise BadTar(f"{_named(member)} is too long or too deep")
    return parts


def _named(member: tarfile.TarInfo) -> str:
    """A member's name, for a message: short, and in ASCII."""
    return ascii(member.name[:120])


def _kind(member: tarfile.TarInfo) -> str:
    if member.issym():
        return "a symbolic link"
    if member.islnk():
        return "a hard link"
    if member.isdev():
        return "a device or a pipe"
    return "a sparse file" if member.issparse() else "of a type that is not known"
