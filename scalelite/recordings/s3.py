"""Recordings in S3, as Scalelite has them: `<published or unpublished>/<format>/<record id>/<path>`.

S3 replaces single objects in one step, never several. So the files of a new recording are put into their place before
any row tells of them; those that replace others wait under `importing/`, beside copies of the others, and are copied
from there. Until that is done, readers may see old files and new ones. A process that is killed meanwhile leaves a
mark, from which the next one goes on.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from scalelite.recordings.bucket import Bucket, Found
from scalelite.recordings.storage import StorageError

#: Bytes of a file that is read at once.
SMALL: Final = 4 * 1024 * 1024

_ASIDE: Final = "importing/"
_MARK: Final = "placing"
_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")


def side(published: bool) -> str:
    """The first part of a key."""
    return "published" if published else "unpublished"


class S3Storage:
    """A `Storage` in a bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def stage(self, playback_format: str, record_id: str, source: Path, *, published: bool) -> StagedObjects:
        """See `Storage.stage`; `source` is copied, and left for the caller to remove."""
        self._settle(playback_format, record_id)
        files = _files(source)
        former = {on: self._kept(playback_format, record_id, published=on) for on in (True, False)}
        if not former[True] and not former[False]:
            place = self.prefix(playback_format, record_id, published=published)
            staged = StagedObjects(self, self._bucket, playback_format, record_id, None, published=published)
            self._upload(place, files, staged)
            return staged
        aside = f"{_ASIDE}{playback_format}/{record_id}/{secrets.token_hex(8)}/"
        staged = StagedObjects(self, self._bucket, playback_format, record_id, aside, published=published)
        self._upload(f"{aside}new/", files, staged)
        try:
            for on, objects in former.items():
                place = self.prefix(playback_format, record_id, published=on)
                self._bucket.copy(_moved(objects, place, f"{aside}old/{side(on)}/"))
        except StorageError:
            with suppress(StorageError):
                staged.undo()
            raise
        return staged

    def _upload(self, place: str, files: Mapping[str, Path], staged: StagedObjects) -> None:
        try:
            self._bucket.upload({place + name: path for name, path in files.items()})
        except StorageError:
            # What stays there because S3 is away, the next import replaces.
            with suppress(StorageError):
                staged.undo()
            raise

    def place(self, playback_format: str, record_id: str, source: Path, *, published: bool) -> None:
        """See `Storage.place`."""
        staged = self.stage(playback_format, record_id, source, published=published)
        staged.place(published=published)
        staged.finish()

    def publish(self, playback_format: str, record_id: str, *, published: bool) -> None:
        """See `Storage.publish`; what a former attempt did not get done is completed."""
        source = self._kept(playback_format, record_id, published=not published)
        target = self._kept(playback_format, record_id, published=published)
        if not source and not target:
            doing = "publish" if published else "unpublish"
            raise StorageError(f"could not {doing} {playback_format} of {record_id}: there are no files")
        place = self.prefix(playback_format, record_id, published=published)
        copies = _moved(source, self.prefix(playback_format, record_id, published=not published), place)
        there = {found.key for found in target}
        self._bucket.copy({key: origin for key, origin in copies.items() if key not in there})
        self._bucket.remove(found.key for found in source)

    def remove(self, record_id: str) -> None:
        """See `Storage.remove`."""
        problems = []
        for first in (f"{side(True)}/", f"{side(False)}/", _ASIDE):
            for playback_format in list(self._bucket.folders(first)):
                place = f"{first}{playback_format}/{record_id}/"
                tokens = [f"{token}/" for token in self._bucket.folders(place)] if first == _ASIDE else [""]
                for token in tokens:
                    try:
                        self.forget(place + token)
                    except StorageError as error:
                        problems.append(str(error))
        if problems:
            raise StorageError("; ".join(problems))

    def kept(self, record_id: str) -> list[tuple[str, bool]]:
        """See `Storage.kept`; in order of the format's name, published ones first."""
        found = [
            (playback_format, published)
            for published in (True, False)
            for playback_format in self._bucket.folders(f"{side(published)}/")
            if self._bucket.any(self.prefix(playback_format, record_id, published=published))
        ]
        return sorted(found, key=lambda item: (item[0], not item[1]))

    def everything(self) -> Iterator[tuple[str, str, bool]]:
        """See `Storage.everything`."""
        for published in (True, False):
            for playback_format in self._bucket.folders(f"{side(published)}/"):
                for record_id in self._bucket.folders(f"{side(published)}/{playback_format}/"):
                    if _NAME.fullmatch(record_id):
                        yield playback_format, record_id, published

    def settle(self, record_id: str) -> None:
        """See `Storage.settle`."""
        for playback_format in self._bucket.folders(_ASIDE):
            self._settle(playback_format, record_id)

    def tidy(self, age: float) -> int:
        """See `Storage.tidy`."""
        newest: dict[tuple[str, str], float] = {}
        for found in self._bucket.objects(_ASIDE):
            parts = found.key.split("/")
            if len(parts) > 3:
                owner = (parts[1], parts[2])
                newest[owner] = max(newest.get(owner, 0.0), found.modified.timestamp())
        left = sorted(owner for owner, touched in newest.items() if touched < time.time() - age)
        for playback_format, record_id in left:
            self._settle(playback_format, record_id)
        return len(left)

    def read_file(self, playback_format: str, record_id: str, name: str) -> bytes | None:
        """See `Storage.read_file`."""
        for published in (True, False):
            key = self.prefix(playback_format, record_id, published=published) + name
            content = self._bucket.read(key, SMALL)
            if content is not None:
                return content
        return None

    def write_file(self, playback_format: str, record_id: str, name: str, content: bytes) -> bool:
        """See `Storage.write_file`."""
        for published in (True, False):
            place = self.prefix(playback_format, record_id, published=published)
            if self._bucket.any(place):
                self._bucket.put(place + name, content)
                return True
        return False

    def prefix(self, playback_format: str, record_id: str, *, published: bool) -> str:
        """What the keys of a format's objects begin with."""
        return f"{side(published)}/{playback_format}/{record_id}/"

    def _kept(self, playback_format: str, record_id: str, *, published: bool) -> list[Found]:
        return list(self._bucket.objects(self.prefix(playback_format, record_id, published=published)))

    def _settle(self, playback_format: str, record_id: str) -> None:
        """What was being put into its place is put there; what was not yet is forgotten."""
        first = f"{_ASIDE}{playback_format}/{record_id}/"
        for token in list(self._bucket.folders(first)):
            aside = f"{first}{token}/"
            mark = self._bucket.read(aside + _MARK, SMALL)
            if mark is not None:
                self.replace(playback_format, record_id, f"{aside}new/", published=mark.decode() == side(True))
            self.forget(aside)

    # For what is staged

    def replace(self, playback_format: str, record_id: str, source: str, *, published: bool) -> None:
        """Let the objects below `source` be those of the format, and no others. May be repeated."""
        place = self.prefix(playback_format, record_id, published=published)
        copies = _moved(self._bucket.objects(source), source, place)
        self._bucket.copy(copies)
        kept = [found.key for on in (True, False) for found in self._kept(playback_format, record_id, published=on)]
        self._bucket.remove(key for key in kept if key not in copies)

    def restore(self, playback_format: str, record_id: str, aside: str) -> None:
        """Let the objects of both sides be those that were kept aside."""
        copies = {}
        for on in (True, False):
            source = f"{aside}old/{side(on)}/"
            place = self.prefix(playback_format, record_id, published=on)
            copies.update(_moved(self._bucket.objects(source), source, place))
        self._bucket.copy(copies)
        kept = [found.key for on in (True, False) for found in self._kept(playback_format, record_id, published=on)]
        self._bucket.remove(key for key in kept if key not in copies)

    def forget(self, prefix: str) -> None:
        """Remove everything below `prefix`."""
        # The mark first: without its files, it would have them removed from their place.
        self._bucket.remove([prefix + _MARK] if prefix.startswith(_ASIDE) else ())
        self._bucket.remove(found.key for found in self._bucket.objects(prefix))


