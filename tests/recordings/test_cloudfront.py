"""CloudFront's signed cookies, checked with the public key as CloudFront does."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from scalelite.api.playback import counts_as_page
from scalelite.recordings.cloudfront import CloudFront, CloudFrontError, read_key

R = "0f3c9d-1609459200123"
URL = "https://cdn.example.com"
NOW = 1_795_500_000.7


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def pem(key: Any) -> str:
    text: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return base64.b64encode(text).decode()


def decoded(value: str) -> bytes:
    return base64.b64decode(value.translate(str.maketrans("-_~", "+=/")))


def values(cookies: list[bytes]) -> dict[str, str]:
    pairs = (cookie.decode().partition("; ")[0].partition("=") for cookie in cookies)
    return {name: value for name, _, value in pairs}


def test_policy_opens_one_format_of_one_recording_for_five_minutes(key: rsa.RSAPrivateKey) -> None:
    front = CloudFront(URL + "/", "K123", key, lambda: NOW)
    sent = values(front.cookies(R, "video", "b.example.com"))
    policy = decoded(sent["CloudFront-Policy"])
    assert policy == (
        b'{"Statement":[{"Resource":"https://cdn.example.com/published/video/%b/*",'
        b'"Condition":{"DateLessThan":{"AWS:EpochTime":1795500300}}}]}' % R.encode()
    )
    assert json.loads(policy)
    key.public_key().verify(decoded(sent["CloudFront-Signature"]), policy, padding.PKCS1v15(), SHA1())
    assert sent["CloudFront-Key-Pair-Id"] == "K123"
    assert front.location(R, "video") == f"{URL}/published/video/{R}/index.html"


def test_values_are_fit_for_cookies_and_not_escaped(key: rsa.RSAPrivateKey) -> None:
    for moment in range(40):
        front = CloudFront(URL, "K", key, lambda moment=moment: NOW + moment)
        for value in values(front.cookies(R, "video", "h.example.com")).values():
            assert not set(value) & set("+=/%;, ")


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("b.example.com", "; domain=.example.com"), ("example.com", "; domain=.example.com"),
        ("a.b.c.example.org", "; domain=.example.org"), ("localhost", ""), ("192.168.1.20", ""), ("[::1]", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_domain_is_the_one_that_both_share(key: rsa.RSAPrivateKey, host: str, domain: str) -> None:
    for cookie in CloudFront(URL, "K", key, lambda: NOW).cookies(R, "video", host):
        attributes = cookie.decode().partition("; ")[2]
        expires = "expires=Tue, 24 Nov 2026 06:05:00 GMT"
        assert "; " + attributes == f"{domain}; path=/; {expires}; secure; httponly; samesite=none"


@pytest.mark.parametrize("encoded", ["", "!", base64.b64encode(b"no key").decode(), "a"])
def test_what_is_no_key_is_told_without_repeating_it(encoded: str) -> None:
    with pytest.raises(CloudFrontError) as caught:
        read_key(encoded)
    assert "CF_PRIVATE_KEY_B64" in str(caught.value)


def test_key_is_read_from_pem_in_base64(key: rsa.RSAPrivateKey) -> None:
    assert read_key(pem(key)).private_numbers() == key.private_numbers()
    with pytest.raises(CloudFrontError):
        read_key(pem(ec.generate_private_key(ec.SECP256R1())))


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "path", "page"),
    [
        (BROWSER, "/video/r/", True), (BROWSER, "/video/r", True), (BROWSER, "/video/r/index.html", True),
        (BROWSER, "/video/r/a.unheard-of", True), (BROWSER, "/video/r/a.webm", False), (BROWSER, "/v/r/A.PNG", False),
        ("", "/video/r/", True), ("", "/video/r/a.css", False), ("", "/video/r/a.htm", True),
        ("*/*", "/video/r/", False), ("*/*", "/video/r/index.html", False),
        ("text/html", "/video/r/a.webm", True), ("application/xhtml+xml", "/video/r/", True),
        ("image/png", "/video/r/", False), ("image/png,text/html", "/video/r/", False),
        ("image/png;q=0.5,text/html", "/video/r/", True), ("image/avif,image/webp,*/*;q=0.8", "/video/r/a.png", False),
        (" , ", "/video/r/", True), (";q=x", "/video/r/", True),
    ],
)  # fmt: skip
def test_requests_for_pages_are_told_from_those_for_parts(accept: str, path: str, page: bool) -> None:
    assert counts_as_page(accept, path) is page
