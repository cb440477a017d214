"""Where recordings' files are: the interface of all storages. Every method blocks, and runs in threads."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class StorageError(Exception):
    """Files could not be moved, stored or removed; the text says what and why."""


class Storage(Protocol):
    """Keeps the files of each format of each recording, published or unpublished. All methods raise StorageError.

    `record_id` and `playback_format` have been validated: letters, digits, `_` and `-` only.
    """

    def place(self, playback_format: str, record_id: str, source: Path, *, published: bool) -> None:
        """Take over the folder `source`, in place of what is kept of that format, published or not.

        Readers see the former files or the new ones, never none and never a mixture; a crash leaves one of both.
        """

    def publish(self, playback_format: str, record_id: str, *, published: bool) -> None:
        """Move a format's files to the published or the unpublished side; nothing to do if they are there.

        Where both sides have files those of the target stay. StorageError if neither side has any.
        """

    def remove(self, record_id: str) -> None:
        """Remove all files of a recording, published and unpublished, every format that is found."""

    def kept(self, record_id: str) -> list[tuple[str, bool]]:
        """The formats of which files are kept, each with whether they are published."""
