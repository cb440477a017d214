"""The access log tells what happened, and nothing that would let a reader sign or join."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_twisted

from scalelite.api.access_log import MAX_QUERY, BufferedFile, masked, shown_path
from tests.api.support import exchange, post, running
from tests.balancer import Balancer


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        (b"meetingID=m1&name=N", "meetingID=m1&name=N"),
        (b"checksum=abc", "checksum=*"),
        (b"a=1&checksum=abc&b=2", "a=1&checksum=*&b=2"),
        (b"CHECKSUM=abc", "CHECKSUM=*"),
        (b"moderatorPW=x&attendeePW=y&password=z", "moderatorPW=*&attendeePW=*&password=*"),
        (b"meta_secret-lrs-payload=x&sessionToken=y&auth=z", "meta_secret-lrs-payload=*&sessionToken=*&auth=*"),
        (b"password=a=b", "password=*"),
        (b"password&a", "password&a"),
        (b"a=%C3%A9&b=c%26", "a=%C3%A9&b=c%26"),
        (b"pass%77ord=x&a=1", "*"),
        (b"a=1&%63hecksum=x", "*"),
        (b"a=1&password%3Dx", "*"),
        (b"meetingID=x;password=y", "*"),
        (b"", ""),
        (b"=x&&", "=x&&"),
    ],
)
def test_secrets_are_masked(query: bytes, shown: str) -> None:
    assert masked(query) == shown


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (b"/bigbluebutton/api/create", "/bigbluebutton/api/create"),
        (b"/bigbluebutton/api/create/password=x", "/bigbluebutton/api/create/password"),
        (b"/" + b"x" * 5000, "/" + "x" * 255),
    ],
)
def test_paths_are_cut_where_they_could_hold_secrets(path: bytes, shown: str) -> None:
    assert shown_path(path) == shown


@pytest_twisted.ensureDeferred
async def test_what_is_no_request_gets_a_line_too(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    async with running(access_log=str(path)) as balancer:
        (answer,) = await exchange(balancer.port, b"GET /?" + b"x" * 200_000 + b" HTTP/1.1\r\n\r\n")
        (two_hosts,) = await exchange(balancer.port, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
    assert (answer.status, two_hosts.status) == (414, 400)
    assert [(line["client"], line["status"], line["note"]) for line in lines(path)] == [
        ("127.0.0.1", 414, "refused"),
        ("127.0.0.1", 400, "refused"),
    ]


def test_only_the_beginning_of_a_long_query_is_shown() -> None:
    for cut in range(70):
        query = b"a=" + b"x" * (MAX_QUERY - 2 - cut) + b"&checksum=5ec4e7&moderatorPW=hidden"
        shown = masked(query)
        assert len(shown) < MAX_QUERY + 10
        assert "5ec4" not in shown
        assert "hidden" not in shown


@pytest.mark.parametrize("piece", [b"%", b"a%", b"pw", b"&", b"=", b"tokenauth", b"a=%&"])
def test_hostile_queries_cost_no_more_than_others(piece: bytes) -> None:
    # Would take hours if the time grew with the square of the length.
    assert len(masked(piece * (10_000_000 // len(piece)))) <= MAX_QUERY


def lines(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


@pytest_twisted.ensureDeferred
async def test_each_request_gets_one_line(tmp_path: Path) -> None:
    path = tmp_path / "log" / "access.log"
    async with running(servers=1, access_log=str(path)) as balancer:
        await balancer.call("create", meetingID="m1", name="Meeting", moderatorPW="hidden-password")
        await post(balancer, "end", b"meetingID=m2&password=hidden-in-body")
        await balancer.request("GET", f"{balancer.api}/nothing")
        refused = await balancer.request("GET", f"{balancer.api}/join?checksum=wrong")
        balancer.web.site.flush_log()
        created, ended, nothing, joined = lines(path)
        assert (created["method"], created["path"]) == ("GET", "/bigbluebutton/api/create")
        assert created["query"] == "meetingID=m1&name=Meeting&moderatorPW=*&checksum=*"
        assert (created["status"], created["note"], created["client"]) == (200, "s1", "127.0.0.1")
        assert created["bytes"] > 0
        assert created["ms"] >= 0
        assert ended["note"] == "notFound"
        assert nothing["note"] == "unsupportedRequest"
        assert (joined["note"], joined["id"]) == ("checksumError", refused.headers["x-request-id"])
    content = path.read_bytes()
    for secret in (b"hidden", b"secret of s1", b"secret\n"):
        assert secret not in content


@pytest_twisted.ensureDeferred
async def test_odd_requests_stay_one_line_of_json(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    async with running(access_log=str(path)) as balancer:
        for target in (b"/%0A%0D%22", b"/\x80\xb0?\xb0", b'/"\\{}', b"*"):
            await exchange(balancer.port, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert len(lines(path)) == 4


def test_a_log_that_was_moved_away_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = BufferedFile(path)
    log.write(b"one\n")
    assert path.read_bytes() == b""
    log.flush()
    path.rename(tmp_path / "access.log.1")
    log.write(b"two\n")
    log.flush()
    assert (tmp_path / "access.log.1").read_bytes() == b"one\n"
    assert path.read_bytes() == b"two\n"
    assert path.stat().st_mode & 0o007 == 0


def test_a_full_buffer_is_written_at_once(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = BufferedFile(path)
    log.write(b"x" * BufferedFile.LIMIT)
    assert path.stat().st_size == BufferedFile.LIMIT


def test_a_full_disk_loses_lines_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    log = BufferedFile(Path("/dev/full"))
    log.write(b"lost\n")
    log.flush()
    log.write(b"lost too\n")
    log.flush()
    assert "the access log could not be written" in capsys.readouterr().err


@pytest_twisted.ensureDeferred
async def test_no_log_is_written_where_it_is_off(balancer: Balancer, capsys: pytest.CaptureFixture[str]) -> None:
    await balancer.request("GET", balancer.api)
    balancer.web.site.flush_log()
    assert capsys.readouterr().out == ""
