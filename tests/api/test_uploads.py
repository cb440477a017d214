"""Recordings sent by HTTPS: the protocol, resumption, refusals, limits, slow and broken clients."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.task import deferLater

from scalelite.api import uploads
from scalelite.recordings.uploads import FOLDER
from tests.api.support import RawAnswer, connect, responses, running
from tests.balancer import Answer, Balancer
from tests.integration.redis_server import eventually
from tests.recordings.uploading import claims, sign

reactor: Any = _reactor
R = "0f3c9d-1609459200123"
CONTENT = bytes(range(256)) * 4096  # one MiB
TUS = {"Tus-Resumable": "1.0.0"}
CHUNK = {**TUS, "Content-Type": "application/offset+octet-stream"}


@attrs.frozen
class Door:
    """A balancer that takes uploads into `spool`, and knows the server s7."""

    balancer: Balancer
    spool: Path

    def token(self, content: bytes = CONTENT, record_id: str = R, *, secret: str = "of seven", **changes: Any) -> str:
        return "Bearer " + sign(claims(content, record_id, "s7", **changes), secret)

    async def call(
        self, method: str, path: str, body: bytes | None = None, *, token: str | None = None, **headers: str
    ) -> Answer:
        authorization = {"Authorization": self.token() if token is None else token}
        sent = {**CHUNK, **authorization, **{name.replace("_", "-"): value for name, value in headers.items()}}
        url = f"http://127.0.0.1:{self.balancer.port}{path}"
        return await self.balancer.request(method, url, body=body, headers={k: v for k, v in sent.items() if v})

    async def create(self, content: bytes = CONTENT, record_id: str = R) -> str:
        """Begin an upload; its path."""
        answer = await self.call(
            "POST", uploads.PATH, token=self.token(content, record_id), Upload_Length=str(len(content))
        )
        assert answer.code == 201, answer
        return answer.location

    async def append(self, path: str, offset: int, data: bytes, **changes: Any) -> Answer:
        return await self.call("PATCH", path, data, Upload_Offset=str(offset), **changes)

    async def offset(self, path: str) -> int:
        answer = await self.call("HEAD", path)
        assert (answer.code, answer.headers["cache-control"]) == (200, "no-store")
        assert answer.headers["upload-length"] == str(len(CONTENT))
        return int(answer.headers["upload-offset"])

    async def raw(self, path: str, offset: int, length: int, data: bytes) -> Any:
        """A PATCH that announces `length` bytes and sends `data`; its connection."""
        peer = await connect(self.balancer.port)
        lines = [
            f"PATCH {path} HTTP/1.1",
            "Host: x",
            f"Content-Length: {length}",
            f"Upload-Offset: {offset}",
            f"Authorization: {self.token()}",
            *(f"{name}: {value}" for name, value in CHUNK.items()),
        ]
        peer.transport.write("\r\n".join((*lines, "", "")).encode() + data)
        return peer

    @property
    def tars(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.spool.glob("*") if path.is_file()}

    @property
    def parts(self) -> list[Path]:
        return list((self.spool / FOLDER).glob("*.part"))


def problem(answer: Answer) -> str:
    """What a refusal says."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["tus-resumable"] == "1.0.0"
    return str(json.loads(answer.body)["error"])


@pytest_twisted.async_yield_fixture()
async def door(sqlite_url: str, tmp_path: Path) -> AsyncIterator[Door]:
    settings = {"upload_enabled": True, "recording_spool_dir": tmp_path / "spool", "max_body_size": 10_000}
    async with running(database_url=sqlite_url, **settings) as balancer:
        await balancer.parts.servers.add("s7", "https://bbb7.example.com/bigbluebutton/api", "of seven")
        yield Door(balancer, tmp_path / "spool")


@pytest_twisted.ensureDeferred
async def test_tar_that_is_sent_in_pieces_gets_into_the_spool_when_it_is_complete(door: Door) -> None:
    path = await door.create()
    for start in range(0, len(CONTENT), 300_000):
        assert door.tars == {}
        assert await door.offset(path) == start
        answer = await door.append(path, start, CONTENT[start : start + 300_000])
        end = min(len(CONTENT), start + 300_000)
        assert (answer.code, answer.body, answer.headers["upload-offset"]) == (204, b"", str(end))
    assert door.tars == {f"{R}.tar": CONTENT}
    assert door.parts == []
    assert await door.offset(path) == len(CONTENT)
    assert (door.spool / f"{R}.tar").stat().st_mode & 0o777 == 0o664


