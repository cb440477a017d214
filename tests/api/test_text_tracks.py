"""Text tracks through a whole balancer: upload, list, links that work once, the player's files."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from sqlalchemy import func, select

from scalelite.recordings import text_tracks
from scalelite.recordings.storage import StorageError
from scalelite.recordings.tables import text_tracks as table
from scalelite.recordings.text_tracks import MAX_TRACKS, add_files, language
from tests.api.archives import Library, library
from tests.api.support import FORM, post
from tests.balancer import Answer

VTT = "WEBVTT\n\n00:01.000 --> 00:02.000\nHallö ✓\n"
SRT = "1\n00:00:01,000 --> 00:00:02,000\nHello\n"


@pytest_twisted.async_yield_fixture
async def shelf(database_url: str, tmp_path: Path) -> AsyncIterator[Library]:
    """A library over SQLite and PostgreSQL in turn, with a recording."""
    async with library(database_url, tmp_path) as opened:
        await opened.add("r1", formats=("presentation", "video"))
        yield opened


def form(content: bytes, *, part: str = "file", filename: str | None = "a.vtt", **fields: str) -> tuple[bytes, str]:
    """A multipart body and its type."""
    pieces = [
        f'--BOUND\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    named = "" if filename is None else f'; filename="{filename}"'
    pieces.append(
        f'--BOUND\r\nContent-Disposition: form-data; name="{part}"{named}\r\nContent-Type: text/vtt\r\n\r\n'.encode()
        + content
        + b"\r\n"
    )
    return b"".join(pieces) + b"--BOUND--\r\n", "multipart/form-data; boundary=BOUND"


ENGLISH = "recordID=r1&kind=subtitles&lang=en&label=English"


async def put(shelf: Library, content: str | bytes = VTT, query: str = ENGLISH, **options: Any) -> dict[str, Any]:
    body, kind = form(content.encode() if isinstance(content, str) else content, **options)
    return said(await post(shelf.balancer, "putRecordingTextTrack", body, kind, query=query))


def said(answer: Answer) -> dict[str, Any]:
    assert answer.code == 200
    assert answer.headers["content-type"] == "application/json; charset=utf-8", answer.body
    (response,) = json.loads(answer.body).values()
    return dict(response)


async def tracks(shelf: Library, record_id: str = "r1") -> list[dict[str, Any]]:
    response = said(await shelf.balancer.call("getRecordingTextTracks", recordID=record_id))
    assert response["returncode"] == "SUCCESS"
    return list(response["tracks"])


@pytest_twisted.ensureDeferred
async def test_uploaded_track_is_listed_and_its_link_works_once(shelf: Library) -> None:
    assert await tracks(shelf) == []
    assert await put(shelf) == {
        "messageKey": "upload_text_track_success",
        "message": "Text track uploaded successfully",
        "recordId": "r1",
        "returncode": "SUCCESS",
    }

    (track,) = await tracks(shelf)
    href = track.pop("href")
    assert track == {"kind": "subtitles", "label": "English", "lang": "en", "source": "upload"}
    base = f"http://127.0.0.1:{shelf.balancer.port}/bigbluebutton/textTrack/r1/subtitles_en.vtt?token="
    assert href.startswith(base)
    assert (await shelf.balancer.request("HEAD", href)).code == 200
    taken = await shelf.balancer.request("GET", href)
    assert (taken.code, taken.headers["content-type"]) == (200, "text/vtt; charset=utf-8")
    assert taken.body.decode() == VTT
    for method in ("HEAD", "GET"):
        assert (await shelf.balancer.request(method, href)).code == 404
    assert (await tracks(shelf))[0]["href"] != href


@pytest_twisted.ensureDeferred
async def test_links_lead_to_their_own_track_only(shelf: Library) -> None:
    await shelf.add("r2")
    await put(shelf)
    await put(shelf, SRT, "recordID=r2&kind=captions&lang=de")
    href = (await tracks(shelf))[0]["href"]
    base, _, token = href.partition("?token=")

    for url in (
        base,
        f"{base}?token=",
        f"{base}?token={'0' * 64}",
        f"{base}?token={token[:-1]}",
        href.replace("r1", "r2"),
        href.replace("subtitles_en", "captions_de"),
        href.replace("subtitles_en", "subtitles_de"),
        href.replace("subtitles_en.vtt", "../../etc/passwd"),
        href.replace("subtitles_en.vtt", "%2e%2e%2fx"),
        href.replace("/r1/", "/"),
        f"http://127.0.0.1:{shelf.balancer.port}/bigbluebutton/textTrack/?token={token}",
        # Nor is it a link to the recording.
        f"http://127.0.0.1:{shelf.balancer.port}/recording/r1/presentation?token={token}",
    ):
        answer = await shelf.balancer.request("GET", url)
        assert VTT.encode() not in answer.body, url
        assert answer.code in (404, 307), url
    assert (await shelf.balancer.request("GET", href)).code == 200


@pytest_twisted.ensureDeferred
async def test_player_finds_the_track_beside_the_presentation(shelf: Library) -> None:
    folder = shelf.published / "presentation" / "r1"
    (folder / "captions.json").write_text('[{"locale": "fr", "localeName": "Français"}]')
    await put(shelf)
    await put(shelf, SRT, "recordID=r1&kind=captions&lang=pt-br&label=Portugu%C3%AAs")
    await put(shelf, SRT)

    assert json.loads((folder / "captions.json").read_text()) == [
        {"locale": "fr", "localeName": "Français"},
        {"locale": "en", "localeName": "English"},
        {"locale": "pt-BR", "localeName": "Português"},
    ]
    assert (folder / "caption_en.vtt").read_text() == "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\nHello\n"
    assert (folder / "caption_pt-BR.vtt").exists()
    assert sorted(path.name for path in folder.iterdir()) == [
        "caption_en.vtt", "caption_pt-BR.vtt", "captions.json", "index.html",
    ]  # fmt: skip
    assert list((shelf.published / "video" / "r1").iterdir()) == [shelf.published / "video" / "r1" / "index.html"]
    assert [(track["lang"], track["kind"]) for track in await tracks(shelf)] == [
        ("en", "subtitles"),
        ("pt-BR", "captions"),
    ]
    # It moves with the recording.
    await shelf.balancer.call("publishRecordings", recordID="r1", publish="false")
    await put(shelf)
    assert (shelf.unpublished / "presentation" / "r1" / "caption_en.vtt").read_text() == VTT


@pytest.mark.parametrize("index", [b"", b"not json", b"{}", b'[1, {"locale": "fr"}, {"x": 1}]', b"[" * 100_000])
@pytest_twisted.ensureDeferred
async def test_players_list_that_cannot_be_read_is_written_anew(sqlite_url: str, tmp_path: Path, index: bytes) -> None:
    async with library(sqlite_url, tmp_path) as shelf:
        await shelf.add("r1")
        path = shelf.published / "presentation" / "r1" / "captions.json"
        path.write_bytes(index)
        assert (await put(shelf))["returncode"] == "SUCCESS"

        entries = json.loads(path.read_text())
        assert entries[-1] == {"locale": "en", "localeName": "English"}
        assert len(entries) == (2 if b"fr" in index else 1)


@pytest_twisted.ensureDeferred
async def test_import_brings_the_tracks_back(shelf: Library, tmp_path: Path) -> None:
    await put(shelf)
    folder = tmp_path / "unpacked"
    folder.mkdir()
    (folder / "captions.json").write_text(
        '[{"locale": "en", "localeName": "live"}, {"locale": "fr", "localeName": "F"}]'
    )
    untouched = tmp_path / "other"
    untouched.mkdir()

    await shelf.sql(lambda connection: add_files(connection, "r1", folder))
    await shelf.sql(lambda connection: add_files(connection, "unknown", untouched))

    assert (folder / "caption_en.vtt").read_text() == VTT
    assert [entry["localeName"] for entry in json.loads((folder / "captions.json").read_text())] == ["English", "F"]
    assert list(untouched.iterdir()) == []


@pytest_twisted.ensureDeferred
async def test_recording_without_presentation_keeps_its_tracks_in_the_database(shelf: Library) -> None:
    await shelf.add("r2", formats=("video",))

    assert (await put(shelf, query="recordID=r2&kind=captions&lang=en"))["returncode"] == "SUCCESS"
    assert [(track["label"], track["lang"]) for track in await tracks(shelf, "r2")] == [("en", "en")]
    assert (await shelf.balancer.request("GET", (await tracks(shelf, "r2"))[0]["href"])).body.decode() == VTT


@pytest.mark.parametrize(
    ("query", "content", "key"),
    [
        ("", VTT, "missingParamRecordID"),
        ("recordID=%20&kind=captions&lang=en", VTT, "missingParamRecordID"),
        ("recordID=r1&lang=en", VTT, "invalidKind"),
        ("recordID=r1&kind=chapters&lang=en", VTT, "invalidKind"),
        ("recordID=r1&kind=captions", VTT, "invalidLang"),
        ("recordID=r1&kind=captions&lang=..%2F..%2Fx", VTT, "invalidLang"),
        ("recordID=r1&kind=captions&lang=en%0A", VTT, "invalidLang"),
        ("recordID=r1&kind=captions&lang=english", VTT, "invalidLang"),
        ("recordID=other&kind=captions&lang=en", VTT, "noRecordings"),
        ("recordID=r&kind=captions&lang=en", VTT, "noRecordings"),
        ("recordID=r1%2Cr2&kind=captions&lang=en", VTT, "noRecordings"),
        ("recordID=r1'%20OR%20'1'='1&kind=captions&lang=en", VTT, "noRecordings"),
        ("recordID=gone&kind=captions&lang=en", VTT, "noRecordings"),
        ("recordID=r1&kind=captions&lang=en", "", "empty_uploaded_text_track"),
        ("recordID=r1&kind=captions&lang=en", "no captions", "upload_text_track_failed"),
        ("recordID=r1&kind=captions&lang=en", b"WEBVTT\n\n\xff", "upload_text_track_failed"),
        ("recordID=r1&kind=captions&lang=en", "x" * (1024 * 1024 + 1), "upload_text_track_failed"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_refused_uploads_say_why(
    sqlite_url: str, tmp_path: Path, query: str, content: str | bytes, key: str
) -> None:
    async with library(sqlite_url, tmp_path) as shelf:
        await shelf.add("r1")
        await shelf.add("gone", state="deleted")
        answer = await put(shelf, content, query)

        assert (answer["returncode"], answer["messageKey"]) == ("FAILED", key)
        assert answer["message"]
        assert await tracks(shelf) == []


@pytest_twisted.ensureDeferred
async def test_uploads_that_are_no_signed_forms_are_refused(sqlite_url: str, tmp_path: Path) -> None:
    async with library(sqlite_url, tmp_path) as shelf:
        await shelf.add("r1")
        query = "recordID=r1&kind=captions&lang=en"
        body, kind = form(VTT.encode())

        async def sent(body: bytes, kind: str = kind, **options: Any) -> Answer:
            return await post(shelf.balancer, "putRecordingTextTrack", body, kind, query=query, **options)

        assert (await sent(body, sign=False)).key == "checksumError"
        assert (await sent(VTT.encode(), "text/vtt")).key == "unsupportedContentType"
        assert said(await sent(b"file=x", FORM))["messageKey"] == "empty_uploaded_text_track"
        assert said(await sent(form(VTT.encode(), part="other")[0]))["messageKey"] == "empty_uploaded_text_track"
        assert (await sent(body[:-20])).code == 400
        assert (await sent(form(b"x" * 3_000_000)[0])).code == 400
        unsent = await shelf.balancer.call("putRecordingTextTrack", recordID="r1", kind="captions", lang="en")
        assert unsent.key == "unsupportedRequest"
        assert await tracks(shelf) == []
        # The fields may be in the form as well.
        body, kind = form(VTT.encode(), recordID="r1", kind="captions", lang="en", label="Ünï")
        answer = await post(shelf.balancer, "putRecordingTextTrack", body, kind)
        assert said(answer)["returncode"] == "SUCCESS"
        assert (await tracks(shelf))[0]["label"] == "Ünï"


@pytest_twisted.ensureDeferred
async def test_errors_of_the_list_are_json_for_who_accepts_it(sqlite_url: str, tmp_path: Path) -> None:
    async with library(sqlite_url, tmp_path) as shelf:
        for params, key in (({}, "missingParamRecordID"), ({"recordID": "x"}, "noRecordings")):
            url = shelf.balancer.url("getRecordingTextTracks", **params)
            assert (await shelf.balancer.request("GET", url)).key == key
            answer = await shelf.balancer.request("GET", url, headers={"Accept": "application/json"})
            assert said(answer)["messageKey"] == key


@pytest_twisted.ensureDeferred
async def test_tenants_have_their_own_tracks(database_url: str, tmp_path: Path) -> None:
    async with library(database_url, tmp_path, tenants=True) as shelf:
        await shelf.add("r1", tenant="id-of-one")
        body, kind = form(VTT.encode())

        async def upload(tenant: str) -> str:
            query = "recordID=r1&kind=captions&lang=en"
            signed = f"{query}&checksum={shelf.balancer.sign('putRecordingTextTrack', query, secret=tenant)}"
            headers = {"Host": f"{tenant}.lb.example", "Content-Type": kind}
            answer = await shelf.balancer.request(
                "POST", f"{shelf.balancer.api}/putRecordingTextTrack?{signed}", body=body, headers=headers
            )
            return str(said(answer)["messageKey"])

        assert await upload("two") == "noRecordings"
        assert await upload("one") == "upload_text_track_success"
        assert (await shelf.as_tenant("two", "getRecordingTextTracks", recordID="r1")).key == "noRecordings"
        assert len(said(await shelf.as_tenant("one", "getRecordingTextTracks", recordID="r1"))["tracks"]) == 1


@pytest_twisted.ensureDeferred
async def test_deleted_recording_has_no_tracks_left(shelf: Library) -> None:
    await put(shelf)
    href = (await tracks(shelf))[0]["href"]
    await shelf.balancer.call("deleteRecordings", recordID="r1")

    assert (await shelf.balancer.call("getRecordingTextTracks", recordID="r1")).key == "noRecordings"
    assert (await shelf.balancer.request("GET", href)).code == 404
    assert await shelf.sql(lambda connection: connection.scalar(select(func.count()).select_from(table))) == 0


@pytest_twisted.ensureDeferred
async def test_track_whose_file_cannot_be_written_is_not_kept(shelf: Library) -> None:
    archive = shelf.balancer.parts.archive
    assert archive is not None

    def fail(*args: Any) -> bool:
        raise StorageError("the disk is full")

    object.__setattr__(archive.storage, "write_file", fail)
    answer = await put(shelf)

    assert (answer["messageKey"], answer["message"]) == ("upload_text_track_failed", "Text track upload failed.")
    assert await tracks(shelf) == []


@pytest_twisted.ensureDeferred
async def test_number_of_tracks_is_limited(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_TRACKS == 100
    monkeypatch.setattr(text_tracks, "MAX_TRACKS", 2)
    async with library(sqlite_url, tmp_path) as shelf:
        await shelf.add("r1")
        for lang, key in (
            ("en", "success"), ("de", "success"), ("fr", "failed"), ("de", "success"),
        ):  # fmt: skip
            answer = await put(shelf, query=f"recordID=r1&kind=captions&lang={lang}")
            assert answer["messageKey"] == f"upload_text_track_{key}"


@pytest_twisted.ensureDeferred
async def test_there_are_no_text_tracks_where_there_are_no_recordings(sqlite_url: str, tmp_path: Path) -> None:
    async with library(sqlite_url, tmp_path, recording_disabled=True) as shelf:
        assert (await shelf.balancer.call("getRecordingTextTracks", recordID="r1")).key == "unsupportedRequest"


@pytest.mark.parametrize(
    ("tag", "spelled"),
    [
        ("en", "en"), ("EN", "en"), ("pt-br", "pt-BR"), ("zh-hans-cn", "zh-Hans-CN"), ("de-1996", "de-1996"),
        ("", None), ("e", None), ("english", None), ("en_US", None), ("en-", None), ("../en", None), ("en\n", None),
        ("ün", None), ("en-" + "x" * 9, None), ("en-aa-bb-cc-dd-ee", None),
    ],
)  # fmt: skip
def test_languages_are_spelled_in_one_way(tag: str, spelled: str | None) -> None:
    assert language(tag) == spelled
