"""Playing recordings through a real nginx with the configuration that comes with the program."""

from __future__ import annotations

import http.client
import json
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from tests.api.support import RawAnswer, connect, exchange, responses, running
from tests.balancer import Answer, Balancer
from tests.integration.nginx import Nginx
from tests.recordings.playable import add_recording, put_file
from tests.recordings.uploading import claims, sign

pytestmark = pytest.mark.integration

R = "0f3c9d-1609459200123"
CONTENT = bytes(range(256)) * 400
TOKEN = "5a" * 32


@attrs.frozen
class Cinema:
    """A balancer and the nginx before it."""

    balancer: Balancer
    nginx: Nginx

    async def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        url = f"http://127.0.0.1:{self.nginx.port}{path}"
        return await self.balancer.request(method, url, headers={k.replace("_", "-"): v for k, v in headers.items()})

    async def raw(self, path: str, method: str = "GET", *lines: str) -> RawAnswer:
        """As it is sent: nothing of the path is changed on the way."""
        head = "\r\n".join((f"{method} {path} HTTP/1.1", "Host: x", *lines, "Connection: close", "", ""))
        peer: Any = await connect(self.nginx.port)
        peer.transport.write(head.encode())
        await peer.closed
        (answer,) = responses(peer.data, head=method == "HEAD")
        return answer

    def put(self, path: str, content: bytes = CONTENT, *, record_id: str = R, playback_format: str = "video") -> Path:
        return put_file(self.nginx.published, f"{playback_format}/{record_id}/{path}", content)

    async def add(self, record_id: str = R, **options: Any) -> None:
        formats = {name: f"/playback/{name}/2.3/{record_id}" for name in ("presentation", "video", "podcast")}
        archive = self.balancer.parts.archive
        assert archive is not None
        await archive.database.run(lambda connection: add_recording(connection, record_id, formats, **options))

    async def token(self, record_id: str, playback_format: str = "video") -> str:
        value = json.dumps({"record_id": record_id, "format": playback_format})
        await self.balancer.redis("SET", self.balancer.key(f"protector_token_{TOKEN}"), value, "EX", "60")
        return TOKEN


@asynccontextmanager
async def cinema_with(folder: Path, database_url: str, site: str, **settings: Any) -> AsyncIterator[Cinema]:
    options = {"serve_recordings": False, "protected_recordings_enabled": True, **settings}
    async with running(database_url=database_url, **options) as balancer:
        with Nginx(folder / "nginx", site, balancer.port) as nginx:
            yield Cinema(balancer, nginx)


@pytest_twisted.async_yield_fixture()
async def cinema(tmp_path: Path, sqlite_url: str) -> AsyncIterator[Cinema]:
    async with cinema_with(tmp_path, sqlite_url, "scalelite.conf") as cinema:
        await cinema.add()
        await cinema.add("closed", protected=True)
        await cinema.add("hidden", published=False)
        for record_id in (R, "closed", "hidden"):
            cinema.put("index.html", b"<p>page</p>", record_id=record_id)
            cinema.put("video/webcams.webm", record_id=record_id)
        yield cinema


@pytest_twisted.ensureDeferred
async def test_recording_is_played_from_its_link_to_its_files(cinema: Cinema) -> None:
    link = await cinema.get(f"/recording/{R}/video", Host="b.example.com")
    assert (link.code, link.location) == (307, f"http://b.example.com/playback/video/2.3/{R}")
    page = await cinema.get(f"/video/{R}/")
    assert (page.code, page.body) == (200, b"<p>page</p>")
    assert page.headers["content-type"] == "text/html"
    video = await cinema.get(f"/video/{R}/video/webcams.webm")
    assert video.body == CONTENT
    assert video.headers["content-type"] == "video/webm"
    # Nothing tells where the files are.
    assert "x-accel-redirect" not in video.headers


@pytest_twisted.ensureDeferred
async def test_player_seeks_by_ranges(cinema: Cinema) -> None:
    path = f"/video/{R}/video/webcams.webm"
    whole = await cinema.get(path)
    assert whole.headers["accept-ranges"] == "bytes"
    part = await cinema.get(path, Range="bytes=1000-1999", If_Range=whole.headers["etag"])
    assert (part.code, part.body) == (206, CONTENT[1000:2000])
    assert part.headers["content-range"] == f"bytes 1000-1999/{len(CONTENT)}"
    assert (await cinema.get(path, Range="bytes=-10")).body == CONTENT[-10:]
    assert (await cinema.get(path, Range=f"bytes={len(CONTENT)}-")).code == 416
    assert (await cinema.get(path, If_None_Match=whole.headers["etag"])).code == 304


