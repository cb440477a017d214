"""Recordings in two folders, as Scalelite has them: `<published or unpublished>/<format>/<record id>/`."""

from __future__ import annotations

import errno
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from scalelite.recordings.files import (
    Owner,
    copy_tree,
    exchange,
    exists,
    flush_folder,
    make_folder,
    remove_path,
    settle_tree,
    write_small,
)
from scalelite.recordings.storage import StorageError

# Hidden, in the target's own folder: `.new` are files on their way, or those whose place they took by an exchange;
# `.old` former files where there is no exchange, needed until the new ones are in place; `.gone` are to be removed.
_ASIDE: Final = re.compile(r"\.([A-Za-z0-9_-]+)\.[0-9a-f]{16}\.(new|old|gone)")


_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")

#: Bytes of a file that is read at once.
SMALL: Final = 4 * 1024 * 1024


class FolderStorage:
    """A `Storage` on local or network disks; its folders may be on different filesystems."""

    def __init__(self, published: Path, unpublished: Path) -> None:
        self._roots = {True: published, False: unpublished}

    def stage(self, playback_format: str, record_id: str, source: Path, *, published: bool) -> StagedFolder:
        """See `Storage.stage`; within a filesystem `source` is moved, else copied."""
        with _told(f"could not store {playback_format} of {record_id}"):
            self._settle(playback_format, record_id)
            folder = self.format_folder(playback_format, published=published)
            hidden = _aside(folder, record_id, "new")
            _bring(source, hidden)
        return StagedFolder(self, playback_format, record_id, hidden, published=published)

    def place(self, playback_format: str, record_id: str, source: Path, *, published: bool) -> None:
        """See `Storage.place`."""
        staged = self.stage(playback_format, record_id, source, published=published)
        staged.place(published=published)
        staged.finish()

    def publish(self, playback_format: str, record_id: str, *, published: bool) -> None:
        """See `Storage.publish`."""
        doing = "publish" if published else "unpublish"
        with _told(f"could not {doing} {playback_format} of {record_id}"):
            source = self.path(playback_format, record_id, published=not published)
            target = self.path(playback_format, record_id, published=published)
            if exists(target):
                _drop(source)
                return
            if not exists(source):
                raise StorageError(f"could not {doing} {playback_format} of {record_id}: there are no files")
            folder = self.format_folder(playback_format, published=published)
            try:
                source.rename(target)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                hidden = _aside(folder, record_id, "new")
                _bring(source, hidden)
                hidden.rename(target)
                flush_folder(folder)
                _drop(source)
                return
            flush_folder(folder)
            flush_folder(source.parent)

    def remove(self, record_id: str) -> None:
        """See `Storage.remove`."""
        problems = []
        for playback_format, published in self.kept(record_id):
            try:
                with _told(f"could not remove {playback_format} of {record_id}"):
                    _drop(self.path(playback_format, record_id, published=published))
            except StorageError as error:
                problems.append(str(error))
        if problems:
            raise StorageError("; ".join(problems))

    def kept(self, record_id: str) -> list[tuple[str, bool]]:
        """See `Storage.kept`; in order of the format's name, published ones first."""
        with _told(f"could not look for the files of {record_id}"):
            found = [
                (folder.name, published)
                for published in (True, False)
                for folder in self._format_folders(published)
                if exists(folder / record_id)
            ]
        return sorted(found, key=lambda item: (item[0], not item[1]))

    def everything(self) -> Iterator[tuple[str, str, bool]]:
        """See `Storage.everything`."""
        for published in (True, False):
            for folder in self._format_folders(published):
                with _told(f"could not look for recordings in {folder}"), os.scandir(folder) as entries:
                    for entry in entries:
                        if _NAME.fullmatch(entry.name):
                            yield folder.name, entry.name, published

    def settle(self, record_id: str) -> None:
        """See `Storage.settle`."""
        with _told(f"could not put the files of {record_id} in order"):
            names = {folder.name for published in (True, False) for folder in self._format_folders(published)}
            for playback_format in sorted(names):
                self._settle(playback_format, record_id)

    def tidy(self, age: float) -> int:
        """See `Storage.tidy`."""
        before = time.time() - age
        left: set[tuple[str, str]] = set()
        with _told("could not look for files that were left behind"):
            for published in (True, False):
                for folder in self._format_folders(published):
                    for path in folder.iterdir():
                        found = _ASIDE.fullmatch(path.name)
                        with suppress(FileNotFoundError):
                            if found is not None and path.lstat().st_ctime < before:
                                left.add((folder.name, found[1]))
        for playback_format, record_id in sorted(left):
            with _told(f"could not put the files of {record_id} in order"):
                self._settle(playback_format, record_id)
        return len(left)

    def read_file(self, playback_format: str, record_id: str, name: str) -> bytes | None:
        """See `Storage.read_file`."""
        with _told(f"could not read {name} of {record_id}"):
            for published in (True, False):
                path = self.path(playback_format, record_id, published=published) / name
                try:
                    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
                except FileNotFoundError:
                    continue
                with os.fdopen(descriptor, "rb") as file:
                    content = file.read(SMALL + 1)
                return content if len(content) <= SMALL else None
        return None

    def write_file(self, playback_format: str, record_id: str, name: str, content: bytes) -> bool:
        """See `Storage.write_file`."""
        with _told(f"could not write {name} of {record_id}"):
            for published in (True, False):
                folder = self.path(playback_format, record_id, published=published)
                if exists(folder):
                    write_small(folder / name, content, Owner.of(self._roots[published]))
                    return True
        return False

    def path(self, playback_format: str, record_id: str, *, published: bool) -> Path:
        """Where a format's files are if they are there."""
        return self._roots[published] / playback_format / record_id

    def format_folder(self, playback_format: str, *, published: bool) -> Path:
        """The folder of a format, made if need be."""
        root = self._roots[published]
        make_folder(root)
        folder = root / playback_format
        make_folder(folder, Owner.of(root))
        return folder

    def _format_folders(self, published: bool) -> list[Path]:
        root = self._roots[published]
        try:
            return [path for path in root.iterdir() if not path.name.startswith(".") and path.is_dir()]
        except FileNotFoundError:
            return []

    def _settle(self, playback_format: str, record_id: str) -> None:
        paths = [self.path(playback_format, record_id, published=published) for published in (True, False)]
        for target in paths:
            try:
                names = os.listdir(target.parent)
            except FileNotFoundError:
                continue
            for name in sorted(names, reverse=True):  # `.old` ones, whose `.new` ones never came, are needed first
                found = _ASIDE.fullmatch(name)
                if found is None or found[1] != record_id:
                    continue
                left = target.parent / name
                if found[2] == "old" and not any(exists(path) for path in paths):
                    left.rename(target)
                    flush_folder(target.parent)
                else:
                    remove_path(left)


