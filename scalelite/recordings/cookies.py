"""Cookies that open a protected recording, as Scalelite makes them and takes them."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

#: Cookies of one name that are looked at: a browser sends one.
_TRIES: Final = 4
_MAX_TOKEN: Final = 4096
_MAX_AGENT: Final = 1024


class PlaybackCookies:
    """Makes and checks the cookies. Each is for one format of one recording, and good for `minutes`.

    `key` signs them; `now`: seconds since 1970. Signed and read here rather than by PyJWT, which warns of every key
    that is shorter than it likes: Scalelite takes any.
    """

    def __init__(self, key: bytes, minutes: int, now: Callable[[], float]) -> None:
        self._key = key
        self._seconds = minutes * 60
        self._now = now

    def make(self, record_id: str, playback_format: str, *, secure: bool, user_agent: str) -> bytes:
        """The value of a Set-Cookie header; it ends with the browser's session.

        `secure`: for HTTPS only, and sent from within other sites' frames as well.
        """
        path = f"/{playback_format}/{record_id}"
        # A text, as the gem that Scalelite uses writes it.
        claims = {"sub": path, "exp": str(int(self._now()) + self._seconds)}
        parts = [f"{_name(record_id, playback_format)}={self._signed(claims)}", f"path={path}"]
        if secure:
            parts.append("secure")
        parts.append("httponly")
        if secure and not mishandles_same_site_none(user_agent):
            parts.append("samesite=none")
        return "; ".join(parts).encode()

    def opens(self, headers: Sequence[bytes], record_id: str, playback_format: str) -> bool:
        """Whether the Cookie headers hold one that is good for this format of this recording."""
        name = _name(record_id, playback_format).encode()
        path = f"/{playback_format}/{record_id}"
        return any(self._is_good(token, path) for token in _values(headers, name))

    def _is_good(self, token: bytes, path: str) -> bool:
        signed, _, signature = token.rpartition(b".")
        # The key signs nothing else, so what is signed is ours, or Scalelite's.
        if not hmac.compare_digest(_encoded(hmac.digest(self._key, signed, "sha256")), signature):
            return False
        header, _, payload = signed.partition(b".")
        algorithm, claims = _decoded(header), _decoded(payload)
        if algorithm is None or algorithm.get("alg") != "HS256" or claims is None or claims.get("sub") != path:
            return False
        expires = _seconds(claims.get("exp"))
        return expires is not None and self._now() < expires

    def _signed(self, claims: dict[str, str]) -> str:
        signed = b".".join(_encoded(json.dumps(part, separators=(",", ":")).encode()) for part in (_HEADER, claims))
        return (signed + b"." + _encoded(hmac.digest(self._key, signed, "sha256"))).decode()


_HEADER: Final = {"alg": "HS256"}


def _name(record_id: str, playback_format: str) -> str:
    return f"recording_{playback_format}_{record_id}"


def _values(headers: Sequence[bytes], name: bytes) -> Iterator[bytes]:
    tried = 0
    for header in headers:
        for pair in header.split(b";"):
            key, _, value = pair.partition(b"=")
            if key.strip() == name and len(value) <= _MAX_TOKEN and tried < _TRIES:
                tried += 1
                yield value.strip().strip(b'"')


def _encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decoded(part: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _seconds(exp: object) -> float | None:
    """The time that `exp` says, a number or a text with one."""
    if isinstance(exp, str) and re.fullmatch(r"[0-9]{1,15}", exp, re.ASCII):
        return int(exp)
    if isinstance(exp, int | float) and not isinstance(exp, bool):
        return exp
    return None


_CHROME: Final = re.compile(r"Chrom(?:e|ium)/([0-9]{1,9})")
_UC: Final = re.compile(r"UCBrowser/([0-9]{1,9})(?:\.([0-9]{1,9}))?(?:\.([0-9]{1,9}))?")
_IOS: Final = re.compile(r"\((?:iPhone|iPad|iPod)[^)]* OS ([0-9]{1,9})[_ ]")
_MACOS: Final = re.compile(r"\(Macintosh;[^)]*Mac OS X 10[_.]14(?![0-9])")
_FIRST_GOOD_UC: Final = (12, 13, 2)


def mishandles_same_site_none(user_agent: str) -> bool:
    """Whether a browser refuses cookies with SameSite=None, or takes that for Strict.

    So do all browsers of iOS 12, Safari and embedded WebKit of macOS 10.14, Chrome 51 to 66, UC Browser < 12.13.2.
    """
    agent = user_agent[:_MAX_AGENT]
    if found := _IOS.search(agent):
        return int(found[1]) == 12
    if found := _UC.search(agent):
        version = tuple(int(part or 0) for part in found.groups())
        return version < _FIRST_GOOD_UC
    if found := _CHROME.search(agent):
        return 51 <= int(found[1]) <= 66
    if _MACOS.search(agent):
        # Safari names its version; a program with a web view ends where WebKit's engine is named.
        return ("Version/" in agent and "Safari/" in agent) or agent.rstrip().endswith("(KHTML, like Gecko)")
    return False
