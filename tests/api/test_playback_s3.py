"""Playback of recordings that are in S3: whole files, ranges, conditions, indexes, protection, S3 away."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import AsyncIterator
from email.utils import formatdate
from typing import Any

import attrs
import pytest
import pytest_twisted

from scalelite.archive import recording_storage
from scalelite.settings import Settings, SettingsError, load_settings
from scalelite.store.errors import StoreError
from tests.api.support import running
from tests.balancer import Answer, Balancer
from tests.recordings.playable import add_recording
from tests.recordings.s3_server import S3

R = "0f3c9d-1609459200123"
CONTENT = bytes(range(256)) * 4096


@attrs.frozen
class Cinema:
    balancer: Balancer
    s3: S3

    def put(self, path: str, content: bytes = CONTENT, *, side: str = "published") -> str:
        """Store a file of the video; its ETag."""
        return str(self.s3.client.put_object(Bucket=self.s3.name, Key=f"{side}/video/{R}/{path}", Body=content)["ETag"])

    async def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        url = f"http://127.0.0.1:{self.balancer.port}{path}"
        return await self.balancer.request(method, url, headers={k.replace("_", "-"): v for k, v in headers.items()})

    async def file(self, path: str, method: str = "GET", **headers: str) -> Answer:
        return await self.get(f"/video/{R}/{path}", method, **headers)


@pytest_twisted.async_yield_fixture()
async def cinema(sqlite_url: str, s3: S3) -> AsyncIterator[Cinema]:
    settings = {"s3_recording": True, "s3_bucket_name": s3.name, "protected_recordings_enabled": True}
    async with running(database_url=sqlite_url, serve_recordings=False, **settings) as balancer:
        archive = balancer.parts.archive
        assert archive is not None
        formats = {"video": "/playback/video/x", "podcast": "/podcast/x"}
        await archive.database.run(lambda connection: add_recording(connection, R, formats))
        await archive.database.run(lambda connection: add_recording(connection, "closed", formats, protected=True))
        yield Cinema(balancer, s3)


@pytest_twisted.ensureDeferred
async def test_file_is_sent_whole_with_its_type_by_its_name(cinema: Cinema) -> None:
    etag = cinema.put("deskshare/deskshare.webm")
    answer = await cinema.file("deskshare/deskshare.webm")
    assert (answer.code, answer.body == CONTENT) == (200, True)
    assert (answer.headers["content-type"], answer.headers["etag"]) == ("video/webm", etag)
    assert answer.headers["accept-ranges"] == "bytes"
    assert "last-modified" in answer.headers


@pytest_twisted.ensureDeferred
async def test_page_of_a_folder_is_its_index(cinema: Cinema) -> None:
    cinema.put("index.html", b"a page")
    answer = await cinema.file("")
    assert (answer.code, answer.body, answer.headers["content-type"]) == (200, b"a page", "text/html; charset=utf-8")
    cinema.put("old/index.htm", b"old")
    assert (await cinema.file("old/")).body == b"old"


@pytest.mark.parametrize(
    ("asked", "first", "end"),
    [("bytes=0-0", 0, 1), ("bytes=10-19", 10, 20), ("bytes=1000000-", 1_000_000, None), ("bytes=-5", -5, None)],
)
@pytest_twisted.ensureDeferred
async def test_part_of_a_film_is_sent_as_asked(cinema: Cinema, asked: str, first: int, end: int | None) -> None:
    cinema.put("webcams.webm")
    answer = await cinema.file("webcams.webm", Range=asked)
    assert (answer.code, answer.body) == (206, CONTENT[first:end])
    begin = first % len(CONTENT)
    assert answer.headers["content-range"] == f"bytes {begin}-{begin + len(answer.body) - 1}/{len(CONTENT)}"


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "lines=1-2", "bytes=5-2", "bytes=-", "bytes=a-b"])
@pytest_twisted.ensureDeferred
async def test_range_that_is_not_understood_gets_the_whole_file(cinema: Cinema, asked: str) -> None:
    cinema.put("webcams.webm")
    answer = await cinema.file("webcams.webm", Range=asked)
    assert (answer.code, len(answer.body)) == (200, len(CONTENT))


@pytest_twisted.ensureDeferred
async def test_range_outside_of_the_file_is_refused(cinema: Cinema) -> None:
    cinema.put("webcams.webm")
    assert (await cinema.file("webcams.webm", Range=f"bytes={len(CONTENT)}-")).code == 416


@pytest_twisted.ensureDeferred
async def test_file_that_the_browser_has_is_not_sent_again(cinema: Cinema) -> None:
    etag = cinema.put("webcams.webm")
    answer = await cinema.file("webcams.webm", If_None_Match=etag)
    assert (answer.code, answer.body) == (304, b"")
    modified = cinema.s3.client.head_object(Bucket=cinema.s3.name, Key=f"published/video/{R}/webcams.webm")
    since = formatdate(modified["LastModified"].timestamp(), usegmt=True)
    assert (await cinema.file("webcams.webm", If_Modified_Since=since)).code == 304
    assert (await cinema.file("webcams.webm", If_Modified_Since="yesterday")).code == 200
    assert (await cinema.file("webcams.webm", If_None_Match='"other"')).code == 200


@pytest_twisted.ensureDeferred
async def test_part_of_another_version_is_not_mixed_with_what_the_browser_has(cinema: Cinema) -> None:
    etag = cinema.put("webcams.webm")
    same = await cinema.file("webcams.webm", Range="bytes=0-9", If_Range=etag)
    other = await cinema.file("webcams.webm", Range="bytes=0-9", If_Range='"other"')
    dated = await cinema.file("webcams.webm", Range="bytes=0-9", If_Range="Tue, 24 Nov 2026 11:00:00 GMT")
    assert [same.code, other.code, dated.code] == [206, 200, 200]


@pytest_twisted.ensureDeferred
async def test_head_tells_and_sends_nothing(cinema: Cinema) -> None:
    cinema.put("webcams.webm")
    answer = await cinema.file("webcams.webm", "HEAD", Range="bytes=0-9")
    assert (answer.code, answer.body, answer.headers["content-length"]) == (200, b"", str(len(CONTENT)))


@pytest_twisted.ensureDeferred
async def test_file_to_be_saved_is_sent_as_such(cinema: Cinema) -> None:
    cinema.s3.client.put_object(Bucket=cinema.s3.name, Key=f"published/podcast/{R}/audio.ogg", Body=b"x")
    answer = await cinema.get(f"/podcast/{R}/audio.ogg")
    assert (answer.code, answer.headers["content-disposition"]) == (200, "attachment")


@pytest.mark.parametrize("path", ["missing.webm", "missing/", f"../{R}/webcams.webm", "%2e%2e/x", "a//b"])
@pytest_twisted.ensureDeferred
async def test_what_is_not_there_is_not_found(cinema: Cinema, path: str) -> None:
    cinema.put("webcams.webm")
    cinema.put("missing.webm", side="unpublished")
    assert (await cinema.file(path)).code == 404


@pytest_twisted.ensureDeferred
async def test_protected_recording_needs_its_cookie(cinema: Cinema) -> None:
    cinema.s3.client.put_object(Bucket=cinema.s3.name, Key="published/video/closed/a.webm", Body=b"x")
    assert (await cinema.get("/video/closed/a.webm")).code == 404


@pytest_twisted.ensureDeferred
async def test_viewer_gets_a_page_while_s3_is_away(cinema: Cinema) -> None:
    cinema.s3.client.delete_bucket(Bucket=cinema.s3.name)
    answer = await cinema.file("webcams.webm")
    assert (answer.code, answer.headers["content-type"]) == (503, "text/html; charset=utf-8")


def settings(**variables: str) -> Settings:
    return load_settings({"SCALELITE_ENV": "test", **variables})


def test_bucket_must_be_named() -> None:
    with pytest.raises(SettingsError, match="S3_BUCKET_NAME is unset: S3_RECORDING needs it"):
        settings(S3_RECORDING="true")
    assert settings(S3_RECORDING="false").s3_recording is False


def test_missing_library_is_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(StoreError, match="S3_RECORDING needs boto3: install"):
        recording_storage(Settings.for_tests(s3_recording=True, s3_bucket_name="b"))


def test_library_is_not_loaded_where_there_is_no_s3() -> None:
    found: Any = importlib.util.find_spec("boto3")
    assert found is not None
    assert type(recording_storage(Settings.for_tests())).__name__ == "FolderStorage"
