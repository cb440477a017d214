"""Tenants in Redis, in Scalelite's layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from scalelite.cluster.records import Tenant, TenantSetting, split_secrets
from scalelite.cluster.tenants import LRS_FIELDS, SettingRecord, TenantRecord
from scalelite.store.connection import Redis, Script
from scalelite.store.scripts import script


def _changing(name: str) -> Script:
    """A script that goes by the names of tenants."""
    return Script.of(name, script("tenants_common").source + Script.load(name).source)


_FIND: Final = script("find_tenant")
_LIST: Final = script("list_tenants")
_COUNT_MEETINGS: Final = script("count_tenant_meetings")
_ADD: Final = _changing("add_tenant")
_UPDATE: Final = _changing("update_tenant")
_REMOVE: Final = _changing("remove_tenant")
_ADD_SETTING: Final = _changing("add_tenant_setting")
_REMOVE_SETTING: Final = script("remove_tenant_setting")


class TenantStore:
    """Reads and changes tenants; every change is one atomic step. All methods raise StoreError.

    Nothing is cached, so that a rotated secret counts from the next request on.
    """

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._keys = (prefix,)

    async def find(self, name: str) -> Tenant | None:
        """The tenant of that name, with its settings."""
        reply = await self._redis.run(_FIND, self._keys, (name,))
        if not reply:
            return None
        fields = _fields(reply[1])
        return Tenant(
            id=reply[0],
            name=fields.get("name", name),
            secrets=split_secrets(fields.get("secrets", "")),
            settings=tuple(TenantSetting(param, value, override == "true") for param, value, override in reply[2:]),
            **{field: fields.get(field) or None for field in LRS_FIELDS},
        )

    async def all(self) -> list[TenantRecord]:
        """Every tenant with its settings, by name."""
        rows = await self._redis.run(_LIST, self._keys, ("",))
        return sorted((_record(row) for row in rows), key=lambda tenant: (tenant.name, tenant.id))

    async def get(self, tenant_id: str) -> TenantRecord | None:
        """The tenant of that id, with its settings."""
        rows = await self._redis.run(_LIST, self._keys, (tenant_id,)) if tenant_id else []
        return _record(rows[0]) if rows else None

    async def add(self, tenant_id: str, name: str, secrets: str) -> bool:
        """Record a new tenant; `secrets` are joined by `:`. False if the id or the name is taken."""
        return bool(await self._redis.run(_ADD, self._keys, (tenant_id, name, secrets)))

    async def update(self, tenant_id: str, changes: Mapping[str, str]) -> bool | None:
        """Set fields of Scalelite's layout; an empty text removes one. False if the name is taken, None: no tenant.

        Fields that are not named stay as they are then, whoever changed them last.
        """
        pairs = [part for pair in changes.items() for part in pair]
        done: int = await self._redis.run(_UPDATE, self._keys, (tenant_id, *pairs))
        return None if done < 0 else bool(done)

    async def remove(self, tenant_id: str) -> bool:
        """Remove a tenant with its settings. False if there is none."""
        return bool(await self._redis.run(_REMOVE, self._keys, (tenant_id,)))

    async def add_setting(
        self, setting_id: str, tenant_id: str, param: str, value: str, *, override: bool
    ) -> tuple[str, ...] | None:
        """Record a setting, in place of the tenant's others of that parameter and kind. Their ids; None: no tenant."""
        arguments = (setting_id, tenant_id, param, value, "true" if override else "false")
        added, *replaced = await self._redis.run(_ADD_SETTING, self._keys, arguments)
        return tuple(replaced) if added else None

    async def remove_setting(self, setting_id: str) -> bool:
        """Remove a setting. False if there is none."""
        return bool(setting_id and await self._redis.run(_REMOVE_SETTING, self._keys, (setting_id,)))

    async def count_meetings(self, tenant_id: str) -> int:
        """How many meetings are recorded as this tenant's."""
        count: int = await self._redis.run(_COUNT_MEETINGS, self._keys, (tenant_id,))
        return count


def _fields(flat: Sequence[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _record(row: Sequence[Any]) -> TenantRecord:
    fields = _fields(row[1])
    settings = (SettingRecord(key, param, value, override == "true") for key, param, value, override in row[2:])
    return TenantRecord(
        id=row[0],
        name=fields.get("name", ""),
        secrets=fields.get("secrets", ""),
        lrs={field: fields[field] for field in LRS_FIELDS if fields.get(field)},
        settings=tuple(sorted(settings, key=lambda setting: (setting.param, setting.override, setting.id))),
    )
