"""Callback URLs in create calls: kept by us, since BBB would sign what it sends there with its own server's secret."""

from __future__ import annotations

import attrs

from scalelite.cluster.params import Params
from scalelite.cluster.records import CallbackURLs, Tenant

ANALYTICS = "meta_analytics-callback-url"
RECORDING_READY = ("meta_bn-recording-ready-url", "meta_bbb-recording-ready-url", "meta_canvas-recording-ready-url")
"""Names of the parameter, the first one present counts."""


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
