"""Tenants in Redis, in Scalelite's layout."""

from __future__ import annotations

from typing import Final

from scalelite.cluster.records import Tenant, TenantSetting, split_secrets
from scalelite.store.connection import Redis
from scalelite.store.scripts import script

_FIND: Final = script("find_tenant")


class TenantStore:
    """Reads tenants; not cached, so that a rotated secret counts from the next request on. Raises StoreError."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._keys = (prefix,)

    async def find(self, name: str) -> Tenant | None:
        """The tenant of that name, with its settings."""
        reply = await self._redis.run(_FIND, self._keys, (name,))
        if not reply:
            return None
        fields = dict(zip(reply[1][::2], reply[1][1::2], strict=True))
        return Tenant(
            id=reply[0],
            name=fields.get("name", name),
            secrets=split_secrets(fields.get("secrets", "")),
            settings=tuple(TenantSetting(param, value, override == "true") for param, value, override in reply[2:]),
            **{
                field: fields.get(field) or None
                for field in (
                    "lrs_endpoint", "lrs_username", "lrs_password", "kc_token_url", "kc_client_id",
                    "kc_client_secret", "kc_username", "kc_password",
                )
            },
        )  # fmt: skip