@pytest_twisted.ensureDeferred
async def test_whole_tar_fits_into_one_request_however_small_other_bodies_must_be(door: Door) -> None:
    answer = await door.append(await door.create(), 0, CONTENT)
    assert answer.code == 204
    assert door.tars == {f"{R}.tar": CONTENT}


@pytest_twisted.ensureDeferred
async def test_repeated_creation_finds_what_is_there_already(door: Door) -> None:
    path = await door.create()
    await door.append(path, 0, CONTENT[:1000])
    again = await door.call("POST", uploads.PATH, Upload_Length=str(len(CONTENT)))
    assert (again.code, again.location, again.headers["upload-offset"]) == (201, path, "1000")


@pytest_twisted.ensureDeferred
async def test_tar_that_was_imported_can_be_sent_again(door: Door) -> None:
    path = await door.create()
    await door.append(path, 0, CONTENT)
    (door.spool / f"{R}.tar").unlink()
    again = await door.call("POST", uploads.PATH, Upload_Length=str(len(CONTENT)))
    assert again.headers["upload-offset"] == "0"
    await door.append(path, 0, CONTENT)
    assert door.tars == {f"{R}.tar": CONTENT}


@pytest_twisted.ensureDeferred
async def test_newer_tar_takes_the_place_of_one_that_waits(door: Door) -> None:
    await door.append(await door.create(), 0, CONTENT)
    newer = b"newer"
    path = await door.create(newer)
    assert (await door.append(path, 0, newer, token=door.token(newer))).code == 204
    assert door.tars == {f"{R}.tar": newer}


@pytest_twisted.ensureDeferred
async def test_upload_that_is_cut_off_goes_on_where_it_ended(door: Door) -> None:
    path = await door.create()
    peer = await door.raw(path, 0, len(CONTENT), CONTENT[:400_000])

    async def there() -> bool | None:
        return (door.parts and door.parts[0].stat().st_size == 400_000) or None

    await eventually(there)
    peer.transport.abortConnection()
    await peer.closed

    async def resumed() -> Answer | None:
        answer = await door.append(path, 400_000, CONTENT[400_000:])
        return None if answer.code == 423 else answer

    assert (await eventually(resumed)).code == 204
    assert door.tars == {f"{R}.tar": CONTENT}


@pytest_twisted.ensureDeferred
async def test_two_requests_never_write_to_one_upload(door: Door) -> None:
    path = await door.create()
    peer = await door.raw(path, 0, len(CONTENT), CONTENT[:5000])

    async def writing() -> bool | None:
        return door.parts[0].stat().st_size == 5000 or None

    await eventually(writing)
    second = await door.append(path, 5000, CONTENT[5000:])
    assert (second.code, second.headers["retry-after"]) == (423, "5")
    peer.transport.write(CONTENT[5000:])

    async def complete() -> bool | None:
        return bool(door.tars) or None

    await eventually(complete)
    peer.transport.loseConnection()
    await peer.closed
    assert [answer.status for answer in responses(peer.data)] == [204]
    assert door.tars == {f"{R}.tar": CONTENT}