@pytest_twisted.ensureDeferred
async def test_head_is_answered_without_a_body(cinema: Cinema) -> None:
    answer = await cinema.raw(f"/video/{R}/video/webcams.webm", "HEAD")
    assert (answer.status, answer.header("Content-Length")) == (200, str(len(CONTENT)))
    assert (await cinema.raw(f"/recording/{R}/video", "HEAD")).status == 307
    assert (await cinema.raw("/video/hidden/video/webcams.webm", "HEAD")).status == 404


@pytest_twisted.ensureDeferred
async def test_protected_recording_opens_by_its_token_once_and_then_by_the_cookie(cinema: Cinema) -> None:
    path = "/video/closed/video/webcams.webm"
    assert (await cinema.get(path)).code == 404
    link = f"/recording/closed/video?token={await cinema.token('closed')}"
    assert (await cinema.get(link, "HEAD")).code == 307
    opened = await cinema.get(link)
    assert opened.code == 307
    cookie = opened.headers["set-cookie"].partition(";")[0]
    assert (await cinema.get(link)).code == 404
    assert (await cinema.get(path, Cookie=cookie)).body == CONTENT
    assert (await cinema.get(path, Cookie=cookie, Range="bytes=5-9")).body == CONTENT[5:10]
    assert (await cinema.get(path, Cookie=cookie[:-3] + "abc")).code == 404
    assert (await cinema.get("/presentation/closed/", Cookie=cookie)).code == 404


@pytest_twisted.ensureDeferred
async def test_unpublished_recording_is_not_there(cinema: Cinema) -> None:
    for path in ("/video/hidden/", "/video/hidden/video/webcams.webm", "/recording/hidden/video"):
        answer = await cinema.get(path)
        assert answer.code == 404
        assert b"<h1>Recording Not Found</h1>" in answer.body


ELSEWHERE = [
    "/static-resource/video/closed/video/webcams.webm", "/static-resource/", "/static-resource",
    "/static-resource/../static-resource/video/closed/index.html", "//static-resource/video/closed/index.html",
    "/%73tatic-resource/video/closed/index.html", f"/video/{R}/../closed/video/webcams.webm",
    f"/video/{R}/..%2fclosed/video/webcams.webm", f"/video/{R}/%2e%2e/closed/video/webcams.webm",
    f"/video/{R}/%252e%252e/closed/video/webcams.webm", f"/video/{R}/..%5cclosed/index.html",
    f"/video/{R}//../../closed/index.html", f"/video/{R}/%00", f"/video/{R}/../../../secret",
    f"/video/{R}/%2e%2e/%2e%2e/%2e%2e/secret", f"/video/{R}/....//closed/index.html", "/video/../secret",
    "/playback/presentation/2.3/../../../secret", "/playback/presentation/%2e%2e/%2e%2e/%2e%2e/secret",
    "/playback/presentation/2.3/..%2f..%2f..%2fsecret",
]  # fmt: skip


@pytest_twisted.ensureDeferred
async def test_nothing_is_reached_but_by_its_own_address(cinema: Cinema) -> None:
    put_file(cinema.nginx.recordings, "secret", b"a secret")
    put_file(cinema.nginx.folder, "secret", b"a secret")
    for path in ELSEWHERE:
        answer = await cinema.raw(path)
        assert answer.status in (400, 404) or b"unsupportedRequest" in answer.body, path
        assert not answer.body.startswith((CONTENT[:10], b"<p>page</p>", b"a secret")), path
        assert (await cinema.raw(path, "HEAD")).status == answer.status, path


@pytest_twisted.ensureDeferred
async def test_folder_without_a_slash_is_found(cinema: Cinema) -> None:
    cinema.put("old/index.html", b"<p>old</p>")
    answer = await cinema.get(f"/video/{R}?a=b")
    assert (answer.code, answer.location) == (301, f"/video/{R}/?a=b")
    answer = await cinema.get(f"/video/{R}/old")
    assert (answer.code, answer.location) == (301, f"/video/{R}/old/")
    assert (await cinema.get(f"/video/{R}/old/")).body == b"<p>old</p>"
    cinema.put("files/a.webm")
    assert (await cinema.get(f"/video/{R}/files/")).code in (403, 404)


TYPES = {
    "a.html": "text/html", "a.css": "text/css", "a.js": "application/javascript", "a.mjs": "text/javascript",
    "a.json": "application/json", "a.xml": "text/xml", "a.png": "image/png", "a.jpg": "image/jpeg",
    "a.svg": "image/svg+xml", "a.vtt": "text/vtt", "a.mp4": "video/mp4", "a.webm": "video/webm", "a.ogg": "audio/ogg",
    "a.mp3": "audio/mpeg", "a.pdf": "application/pdf", "a.woff2": "font/woff2", "a.ttf": "font/ttf",
    "a.unheard-of": "application/octet-stream",
}  # fmt: skip


