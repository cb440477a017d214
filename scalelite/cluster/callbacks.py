"""Callback URLs in create calls, and what front-ends are told by them.

Kept by us, since BBB would sign what it sends there with its own server's secret.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from enum import StrEnum
from xml.sax.saxutils import escape

import attrs

from scalelite.cluster.params import Params
from scalelite.cluster.records import CallbackURLs, Tenant

ANALYTICS = "meta_analytics-callback-url"
RECORDING_READY = ("meta_bn-recording-ready-url", "meta_bbb-recording-ready-url", "meta_canvas-recording-ready-url")
"""Names of the parameter, the first one present counts."""

MEETING_ENDED = "meta_endcallbackurl"
# All of them in any letter case: BBB takes names of metadata in lower case.

ANALYTICS_PATH = "/bigbluebutton/api/analytics_callback"
MEETING_ENDED_PATH = "/bigbluebutton/api/meeting_ended"

MAX_MEETING_ID = 256
"""Characters; BBB refuses longer ones (BBB API: create)."""

MAX_END_URL = 2000
"""Characters; a longer one would make the create call too long for a server, and goes there as it is."""


class Kind(StrEnum):
    """What a front-end is told."""

    RECORDING_READY = "recording_ready"
    ANALYTICS = "analytics"
    MEETING_ENDED = "meeting_ended"


@attrs.frozen
class Notice:
    """Something to tell a front-end. An empty `url`: it is looked up once the notice is delivered.

    `payload`: the report (JSON) for analytics, the query that the server gave for the end of a meeting, else "".
    """

    kind: Kind
    tenant_id: str
    meeting_id: str
    url: str = attrs.field(repr=False)
    payload: str = attrs.field(default="", repr=False)
    record_id: str | None = None

    @property
    def key(self) -> str:
        """The same for what is the same event: it waits in the outbox once only."""
        told = "" if self.kind is Kind.RECORDING_READY else f"{self.url}\0{self.payload}"
        event = "\0".join((self.kind, self.tenant_id, self.meeting_id, self.record_id or "", told))
        return hashlib.sha256(event.encode("utf-8", "surrogatepass")).hexdigest()


@attrs.frozen
class EndCallback:
    """Where a front-end wants to hear of the end of a tenant's meeting ("" without tenant)."""

    url: str = attrs.field(repr=False)
    tenant_id: str


class EndCallbacks:
    """URLs of ours, at `url_host`, that hold those of front-ends: BBB calls ours, and nothing need be looked up.

    Nobody can make one, or use one for another meeting, without `key`.
    """

    def __init__(self, url_host: str, key: bytes) -> None:
        self._url_host = url_host
        self._key = hmac.new(key, b"scalelite meeting_ended", hashlib.sha256).digest()
        address = rb"https://(?:[a-z0-9-]+\.)?" + re.escape(url_host.encode()) + MEETING_ENDED_PATH.encode()
        self._ours = re.compile(address + rb"\?token=([A-Za-z0-9_-]+)\.[0-9a-f]{64}")

    def wrapped(self, url: str, meeting_id: str, tenant: Tenant | None) -> str:
        """Our URL in place of a front-end's."""
        host = f"{tenant.name}.{self._url_host}" if tenant else self._url_host
        held = _base64(f"{tenant.id if tenant else ''}\0{url}")
        return f"https://{host}{MEETING_ENDED_PATH}?token={held}.{self._signature(held, meeting_id)}"

    def unwrapped(self, token: str, meeting_id: str) -> EndCallback | None:
        """What the parameter `token` of a URL of ours holds; None unless it was made for that meeting."""
        held, _, signature = token.partition(".")
        if not hmac.compare_digest(self._signature(held, meeting_id).encode(), signature.encode()):
            return None
        return _held(held)

    def restored(self, document: bytes) -> bytes:
        """`document` (XML in UTF-8) with the front-ends' own URLs in place of ours, which BBB shows as metadata."""
        if MEETING_ENDED_PATH.encode() not in document:
            return document
        return self._ours.sub(_original, document)

    def _signature(self, held: str, meeting_id: str) -> str:
        signed = f"{held}\0{meeting_id}".encode("utf-8", "surrogatepass")
        return hmac.new(self._key, signed, hashlib.sha256).hexdigest()


def _base64(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def _held(text: str) -> EndCallback | None:
    try:
        tenant_id, _, url = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().partition("\0")
    except (binascii.Error, ValueError):
        return None
    return EndCallback(url, tenant_id)


def _original(match: re.Match[bytes]) -> bytes:
    held = _held(match[1].decode())
    return match[0] if held is None else escape(held.url).encode()


@attrs.frozen
class CallbackRewriter:
    """Puts our own URLs, at `url_host`, in place of a client's. `ends` is None where ends are not relayed."""

    url_host: str | None
    ends: EndCallbacks | None = None

    def rewrite(self, params: Params, tenant: Tenant | None) -> CallbackURLs | None:
        """Take the callback URLs out of `params` (changed in place); None if there are none to be kept.

        Presence decides, not whether the value is blank (Scalelite's rule).
        """
        self._rewrite_end(params, tenant)
        analytics = recording_ready = None
        reports = _spellings(params, ANALYTICS)
        if reports:
            analytics = params[reports[0]] or ""
            host = f"{tenant.name}.{self.url_host}" if tenant else self.url_host
            if self.url_host:
                for name in reports:
                    params[name] = f"https://{host}{ANALYTICS_PATH}"
        present = [spelled for name in RECORDING_READY for spelled in _spellings(params, name)]
        if present:
            recording_ready = params[present[0]] or ""
            for name in present:
                del params[name]
        if analytics is None and recording_ready is None:
            return None
        return CallbackURLs(recording_ready=recording_ready, analytics=analytics)

    def _rewrite_end(self, params: Params, tenant: Tenant | None) -> None:
        if self.ends is None:
            return
        for name in _spellings(params, MEETING_ENDED):
            url = (params[name] or "").strip()
            if url.lower().startswith(("http://", "https://")) and len(url) <= MAX_END_URL:
                params[name] = self.ends.wrapped(url, params["meetingID"] or "", tenant)


def _spellings(params: Params, name: str) -> list[str]:
    """The parameters of that name, in whatever letter case; the usual one first."""
    return sorted((spelled for spelled in params if spelled.lower() == name), key=lambda spelled: spelled != name)
