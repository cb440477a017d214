"""Sending files ourselves: types, ranges, conditions, folders, links, and clients that go away."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.logger import LogEvent

from scalelite.api.playback_files import CHUNK
from tests.api.support import connect, exchange, running
from tests.balancer import Answer, Balancer
from tests.integration.redis_server import eventually
from tests.recordings.playable import add_recording, put_file

R = "0f3c9d-1609459200123"
CONTENT = bytes(range(256)) * 4
MODIFIED = 1_700_000_000


@attrs.frozen
class Cinema:
    """A balancer that sends files itself; they are below `published`."""

    balancer: Balancer
    published: Path

    def put(self, path: str, content: bytes = CONTENT) -> Path:
        file = put_file(self.published, f"video/{R}/{path}", content)
        os.utime(file, (MODIFIED, MODIFIED))
        return file

    async def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        url = f"http://127.0.0.1:{self.balancer.port}{path}"
        return await self.balancer.request(method, url, headers={k.replace("_", "-"): v for k, v in headers.items()})

    async def file(self, path: str, method: str = "GET", **headers: str) -> Answer:
        return await self.get(f"/video/{R}/{path}", method, **headers)


@pytest_twisted.async_yield_fixture()
async def cinema(sqlite_url: str, tmp_path: Path) -> AsyncIterator[Cinema]:
    published = tmp_path / "published"
    settings = {"serve_recordings": True, "recording_publish_dir": published, "protected_recordings_enabled": True}
    async with running(database_url=sqlite_url, **settings) as balancer:
        archive = balancer.parts.archive
        assert archive is not None
        formats = {"video": "/playback/video/x", "podcast": "/podcast/x"}
        await archive.database.run(lambda connection: add_recording(connection, R, formats))
        await archive.database.run(lambda connection: add_recording(connection, "closed", formats, protected=True))
        yield Cinema(balancer, published)


def open_files() -> set[str]:
    """What this process has open below any folder of a test."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:
            continue
    return {name for name in found if R in name}


@pytest_twisted.ensureDeferred
async def test_file_is_sent_whole_with_what_tells_it_apart(cinema: Cinema) -> None:
    cinema.put("webcams.webm")
    answer = await cinema.file("webcams.webm?v=1")
    assert (answer.code, answer.body) == (200, CONTENT)
    assert answer.headers["content-type"] == "video/webm"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["last-modified"] == formatdate(MODIFIED, usegmt=True)
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["etag"].startswith('"')
    assert "x-frame-options" not in answer.headers
    assert "x-accel-redirect" not in answer.headers


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.html", "text/html; charset=utf-8"), ("a.css", "text/css; charset=utf-8"), ("a.JPG", "image/jpeg"),
        ("a.js", "text/javascript; charset=utf-8"), ("a.json", "application/json"), ("a.svg", "image/svg+xml"),
        ("a.vtt", "text/vtt; charset=utf-8"), ("a.mp4", "video/mp4"), ("a.ogg", "audio/ogg"),
        ("a.pdf", "application/pdf"), ("a", "application/octet-stream"), ("a.b.c", "application/octet-stream"),
        ("d.png/a", "application/octet-stream"), ("caption_en-US.vtt", "text/vtt; charset=utf-8"),
    ],
)  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_content_type_goes_by_the_name(cinema: Cinema, name: str, expected: str) -> None:
    cinema.put(name)
    assert (await cinema.file(name, Accept="*/*")).headers["content-type"] == expected