class StagedFolder:
    """A hidden folder beside its target; see `storage.Staged`."""

    def __init__(
        self, storage: FolderStorage, playback_format: str, record_id: str, hidden: Path, *, published: bool
    ) -> None:
        self._storage = storage
        self._format = playback_format
        self._record_id = record_id
        self._hidden = hidden
        self._published = published
        self._placed = False
        #: What was moved aside, and from where, in this order.
        self._aside: list[tuple[Path, Path]] = []
        self._exchanged = False

    def place(self, *, published: bool) -> None:
        """See `Staged.place`."""
        if self._placed and self._published == published:
            return
        with _told(f"could not put {self._format} of {self._record_id} in place"):
            self._take_back()
            if self._published != published:
                self._change_sides(published)
            target = self._target(published)
            self._placed = True
            if exists(target):
                self._exchanged = exchange(self._hidden, target)
            if not self._exchanged:
                if exists(target):
                    self._put_aside(target, "old")
                self._hidden.rename(target)
            flush_folder(target.parent)
            other = self._target(not published)
            if exists(other):
                self._put_aside(other, "gone")
                flush_folder(other.parent)

    def undo(self) -> None:
        """See `Staged.undo`."""
        with _told(f"could not put the former {self._format} of {self._record_id} back"):
            self._take_back()
            remove_path(self._hidden)

    def finish(self) -> None:
        """See `Staged.finish`."""
        with _told(f"could not remove the former {self._format} of {self._record_id}"):
            remove_path(self._hidden)
            for hidden, _ in self._aside:
                remove_path(hidden)

    def _target(self, published: bool) -> Path:
        return self._storage.path(self._format, self._record_id, published=published)

    def _put_aside(self, path: Path, kind: str) -> None:
        hidden = _aside(path.parent, self._record_id, kind)
        self._aside.append((hidden, path))
        path.rename(hidden)

    def _take_back(self) -> None:
        if not self._placed:
            return
        target = self._target(self._published)
        if self._exchanged:
            exchange(self._hidden, target)
        elif exists(target) and not exists(self._hidden):
            target.rename(self._hidden)
        self._placed = self._exchanged = False
        while self._aside:
            hidden, path = self._aside.pop()
            if exists(hidden):
                path_is_free = not exists(path)
                if path_is_free:
                    hidden.rename(path)
                flush_folder(path.parent)
        flush_folder(target.parent)

    def _change_sides(self, published: bool) -> None:
        folder = self._storage.format_folder(self._format, published=published)
        hidden = _aside(folder, self._record_id, "new")
        _bring(self._hidden, hidden)
        remove_path(self._hidden)
        self._hidden = hidden
        self._published = published


def _aside(folder: Path, record_id: str, kind: str) -> Path:
    return folder / f".{record_id}.{secrets.token_hex(8)}.{kind}"


def _bring(source: Path, target: Path) -> None:
    """Move a folder and flush it; to another filesystem it is copied, and `source` is left for the caller to remove."""
    try:
        try:
            source.rename(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            copy_tree(source, target)
        settle_tree(target, Owner.of(target.parent))
        flush_folder(target.parent)
    except OSError:
        # On a full disk above all: half a copy is of no use, and there is still what it was made of.
        remove_path(target)
        raise


def _drop(path: Path) -> None:
    """Remove a folder that readers use: at once for them."""
    if not exists(path):
        return
    hidden = _aside(path.parent, path.name, "gone")
    path.rename(hidden)
    flush_folder(path.parent)
    remove_path(hidden)


@contextmanager
def _told(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"{doing}: {error.strerror or error} ({error.filename})") from error
