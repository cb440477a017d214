"""Recordings' files in two folders: staged, swapped, published, removed; whatever is killed on the way."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from scalelite.recordings import folders
from scalelite.recordings.folders import FolderStorage
from scalelite.recordings.storage import StorageError

RECORD = "0f3c9d-1609459200123"
OTHER = "0f3c9d-1609459200124"
MEMORY = Path("/dev/shm")


@pytest.fixture(params=["exchange", "no exchange"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderStorage:
    """A storage on a filesystem that can let two folders change places, and on one that can't."""
    if request.param == "no exchange":
        monkeypatch.setattr(folders, "exchange", lambda one, other: False)
    return FolderStorage(tmp_path / "published", tmp_path / "unpublished")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another filesystem."""
    if not MEMORY.is_dir() or MEMORY.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is only one filesystem")
    with TemporaryDirectory(dir=MEMORY) as name:
        yield Path(name)


@pytest.fixture
def made(tmp_path: Path) -> Callable[[str], Path]:
    """Makes folders of files that hold a text."""
    numbers = iter(range(1000))

    def make(text: str, within: Path = tmp_path) -> Path:
        root = within / f"work-{next(numbers)}"
        (root / "slides").mkdir(parents=True)
        (root / "metadata.xml").write_text(text)
        (root / "slides" / "Überblick 1.svg").write_text(text)
        return root

    return make


def text_of(folder: Path) -> str:
    """What all files in a folder hold; fails if they differ."""
    (text,) = {path.read_text() for path in (folder / "metadata.xml", folder / "slides" / "Überblick 1.svg")}
    return text


def sides(storage: FolderStorage, playback_format: str = "video") -> dict[bool, str]:
    """What is kept of a format on each side."""
    paths = {published: storage.path(playback_format, RECORD, published=published) for published in (True, False)}
    return {published: text_of(path) for published, path in paths.items() if path.exists()}


def hidden(tmp_path: Path) -> list[str]:
    return [str(path) for side in ("published", "unpublished") for path in (tmp_path / side).glob("*/.*")]


@pytest.mark.parametrize("published", [True, False])
def test_files_are_placed_on_their_side(storage: FolderStorage, made, tmp_path, published) -> None:
    storage.place("video", RECORD, made("new"), published=published)
    assert sides(storage) == {published: "new"}
    assert storage.kept(RECORD) == [("video", published)]
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("after", [True, False])
def test_new_files_take_the_place_of_former_ones_on_either_side(storage, made, tmp_path, before, after) -> None:
    storage.place("video", RECORD, made("old"), published=before)
    storage.place("video", RECORD, made("new"), published=after)
    assert sides(storage) == {after: "new"}
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize("expected", [True, False])
def test_what_was_placed_can_be_undone(storage, made, tmp_path, before, after, expected) -> None:
    storage.place("video", RECORD, made("old"), published=before)
    staged = storage.stage("video", RECORD, made("new"), published=expected)
    staged.place(published=after)
    assert sides(storage) == {after: "new"}
    staged.undo()
    assert sides(storage) == {before: "old"}
    assert hidden(tmp_path) == []


def test_what_was_placed_first_can_be_undone(storage, made, tmp_path) -> None:
    staged = storage.stage("video", RECORD, made("new"), published=True)
    staged.place(published=True)
    staged.undo()
    assert storage.kept(RECORD) == []
    assert hidden(tmp_path) == []


def test_placing_again_changes_nothing_or_sides(storage, made, tmp_path) -> None:
    storage.place("video", RECORD, made("old"), published=True)
    staged = storage.stage("video", RECORD, made("new"), published=True)
    for published in (True, True, False, False):
        staged.place(published=published)
        assert sides(storage)[published] == "new"
    staged.finish()
    staged.finish()
    assert sides(storage)[False] == "new"
    assert hidden(tmp_path) == []


def test_staged_files_are_seen_by_nobody(storage, made) -> None:
    storage.place("video", RECORD, made("old"), published=True)
    storage.stage("video", RECORD, made("new"), published=True)
    assert sides(storage) == {True: "old"}
    assert storage.kept(RECORD) == [("video", True)]


def test_readers_never_see_a_gap(tmp_path, made) -> None:
    storage = FolderStorage(tmp_path / "published", tmp_path / "unpublished")
    storage.place("video", RECORD, made("0"), published=True)
    path = storage.path("video", RECORD, published=True) / "metadata.xml"
    gaps: list[str] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                path.read_text()
            except FileNotFoundError as error:
                gaps.append(str(error))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1, 200):
        storage.place("video", RECORD, made(str(number)), published=True)
    done.set()
    reader.join()
    assert gaps == []


def test_files_are_for_the_group_and_the_web_server(storage, made) -> None:
    source = made("new")
    (source / "metadata.xml").chmod(0o600)
    source.chmod(0o700)
    storage.place("video", RECORD, source, published=True)
    placed = storage.path("video", RECORD, published=True)
    for path, mode in (
        (placed.parent, 0o775),
        (placed, 0o775),
        (placed / "slides", 0o775),
        (placed / "metadata.xml", 0o664),
    ):
        assert stat.S_IMODE(path.stat().st_mode) == mode, path


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_root_gives_files_to_the_owner_of_the_folder(tmp_path, made) -> None:
    (tmp_path / "published").mkdir()
    os.chown(tmp_path / "published", 1000, 2000)
    storage = FolderStorage(tmp_path / "published", tmp_path / "unpublished")
    storage.place("video", RECORD, made("new"), published=True)
    placed = storage.path("video", RECORD, published=True)
    for path in (placed.parent, placed, placed / "slides", placed / "metadata.xml"):
        assert (path.stat().st_uid, path.stat().st_gid) == (1000, 2000), path


def test_a_work_folder_on_another_filesystem_will_do(storage, made, elsewhere) -> None:
    storage.place("video", RECORD, made("old"), published=True)
    storage.place("video", RECORD, made("new", elsewhere), published=True)
    assert sides(storage) == {True: "new"}


def test_the_sides_may_be_on_different_filesystems(tmp_path, made, elsewhere) -> None:
    storage = FolderStorage(tmp_path / "published", elsewhere / "unpublished")
    storage.place("video", RECORD, made("old"), published=True)
    storage.publish("video", RECORD, published=False)
    assert sides(storage) == {False: "old"}
    staged = storage.stage("video", RECORD, made("new"), published=True)
    staged.place(published=False)
    assert sides(storage) == {False: "new"}
    staged.undo()
    assert sides(storage) == {False: "old"}
    storage.publish("video", RECORD, published=True)
    assert sides(storage) == {True: "old"}


@pytest.mark.parametrize("published", [True, False])
def test_publishing_moves_the_files(storage, made, published) -> None:
    storage.place("video", RECORD, made("one"), published=not published)
    storage.publish("video", RECORD, published=published)
    assert sides(storage) == {published: "one"}
    storage.publish("video", RECORD, published=published)
    assert sides(storage) == {published: "one"}


def test_publishing_keeps_the_target_where_both_sides_have_files(storage, made, tmp_path) -> None:
    storage.place("video", RECORD, made("target"), published=True)
    (tmp_path / "unpublished" / "video").mkdir(parents=True)
    made("source").rename(storage.path("video", RECORD, published=False))
    storage.publish("video", RECORD, published=True)
    assert sides(storage) == {True: "target"}


def test_publishing_without_files_is_an_error_that_says_so(storage) -> None:
    with pytest.raises(StorageError, match=rf"could not publish video of {RECORD}: there are no files"):
        storage.publish("video", RECORD, published=True)


def test_removing_takes_every_format_and_no_other_recording(storage, made, tmp_path) -> None:
    storage.place("video", RECORD, made("one"), published=True)
    storage.place("notes", RECORD, made("one"), published=False)
    storage.place("video", OTHER, made("other"), published=True)
    storage.remove(RECORD)
    assert storage.kept(RECORD) == []
    assert storage.kept(OTHER) == [("video", True)]
    assert hidden(tmp_path) == []
    storage.remove(RECORD)


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_what_is_no_plain_file_is_not_taken(storage, made, kind, tmp_path) -> None:
    source = made("new")
    if kind == "link":
        (source / "slides" / "passwd").symlink_to("/etc/passwd")
    else:
        os.mkfifo(source / "slides" / "pipe")
    with pytest.raises(StorageError, match="neither a regular file nor a folder"):
        storage.stage("video", RECORD, source, published=True)
    assert storage.kept(RECORD) == []
    assert hidden(tmp_path) == []


def test_a_full_disk_is_told_and_leaves_nothing(storage, made, monkeypatch, tmp_path) -> None:
    def full(root: Path, owner: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", os.fspath(root))

    monkeypatch.setattr(folders, "settle_tree", full)
    with pytest.raises(StorageError, match="No space left on device"):
        storage.stage("video", RECORD, made("new"), published=True)
    assert hidden(tmp_path) == []


def test_what_a_killed_import_left_is_put_in_order(storage, made, tmp_path) -> None:
    storage.place("video", RECORD, made("kept"), published=True)
    storage.place("notes", RECORD, made("kept"), published=True)
    aside = tmp_path / "published" / "notes" / f".{RECORD}.0123456789abcdef.old"
    storage.path("notes", RECORD, published=True).rename(aside)
    for kind in ("new", "old", "gone"):
        made("left").rename(tmp_path / "published" / "video" / f".{RECORD}.0123456789abcdef.{kind}")
    storage.settle(RECORD)
    assert sides(storage, "video") == {True: "kept"}
    assert sides(storage, "notes") == {True: "kept"}
    assert hidden(tmp_path) == []


def test_tidying_leaves_what_is_young_and_what_is_not_ours(storage, made, tmp_path) -> None:
    storage.place("video", RECORD, made("kept"), published=True)
    folder = tmp_path / "published" / "video"
    made("left").rename(folder / f".{RECORD}.0123456789abcdef.new")
    (folder / ".htaccess").write_text("")
    assert storage.tidy(3600) == 0
    assert len(hidden(tmp_path)) == 2
    assert storage.tidy(-1) == 1
    assert hidden(tmp_path) == [str(folder / ".htaccess")]
