"""Playback over HTTP: who is sent to a player, who gets a file, and what everybody else sees."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import pytest_twisted
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from scalelite.recordings.database import Database, DatabaseUnavailable
from tests.api.support import add_tenant, exchange, running
from tests.balancer import Answer, Balancer
from tests.recordings.playable import add_recording

R = "0f3c9d-1609459200123"
TOKEN = "5a" * 32


@attrs.frozen
class Cinema:
    """A balancer with recordings."""

    balancer: Balancer

    @property
    def database(self) -> Database:
        assert self.balancer.parts.archive is not None
        return self.balancer.parts.archive.database

    async def add(self, record_id: str = R, *formats: str, **options: Any) -> None:
        urls = {name: f"/playback/{name}/2.3/{record_id}" for name in formats or ("presentation", "video", "podcast")}
        await self.database.run(lambda connection: add_recording(connection, record_id, urls, **options))

    async def token(self, record_id: str = R, playback_format: str = "presentation") -> str:
        value = json.dumps({"record_id": record_id, "format": playback_format})
        await self.balancer.redis("SET", self.balancer.key(f"protector_token_{TOKEN}"), value, "EX", "60")
        return TOKEN

    async def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        url = f"http://127.0.0.1:{self.balancer.port}{path}"
        return await self.balancer.request(method, url, headers={k.replace("_", "-"): v for k, v in headers.items()})

    async def ticket(self, playback_format: str = "presentation", record_id: str = R) -> str:
        """The cookie for a protected recording, as a browser sends it back."""
        token = await self.token(record_id, playback_format)
        answer = await self.get(f"/recording/{record_id}/{playback_format}?token={token}")
        return answer.headers["set-cookie"].partition(";")[0]


@asynccontextmanager
async def cinema_with(**settings: Any) -> AsyncIterator[Cinema]:
    async with running(**{"serve_recordings": False, "protected_recordings_enabled": True, **settings}) as balancer:
        yield Cinema(balancer)


@pytest_twisted.async_yield_fixture()
async def cinema(sqlite_url: str) -> AsyncIterator[Cinema]:
    async with cinema_with(database_url=sqlite_url) as cinema:
        yield cinema


def is_page(answer: Answer, title: str = "Recording Not Found") -> bool:
    return (
        answer.headers["content-type"] == "text/html; charset=utf-8"
        and f"<h1>{title}</h1>".encode() in answer.body
        and b"Traceback" not in answer.body
    )


@pytest_twisted.ensureDeferred
async def test_link_to_a_recording_leads_to_its_player(cinema: Cinema) -> None:
    await cinema.add()
    answer = await cinema.get(f"/recording/{R}/video", Host="b.example.com", X_Forwarded_Proto="https")
    assert (answer.code, answer.body) == (307, b"")
    assert answer.location == f"https://b.example.com/playback/video/2.3/{R}"
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("locator", ["", "?x=1&y=%C3%A4", "#part"])
@pytest_twisted.ensureDeferred
async def test_query_of_the_player_is_kept(cinema: Cinema, locator: str) -> None:
    url = f"/playback/presentation/0.81/playback.html{locator}"
    await cinema.database.run(lambda connection: add_recording(connection, R, {"presentation": url}))
    assert (await cinema.get(f"/recording/{R}/presentation/")).location.endswith(url)


@pytest_twisted.ensureDeferred
async def test_stored_address_cannot_add_headers(cinema: Cinema) -> None:
    url = "/playback\r\nSet-Cookie: a=b\x00 ü"
    await cinema.database.run(lambda connection: add_recording(connection, R, {"video": url}))
    answer = await cinema.get(f"/recording/{R}/video")
    assert answer.location.endswith("/playback%0D%0ASet-Cookie:%20a=b%00%20%C3%BC")
    assert "set-cookie" not in answer.headers


@pytest_twisted.ensureDeferred
async def test_recording_without_an_address_is_not_found(cinema: Cinema) -> None:
    await cinema.database.run(lambda connection: add_recording(connection, R, {"video": None}))
    answer = await cinema.get(f"/recording/{R}/video")
    assert answer.code == 404
    assert is_page(answer)


@pytest.mark.parametrize("path", [f"/recording/{R}/video", f"/video/{R}", f"/video/{R}/", f"/video/{R}/a.webm"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("state", ["unknown", "unpublished", "other format", "deleted"])
@pytest_twisted.ensureDeferred
async def test_what_is_not_published_is_not_found(cinema: Cinema, path: str, method: str, state: str) -> None:
    if state == "unpublished":
        await cinema.add(published=False)
    elif state == "other format":
        await cinema.add(R, "presentation")
    elif state == "deleted":
        await cinema.database.run(lambda connection: add_recording(connection, R, {}))
    answer = await cinema.get(path, method)
    assert answer.code == 404
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert method == "HEAD" or is_page(answer)


@pytest_twisted.ensureDeferred
async def test_page_says_what_scalelite_says(cinema: Cinema) -> None:
    page = (await cinema.get(f"/recording/{R}/video")).body.decode()
    assert "<title>Recording Not Found</title>" in page
    text = "The recording URL is invalid. This recording may have been either protected or deleted."
    assert f"<h3>{text}</h3>" in page


@pytest.mark.parametrize(
    "path",
    [
        "/recording/a.b/video", f"/recording/{R}/video.html", f"/recording/{R}", "/recording/", f"/recording/{R}/a/b",
        f"/recording//{R}/video", "/video/a.b", "/video/a.b/c.webm", "/video/", f"/notplayed/{R}/x", "/video",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest_twisted.ensureDeferred
async def test_what_is_no_route_is_unsupported(cinema: Cinema, path: str, method: str) -> None:
    answer = await cinema.get(path, method)
    assert answer.code == 200
    assert method == "HEAD" or answer.key == "unsupportedRequest"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("path", [f"/recording/{R}/video", f"/video/{R}/a.webm"])
@pytest_twisted.ensureDeferred
async def test_other_methods_are_unsupported(cinema: Cinema, method: str, path: str) -> None:
    await cinema.add()
    answer = await cinema.get(path, method)
    assert (answer.code, answer.key) == (200, "unsupportedRequest")


@pytest.mark.parametrize("record_id", ["a b", "a%00b", "%27 OR 1=1", "ä", "a%25", "a%2Fb", "%2e%2e", "a" * 300, "a_"])
@pytest.mark.parametrize("path", ["/recording/{}/video", "/video/{}/x.webm"])
@pytest_twisted.ensureDeferred
async def test_ids_that_no_recording_has_are_not_found(cinema: Cinema, record_id: str, path: str) -> None:
    await cinema.add("ab", "video")
    line = path.format(record_id).replace(" ", "%20").replace("ä", "%C3%A4")
    answer = await cinema.get(line)
    assert answer.code == 404
    assert is_page(answer)


# Files


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest_twisted.ensureDeferred
async def test_nginx_is_told_which_file_to_send(cinema: Cinema, method: str) -> None:
    await cinema.add()
    answer = await cinema.get(f"/presentation/{R}/video/caf%C3%A9%20%3F.webm?v=1&x=..", method)
    assert (answer.code, answer.body) == (200, b"")
    target = f"/static-resource/presentation/{R}/video/caf%C3%A9%20%3F.webm?v=1&x=.."
    assert answer.headers["x-accel-redirect"] == target
    assert answer.headers["cache-control"] == "no-cache"
    # nginx finds out the type by the name, and other sites show players in their frames.
    assert "content-type" not in answer.headers
    assert "x-frame-options" not in answer.headers
    assert "content-disposition" not in answer.headers


@pytest.mark.parametrize(
    ("playback_format", "saved"),
    [
        ("presentation", False), ("video", False), ("screenshare", False),
        ("podcast", True), ("notes", True), ("capture", True),
    ],
)  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_files_that_browsers_do_not_show_are_saved(cinema: Cinema, playback_format: str, saved: bool) -> None:
    await cinema.add(R, playback_format)
    answer = await cinema.get(f"/{playback_format}/{R}/file.bin")
    assert (answer.headers.get("content-disposition") == "attachment") is saved


@pytest_twisted.ensureDeferred
async def test_folder_without_a_slash_leads_to_the_one_with_it(cinema: Cinema) -> None:
    await cinema.add()
    answer = await cinema.get(f"/video/{R}?a=b")
    assert (answer.code, answer.location) == (301, f"/video/{R}/?a=b")
    assert (await cinema.get(f"/video/{R}/")).headers["x-accel-redirect"] == f"/static-resource/video/{R}/"


@pytest.mark.parametrize(
    "rest",
    [
        "../x", "a/../x", "..", "a/..", ".", "./a", "a/./b", "%2e%2e/x", "%2E%2E%2Fx", ".%2e/x", "a/%2e%2e/b", "a%2Fb",
        "a%2f..%2fb", "a\\b", "..\\x", "%5c..%5cx", "a%5Cb", "a%00b", "%00", "a%0ab", "a%0D%0AX:y", "a//b", "/a", "//",
        "a%", "a%zz", "a%2", "a%7f", "x" * 5000,
    ],
)  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_paths_that_could_lead_elsewhere_are_not_found(cinema: Cinema, rest: str) -> None:
    await cinema.add()
    target = f"GET /video/{R}/{rest} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    (answer,) = await exchange(cinema.balancer.port, target.encode())
    assert answer.status == 404
    assert b"<h1>Recording Not Found</h1>" in answer.body
    assert answer.header("X-Accel-Redirect") is None


@pytest.mark.parametrize("path", ["/../etc", "/%2e%2e/x", f"/{R}/../../x", f"/x/../{R}/a"])
@pytest_twisted.ensureDeferred
async def test_recordings_cannot_be_left_by_their_own_name(cinema: Cinema, path: str) -> None:
    await cinema.add()
    (answer,) = await exchange(
        cinema.balancer.port, f"GET /video{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    )
    assert answer.header("X-Accel-Redirect") is None


@pytest_twisted.ensureDeferred
async def test_name_that_is_encoded_twice_is_a_name(cinema: Cinema) -> None:
    await cinema.add()
    answer = await cinema.get(f"/video/{R}/%252e%252e/x")
    assert answer.headers["x-accel-redirect"] == f"/static-resource/video/{R}/%252e%252e/x"


@pytest_twisted.ensureDeferred
async def test_long_query_is_not_handed_on(cinema: Cinema) -> None:
    await cinema.add()
    answer = await cinema.get(f"/video/{R}/a.webm?{'x' * 2000}")
    assert answer.headers["x-accel-redirect"] == f"/static-resource/video/{R}/a.webm"


# Protection


@pytest_twisted.ensureDeferred
async def test_token_opens_a_protected_recording_once(cinema: Cinema) -> None:
    await cinema.add(protected=True)
    token = await cinema.token()
    answer = await cinema.get(f"/recording/{R}/presentation?token={token}", X_Forwarded_Proto="https", Host="h")
    assert (answer.code, answer.location) == (307, f"https://h/playback/presentation/2.3/{R}")
    assert answer.headers["cache-control"] == "no-store"
    cookie, *attributes = answer.headers["set-cookie"].split("; ")
    assert cookie.startswith(f"recording_presentation_{R}=ey")
    assert attributes == [f"path=/presentation/{R}", "secure", "httponly", "samesite=none"]

    again = await cinema.get(f"/recording/{R}/presentation?token={token}")
    assert again.code == 404
    assert "set-cookie" not in again.headers


@pytest_twisted.ensureDeferred
async def test_cookie_opens_the_files_of_its_recording_only(cinema: Cinema) -> None:
    await cinema.add(protected=True)
    await cinema.add("other", protected=True)
    cookie = await cinema.ticket()
    assert (await cinema.get(f"/presentation/{R}/a.webm", Cookie=cookie)).code == 200
    assert (await cinema.get(f"/presentation/{R}/a.webm", Cookie=f"a=b; {cookie}; c=d")).code == 200
    assert (await cinema.get(f"/presentation/{R}/a.webm")).code == 404
    assert (await cinema.get(f"/video/{R}/a.webm", Cookie=cookie)).code == 404
    assert (await cinema.get("/presentation/other/a.webm", Cookie=cookie)).code == 404
    renamed = cookie.replace(R, "other", 1)
    assert (await cinema.get("/presentation/other/a.webm", Cookie=renamed)).code == 404


@pytest.mark.parametrize("query", ["", "?token=", "?token=" + "0" * 64, "?token=x", "?token=%zz", "?tokens=" + TOKEN])
@pytest_twisted.ensureDeferred
async def test_protected_recording_needs_a_good_token(cinema: Cinema, query: str) -> None:
    await cinema.add(protected=True)
    await cinema.token()
    answer = await cinema.get(f"/recording/{R}/presentation{query}")
    assert answer.code == 404
    assert is_page(answer)
    assert "set-cookie" not in answer.headers


@pytest_twisted.ensureDeferred
async def test_token_for_something_else_is_refused_and_not_spent(cinema: Cinema) -> None:
    await cinema.add(protected=True)
    token = await cinema.token()
    assert (await cinema.get(f"/recording/{R}/video?token={token}")).code == 404
    assert (await cinema.get(f"/recording/{R}/presentation?token={token}")).code == 307


@pytest_twisted.ensureDeferred
async def test_head_tells_whether_the_link_is_good_and_does_not_spend_it(cinema: Cinema) -> None:
    await cinema.add(protected=True)
    token = await cinema.token()
    looked = await cinema.get(f"/recording/{R}/presentation?token={token}", "HEAD")
    assert looked.code == 307
    assert "set-cookie" not in looked.headers
    assert (await cinema.get(f"/recording/{R}/presentation?token={'0' * 64}", "HEAD")).code == 404
    assert (await cinema.get(f"/recording/{R}/presentation?token={token}")).code == 307


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Sec-Purpose", "prefetch"), ("Sec-Purpose", "prefetch;prerender"), ("Purpose", "prefetch"),
        ("X-Purpose", "preview"), ("X-Moz", "prefetch"), ("Purpose", "Prefetch"),
    ],
)  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_fetching_ahead_does_not_spend_a_token(cinema: Cinema, name: str, value: str) -> None:
    await cinema.add(protected=True)
    token = await cinema.token()
    ahead = await cinema.get(f"/recording/{R}/presentation?token={token}", **{name: value})
    # No success, or the browser would show it later without asking again.
    assert (ahead.code, ahead.headers["cache-control"]) == (503, "no-store")
    assert "set-cookie" not in ahead.headers
    assert (await cinema.get(f"/recording/{R}/presentation?token={token}")).code == 307


@pytest_twisted.ensureDeferred
async def test_fetching_an_open_recording_ahead_is_fine(cinema: Cinema) -> None:
    await cinema.add()
    assert (await cinema.get(f"/recording/{R}/video", Sec_Purpose="prefetch")).code == 307


@pytest_twisted.ensureDeferred
async def test_without_the_feature_links_need_a_token_and_files_do_not(sqlite_url: str) -> None:
    async with cinema_with(database_url=sqlite_url, protected_recordings_enabled=False) as cinema:
        await cinema.add(protected=True)
        assert (await cinema.get(f"/presentation/{R}/a.webm")).code == 200
        assert (await cinema.get(f"/recording/{R}/presentation")).code == 404
        token = await cinema.token()
        assert (await cinema.get(f"/recording/{R}/presentation?token={token}")).code == 307


@pytest_twisted.ensureDeferred
async def test_old_browsers_get_a_cookie_that_they_understand(cinema: Cinema) -> None:
    await cinema.add(protected=True)
    agent = "Mozilla/5.0 (iPhone; CPU iPhone OS 12_5_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
    path = f"/recording/{R}/presentation?token={await cinema.token()}"
    answer = await cinema.get(path, X_Forwarded_Proto="https", User_Agent=agent)
    assert answer.code == 307
    assert "samesite" not in answer.headers["set-cookie"]
    assert "; secure" in answer.headers["set-cookie"]


@pytest_twisted.ensureDeferred
async def test_without_https_only_production_says_secure(sqlite_url: str) -> None:
    production = {"environment": "production", "url_host": None, "serve_recordings": False}
    for options, expected in (({}, False), (production, True)):
        async with cinema_with(database_url=sqlite_url, **options) as cinema:
            await cinema.add(f"r-{expected}", protected=True)
            token = await cinema.token(f"r-{expected}")
            answer = await cinema.get(f"/recording/r-{expected}/presentation?token={token}")
            assert ("; secure" in answer.headers["set-cookie"]) is expected
            assert ("; samesite=none" in answer.headers["set-cookie"]) is expected


# Tenants


@pytest_twisted.ensureDeferred
async def test_tenant_sees_its_own_recordings_only(sqlite_url: str) -> None:
    async with cinema_with(database_url=sqlite_url, multitenancy_enabled=True) as cinema:
        one = await add_tenant(cinema.balancer, "one", secrets="a")
        await add_tenant(cinema.balancer, "two", secrets="b")
        await cinema.add(tenant_id=one)
        await cinema.add("nobodys")
        for path in (f"/recording/{R}/video", f"/video/{R}/a.webm"):
            assert (await cinema.get(path, Host="one.example.com")).code in (200, 307)
            assert (await cinema.get(path, Host="two.example.com")).code == 404
            unknown = await cinema.get(path, Host="three.example.com")
            assert (unknown.code, unknown.key) == (200, "checksumError")
        assert (await cinema.get("/video/nobodys/a.webm", Host="one.example.com")).code == 404


# CloudFront


@pytest_twisted.ensureDeferred
async def test_pages_are_played_by_cloudfront_and_what_is_no_page_is_not(sqlite_url: str) -> None:
    key = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    settings = {"cf_key_pair_id": "K1", "cf_private_key_b64": base64.b64encode(key).decode()}
    async with cinema_with(database_url=sqlite_url, cloudfront_url="https://cdn.example.com", **settings) as cinema:
        await cinema.add(protected=True)
        cookie = await cinema.ticket()
        for path in ("", "/", "/index.html", "/deep/er.html?x=1"):
            answer = await cinema.get(f"/presentation/{R}{path}", Host="b.example.com", Cookie=cookie)
            assert answer.code == 307
            assert answer.location == f"https://cdn.example.com/published/presentation/{R}/index.html"
            assert answer.headers["set-cookie"].startswith("CloudFront-Key-Pair-Id=K1; domain=.example.com; path=/;")
        answer = await cinema.get(f"/presentation/{R}/a.webm", Cookie=cookie)
        assert "x-accel-redirect" in answer.headers
        assert (await cinema.get(f"/presentation/{R}/")).code == 404


# Trouble


@pytest_twisted.ensureDeferred
async def test_what_has_been_looked_up_is_played_on_without_a_database(
    cinema: Cinema, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cinema.add()
    await cinema.add("unknown-yet")
    assert (await cinema.get(f"/video/{R}/a.webm")).code == 200

    async def down(work: Any) -> Any:
        raise DatabaseUnavailable("it is down")

    monkeypatch.setattr(cinema.database, "run", down)
    assert (await cinema.get(f"/video/{R}/a.webm")).code == 200
    for path in ("/video/unknown-yet/a.webm", "/recording/unknown-yet/video"):
        answer = await cinema.get(path)
        assert answer.code == 503
        assert is_page(answer, "Temporarily Unavailable")
        assert (answer.headers["cache-control"], answer.headers["retry-after"]) == ("no-store", "10")


@pytest_twisted.ensureDeferred
async def test_without_redis_open_recordings_play_and_protected_links_wait(cinema: Cinema) -> None:
    await cinema.add()
    await cinema.add("closed", protected=True)
    cookie = await cinema.ticket(record_id="closed")
    await cinema.balancer.parts.redis.close()
    assert (await cinema.get(f"/recording/{R}/video")).code == 307
    assert (await cinema.get(f"/video/{R}/a.webm")).code == 200
    assert (await cinema.get("/presentation/closed/a.webm", Cookie=cookie)).code == 200
    answer = await cinema.get(f"/recording/closed/presentation?token={TOKEN}")
    assert answer.code == 503
    assert is_page(answer, "Temporarily Unavailable")


@pytest.mark.parametrize("options", [{"recording_disabled": True}, {"db_disabled": True}])
@pytest_twisted.ensureDeferred
async def test_without_recordings_there_are_no_routes(sqlite_url: str, options: dict[str, Any]) -> None:
    async with cinema_with(database_url=sqlite_url, **options) as cinema:
        for path in (f"/recording/{R}/video", f"/video/{R}/a.webm"):
            answer = await cinema.get(path)
            assert (answer.code, answer.key) == (200, "unsupportedRequest")


@pytest.mark.parametrize(
    ("locale", "language", "title"),
    [
        ("de", "de", "Aufzeichnung nicht gefunden"), ("pt-BR", "pt-BR", "Gravação não encontrada"),
        ("pt_br", "pt-BR", "Gravação não encontrada"), ("fr-CA", "fr", "Enregistrement introuvable"),
        ("xx", "en", "Recording Not Found"), ("EN", "en", "Recording Not Found"),
    ],
)  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_page_speaks_the_default_locale(sqlite_url: str, locale: str, language: str, title: str) -> None:
    async with cinema_with(database_url=sqlite_url, default_locale=locale) as cinema:
        answer = await cinema.get(f"/recording/{R}/video")
        assert f'<html lang="{language}">' in answer.body.decode()
        assert f"<h1>{title}</h1>" in answer.body.decode()


@pytest_twisted.ensureDeferred
async def test_formats_are_those_of_the_settings(sqlite_url: str) -> None:
    async with cinema_with(database_url=sqlite_url, recording_playback_formats=("slides",)) as cinema:
        await cinema.add(R, "slides", "video")
        assert (await cinema.get(f"/slides/{R}/a.webm")).code == 200
        assert (await cinema.get(f"/video/{R}/a.webm")).key == "unsupportedRequest"
        assert (await cinema.get(f"/recording/{R}/video")).code == 307