@pytest.mark.parametrize(
    ("asked", "status", "span"),
    [
        ("bytes=0-0", 206, (0, 1)), ("bytes=0-99", 206, (0, 100)), ("bytes=1000-", 206, (1000, 1024)),
        ("bytes=-24", 206, (1000, 1024)), ("bytes=0-", 206, (0, 1024)), ("bytes=0-5000", 206, (0, 1024)),
        ("bytes=-5000", 206, (0, 1024)), ("bytes = 10 - 19", 206, (10, 20)), ("bytes=1023-1023", 206, (1023, 1024)),
        ("bytes=1024-", 416, None), ("bytes=5000-6000", 416, None), ("bytes=-0", 416, None),
        ("bytes=5-3", 200, (0, 1024)), ("bytes=a-b", 200, (0, 1024)), ("bytes=-", 200, (0, 1024)), ("", 200, (0, 1024)),
        ("bytes=0-1,5-6", 200, (0, 1024)), ("items=0-1", 200, (0, 1024)), ("bytes=0-1-2", 200, (0, 1024)),
        ("bytes=" + "9" * 30 + "-", 200, (0, 1024)), ("bytes=0x1-2", 200, (0, 1024)), ("bytes=--1", 200, (0, 1024)),
    ],
)  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_range_is_sent_as_asked(cinema: Cinema, asked: str, status: int, span: tuple[int, int] | None) -> None:
    cinema.put("a.webm")
    answer = await cinema.file("a.webm", Range=asked)
    assert answer.code == status
    if span is None:
        assert answer.headers["content-range"] == "bytes */1024"
        assert answer.body == b""
        return
    assert answer.body == CONTENT[slice(*span)]
    assert answer.headers.get("content-range") == (f"bytes {span[0]}-{span[1] - 1}/1024" if status == 206 else None)


@pytest_twisted.ensureDeferred
async def test_range_of_an_empty_file_cannot_be_had(cinema: Cinema) -> None:
    cinema.put("empty.webm", b"")
    assert (await cinema.file("empty.webm")).body == b""
    assert (await cinema.file("empty.webm", Range="bytes=0-")).code == 416


@pytest_twisted.ensureDeferred
async def test_client_that_has_the_file_is_told_so(cinema: Cinema) -> None:
    cinema.put("a.webm")
    etag = (await cinema.file("a.webm")).headers["etag"]
    modified, later, earlier = (formatdate(MODIFIED + i, usegmt=True) for i in (0, 1, -1))
    known: list[dict[str, str]] = [
        {"If_None_Match": etag}, {"If_None_Match": f'"x", W/{etag}'}, {"If_None_Match": "*"},
        {"If_Modified_Since": modified}, {"If_Modified_Since": later},
        {"If_None_Match": etag, "If_Modified_Since": earlier}, {"If_None_Match": etag, "Range": "bytes=0-1"},
    ]  # fmt: skip
    for headers in known:
        answer = await cinema.file("a.webm", **headers)
        assert (answer.code, answer.body) == (304, b""), headers
        assert answer.headers["etag"] == etag
        assert "content-type" not in answer.headers
    unknown: list[dict[str, str]] = [
        {"If_None_Match": '"x"'}, {"If_Modified_Since": earlier}, {"If_Modified_Since": "yesterday"},
        {"If_None_Match": '"x"', "If_Modified_Since": later}, {"If_None_Match": ""},
    ]  # fmt: skip
    for headers in unknown:
        assert (await cinema.file("a.webm", **headers)).code == 200, headers


@pytest_twisted.ensureDeferred
async def test_range_of_another_version_is_the_whole_file(cinema: Cinema) -> None:
    cinema.put("a.webm")
    etag = (await cinema.file("a.webm")).headers["etag"]
    modified, earlier = (formatdate(MODIFIED + i, usegmt=True) for i in (0, -1))
    for condition in (etag, modified):
        assert (await cinema.file("a.webm", Range="bytes=0-1", If_Range=condition)).code == 206
    for condition in ('"x"', f"W/{etag}", earlier, "", "x"):
        answer = await cinema.file("a.webm", Range="bytes=0-1", If_Range=condition)
        assert (answer.code, answer.body) == (200, CONTENT)


@pytest_twisted.ensureDeferred
async def test_replaced_file_has_another_tag(cinema: Cinema) -> None:
    cinema.put("a.webm")
    before = (await cinema.file("a.webm")).headers["etag"]
    os.utime(cinema.put("a.webm", CONTENT[::-1]), ns=(MODIFIED * 10**9 + 1, MODIFIED * 10**9 + 1))
    assert (await cinema.file("a.webm")).headers["etag"] != before


@pytest_twisted.ensureDeferred
async def test_head_tells_the_same_without_a_body(cinema: Cinema) -> None:
    cinema.put("a.webm")
    looked = await cinema.file("a.webm", "HEAD", Range="bytes=0-1")
    assert (looked.code, looked.body) == (200, b"")
    assert looked.headers["content-length"] == "1024"
    assert looked.headers["content-type"] == "video/webm"
    assert (await cinema.file("b.webm", "HEAD")).code == 404


