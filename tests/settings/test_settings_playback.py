"""What playback's settings take: above all those of CloudFront, which belong together."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from scalelite.settings import SettingsError, load_settings


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return base64.b64encode(text).decode()


@pytest.fixture(scope="module")
def complete() -> dict[str, str]:
    return {
        "LOADBALANCER_SECRET": "lb",
        "CLOUDFRONT_URL": "https://d123.cloudfront.net/",
        "CF_KEY_PAIR_ID": "K1",
        "CF_PRIVATE_KEY_B64": pem(rsa.generate_private_key(65537, 2048)),
    }


def problems_of(environ: dict[str, str], root: Path) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ, root=root)
    return "\n".join(caught.value.problems)


def test_cloudfront_is_taken_with_all_that_it_needs(tmp_path: Path, complete: dict[str, str]) -> None:
    settings = load_settings(complete, root=tmp_path)
    assert settings.cloudfront_url == "https://d123.cloudfront.net"
    assert settings.cf_private_key_b64 == complete["CF_PRIVATE_KEY_B64"]


@pytest.mark.parametrize("name", ["CF_KEY_PAIR_ID", "CF_PRIVATE_KEY_B64"])
def test_cloudfront_without_its_key_is_refused(tmp_path: Path, complete: dict[str, str], name: str) -> None:
    told = problems_of({**complete, name: ""}, tmp_path)
    assert told == f"{name} is unset: CLOUDFRONT_URL needs it."


def test_key_without_cloudfront_is_of_no_use_and_does_no_harm(tmp_path: Path, complete: dict[str, str]) -> None:
    assert load_settings({**complete, "CLOUDFRONT_URL": ""}, root=tmp_path).cloudfront_url is None


@pytest.mark.parametrize("url", ["d123.cloudfront.net", "ftp://x", "https://", "https://x/?a=b", "https://x y", "//x"])
def test_url_of_cloudfront_is_a_url(tmp_path: Path, complete: dict[str, str], url: str) -> None:
    assert "CLOUDFRONT_URL" in problems_of({**complete, "CLOUDFRONT_URL": url}, tmp_path)


def test_key_is_an_rsa_key_and_never_shown(tmp_path: Path, complete: dict[str, str]) -> None:
    other = pem(ec.generate_private_key(ec.SECP256R1()))
    for text in ("no key at all", base64.b64encode(b"no key at all").decode(), other):
        told = problems_of({**complete, "CF_PRIVATE_KEY_B64": text}, tmp_path)
        assert "CF_PRIVATE_KEY_B64" in told
        assert text not in told
