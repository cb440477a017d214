"""Health: whether this instance can do its work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.logger import Logger

from scalelite.api.replies import NO_CACHE, Reply
from scalelite.api.routing import Routes
from scalelite.api.site import Request

_log = Logger()


class Health:
    """`/health_check` and `/`: `success` in plain text, or 503 with the reason."""

    def __init__(self, probe: Callable[[], Awaitable[None]]) -> None:
        self._probe = probe

    def register(self, routes: Routes) -> None:
        """Add the routes; any suffix of health_check counts, as it does in Scalelite."""
        routes.add("/", ("GET",), self.check)
        routes.add("/health_check", ("GET",), self.check)
        routes.add("/health_check.<suffix>", ("GET",), self.check)

    async def check(self, request: Request) -> Reply:
        """Probe the parts that every request needs."""
        try:
            await self._probe()
        except Exception as error:  # noqa: BLE001 - whatever is wrong is the answer
            _log.error("health check failed: {error}", error=error)
            return Reply(f"Health Check Failure: {error}".encode(), 503, b"text/plain; charset=utf-8", NO_CACHE)
        return Reply(b"success", 200, b"text/plain; charset=utf-8", NO_CACHE)
