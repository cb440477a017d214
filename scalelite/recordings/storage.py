"""Where recordings' files are: the interface of all storages. Every method blocks, and runs in threads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol


class StorageError(Exception):
    """Files could not be moved, stored or removed; the text says what and why."""


class Staged(Protocol):
    """Files that are in the storage and not yet in their place. All methods raise StorageError, and may be repeated."""

    def place(self, *, published: bool) -> None:
        """Put the files in place of those kept of that format, published or not; the former ones are kept aside.

        Readers see the former files or the new ones, never none and never a mixture.
        """

    def undo(self) -> None:
        """Put the former files back, and drop the new ones."""

    def finish(self) -> None:
        """Drop the former files."""


class Storage(Protocol):
    """Keeps the files of each format of each recording, published or unpublished. All methods raise StorageError.

    `record_id` and `playback_format` have been validated: letters, digits, `_` and `-` only.
    """

    def stage(self, playback_format: str, record_id: str, source: Path, *, published: bool) -> Staged:
        """Take over the folder `source`, flushed and ready to be placed; all that takes long is done here.

        `published` is where it will likely be placed. What an import of that recording left behind when it was
        killed is put in order first.
        """

    def place(self, playback_format: str, record_id: str, source: Path, *, published: bool) -> None:
        """Stage, place and finish in one go; a crash leaves the former files or the new ones."""

    def publish(self, playback_format: str, record_id: str, *, published: bool) -> None:
        """Move a format's files to the published or the unpublished side; nothing to do if they are there.

        Where both sides have files those of the target stay. StorageError if neither side has any.
        """

    def remove(self, record_id: str) -> None:
        """Remove all files of a recording, published and unpublished, every format that is found."""

    def kept(self, record_id: str) -> list[tuple[str, bool]]:
        """The formats of which files are kept, each with whether they are published."""

    def everything(self) -> Iterator[tuple[str, str, bool]]:
        """All that is kept: format, record id, and whether it is published, in no order. May be taken in pieces."""

    def settle(self, record_id: str) -> None:
        """Put in order what an import of that recording left behind when it was killed."""

    def tidy(self, age: float) -> int:
        """Put in order whatever was left behind over `age` seconds ago, of any recording; how many were."""

    def read_file(self, playback_format: str, record_id: str, name: str) -> bytes | None:
        """A small file at the top of a format's folder, published or not; None if it is not there, or large."""

    def write_file(self, playback_format: str, record_id: str, name: str, content: bytes) -> bool:
        """Put a small file there, in place of one of that name; False if no files are kept of the format.

        `name` has been validated as well: no hidden file's, and of this folder.
        """
