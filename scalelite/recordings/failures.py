"""Tars that could not be imported: `failed/<name>.tar`, each with why and when it is tried again in `<name>.json`."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import attrs

from scalelite.recordings.files import FILE_MODE, flush_folder

#: Seconds until the first retry, and at most; each one waits four times as long as the one before.
FIRST_RETRY: Final = 60.0
LAST_RETRY: Final = 86_400.0

_MAX_REASON: Final = 2000
_MAX_NAME: Final = 200


@attrs.frozen
class FailedTar:
    """A tar that could not be imported. Times in seconds since 1970, size in bytes."""

    name: str
    reason: str
    attempts: int
    first_failed_at: float
    failed_at: float
    next_retry_at: float
    size: int
    fingerprint: str = attrs.field(repr=False)


class FailureRecords:
    """The JSON files beside failed tars. Methods raise OSError."""

    def __init__(self, folder: Path, now: Callable[[], float]) -> None:
        self._folder = folder
        self._now = now

    def all(self) -> list[FailedTar]:
        """The failed tars in order of their names; one that somebody put there counts as never tried."""
        return [self._of(path) for path in self._tars()]

    def due(self) -> list[Path]:
        """The failed tars whose time has come, those first that have waited the longest."""
        now = self._now()
        found = [(failed, path) for path in self._tars() if (failed := self._of(path)).next_retry_at <= now]
        return [path for failed, path in sorted(found, key=lambda item: (item[0].next_retry_at, item[0].name))]

    def retry(self, name: str | None = None) -> list[str]:
        """Have a failed tar, or all, tried again as soon as may be; the names of those that will be."""
        chosen = [failed for failed in self.all() if name is None or failed.name == name]
        for failed in chosen:
            self._write(attrs.evolve(failed, next_retry_at=self._now()))
        return [failed.name for failed in chosen]

    def record(self, name: str, fingerprint: str, size: int, reason: str) -> FailedTar:
        """Note another failure of a tar."""
        now = self._now()
        former = self._read(name)
        if former is None or former.fingerprint != fingerprint:
            former = FailedTar(name, "", 0, now, now, now, size, fingerprint)
        attempts = former.attempts + 1
        delay = min(LAST_RETRY, FIRST_RETRY * 4.0 ** min(attempts - 1, 20))
        failed = attrs.evolve(
            former, reason=reason[:_MAX_REASON], attempts=attempts, failed_at=now, next_retry_at=now + delay
        )
        self._write(failed)
        return failed

    def forget(self, name: str) -> None:
        """Remove what is noted of a tar."""
        self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._folder / f"{short(name)}.json"

    def _tars(self) -> list[Path]:
        with suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            return sorted(
                Path(entry.path)
                for entry in entries
                if entry.name.endswith(".tar")
                and not entry.name.startswith(".")
                and entry.is_file(follow_symlinks=False)
            )
        return []

    def _of(self, tar: Path) -> FailedTar:
        name = tar.name.removesuffix(".tar")
        known = self._read(name)
        if known is not None:
            return known
        try:
            status = tar.lstat()
        except FileNotFoundError:
            return FailedTar(name, "it is not there any more", 0, 0, 0, 0, 0, "")
        return FailedTar(name, "it was put here", 0, status.st_mtime, status.st_mtime, 0, status.st_size, "")

    def _read(self, name: str) -> FailedTar | None:
        """What is noted of a tar; None if that is nothing, or can't be read: then it counts as never tried."""
        try:
            noted: Any = json.loads(self._path(name).read_bytes())
            return FailedTar(
                name=name,
                reason=str(noted["reason"]),
                attempts=int(noted["attempts"]),
                first_failed_at=_seconds(noted["first_failed_at"]),
                failed_at=_seconds(noted["failed_at"]),
                next_retry_at=_seconds(noted["next_retry_at"]),
                size=int(noted["size"]),
                fingerprint=str(noted["fingerprint"]),
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def _write(self, failed: FailedTar) -> None:
        noted = attrs.asdict(failed)
        for key in ("first_failed_at", "failed_at", "next_retry_at"):
            noted[key] = datetime.fromtimestamp(noted[key], UTC).isoformat(timespec="milliseconds")
        path = self._path(failed.name)
        hidden = path.with_name(f".{path.name}.new")
        with open(hidden, "w", encoding="utf-8") as writing:
            json.dump(noted, writing, indent=2, ensure_ascii=True)
            writing.write("\n")
            writing.flush()
            os.fchmod(writing.fileno(), FILE_MODE)
            os.fsync(writing.fileno())
        hidden.rename(path)
        flush_folder(path.parent)


def short(name: str) -> str:
    """`name`, or where it is too long to grow, what stands for it."""
    raw = os.fsencode(name)
    return name if len(raw) <= _MAX_NAME else hashlib.sha256(raw).hexdigest()


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
