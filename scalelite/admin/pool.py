"""The pool as a process of its own reaches it: over the service's Redis, with connections of its own."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from scalelite.admin.table import Failed
from scalelite.settings import Settings
from scalelite.store.audit import AuditStore
from scalelite.store.connection import connect
from scalelite.store.embedded import EmbeddedServer
from scalelite.store.inspection import InspectionStore
from scalelite.store.leases import LeaseStore
from scalelite.store.meetings import MeetingStore
from scalelite.store.servers import ServerStore
from scalelite.store.tenants import TenantStore

if TYPE_CHECKING:
    from scalelite.bbb.client import BBBClient
    from scalelite.recordings.desk import RecordingDesk


class OwnPool:
    """Stores and BBB client made from the settings. Raises Failed where the service's store can't be reached so."""

    def __init__(self, reactor: Any, settings: Settings) -> None:
        self.clock = reactor
        self._settings = settings
        self._http_pools: list[Any] = []
        self._desk: RecordingDesk | None = None
        self._redis = connect(reactor, settings.redis, timeout=settings.redis_timeout, data_dir=settings.data_dir)
        if self._redis.embedded == "memory":
            raise Failed(
                "The service keeps everything in its own memory, where no other program can reach it: "
                "install redis-server, or set REDIS_URL"
            )

    @property
    def started_store(self) -> bool:
        """Whether this process runs the store itself, as no service is there that does."""
        companion = self._redis.companion
        return isinstance(companion, EmbeddedServer) and companion.owner

    @cached_property
    def servers(self) -> ServerStore:
        return ServerStore(self._redis, self._settings.redis.prefix)

    @cached_property
    def meetings(self) -> MeetingStore:
        settings = self._settings
        return MeetingStore(
            self._redis,
            settings.redis.prefix,
            ttl=settings.default_meeting_ttl,
            new_meeting_load=settings.new_meeting_load,
        )

    @cached_property
    def tenants(self) -> TenantStore:
        return TenantStore(self._redis, self._settings.redis.prefix)

    @cached_property
    def audit(self) -> AuditStore:
        return AuditStore(self._redis, self._settings.redis.prefix)

    @cached_property
    def inspection(self) -> InspectionStore:
        return InspectionStore(self._redis, self._settings.redis.prefix)

    @cached_property
    def leases(self) -> LeaseStore:
        return LeaseStore(self._redis, self._settings.redis.prefix)

    @cached_property
    def client(self) -> BBBClient:
        from scalelite.bbb.pooled import pooled_client

        client, pool = pooled_client(self.clock, self._settings)
        self._http_pools.append(pool)
        return client

    @cached_property
    def recordings(self) -> RecordingDesk:
        # SQLAlchemy takes a while to import, and most commands do without a database.
        from scalelite.desk import build_desk, no_database

        try:
            desk = build_desk(self.clock, self._settings, self._redis)
        except OSError as error:
            raise Failed(f"{error.strerror or error}: {error.filename}") from error
        if desk is None:
            raise Failed(no_database(self._settings))
        desk.database.startService()
        self._desk = desk
        return desk

    async def close(self) -> None:
        """Drop all connections."""
        if self._desk is not None:
            await self._desk.database.stopService()
        for pool in self._http_pools:
            await pool.closeCachedConnections()
        await self._redis.close()
