"""Cookies of protected recordings: as Scalelite writes them, and whatever it or somebody else may send."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest

from scalelite.recordings.cookies import PlaybackCookies, mishandles_same_site_none

KEY = b"a secret key base"
NOW = 1_795_500_000
R = "0f3c9d-1609459200123"
PATH = f"/video/{R}"


def cookies(key: bytes = KEY, now: float = NOW) -> PlaybackCookies:
    return PlaybackCookies(key, 360, lambda: now)


def token(claims: Any, header: Any = None, key: bytes = KEY) -> bytes:
    """A JWT, made as anybody may."""
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256"} if header is None else header, claims)]
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = hmac.new(key, signed, hashlib.sha256).digest()
    return signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")


def header(value: bytes, record_id: str = R) -> list[bytes]:
    return [f"recording_video_{record_id}=".encode() + value]


def opens(value: bytes, **options: Any) -> bool:
    return cookies(**options).opens(header(value), R, "video")


def test_cookie_is_the_one_that_scalelite_makes() -> None:
    made = cookies().make(R, "video", secure=True, user_agent="Firefox")
    pair, *attributes = made.decode().split("; ")
    assert attributes == [f"path={PATH}", "secure", "httponly", "samesite=none"]
    name, _, value = pair.partition("=")
    assert name == f"recording_video_{R}"
    first, second, _ = value.split(".")
    assert base64.urlsafe_b64decode(first + "==") == b'{"alg":"HS256"}'
    assert base64.urlsafe_b64decode(second + "==") == b'{"sub":"%b","exp":"%d"}' % (PATH.encode(), NOW + 360 * 60)
    assert opens(value.encode())


def test_cookie_opens_until_it_expires() -> None:
    value = cookies().make(R, "video", secure=True, user_agent="").partition(b"=")[2].partition(b";")[0]
    assert opens(value, now=NOW + 21599)
    assert not opens(value, now=NOW + 21600)


@pytest.mark.parametrize("exp", [NOW + 60, str(NOW + 60), float(NOW + 60)])
def test_time_may_be_number_or_text(exp: Any) -> None:
    assert opens(token({"sub": PATH, "exp": exp}))
    assert opens(token({"exp": exp, "sub": PATH}, {"typ": "JWT", "alg": "HS256"}))


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": PATH}, {"exp": NOW + 60}, {"sub": PATH, "exp": NOW}, {"sub": PATH, "exp": str(NOW - 1)},
        {"sub": PATH, "exp": None}, {"sub": PATH, "exp": True}, {"sub": PATH, "exp": "soon"}, {"sub": PATH, "exp": ""},
        {"sub": PATH, "exp": "9" * 16}, {"sub": PATH, "exp": [NOW + 60]}, {"sub": f"/notes/{R}", "exp": NOW + 60},
        {"sub": "/video/other", "exp": NOW + 60}, {"sub": None, "exp": NOW + 60}, {"sub": PATH + "/", "exp": NOW + 60},
        [], "text", 7, None, {},
    ],
)  # fmt: skip
def test_claims_that_are_not_these_open_nothing(claims: Any) -> None:
    assert not opens(token(claims))


@pytest.mark.parametrize("head", [{"alg": "none"}, {"alg": "HS512"}, {"alg": "RS256"}, {}, [], "HS256", {"alg": None}])
def test_other_algorithms_open_nothing(head: Any) -> None:
    assert not opens(token({"sub": PATH, "exp": NOW + 60}, head))


@pytest.mark.parametrize("key", [b"", b"another", KEY + b" "])
def test_other_keys_open_nothing(key: bytes) -> None:
    assert not opens(token({"sub": PATH, "exp": NOW + 60}, key=key))


def test_changed_tokens_open_nothing() -> None:
    good = token({"sub": PATH, "exp": NOW + 60})
    assert opens(good)
    head, claims, signature = good.split(b".")
    for bad in (
        b"", b".", b"..", b"...", head, head + b"." + claims, head + b"." + claims + b".", claims + b"." + signature,
        good[:-1], good + b".", good.replace(b".", b""), b"." + good, good[:-4] + b"AAAA", b"\xff" * 40,
        head + b"." + token({"sub": PATH, "exp": NOW + 99}).split(b".")[1] + b"." + signature,
    ):  # fmt: skip
        assert not opens(bad), bad


def signed(text: bytes) -> bytes:
    return text + b"." + base64.urlsafe_b64encode(hmac.new(KEY, text, hashlib.sha256).digest()).rstrip(b"=")


@pytest.mark.parametrize("text", [b"", b".", b"a", b"!.!", b"e30", b"e30.e30", b"e30.bnVsbA", b"\xff.\xff", b"W10.W10"])
def test_signed_nonsense_opens_nothing(text: bytes) -> None:
    assert not opens(signed(text))


def test_cookie_is_found_among_others() -> None:
    good = b"recording_video_%b=" % R.encode() + token({"sub": PATH, "exp": NOW + 60})
    old = b"recording_video_%b=x.y.z" % R.encode()
    for headers in (
        [b"a=b; " + good + b"; c=d"], [b"a=b", good], [b"a=b;" + good], [old + b"; " + good], [b";;=;" + good],
        [good.replace(b"=", b'="', 1) + b'"'],
    ):  # fmt: skip
        assert cookies().opens(headers, R, "video"), headers
    for headers in ([], [b""], [b"a=b"], [good.replace(b"_video_", b"_notes_")], [good.upper()], [b"x" + good]):
        assert not cookies().opens(headers, R, "video"), headers


def test_number_and_length_of_cookies_looked_at_are_bounded() -> None:
    name = b"recording_video_%b=" % R.encode()
    good = token({"sub": PATH, "exp": NOW + 60})
    assert not cookies().opens([b"; ".join([name + b"x"] * 1000 + [name + good])], R, "video")
    long = token({"sub": PATH, "exp": NOW + 60, "more": "x" * 5000})
    assert not opens(long)


LIKE = "(KHTML, like Gecko)"
CHROME = f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 {LIKE} Chrome/{{}}.0.1.2 Safari/537.36"
MAC = f"Mozilla/5.0 (Macintosh; Intel Mac OS X {{}}) AppleWebKit/605.1.15 {LIKE}"
SAFARI = MAC + " Version/12.1 Safari/605.1.15"
MAC_CHROME = MAC.format("10_14_6") + " Chrome/120.0.0.0 Safari/537.36"
FIREFOX = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.14; rv:121.0) Gecko/20100101 Firefox/121.0"
IPHONE = f"Mozilla/5.0 (iPhone; CPU iPhone OS {{}} like Mac OS X) AppleWebKit/605.1.15 {LIKE} Mobile/15E148"
IPAD = f"Mozilla/5.0 (iPad; CPU OS {{}} like Mac OS X) AppleWebKit/605.1.15 {LIKE} CriOS/80.0 Mobile/15E148"
UC = f"Mozilla/5.0 (Linux; U; Android 9) AppleWebKit/537.36 {LIKE} Chrome/57.0 UCBrowser/{{}} Mobile"


@pytest.mark.parametrize(
    ("agent", "mishandles"),
    [
        (IPHONE.format("12_5_7"), True), (IPAD.format("12_0"), True), (IPHONE.format("13_1"), False),
        (IPHONE.format("11_4"), False), (IPHONE.format("17_0"), False),
        (SAFARI.format("10_14_6"), True), (SAFARI.format("10_15_7"), False), (SAFARI.format("10_13_6"), False),
        (SAFARI.format("10_14"), True), (SAFARI.format("10_140"), False),
        (MAC.format("10_14_6"), True), (MAC.format("10_15"), False), (MAC_CHROME, False), (FIREFOX, False),
        (CHROME.format(50), False), (CHROME.format(51), True), (CHROME.format(66), True), (CHROME.format(67), False),
        (CHROME.format(120), False), (CHROME.format(51).replace("Chrome", "Chromium"), True),
        (UC.format("12.13.1.1"), True), (UC.format("12.13.2.1005"), False), (UC.format("12.14.0"), False),
        (UC.format("11.99.9"), True), (UC.format("13.0.0"), False), (UC.format("12.13"), True), (UC.format("12"), True),
        ("", False), ("curl/8", False), ("Chrome/" + "9" * 2000, False), ("(" * 5000, False),
    ],
)  # fmt: skip
def test_browsers_that_mishandle_same_site_none_are_known(agent: str, mishandles: bool) -> None:
    assert mishandles_same_site_none(agent) is mishandles
    assert (b"samesite" not in cookies().make(R, "video", secure=True, user_agent=agent)) is mishandles