class StagedObjects:
    """Objects in their place that are not known yet, or `aside`; see `storage.Staged`."""

    def __init__(
        self,
        storage: S3Storage,
        bucket: Bucket,
        playback_format: str,
        record_id: str,
        aside: str | None,
        *,
        published: bool,
    ) -> None:
        self._storage = storage
        self._bucket = bucket
        self._format = playback_format
        self._record_id = record_id
        self._aside = aside
        self._published = published
        self._placed = aside is None

    def place(self, *, published: bool) -> None:
        """See `Staged.place`."""
        if self._placed and self._published == published:
            return
        if self._aside is None:
            self._storage.publish(self._format, self._record_id, published=published)
        else:
            # First: from here on, whoever finds this has to see it through.
            self._bucket.put(self._aside + _MARK, side(published).encode())
            self._placed = True
            self._storage.replace(self._format, self._record_id, f"{self._aside}new/", published=published)
        self._published = published

    def undo(self) -> None:
        """See `Staged.undo`."""
        if self._aside is None:
            for on in (True, False):
                self._storage.forget(self._storage.prefix(self._format, self._record_id, published=on))
            return
        if self._placed:
            self._storage.restore(self._format, self._record_id, self._aside)
            self._placed = False
        self._storage.forget(self._aside)

    def finish(self) -> None:
        """See `Staged.finish`."""
        if self._aside is not None:
            self._storage.forget(self._aside)


def _files(source: Path) -> dict[str, Path]:
    """All regular files below a folder, by their paths there."""
    try:
        return {
            path.relative_to(source).as_posix(): path
            for path in sorted(source.rglob("*"))
            if path.is_file() and not path.is_symlink()
        }
    except OSError as error:
        raise StorageError(f"could not read {source}: {error.strerror or error}") from error


def _moved(objects: Iterable[Found], source: str, target: str) -> dict[str, tuple[str, int]]:
    """New key -> old key and size, for objects below `source` that are to be below `target`."""
    return {target + found.key.removeprefix(source): (found.key, found.size) for found in objects}
