"""Recordings in S3: keys and headers, replacement, publishing, removal, what killed imports leave, S3 in trouble."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from scalelite.recordings import bucket as bucket_module
from scalelite.recordings.bucket import Bucket
from scalelite.recordings.s3 import S3Storage
from scalelite.recordings.storage import StorageError
from tests.recordings.s3_server import PATIENCE, S3

F, R = "presentation", "0f3c9d-1"
PUBLISHED, UNPUBLISHED = f"published/{F}/{R}/", f"unpublished/{F}/{R}/"


def tree(root: Path, **files: str) -> Path:
    """A folder with files; `__` in names stands for a slash, `_` before the extension for the dot."""
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def put(s3: S3, source: Path, *, published: bool = True) -> None:
    s3.storage.place(F, R, source, published=published)


@pytest.mark.parametrize(("published", "place"), [(True, PUBLISHED), (False, UNPUBLISHED)])
def test_files_get_the_keys_that_scalelite_gives_them(s3: S3, tmp_path: Path, published: bool, place: str) -> None:
    put(s3, tree(tmp_path, index_html="page", slides__1_svg="one"), published=published)
    assert s3.keys() == {f"{place}index.html": b"page", f"{place}slides/1.svg": b"one"}


@pytest.mark.parametrize(
    ("name", "kind", "disposition"),
    [
        ("index.html", "text/html", None),
        ("shapes.svg", "image/svg+xml", None),
        ("webcams.webm", "video/webm", None),
        ("metadata.xml", "text/xml", None),
        ("notes.pdf", "application/pdf", "attachment"),
        ("audio.ogg", "audio/ogg", "attachment"),
        ("audio.OGG", "audio/ogg", "attachment"),
        ("events", "application/octet-stream", None),
    ],
)
def test_objects_tell_browsers_their_type_and_whether_to_save_them(
    s3: S3,
    tmp_path: Path,
    name: str,
    kind: str,
    disposition: str | None,
) -> None:
    (tmp_path / name).write_text("x")
    put(s3, tmp_path)
    s3.storage.publish(F, R, published=False)
    head = s3.client.head_object(Bucket=s3.name, Key=UNPUBLISHED + name)
    assert (head["ContentType"], head.get("ContentDisposition")) == (kind, disposition)


def test_new_import_takes_the_place_of_the_former_on_either_side(s3: S3, tmp_path: Path) -> None:
    put(s3, tree(tmp_path / "old", index_html="old", gone_txt="x"), published=False)
    put(s3, tree(tmp_path / "new", index_html="new", more_txt="y"))
    assert s3.keys() == {f"{PUBLISHED}index.html": b"new", f"{PUBLISHED}more.txt": b"y"}


def test_other_recordings_and_formats_stay_as_they_are(s3: S3, tmp_path: Path) -> None:
    source = tree(tmp_path, a_txt="x")
    others = [(F, R + "0"), (F, "0f3c9d"), ("video", R + "-2")]
    for kind, record in others:
        s3.storage.place(kind, record, source, published=True)
    before = s3.names()
    put(s3, source)
    put(s3, source, published=False)
    s3.storage.remove(R)
    assert s3.names() == before


def test_staged_files_of_a_replacement_are_seen_only_once_placed(s3: S3, tmp_path: Path) -> None:
    put(s3, tree(tmp_path / "old", index_html="old"))
    staged = s3.storage.stage(F, R, tree(tmp_path / "new", index_html="new"), published=True)
    assert s3.keys("published/") == {f"{PUBLISHED}index.html": b"old"}
    staged.place(published=True)
    staged.place(published=True)
    assert s3.keys("published/") == {f"{PUBLISHED}index.html": b"new"}
    staged.finish()
    assert s3.names("importing/") == []


@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("former", [True, False, None])
@pytest.mark.parametrize("moved", [True, False])
def test_undone_import_leaves_everything_as_it_was(
    s3: S3,
    tmp_path: Path,
    published: bool,
    former: bool | None,
    moved: bool,
) -> None:
    if former is not None:
        put(s3, tree(tmp_path / "old", index_html="old", gone_txt="x"), published=former)
    before = s3.keys()
    staged = s3.storage.stage(F, R, tree(tmp_path / "new", index_html="new", more_txt="y"), published=published)
    if moved:
        staged.place(published=published)
        staged.place(published=not published)
    staged.undo()
    staged.undo()
    assert s3.keys() == before


def test_new_recording_lands_on_the_side_that_its_row_says_in_the_end(s3: S3, tmp_path: Path) -> None:
    staged = s3.storage.stage(F, R, tree(tmp_path, a_txt="x"), published=True)
    staged.place(published=False)
    staged.finish()
    assert s3.names() == [f"{UNPUBLISHED}a.txt"]


def test_publishing_moves_all_files_and_is_done_once(s3: S3, tmp_path: Path) -> None:
    put(s3, tree(tmp_path, index_html="page", slides__1_svg="one"))
    for _ in range(2):
        s3.storage.publish(F, R, published=False)
        assert s3.names() == [f"{UNPUBLISHED}index.html", f"{UNPUBLISHED}slides/1.svg"]
    s3.storage.publish(F, R, published=True)
    assert s3.names() == [f"{PUBLISHED}index.html", f"{PUBLISHED}slides/1.svg"]


def test_publishing_goes_on_where_it_was_broken_off(s3: S3, tmp_path: Path) -> None:
    put(s3, tree(tmp_path, a_txt="a", b_txt="b"), published=False)
    s3.client.put_object(Bucket=s3.name, Key=f"{PUBLISHED}a.txt", Body=b"a")
    s3.storage.publish(F, R, published=True)
    assert s3.keys() == {f"{PUBLISHED}a.txt": b"a", f"{PUBLISHED}b.txt": b"b"}


def test_recording_without_files_cannot_be_published(s3: S3) -> None:
    with pytest.raises(StorageError, match="could not publish presentation of 0f3c9d-1: there are no files"):
        s3.storage.publish(F, R, published=True)


def test_over_a_thousand_objects_are_moved_and_removed(s3: S3, tmp_path: Path) -> None:
    count = 1105
    for number in range(count):
        (tmp_path / f"{number}.txt").write_bytes(b"")
    put(s3, tmp_path)
    s3.storage.publish(F, R, published=False)
    assert (len(s3.names("unpublished/")), len(s3.names("published/"))) == (count, 0)
    s3.storage.remove(R)
    assert s3.names() == []


def test_long_objects_are_copied_in_parts(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_module, "COPY_IN_PARTS", 9 * 1024 * 1024)
    content = b"0123456789abcdef" * (640 * 1024)
    (tmp_path / "webcams.webm").write_bytes(content)
    put(s3, tmp_path)
    s3.storage.publish(F, R, published=False)
    assert s3.keys() == {f"{UNPUBLISHED}webcams.webm": content}
    head = s3.client.head_object(Bucket=s3.name, Key=f"{UNPUBLISHED}webcams.webm")
    assert (head["ContentType"], head["ETag"].strip('"').partition("-")[2]) == ("video/webm", "2")


def test_removal_takes_every_format_of_both_sides_and_what_is_staged(s3: S3, tmp_path: Path) -> None:
    source = tree(tmp_path, a_txt="x")
    s3.storage.place(F, R, source, published=True)
    s3.storage.place("video", R, source, published=False)
    s3.storage.stage(F, R, source, published=True)
    assert s3.storage.kept(R) == [(F, True), ("video", False)]
    assert sorted(s3.storage.everything()) == [(F, R, True), ("video", R, False)]
    s3.storage.remove(R)
    assert (s3.storage.kept(R), list(s3.storage.everything()), s3.names()) == ([], [], [])


class Killed(BaseException):
    """Ends a process."""


class Dying(Bucket):
    """A bucket whose user is killed before a certain one of its changes."""

    def __init__(self, client: Any, name: str, steps: int) -> None:
        super().__init__(client, name)
        self.steps = steps

    def _step(self) -> None:
        if self.steps == 0:
            raise Killed
        self.steps -= 1

    def put(self, key: str, content: bytes) -> None:
        self._step()
        super().put(key, content)

    def upload(self, files: Any) -> None:
        for key, path in files.items():
            self._step()
            super().upload({key: path})

    def copy(self, keys: Any) -> None:
        for target, origin in keys.items():
            self._step()
            super().copy({target: origin})

    def remove(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._step()
            super().remove([key])


@pytest.mark.parametrize("former", [True, False])
def test_import_that_is_killed_at_any_step_leaves_one_whole_version_and_nothing_else(
    s3: S3,
    tmp_path: Path,
    former: bool,
) -> None:
    place = PUBLISHED if former else UNPUBLISHED
    old = tree(tmp_path / "old", index_html="old", gone_txt="x")
    new = tree(tmp_path / "new", index_html="new", more_txt="y")
    versions = [
        {f"{place}index.html": b"old", f"{place}gone.txt": b"x"},
        {f"{PUBLISHED}index.html": b"new", f"{PUBLISHED}more.txt": b"y"},
    ]
    steps, seen = 0, set()
    while True:
        s3.storage.remove(R)
        put(s3, old, published=former)
        try:
            S3Storage(Dying(s3.client, s3.name, steps)).place(F, R, new, published=True)
        except Killed:
            s3.storage.settle(R)
            left = s3.keys()
            assert left in versions, steps
            seen.add(versions.index(left))
            steps += 1
        else:
            break
    assert steps > 10
    assert seen == {0, 1}


def test_publishing_that_is_killed_at_any_step_loses_no_file(s3: S3, tmp_path: Path) -> None:
    source = tree(tmp_path, a_txt="a", b_txt="b")
    for steps in range(4):
        s3.storage.remove(R)
        put(s3, source, published=False)
        with pytest.raises(Killed):
            S3Storage(Dying(s3.client, s3.name, steps)).publish(F, R, published=True)
        s3.storage.publish(F, R, published=True)
        assert s3.keys() == {f"{PUBLISHED}a.txt": b"a", f"{PUBLISHED}b.txt": b"b"}


def test_what_was_left_behind_is_put_in_order_once_it_is_old(s3: S3, tmp_path: Path) -> None:
    source = tree(tmp_path, a_txt="x")
    put(s3, source)
    s3.storage.stage(F, R, source, published=True)
    assert s3.storage.tidy(3600) == 0
    assert s3.names("importing/") != []
    assert s3.storage.tidy(-3600) == 1
    assert s3.names() == [f"{PUBLISHED}a.txt"]


def test_small_files_are_read_and_written_where_the_recording_is(s3: S3, tmp_path: Path) -> None:
    storage = s3.storage
    assert not storage.write_file(F, R, "captions.json", b"[]")
    assert s3.names() == []
    put(s3, tree(tmp_path, a_txt="x"), published=False)
    assert storage.read_file(F, R, "captions.json") is None
    assert storage.write_file(F, R, "captions.json", b"[]")
    assert s3.keys("unpublished/")[f"{UNPUBLISHED}captions.json"] == b"[]"
    assert storage.read_file(F, R, "captions.json") == b"[]"


def test_bucket_that_is_not_there_is_told(s3: S3, tmp_path: Path) -> None:
    storage = S3Storage(Bucket.open("no-such-bucket", PATIENCE))
    source = tree(tmp_path, a_txt="x")
    for work in (
        lambda: storage.place(F, R, source, published=True),
        lambda: storage.publish(F, R, published=True),
        lambda: storage.remove(R),
        lambda: storage.kept(R),
        lambda: storage.write_file(F, R, "a", b""),
    ):
        with pytest.raises(StorageError, match="bucket does not exist"):
            work()


def test_missing_credentials_are_told(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    storage = S3Storage(Bucket.open(s3.name, PATIENCE))
    with pytest.raises(StorageError, match="Unable to locate credentials"):
        storage.place(F, R, tree(tmp_path, a_txt="x"), published=True)


def test_server_that_is_not_there_is_told(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match="Could not connect"):
        S3Storage(Bucket.open(s3.name, PATIENCE)).remove(R)


def test_endpoint_that_is_no_url_is_told(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "nonsense")
    with pytest.raises(StorageError, match="S3 cannot be used"):
        Bucket.open(s3.name, PATIENCE)