@pytest_twisted.ensureDeferred
async def test_folder_is_shown_by_its_index_and_never_listed(cinema: Cinema) -> None:
    cinema.put("index.html", b"<p>video</p>")
    cinema.put("old/index.htm", b"<p>old</p>")
    cinema.put("files/a.webm")
    assert (await cinema.file("")).body == b"<p>video</p>"
    assert (await cinema.file("old/")).body == b"<p>old</p>"
    assert (await cinema.file("files/")).code == 404
    for path, location in (("old", f"/video/{R}/old/"), ("files", f"/video/{R}/files/")):
        answer = await cinema.file(path)
        assert (answer.code, answer.location) == (301, location)
    answer = await cinema.get(f"/video/{R}")
    assert (answer.code, answer.location) == (301, f"/video/{R}/")


@pytest.mark.parametrize("path", ["nothing", "nothing/", "a.webm/", "a.webm/b", "dir/nothing.webm", "%20", "x" * 300])
@pytest_twisted.ensureDeferred
async def test_what_is_no_file_is_not_found(cinema: Cinema, path: str) -> None:
    cinema.put("a.webm")
    cinema.put("dir/a.webm")
    answer = await cinema.file(path)
    assert answer.code == 404
    assert b"<h1>Recording Not Found</h1>" in answer.body


@pytest_twisted.ensureDeferred
async def test_names_are_decoded_once(cinema: Cinema) -> None:
    for name, path in (("café ?#.webm", "caf%C3%A9%20%3F%23.webm"), ("a%2e.webm", "a%252e.webm"), ("a..b", "a..b")):
        cinema.put(name, name.encode())
        assert (await cinema.file(path)).body == name.encode()


@pytest_twisted.ensureDeferred
async def test_links_are_not_followed(cinema: Cinema, tmp_path: Path) -> None:
    outside = put_file(tmp_path, "outside/secret.txt", b"secret")
    inside = cinema.put("a.webm")
    folder = inside.parent
    (folder / "file").symlink_to(outside)
    (folder / "folder").symlink_to(outside.parent)
    (folder / "near").symlink_to("a.webm")
    (folder / "linked").mkdir()
    (folder / "linked/index.html").symlink_to(outside)
    (cinema.published / "podcast").symlink_to(outside.parent)
    put_file(tmp_path, f"outside/{R}/secret.txt", b"secret")
    for path in ("file", "folder/secret.txt", "near", "linked/", "linked/index.html"):
        assert (await cinema.file(path)).code == 404, path
    assert (await cinema.get(f"/podcast/{R}/secret.txt")).code == 404


@pytest_twisted.ensureDeferred
async def test_what_is_no_regular_file_is_not_opened(cinema: Cinema) -> None:
    folder = cinema.put("a.webm").parent
    os.mkfifo(folder / "pipe")
    assert (await cinema.file("pipe")).code == 404


@pytest_twisted.ensureDeferred
async def test_protection_and_saving_count_here_as_well(cinema: Cinema) -> None:
    put_file(cinema.published, "video/closed/a.webm", b"closed")
    put_file(cinema.published, f"podcast/{R}/audio.ogg", b"audio")
    assert (await cinema.get("/video/closed/a.webm")).code == 404
    answer = await cinema.get(f"/podcast/{R}/audio.ogg")
    assert (answer.body, answer.headers["content-disposition"]) == (b"audio", "attachment")


@pytest_twisted.ensureDeferred
async def test_large_file_arrives_as_it_is(cinema: Cinema) -> None:
    content = os.urandom(CHUNK) * 40 + b"end"
    cinema.put("large.webm", content)
    answer = await cinema.file("large.webm")
    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(content).digest()
    answer = await cinema.file("large.webm", Range=f"bytes={CHUNK - 7}-{3 * CHUNK}")
    assert answer.body == content[CHUNK - 7 : 3 * CHUNK + 1]


