"""Takes a meeting's analytics from the BBB server, to be passed on to the front-end that asked for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

import orjson
from twisted.logger import Logger

from scalelite.cluster.callbacks import MAX_MEETING_ID, Kind, Notice
from scalelite.cluster.records import CallbackURLs, Tenant
from scalelite.cluster.tokens import is_signed_by
from scalelite.store.errors import StoreError, StoreUnavailable
from scalelite.store.servers import ServerStore

MAX_REPORT: Final = 8 * 1024 * 1024
"""Bytes; a meeting of a thousand attendees takes less than one megabyte."""


class KeptCallbacks(Protocol):
    """Where callback URLs are looked up. Raises StoreError."""

    async def find(self, meeting_id: str, tenant_id: str) -> CallbackURLs: ...


class Outbox(Protocol):
    """Delivers notices in its own time. Raises StoreError if it can't take one."""

    async def put(self, notice: Notice) -> None: ...


class AnalyticsReports:
    """Checks who reports what, and puts the reports into the outbox."""

    _log = Logger()

    def __init__(self, servers: ServerStore, callbacks: KeptCallbacks, outbox: Outbox) -> None:
        self._servers = servers
        self._callbacks = callbacks
        self._outbox = outbox

    async def take(self, authorization: str, body: bytes, tenant: Tenant | None) -> None:
        """Have the report `body` delivered to the URL kept for its `meeting_id`.

        `authorization` must be a bearer token (JWT, HS512) signed with the secret of any server of the pool;
        everything else is logged and dropped, as Scalelite does. Raises StoreError.
        """
        if len(body) > MAX_REPORT:
            self._log.warn("an analytics report of {size} bytes was dropped", size=len(body))
            return
        report = _report(body)
        meeting_id = _meeting_id(report)
        if meeting_id is None or not await self._from_a_server(authorization):
            self._log.warn("an analytics report without a valid token or meeting_id was dropped")
            return
        tenant_id = tenant.id if tenant else ""
        url = await self._url(meeting_id, tenant_id)
        if url is None:
            return
        payload = orjson.dumps({**report, "customer": tenant.name if tenant else "scalelite"}).decode()
        try:
            await self._outbox.put(Notice(Kind.ANALYTICS, tenant_id, meeting_id, url, payload))
        except StoreError as error:
            self._log.error("the analytics report of a meeting is lost: {error}", error=error)
            raise

    async def _url(self, meeting_id: str, tenant_id: str) -> str | None:
        """Where the report goes; "" if that can't be told now, None if nobody asked for it."""
        try:
            urls = await self._callbacks.find(meeting_id, tenant_id)
        except StoreUnavailable:
            return ""
        return urls.analytics if urls.analytics and urls.analytics.strip() else None

    async def _from_a_server(self, authorization: str) -> bool:
        kind, _, token = authorization.partition(" ")
        if kind.lower() != "bearer":
            return False
        secrets = [server.secret for server in await self._servers.all() if server.secret]
        return any(is_signed_by(token.strip(), secret, "HS512") for secret in secrets)


def _report(body: bytes) -> Mapping[str, Any]:
    """The JSON object in `body`; empty for anything else."""
    try:
        report = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return report if isinstance(report, dict) else {}


def _meeting_id(report: Mapping[str, Any]) -> str | None:
    """The meeting's id; None for one that no meeting, and no database, could have."""
    found = report.get("meeting_id")
    return found if isinstance(found, str) and len(found) <= MAX_MEETING_ID and "\0" not in found else None