@pytest_twisted.ensureDeferred
async def test_content_type_is_that_of_the_name_whatever_is_accepted(cinema: Cinema) -> None:
    for name, expected in TYPES.items():
        cinema.put(name)
        for accept in ("*/*", "text/html,*/*;q=0.8", "image/png"):
            assert (await cinema.get(f"/video/{R}/{name}", Accept=accept)).headers["content-type"] == expected


@pytest_twisted.ensureDeferred
async def test_names_with_anything_in_them_are_found(cinema: Cinema) -> None:
    for name, path in (("café ?#&.webm", "caf%C3%A9%20%3F%23%26.webm"), ("a%2e.webm", "a%252e.webm"), ("a..b", "a..b")):
        cinema.put(name, name.encode())
        assert (await cinema.get(f"/video/{R}/{path}")).body == name.encode()
        assert (await cinema.get(f"/video/{R}/{path}?t=1&u=..")).body == name.encode()


@pytest_twisted.ensureDeferred
async def test_other_formats_are_saved_and_none_is_kept_by_caches(cinema: Cinema) -> None:
    cinema.put("audio.ogg", playback_format="podcast")
    podcast = await cinema.get(f"/podcast/{R}/audio.ogg")
    assert podcast.headers["content-disposition"] == "attachment"
    assert podcast.headers["cache-control"] == "no-cache"
    video = await cinema.get(f"/video/{R}/video/webcams.webm")
    assert "content-disposition" not in video.headers
    assert "x-frame-options" not in video.headers


