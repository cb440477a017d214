"""Uploads in files: other processes go on with them, crashes at any step, disks that are full, what was given up."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import attrs
import pytest

from scalelite.recordings.files import FILE_MODE
from scalelite.recordings.upload_tokens import Upload
from scalelite.recordings.uploads import (
    FOLDER,
    MARGIN,
    STALE,
    NoSpace,
    TooMuch,
    UnknownUpload,
    UploadBusy,
    UploadFolder,
    WrongContent,
    WrongOffset,
)

CONTENT = os.urandom(5000)
NOW = 4_000_000_000.0


def upload_of(content: bytes = CONTENT, record_id: str = "rec") -> Upload:
    return Upload("s7", record_id, len(content), hashlib.sha256(content).hexdigest())


UPLOAD = upload_of()


@attrs.define
class Disk:
    """A spool, and processes over it."""

    spool: Path
    free: int = 10 * MARGIN
    time: float = NOW

    def process(self) -> UploadFolder:
        return UploadFolder(self.spool, lambda: self.time, lambda folder: self.free)

    @property
    def tars(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.spool.glob("*.tar")}

    @property
    def left(self) -> list[str]:
        return sorted(path.suffix for path in (self.spool / FOLDER).iterdir())


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "spool")


def send(folder: UploadFolder, offset: int, data: bytes, upload: Upload = UPLOAD) -> bool:
    writer = folder.open(upload, offset)
    try:
        writer.write(data)
        return writer.finish()
    finally:
        writer.close()


def test_every_process_goes_on_where_another_ended(disk: Disk) -> None:
    disk.process().create(UPLOAD)
    first, second = disk.process(), disk.process()
    assert not send(first, 0, CONTENT[:1000])
    assert second.offset(UPLOAD) == 1000
    assert not send(second, 1000, CONTENT[1000:2000])
    assert not send(first, 2000, CONTENT[2000:3000])
    assert send(second, 3000, CONTENT[3000:])
    assert disk.tars == {"rec.tar": CONTENT}
    assert first.offset(UPLOAD) == len(CONTENT)
    with pytest.raises(WrongOffset):
        first.open(UPLOAD, 0)


def test_upload_begun_anew_is_not_checked_against_what_was_hashed_of_the_former(disk: Disk) -> None:
    first, second = disk.process(), disk.process()
    first.create(UPLOAD)
    send(first, 0, b"x" * 1000)
    with pytest.raises(WrongContent):
        send(second, 1000, CONTENT[1000:])
    first.create(UPLOAD)
    assert not send(second, 0, CONTENT[:1000])
    assert send(first, 1000, CONTENT[1000:])


def test_only_one_writes(disk: Disk) -> None:
    one, other = disk.process(), disk.process()
    one.create(UPLOAD)
    writer = one.open(UPLOAD, 0)
    for folder in (one, other):
        with pytest.raises(UploadBusy):
            folder.open(UPLOAD, 0)
    writer.close()
    writer.close()
    other.open(UPLOAD, 0).close()


def test_more_than_announced_is_not_written(disk: Disk) -> None:
    folder = disk.process()
    folder.create(UPLOAD)
    with pytest.raises(TooMuch):
        send(folder, 0, CONTENT + b"x")
    assert folder.offset(UPLOAD) == 0


@pytest.mark.parametrize("ask", ["create", "offset"])
def test_process_that_was_killed_before_the_end_of_a_complete_upload_is_made_up_for(disk: Disk, ask: str) -> None:
    folder = disk.process()
    folder.create(UPLOAD)
    writer = folder.open(UPLOAD, 0)
    writer.write(CONTENT)
    writer.close()
    assert disk.tars == {}
    assert getattr(disk.process(), ask)(UPLOAD) == len(CONTENT)
    assert disk.tars == {"rec.tar": CONTENT}


def test_process_that_was_killed_between_note_and_move_is_made_up_for(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = disk.process()
    folder.create(UPLOAD)
    rename = Path.rename

    def killed(path: Path, target: Any) -> Path:
        if path.suffix == ".part":
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            send(folder, 0, CONTENT)
    assert disk.tars == {}
    assert disk.process().offset(UPLOAD) == len(CONTENT)
    assert disk.tars == {"rec.tar": CONTENT}


def test_tar_in_the_spool_can_be_read_by_the_importer(disk: Disk) -> None:
    folder = disk.process()
    folder.create(UPLOAD)
    send(folder, 0, CONTENT)
    assert (disk.spool / "rec.tar").stat().st_mode & 0o777 == FILE_MODE


def test_what_was_never_begun_is_unknown(disk: Disk) -> None:
    folder = disk.process()
    for ask in (folder.offset, lambda upload: folder.open(upload, 0)):
        with pytest.raises(UnknownUpload):
            ask(UPLOAD)


def test_upload_needs_room_for_itself_and_for_what_others_have_announced(disk: Disk) -> None:
    other = upload_of(os.urandom(2000), "other")
    folder = disk.process()
    disk.free = MARGIN + len(CONTENT) + 1999
    folder.create(UPLOAD)
    with pytest.raises(NoSpace):
        folder.create(other)
    send(folder, 0, CONTENT[:1])
    assert folder.create(other) == 0


def test_disk_that_fills_up_stops_an_upload_and_keeps_what_has_come(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = disk.process()
    folder.create(UPLOAD)
    pwrite = os.pwrite

    def full(descriptor: int, data: Any, offset: int) -> int:
        if offset >= 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(descriptor, data[:100], offset)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(NoSpace):
            send(folder, 0, CONTENT)
    assert folder.offset(UPLOAD) == 100
    assert send(folder, 100, CONTENT[100:])


def test_upload_that_was_given_up_is_removed_after_a_day(disk: Disk) -> None:
    folder = disk.process()
    folder.create(UPLOAD)
    disk.time = (disk.spool / FOLDER / f"{UPLOAD.id}.part").stat().st_mtime + STALE - 10
    assert folder.sweep() == 0
    disk.time += 20
    writer = folder.open(UPLOAD, 0)
    assert folder.sweep() == 0
    writer.close()
    assert folder.sweep() == 1
    assert disk.left == []
    with pytest.raises(UnknownUpload):
        folder.offset(UPLOAD)


def test_complete_upload_is_forgotten_after_a_day_and_its_tar_stays(disk: Disk) -> None:
    folder = disk.process()
    folder.create(UPLOAD)
    send(folder, 0, CONTENT)
    disk.time = (disk.spool / "rec.tar").stat().st_mtime + STALE + 100
    assert folder.sweep() == 1
    assert (disk.left, list(disk.tars)) == ([], ["rec.tar"])


def test_nothing_is_swept_where_nothing_was_ever_sent(disk: Disk) -> None:
    assert disk.process().sweep() == 0


def test_note_that_cannot_be_read_lets_the_upload_begin_anew(disk: Disk) -> None:
    folder = disk.process()
    folder.create(UPLOAD)
    (disk.spool / FOLDER / f"{UPLOAD.id}.json").write_text("{")
    with pytest.raises(UnknownUpload):
        folder.offset(UPLOAD)
    assert folder.create(UPLOAD) == 0
    assert send(folder, 0, CONTENT)
