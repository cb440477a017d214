"""Callback URLs in create calls: kept by us, since BBB would sign what it sends there with its own server's secret."""

from __future__ import annotations

import hashlib
from enum import StrEnum

import attrs

from scalelite.cluster.params import Params
from scalelite.cluster.records import CallbackURLs, Tenant

ANALYTICS = "meta_analytics-callback-url"
RECORDING_READY = ("meta_bn-recording-ready-url", "meta_bbb-recording-ready-url", "meta_canvas-recording-ready-url")
"""Names of the parameter, the first one present counts."""


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
class CallbackRewriter:
    """Puts our own analytics URL, at `url_host`, in place of a client's."""

    url_host: str | None

    def rewrite(self, params: Params, tenant: Tenant | None) -> CallbackURLs | None:
        """Take the callback URLs out of `params` (changed in place); None if there are none.

        Presence decides, not whether the value is blank (Scalelite's rule).
        """
        analytics = recording_ready = None
        if ANALYTICS in params:
            analytics = params[ANALYTICS] or ""
            host = f"{tenant.name}.{self.url_host}" if tenant else self.url_host
            if self.url_host:
                params[ANALYTICS] = f"https://{host}/bigbluebutton/api/analytics_callback"
        present = [name for name in RECORDING_READY if name in params]
        if present:
            recording_ready = params[present[0]] or ""
            for name in present:
                del params[name]
        if analytics is None and recording_ready is None:
            return None
        return CallbackURLs(recording_ready=recording_ready, analytics=analytics)
