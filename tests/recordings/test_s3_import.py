"""Imports into S3: rows and objects together, and what becomes of the tar when S3 does not play along."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scalelite.recordings.bucket import Bucket
from scalelite.recordings.extraction import Limits
from scalelite.recordings.importer import Importer, ImportSettings, Result
from scalelite.recordings.recording_rows import ImportRules
from scalelite.recordings.s3 import S3Storage
from scalelite.recordings.tables import recordings
from tests.recordings.importing import Site
from tests.recordings.s3_server import PATIENCE, S3
from tests.recordings.tars import RECORD, metadata_xml, recording


def importer(site: Site, storage: S3Storage, *, unpublished: bool = False) -> Importer:
    rules = ImportSettings(site.root / "work", Limits(10_000_000, 1000), ImportRules(unpublished, False), 0)
    return Importer(site.spool, storage, site.engine, rules, lambda: site.time, site.pauses.append)


def slides(s3: S3) -> dict[str, bytes]:
    return {key: content for key, content in s3.keys().items() if key.endswith(".svg")}


@pytest.fixture
def site(tmp_path: Path, database_url: str) -> Iterator[Site]:
    made = Site(tmp_path, database_url)
    yield made
    made.engine.dispose()


def test_imported_recording_is_in_rows_and_in_the_bucket(site: Site, s3: S3) -> None:
    outcome = importer(site, s3.storage).run(site.put(recording()), site.notes)
    assert (outcome.result, outcome.published) == (Result.IMPORTED, True)
    assert slides(s3) == {f"published/presentation/{RECORD}/slides/1.svg": b"text"}
    assert site.left() == []


def test_second_import_replaces_files_and_brings_other_formats_to_the_same_side(site: Site, s3: S3) -> None:
    importer(site, s3.storage, unpublished=True).run(site.put(recording()), site.notes)
    assert slides(s3) == {f"unpublished/presentation/{RECORD}/slides/1.svg": b"text"}
    tar = recording({"video": metadata_xml("video")}, text="film")
    assert importer(site, s3.storage).run(site.put(tar), site.notes).result is Result.IMPORTED
    where = "published" if site.recording["published"] else "unpublished"
    assert slides(s3) == {
        f"{where}/presentation/{RECORD}/slides/1.svg": b"text",
        f"{where}/video/{RECORD}/slides/1.svg": b"film",
    }
    assert s3.names("importing/") == []


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [("bucket", "The specified bucket does not exist"), ("credentials", "Unable to locate credentials")],
)
def test_tar_that_cannot_be_stored_is_kept_with_the_reason_and_imported_later(
    site: Site, s3: S3, trouble: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        if trouble == "credentials":
            patched.delenv("AWS_ACCESS_KEY_ID")
        name = "no-such-bucket" if trouble == "bucket" else s3.name
        outcome = importer(site, S3Storage(Bucket.open(name, PATIENCE))).run(site.put(recording()), site.notes)
    assert outcome.result is Result.FAILED
    (failed,) = site.spool.failures.all()
    assert (failed.name, reason in failed.reason) == (RECORD, True)
    assert site.rows(recordings) == []
    assert s3.names() == []
    retried = site.spool.folder / "failed" / f"{RECORD}.tar"
    assert importer(site, s3.storage).run(retried, site.notes).result is Result.IMPORTED
    assert len(slides(s3)) == 1
    assert site.left() == []


def test_failure_of_one_format_leaves_nothing_of_the_others(
    site: Site, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = Bucket.upload

    def fails(self: Bucket, files: dict[str, Path]) -> None:
        upload(Bucket(s3.client, "gone" if any("/video/" in key for key in files) else s3.name), files)

    monkeypatch.setattr(Bucket, "upload", fails)
    tar = recording({kind: metadata_xml(kind) for kind in ("presentation", "video")})
    assert importer(site, s3.storage).run(site.put(tar), site.notes).result is Result.FAILED
    assert (s3.names(), site.rows(recordings)) == ([], [])