@pytest_twisted.ensureDeferred
async def test_no_file_stays_open(cinema: Cinema) -> None:
    cinema.put("a.webm")
    cinema.put("large.webm", b"x" * CHUNK * 200)
    etag = (await cinema.file("a.webm")).headers["etag"]
    await cinema.file("a.webm", "HEAD")
    await cinema.file("a.webm", If_None_Match=etag)
    await cinema.file("a.webm", Range="bytes=9999-")
    await cinema.file("a.webm", Range="bytes=0-1")
    peer: Any = await connect(cinema.balancer.port)
    peer.transport.write(f"GET /video/{R}/large.webm HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await eventually(lambda: _later(peer.data or None))
    peer.transport.abortConnection()
    await eventually(lambda: _later(True if not open_files() else None))


async def _later(value: Any) -> Any:
    return value


@pytest_twisted.ensureDeferred
async def test_file_that_shrinks_on_the_way_breaks_the_answer(
    cinema: Cinema, monkeypatch: pytest.MonkeyPatch, unhandled_errors: list[LogEvent]
) -> None:
    cinema.put("a.webm")
    # The read that follows the head finds nothing more.
    monkeypatch.setattr(os, "pread", lambda descriptor, size, position: b"")
    peer: Any = await connect(cinema.balancer.port)
    peer.transport.write(f"GET /video/{R}/a.webm HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await peer.closed
    head, _, body = peer.data.partition(b"\r\n\r\n")
    assert b"Content-Length: 1024" in head
    assert body == b""
    (event,) = unhandled_errors
    assert isinstance(event["log_failure"].value, EOFError)
    unhandled_errors.clear()


@pytest_twisted.ensureDeferred
async def test_several_files_are_sent_over_one_connection(cinema: Cinema) -> None:
    cinema.put("a.webm", b"first")
    cinema.put("b.webm", b"second")
    line = f"GET /video/{R}/{{}}.webm HTTP/1.1\r\nHost: x\r\n{{}}\r\n"
    answers = await exchange(
        cinema.balancer.port, (line.format("a", "") + line.format("b", "Connection: close\r\n")).encode()
    )
    assert [answer.body for answer in answers] == [b"first", b"second"]


@pytest_twisted.ensureDeferred
async def test_players_page_is_sent_for_every_recording(cinema: Cinema) -> None:
    beside = cinema.published.parent / "playback/presentation/2.3"
    assert (await cinema.get(f"/playback/presentation/2.3/{R}")).code == 404
    put_file(beside, "index.html", b"<p>player</p>")
    put_file(beside, "static/js/main.js", b"play()")
    for path in (f"/{R}", f"/{R}/", "/", "/static/nothing.js", "/static", "/../x", "/%2e%2e/x"):
        answer = await cinema.get(f"/playback/presentation/2.3{path}")
        assert (answer.code, answer.body) == (200, b"<p>player</p>"), path
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
    answer = await cinema.get("/playback/presentation/2.3/static/js/main.js")
    assert answer.body == b"play()"


@pytest.mark.parametrize(
    ("path", "status", "location"),
    [
        ("/playback/presentation/playback.html?meetingId=r-1", 301,
         "/playback/presentation/0.81/playback.html?meetingId=r-1"),
        ("/playback/presentation/2.0/playback.html?meetingId=r-1&t=5", 301,
         "/playback/presentation/2.3/r-1?meetingId=r-1&t=5"),
        ("/playback/video/r-1/?x=1", 307, "/video/r-1/"), ("/playback/video/r-1/a.webm", 307, "/video/r-1/a.webm"),
        ("/recording/screenshare/r-1", 307, "/screenshare/r-1"),
    ],
)  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_former_addresses_lead_to_todays(cinema: Cinema, path: str, status: int, location: str) -> None:
    answer = await cinema.get(path)
    assert (answer.code, answer.location) == (status, location)


@pytest.mark.parametrize(
    "path", ["/playback/video//evil.example", "/playback/video/../x", "/playback/presentation/2.0/playback.html",
             "/playback/presentation/2.0/playback.html?meetingId=/evil", "/playback/video/%2fevil.example"]
)  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_former_addresses_lead_nowhere_else(cinema: Cinema, path: str) -> None:
    (answer,) = await exchange(
        cinema.balancer.port, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    )
    assert answer.status == 404