@pytest_twisted.ensureDeferred
async def test_connection_serves_on_after_a_piece(door: Door) -> None:
    path = await door.create()
    peer = await door.raw(path, 0, 5000, CONTENT[:5000])
    peer.transport.write(b"GET /bigbluebutton/api HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    await peer.closed
    assert [answer.status for answer in responses(peer.data)] == [204, 200]


@pytest.mark.parametrize("offset", [0, 999, 1001])
@pytest_twisted.ensureDeferred
async def test_wrong_offset_is_a_conflict_and_changes_nothing(door: Door, offset: int) -> None:
    path = await door.create()
    await door.append(path, 0, CONTENT[:1000])
    assert problem(await door.append(path, offset, b"x")) == "the upload goes on at 1000"
    assert await door.offset(path) == 1000


@pytest_twisted.ensureDeferred
async def test_content_that_is_not_the_announced_one_is_thrown_away(door: Door) -> None:
    path = await door.create()
    await door.append(path, 0, CONTENT[:1000])
    answer = await door.append(path, 1000, b"x" * (len(CONTENT) - 1000))
    assert (answer.code, problem(answer)) == (422, "what has come is not what was announced; send it again")
    assert (door.tars, door.parts) == ({}, [])
    assert (await door.call("HEAD", path)).code == 404
    assert (await door.append(path, 0, CONTENT)).code == 404
    assert (await door.append(await door.create(), 0, CONTENT)).code == 204


@pytest_twisted.ensureDeferred
async def test_more_than_was_announced_is_refused(door: Door) -> None:
    path = await door.create()
    answer = await door.append(path, 1000, CONTENT)
    assert (answer.code, problem(answer)) == (413, f"more than {len(CONTENT)} bytes")
    assert await door.offset(path) == 0


@pytest_twisted.ensureDeferred
async def test_tar_over_the_limit_is_refused_before_it_is_sent(sqlite_url: str, tmp_path: Path) -> None:
    settings = {"upload_enabled": True, "recording_spool_dir": tmp_path, "upload_max_size": 2000}
    async with running(database_url=sqlite_url, **settings) as balancer:
        await balancer.parts.servers.add("s7", "https://bbb7.example.com", "of seven")
        answer = await Door(balancer, tmp_path).call("POST", uploads.PATH, Upload_Length=str(len(CONTENT)))
        assert (answer.code, problem(answer)) == (413, "a recording may have 2000 bytes at most")


@pytest.mark.parametrize(
    ("method", "headers", "code"),
    [
        ("POST", {"Upload_Length": "5"}, 400),
        ("POST", {"Upload_Length": ""}, 400),
        ("POST", {"Upload_Length": "", "Upload_Defer_Length": "1"}, 400),
        ("POST", {"Upload_Length": str(len(CONTENT)), "Tus_Resumable": "0.2.2"}, 412),
        ("POST", {"Upload_Length": str(len(CONTENT)), "Tus_Resumable": ""}, 412),
        ("HEAD", {"Tus_Resumable": ""}, 412),
        ("PATCH", {"Upload_Offset": "0", "Tus_Resumable": ""}, 412),
        ("PATCH", {"Upload_Offset": "0", "Content_Type": "application/octet-stream"}, 415),
        ("PATCH", {"Upload_Offset": "-1"}, 400),
        ("PATCH", {"Upload_Offset": ""}, 400),
        ("GET", {}, 405),
    ],
)
@pytest_twisted.ensureDeferred
async def test_requests_that_are_not_of_the_protocol_are_refused(
    door: Door, method: str, headers: dict[str, str], code: int
) -> None:
    path = await door.create()
    body = CONTENT[:5] if method == "PATCH" else None
    answer = await door.call(method, uploads.PATH if method == "POST" else path, body, **headers)
    assert answer.code == code
    if code == 412:
        assert answer.headers["tus-version"] == "1.0.0"
    if method != "HEAD":
        problem(answer)


@pytest_twisted.ensureDeferred
async def test_options_tell_what_is_understood(door: Door) -> None:
    answer = await door.call("OPTIONS", uploads.PATH, token="", Tus_Resumable="")
    assert (answer.code, answer.headers["tus-version"], answer.headers["tus-extension"]) == (204, "1.0.0", "creation")
    assert answer.headers["tus-max-size"] == str(door.balancer.settings.upload_max_size)


@pytest_twisted.ensureDeferred
async def test_post_may_name_the_method_where_proxies_let_few_pass(door: Door) -> None:
    path = await door.create()
    half = len(CONTENT) // 2
    for start in (0, half):
        answer = await door.call(
            "POST", path, CONTENT[start : start + half], Upload_Offset=str(start), X_HTTP_Method_Override="PATCH"
        )
        assert answer.code == 204
    assert door.tars == {f"{R}.tar": CONTENT}


@pytest.mark.parametrize("method", ["POST", "HEAD", "PATCH"])
@pytest_twisted.ensureDeferred
async def test_nothing_is_taken_or_told_without_a_token_of_a_server(door: Door, method: str) -> None:
    path = uploads.PATH if method == "POST" else await door.create()
    for token in ("", "Basic eDp5", door.token(secret="guessed"), door.token(iss="s8"), door.token(exp=1000, iat=10)):
        body = CONTENT if method == "PATCH" else None
        answer = await door.call(method, path, body, token=token, Upload_Offset="0", Upload_Length=str(len(CONTENT)))
        assert (answer.code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert all(part.stat().st_size == 0 for part in door.parts)


@pytest_twisted.ensureDeferred
async def test_token_opens_its_own_upload_only(door: Door) -> None:
    path = await door.create()
    for token in (door.token(b"other"), door.token(record_id="other")):
        answer = await door.append(path, 0, b"other", token=token)
        assert (answer.code, problem(answer)) == (403, "the token is for another upload")


@pytest_twisted.ensureDeferred
async def test_refusal_reaches_a_client_that_goes_on_sending(door: Door) -> None:
    path = await door.create()
    answer = await door.append(path, 0, CONTENT, token=door.token(secret="guessed"))
    assert answer.code == 401
    assert "token" in problem(answer)


@pytest_twisted.ensureDeferred
async def test_client_that_sends_nothing_more_is_let_go_and_keeps_what_it_sent(sqlite_url: str, tmp_path: Path) -> None:
    settings = {"upload_enabled": True, "recording_spool_dir": tmp_path, "request_timeout": 0.2}
    async with running(database_url=sqlite_url, **settings) as balancer:
        await balancer.parts.servers.add("s7", "https://bbb7.example.com", "of seven")
        door = Door(balancer, tmp_path)
        path = await door.create()
        peer = await door.raw(path, 0, len(CONTENT), CONTENT[:5000])
        await peer.closed
        (answer,) = responses(peer.data)
        assert isinstance(answer, RawAnswer)
        assert answer.status == 408
        assert await door.offset(path) == 5000


@pytest_twisted.ensureDeferred
async def test_client_that_sends_byte_after_byte_does_not_keep_a_place_for_ever(
    sqlite_url: str, tmp_path: Path
) -> None:
    settings = {"upload_enabled": True, "recording_spool_dir": tmp_path, "request_timeout": 0.2}
    async with running(database_url=sqlite_url, **settings) as balancer:
        await balancer.parts.servers.add("s7", "https://bbb7.example.com", "of seven")
        door = Door(balancer, tmp_path)
        path = await door.create()
        peer = await door.raw(path, 0, len(CONTENT), b"")
        sent = 0
        while not peer.closed.called:
            peer.transport.write(CONTENT[sent : sent + 1])
            sent += 1
            await deferLater(reactor, 0.01)
        assert [answer.status for answer in responses(peer.data)] == [408]
        assert 0 < await door.offset(path) <= sent


@pytest_twisted.ensureDeferred
async def test_so_many_uploads_at_once_and_no_more(door: Door) -> None:
    peers = []
    for number in range(uploads.AT_ONCE):
        content = CONTENT[number:]
        path = await door.create(content)
        peer = await connect(door.balancer.port)
        head = "".join(f"{name}: {value}\r\n" for name, value in CHUNK.items())
        peer.transport.write(  # type: ignore[union-attr]
            f"PATCH {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\nUpload-Offset: 0\r\n"
            f"Authorization: {door.token(content)}\r\n{head}\r\n".encode()
            + content[:10]
        )
        peers.append(peer)

    async def all_begun() -> bool | None:
        return [part.stat().st_size for part in door.parts] == [10] * uploads.AT_ONCE or None

    await eventually(all_begun)
    last = b"one too many"
    path = await door.create(last)
    answer = await door.append(path, 0, last, token=door.token(last))
    assert (answer.code, answer.headers["retry-after"]) == (503, "5")
    for peer in peers:
        peer.transport.abortConnection()  # type: ignore[union-attr]
        await peer.closed

    async def free() -> bool | None:
        return (await door.append(path, 0, last, token=door.token(last))).code == 204 or None

    await eventually(free)


@pytest_twisted.ensureDeferred
async def test_store_that_fails_is_told_in_json(door: Door) -> None:
    await door.balancer.redis("SET", door.balancer.key("servers"), "no set")
    answer = await door.call("POST", uploads.PATH, Upload_Length=str(len(CONTENT)))
    assert (answer.code, problem(answer)) == (503, "the store of servers cannot be asked now")


@pytest_twisted.ensureDeferred
async def test_uploads_are_off_unless_they_are_switched_on(sqlite_url: str, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    async with running(database_url=sqlite_url, recording_spool_dir=spool) as balancer:
        await balancer.parts.servers.add("s7", "https://bbb7.example.com", "of seven")
        answer = await Door(balancer, spool).call("POST", uploads.PATH, Upload_Length=str(len(CONTENT)))
        assert answer.key == "unsupportedRequest"
    assert not spool.exists()


def test_content_is_what_the_tests_think() -> None:
    assert len(CONTENT) == 1024 * 1024
    assert hashlib.sha256(CONTENT).hexdigest() == claims(CONTENT, R, "s7")["sha256"]