@pytest_twisted.ensureDeferred
async def test_links_of_somebody_else_are_not_followed(cinema: Cinema, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to make a file of another owner")
    secret = put_file(tmp_path, "secret", b"a secret")
    link = cinema.put("a.webm").parent / "link"
    link.symlink_to(secret)
    os.lchown(link, 12345, 12345)
    answer = await cinema.get(f"/video/{R}/link")
    assert answer.code in (403, 404)
    assert b"a secret" not in answer.body


@pytest_twisted.ensureDeferred
async def test_file_that_is_missing_is_not_found(cinema: Cinema) -> None:
    assert (await cinema.get(f"/video/{R}/nothing.webm")).code == 404


@pytest_twisted.ensureDeferred
async def test_players_are_there(cinema: Cinema) -> None:
    player = cinema.nginx.recordings / "playback/presentation/2.3"
    put_file(player, "index.html", b"<p>player</p>")
    put_file(player, "static/main.js", b"play()")
    put_file(player.parent, "0.81/playback.html", b"<p>old</p>")
    for path in (R, "", f"{R}?x=1", "static/nothing.js"):
        assert (await cinema.get(f"/playback/presentation/2.3/{path}")).body == b"<p>player</p>"
    assert (await cinema.get("/playback/presentation/2.3/static/main.js")).body == b"play()"
    assert (await cinema.get("/playback/presentation/0.81/playback.html?meetingId=x")).body == b"<p>old</p>"
    former = await cinema.get("/playback/presentation/playback.html?meetingId=x")
    assert (former.code, former.location) == (301, "/playback/presentation/0.81/playback.html?meetingId=x")
    former = await cinema.get("/playback/presentation/2.0/playback.html?meetingId=x")
    assert (former.code, former.location) == (301, "/playback/presentation/2.3/x?meetingId=x")
    video, screen = (f"/playback/video/{R}/a", f"/video/{R}/a"), (f"/recording/screenshare/{R}", f"/screenshare/{R}")
    for path, location in (video, screen):
        moved = await cinema.get(f"{path}?a=b")
        assert (moved.code, moved.location) == (307, location)


@pytest_twisted.ensureDeferred
async def test_former_addresses_add_no_headers_and_lead_nowhere_else(cinema: Cinema) -> None:
    for path in ("x%0d%0aSet-Cookie:a=b", "%2f/evil", "", "//evil.example", "%5cevil"):
        answer = await cinema.raw(f"/playback/video/{path}")
        assert answer.header("Set-Cookie") is None
        assert answer.status == 200 or (answer.header("Location") or "").startswith("/video/evil"), path


@pytest_twisted.ensureDeferred
async def test_api_passes_through_with_host_scheme_and_long_queries(cinema: Cinema) -> None:
    answer = await cinema.get("/bigbluebutton/api/")
    assert answer.returncode == "SUCCESS"
    link = await cinema.get(f"/recording/{R}/video", Host="b.example.com:8080", X_Forwarded_Proto="https")
    # Nobody but a proxy may tell by what scheme a client came.
    assert link.location == f"http://b.example.com:8080/playback/video/2.3/{R}"
    answer = await cinema.get("/bigbluebutton/api/create?welcome=" + "x" * 100_000)
    assert answer.key == "checksumError"
    answer = await cinema.balancer.request(
        "POST", f"http://127.0.0.1:{cinema.nginx.port}/bigbluebutton/api/create", body=b"x" * 5_000_000,
        headers={"Content-Type": "application/xml"},
    )  # fmt: skip
    assert answer.key == "checksumError"


@pytest_twisted.ensureDeferred
async def test_front_ends_get_xml_when_the_program_is_away(tmp_path: Path) -> None:
    with Nginx(tmp_path / "nginx", "scalelite.conf", 1) as nginx:
        (answer,) = await exchange(
            nginx.port, b"GET /bigbluebutton/api/getMeetings HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        assert (answer.status, answer.key) == (200, "internalError")
        assert answer.header("Content-Type") == "text/xml; charset=utf-8"


@pytest_twisted.ensureDeferred
async def test_proxy_in_front_tells_scheme_and_host(tmp_path: Path, sqlite_url: str) -> None:
    async with cinema_with(tmp_path, sqlite_url, "scalelite-behind-proxy.conf") as cinema:
        await cinema.add("closed", protected=True)
        link = f"/recording/closed/video?token={await cinema.token('closed')}"
        answer = await cinema.get(link, X_Forwarded_Proto="https", X_Forwarded_Host="b.example.com")
        assert answer.location == "https://b.example.com/playback/video/2.3/closed"
        assert "; secure; httponly; samesite=none" in answer.headers["set-cookie"]


@pytest_twisted.ensureDeferred
async def test_players_alone_are_there_without_the_program(tmp_path: Path) -> None:
    with Nginx(tmp_path / "nginx", "scalelite-recordings-only.conf", 1) as nginx:
        put_file(nginx.recordings, "playback/presentation/2.3/index.html", b"<p>player</p>")
        put_file(nginx.published, f"video/{R}/index.html", b"<p>page</p>")
        line = "GET {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        expected = (
            (f"/playback/presentation/2.3/{R}", 200), (f"/static-resource/video/{R}/index.html", 404),
            (f"/video/{R}/index.html", 404), ("/bigbluebutton/api", 404), (f"/playback/video/{R}", 307),
        )  # fmt: skip
        for path, status in expected:
            (answer,) = await exchange(nginx.port, line.format(path).encode())
            assert answer.status == status, path


@pytest_twisted.ensureDeferred
async def test_https_gets_secure_links_and_cookies(tmp_path: Path, sqlite_url: str) -> None:
    async with cinema_with(tmp_path, sqlite_url, "scalelite-ssl.conf") as cinema:
        await cinema.add("closed", protected=True)
        path = f"/recording/closed/video?token={await cinema.token('closed')}"
        plain = await cinema.get(path, Host="b.example.com")
        assert (plain.code, plain.location) == (301, f"https://b.example.com{path}")

        def fetch() -> http.client.HTTPResponse:
            context = ssl.create_default_context(cafile=str(cinema.nginx.folder / "fullchain.pem"))
            connection = http.client.HTTPSConnection("localhost", cinema.nginx.tls_port, context=context, timeout=20)
            try:
                connection.request("GET", path, headers={"Host": "b.example.com"})
                return connection.getresponse()
            finally:
                connection.close()

        answer = await deferToThread(fetch)
        assert answer.status == 307
        assert answer.headers["Location"] == "https://b.example.com/playback/video/2.3/closed"
        assert answer.headers["Set-Cookie"].endswith("path=/video/closed; secure; httponly; samesite=none")


@pytest_twisted.ensureDeferred
async def test_upload_of_any_size_goes_through(tmp_path: Path, sqlite_url: str) -> None:
    content = bytes(70 * 1024 * 1024)  # more than other bodies may have
    spool = tmp_path / "spool"
    async with cinema_with(
        tmp_path, sqlite_url, "scalelite.conf", upload_enabled=True, recording_spool_dir=spool
    ) as cinema:
        await cinema.balancer.parts.servers.add("s7", "https://bbb7.example.com/bigbluebutton/api", "of seven")
        token = "Bearer " + sign(claims(content, R, "s7"), "of seven")
        base = {"Tus-Resumable": "1.0.0", "Authorization": token}
        place = f"http://127.0.0.1:{cinema.nginx.port}/scalelite/uploads"
        begun = await cinema.balancer.request("POST", place, headers={**base, "Upload-Length": str(len(content))})
        assert begun.code == 201, begun
        path = begun.location.partition("/scalelite/uploads")[2]
        piece = {**base, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        done = await cinema.balancer.request("PATCH", place + path, body=content, headers=piece)
        assert done.code == 204, done
        assert (spool / f"{R}.tar").stat().st_size == len(content)
