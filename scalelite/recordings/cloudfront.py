"""Signed cookies for recordings that CloudFront serves."""

from __future__ import annotations

import base64
import ipaddress
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import load_pem_private_key

LIFETIME: Final = 300
"""Seconds that cookies are good for: CloudFront looks at them when a file is asked for, not while it is sent."""

# CloudFront's own alphabet, fit for cookies.
_ALPHABET: Final = bytes.maketrans(b"+=/", b"-_~")


class CloudFrontError(ValueError):
    """The settings are of no use; the message says which and why, without the key."""


class CloudFront:
    """Sends viewers to the distribution at `url`, with what opens one format of one recording.

    `now`: seconds since 1970.
    """

    def __init__(self, url: str, key_pair_id: str, key: RSAPrivateKey, now: Callable[[], float]) -> None:
        self._url = url.rstrip("/")
        self._key_pair_id = key_pair_id
        self._key = key
        self._now = now

    def location(self, record_id: str, playback_format: str) -> str:
        """Where the format is played."""
        return f"{self._folder(record_id, playback_format)}/index.html"

    def cookies(self, record_id: str, playback_format: str, host: str) -> list[bytes]:
        """The values of three Set-Cookie headers, for the domain that `host`, without port, and CloudFront share."""
        until = int(self._now()) + LIFETIME
        policy = json.dumps(
            {
                "Statement": [
                    {
                        "Resource": f"{self._folder(record_id, playback_format)}/*",
                        "Condition": {"DateLessThan": {"AWS:EpochTime": until}},
                    }
                ]
            },
            separators=(",", ":"),
        ).encode()
        # RSA with SHA-1 is what CloudFront asks for.
        signature = self._key.sign(policy, PKCS1v15(), SHA1())  # noqa: S303
        expires = datetime.fromtimestamp(until, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        domain = _shared_domain(host)
        attributes = f"{domain}; path=/; expires={expires}; secure; httponly; samesite=none".encode()
        values = (
            (b"CloudFront-Policy", _encoded(policy)),
            (b"CloudFront-Signature", _encoded(signature)),
            (b"CloudFront-Key-Pair-Id", self._key_pair_id.encode()),
        )
        return [name + b"=" + value + attributes for name, value in values]

    def _folder(self, record_id: str, playback_format: str) -> str:
        return f"{self._url}/published/{playback_format}/{record_id}"


def read_key(encoded: str) -> RSAPrivateKey:
    """The RSA key in `CF_PRIVATE_KEY_B64`: PEM, in base64. Raises CloudFrontError."""
    try:
        key = load_pem_private_key(base64.b64decode(encoded), password=None)
    except (ValueError, TypeError) as error:
        raise CloudFrontError("CF_PRIVATE_KEY_B64 is no private key in PEM, in base64") from error
    if not isinstance(key, RSAPrivateKey):
        raise CloudFrontError("CF_PRIVATE_KEY_B64 is no RSA key")
    return key


def _encoded(data: bytes) -> bytes:
    return base64.b64encode(data).translate(_ALPHABET)


def _shared_domain(host: str) -> str:
    """The cookies' domain: the last two labels; none where the host is an address or has one label only."""
    labels = [label for label in host.split(".") if label]
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return f"; domain=.{'.'.join(labels[-2:])}" if len(labels) > 1 else ""
    return ""
