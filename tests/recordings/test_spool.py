"""The spool: which tar is next, whose it is, and what becomes of those that fail."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from scalelite.recordings import spool as spool_module
from scalelite.recordings.spool import Claim, Spool, SpoolError
from tests.recordings.tars import recording, write_tar

NOW = 4_000_000_000.0


class Time:
    """The time, which tests move on."""

    seconds = NOW

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def spool(tmp_path: Path, time: Time) -> Spool:
    made = Spool(tmp_path / "spool", time)
    made.prepare()
    return made


@pytest.fixture
def put(spool: Spool) -> Callable[..., Path]:
    def write(name: str, text: str = "text") -> Path:
        return write_tar(spool.folder, recording(text=text), name)

    return write


def claimed(spool: Spool, path: Path) -> Claim:
    claim = spool.claim(path)
    assert claim is not None
    return claim


def failed(spool: Spool, path: Path, reason: str = "no good") -> None:
    claim = claimed(spool, path)
    claim.fail(reason)
    claim.release()


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_only_whole_tars_wait_in_order_of_their_names(spool: Spool, put) -> None:
    for name in ("b", "a", "c d", "ü"):
        put(name)
    (spool.folder / ".x.tar").write_text("on its way")
    (spool.folder / "x.tar.part").write_text("")
    (spool.folder / "folder.tar").mkdir()
    (spool.folder / "link.tar").symlink_to(spool.folder / "a.tar")
    assert names(spool.waiting()) == ["a.tar", "b.tar", "c d.tar", "ü.tar"]


def test_a_tar_is_claimed_once_at_a_time(spool: Spool, put, time) -> None:
    path = put("a")
    claim = claimed(spool, path)
    other = Spool(spool.folder, time)
    assert other.claim(path) is None
    claim.release()
    claim.release()
    again = claimed(other, path)
    again.release()


def test_a_claim_of_what_is_gone_is_none(spool: Spool) -> None:
    assert spool.claim(spool.folder / "a.tar") is None
    assert spool.lock("a") is not None


def test_a_link_is_never_followed(spool: Spool, tmp_path) -> None:
    (spool.folder / "a.tar").symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="symbolic links"):
        spool.claim(spool.folder / "a.tar")


def test_a_folder_without_locks_is_told(spool: Spool, put, monkeypatch) -> None:
    def flock(descriptor: int, how: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(spool_module.fcntl, "flock", flock)
    with pytest.raises(SpoolError, match="has no locks: No locks available"):
        spool.claim(put("a"))


def test_what_is_done_is_gone_with_all_that_was_noted(spool: Spool, put) -> None:
    path = put("a")
    failed(spool, path)
    path = put("a", "newer")
    claim = claimed(spool, path)
    claim.done()
    claim.release()
    assert [path for path in spool.folder.rglob("*") if path.is_file()] == []


def test_a_newer_tar_of_that_name_is_not_removed_with_the_older_one(spool: Spool, put) -> None:
    claim = claimed(spool, put("a", "older"))
    newer = put("a", "newer").read_bytes()
    claim.done()
    claim.release()
    assert (spool.folder / "a.tar").read_bytes() == newer


def test_a_newer_tar_of_that_name_does_not_fail_with_the_older_one(spool: Spool, put) -> None:
    claim = claimed(spool, put("a", "older"))
    newer = put("a", "newer").read_bytes()
    claim.fail("no good")
    claim.release()
    assert (spool.folder / "a.tar").read_bytes() == newer
    assert spool.failures.all() == []


def test_what_fails_is_kept_with_its_reason(spool: Spool, put, time) -> None:
    path = put("a")
    size = path.stat().st_size
    failed(spool, path, "it is a <b> & 漢字")
    assert spool.waiting() == []
    (found,) = spool.failures.all()
    assert (found.name, found.reason, found.attempts, found.size) == ("a", "it is a <b> & 漢字", 1, size)
    assert (found.first_failed_at, found.failed_at, found.next_retry_at) == (NOW, NOW, NOW + 60)
    noted = json.loads((spool.folder / "failed" / "a.json").read_text())
    assert noted["failed_at"] == "2096-10-02T07:06:40.000+00:00"


def test_retries_wait_ever_longer_and_a_day_at_most(spool: Spool, put, time) -> None:
    path, waits = put("a"), []
    for _ in range(8):
        failed(spool, path)
        (found,) = spool.failures.all()
        waits.append(found.next_retry_at - time.seconds)
        time.seconds = found.next_retry_at - 1
        assert spool.waiting() == []
        time.seconds += 1
        (path,) = spool.waiting()
        assert path == spool.folder / "failed" / "a.tar"
    assert waits == [60, 240, 960, 3840, 15360, 61440, 86400, 86400]
    assert spool.failures.all()[0].first_failed_at == NOW


def test_new_tars_come_before_failed_ones(spool: Spool, put, time) -> None:
    failed(spool, put("a"))
    time.seconds += 60
    put("b")
    assert names(spool.waiting()) == ["b.tar", "a.tar"]


def test_a_tar_that_is_sent_again_takes_the_place_of_the_failed_one(spool: Spool, put, time) -> None:
    failed(spool, put("a"), "first")
    failed(spool, spool.folder / "failed" / "a.tar", "second")
    newer = put("a", "newer")
    time.seconds += 10_000
    assert spool.waiting() == [newer]
    failed(spool, newer, "third")
    (found,) = spool.failures.all()
    assert (found.reason, found.attempts) == ("third", 1)


@pytest.mark.parametrize(("chosen", "retried"), [(None, ["a", "b"]), ("b", ["b"]), ("c", [])])
def test_an_operator_may_retry_at_once(spool: Spool, put, chosen, retried) -> None:
    for name in ("a", "b"):
        failed(spool, put(name))
    assert spool.failures.retry(chosen) == retried
    assert names(spool.waiting()) == [f"{name}.tar" for name in retried]
    assert [found.attempts for found in spool.failures.all()] == [1, 1]


@pytest.mark.parametrize("noted", ["", "{", "[]", "{}", '{"attempts": "x"}', '"\\ud800"'])
def test_notes_that_cannot_be_read_count_as_none(spool: Spool, put, noted) -> None:
    failed(spool, put("a"))
    (spool.folder / "failed" / "a.json").write_text(noted)
    (found,) = spool.failures.all()
    assert (found.attempts, found.reason) == (0, "it was put here")
    assert names(spool.waiting()) == ["a.tar"]


def test_names_of_any_length_have_their_notes(spool: Spool, put) -> None:
    name = "ü" * 120
    failed(spool, put("x").rename(spool.folder / f"{name}.tar"))
    assert [found.name for found in spool.failures.all()] == [name]


def test_what_a_killed_process_had_in_hand_is_put_back(spool: Spool, put) -> None:
    held = put("held").rename(spool.folder / ".importing" / "held.tar")
    put("a").rename(spool.folder / ".importing" / "a.tar")
    put("b", "older").rename(spool.folder / ".importing" / "b.tar")
    newer = put("b", "newer").read_bytes()
    lock = spool.lock("held")
    assert lock is not None
    spool.recover()
    assert names(spool.waiting()) == ["a.tar", "b.tar"]
    assert (spool.folder / "b.tar").read_bytes() == newer
    assert held.exists()
    lock.release()


def test_a_filesystem_without_hard_links_will_do(spool: Spool, put, monkeypatch) -> None:
    def link(source: object, target: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    put("a").rename(spool.folder / ".importing" / "a.tar")
    spool.recover()
    assert names(spool.waiting()) == ["a.tar"]


def test_a_change_in_the_folder_is_noticed(spool: Spool, put) -> None:
    before = spool.last_change()
    put("a")
    assert spool.last_change() != before
