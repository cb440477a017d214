"""Upload tokens: who may make them, what they must say, and for how long they hold."""

from __future__ import annotations

import time
from typing import Any

import pytest

from scalelite.cluster.records import Server, ServerState
from scalelite.recordings.upload_tokens import BadToken, Upload, plain_url, read_token
from tests.recordings.uploading import claims, sign

CONTENT = b"a tar"
URL = "https://bbb7.example.com/bigbluebutton/api"


def server(server_id: str = "s7", url: str = URL, secret: str = "of seven") -> Server:
    return Server(server_id, url, secret, ServerState.DISABLED, online=False)


def read(said: dict[str, Any], secret: str = "of seven", *pool: Server, algorithm: str = "HS256") -> Upload:
    return read_token(sign(said, secret, algorithm), pool or (server(),), time.time())


@pytest.mark.parametrize(
    "name",
    [
        "s7",
        URL,
        "https://bbb7.example.com",
        "https://BBB7.example.com/",
        "https://bbb7.example.com:443/bigbluebutton/",
    ],
)
def test_server_is_named_by_its_id_or_by_any_spelling_of_its_url(name: str) -> None:
    upload = read(claims(CONTENT, "rec-1", name))
    assert (upload.server_id, upload.record_id, upload.length) == ("s7", "rec-1", len(CONTENT))


def test_two_servers_behind_one_url_are_told_apart_by_their_secrets() -> None:
    pool = server("a", secret="one"), server("b", secret="two")
    assert read(claims(CONTENT, "r", URL), "two", *pool).server_id == "b"


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("s7", "guessed"),
        ("s8", "of seven"),
        ("", "of seven"),
        ("http://bbb7.example.com", "of seven"),
        ("https://bbb7.example.com:8443", "of seven"),
        ("https://bbb7.example.com.evil.org", "of seven"),
        ("https://[", "of seven"),
    ],
)
def test_token_that_is_of_no_server_of_the_pool_is_refused(name: str, secret: str) -> None:
    with pytest.raises(BadToken, match="not one of a server of the pool"):
        read(claims(CONTENT, "r", name), secret)


def test_server_without_a_secret_lets_nobody_in() -> None:
    with pytest.raises(BadToken):
        read(claims(CONTENT, "r", "s7"), "", server(secret=""))


@pytest.mark.parametrize("algorithm", ["HS512"])
def test_token_signed_for_another_purpose_by_another_algorithm_is_refused(algorithm: str) -> None:
    with pytest.raises(BadToken):
        read(claims(CONTENT, "r", "s7"), algorithm=algorithm)


@pytest.mark.parametrize("token", ["", "a.b.c", "ä", "x" * 5000, "e30.e30.", "eyJhbGciOiJub25lIn0.eyJpc3MiOiJzNyJ9."])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(BadToken):
        read_token(token, [server()], time.time())


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"aud": "other"}, "aud"),
        ({"aud": None}, "aud"),
        ({"aud": ["scalelite-upload"]}, "aud"),
        ({"iat": None}, "iat"),
        ({"exp": None}, "exp"),
        ({"exp": "soon"}, "exp"),
        ({"sub": "../x"}, "sub"),
        ({"sub": "x.y"}, "sub"),
        ({"sub": 7}, "sub"),
        ({"sub": "x" * 201}, "sub"),
        ({"length": 0}, "nothing"),
        ({"length": -1}, "nothing"),
        ({"length": 1.5}, "length"),
        ({"length": True}, "length"),
        ({"sha256": "0" * 63}, "sha256"),
        ({"sha256": "G" * 64}, "sha256"),
    ],
)
def test_every_claim_must_be_of_its_form(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadToken, match=problem):
        read(claims(CONTENT, "r", "s7", **changes))


@pytest.mark.parametrize(
    ("begins", "ends", "problem"),
    [(-1000, -1, "clocks"), (400, 800, "clocks"), (0, 3601, "at most"), (-10_000, 10_000, "at most")],
)
def test_token_holds_for_its_time_only_and_that_may_not_be_long(begins: int, ends: int, problem: str) -> None:
    now = int(time.time())
    with pytest.raises(BadToken, match=problem):
        read(claims(CONTENT, "r", "s7", iat=now + begins, exp=now + ends))


def test_clock_of_a_server_may_be_some_minutes_ahead() -> None:
    now = int(time.time())
    assert read(claims(CONTENT, "r", "s7", iat=now + 200, exp=now + 900)).record_id == "r"


def test_upload_has_the_same_id_for_the_same_content_only() -> None:
    first = read(claims(CONTENT, "r", "s7"))
    assert first.id == read(claims(CONTENT, "r", URL)).id
    assert first.id != read(claims(CONTENT, "other", "s7")).id
    assert first.id != read(claims(b"b tar", "r", "s7")).id


@pytest.mark.parametrize("text", ["", "s7", "ftp://x", "https://", "https://x:port", "//x"])
def test_what_is_no_url_has_no_plain_form(text: str) -> None:
    assert plain_url(text) is None
