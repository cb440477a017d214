"""What operators do with tenants and their settings, checked before it is stored. Prints nothing."""

from __future__ import annotations

from collections.abc import Mapping

from scalelite.cluster.tenants import Taken, TenantRecord, check_lrs, check_name, check_setting, joined_secrets
from scalelite.store.tenants import TenantStore


class NoSuchTenant(Exception):
    """There is no tenant of that id, or not any more."""

    def __init__(self, tenant_id: str) -> None:
        super().__init__(f"Couldn't find Tenant with id={tenant_id}")


class NoSuchSetting(Exception):
    """There is no setting of that id."""

    def __init__(self, setting_id: str) -> None:
        super().__init__(f"Couldn't find TenantSetting with id={setting_id}")


async def find_tenant(tenants: TenantStore, tenant_id: str) -> TenantRecord:
    """The tenant of that id. Raises NoSuchTenant, StoreError."""
    tenant = await tenants.get(tenant_id)
    if tenant is None:
        raise NoSuchTenant(tenant_id)
    return tenant


async def add_tenant(tenants: TenantStore, tenant_id: str, name: str, secrets: str) -> TenantRecord:
    """Record a new tenant; `secrets` are separated by `:`, any of them signs. Raises Unfit (Taken), StoreError."""
    check_name(name)
    secrets = joined_secrets(secrets)
    if not await tenants.add(tenant_id, name, secrets):
        raise Taken(name)
    return TenantRecord(tenant_id, name, secrets)


async def update_tenant(
    tenants: TenantStore, tenant_id: str, *, name: str | None = None, secrets: str | None = None
) -> TenantRecord:
    """Rename a tenant, or replace its secrets; None leaves it. The tenant as it is then.

    A name that Scalelite let pass may stay. Raises NoSuchTenant, Unfit (Taken), StoreError.
    """
    before = await find_tenant(tenants, tenant_id)
    changes: dict[str, str] = {}
    if name is not None and name != before.name:
        check_name(name)
        changes["name"] = name
    if secrets is not None:
        changes["secrets"] = joined_secrets(secrets)
    return await _change(tenants, tenant_id, changes)


async def set_lrs_login(tenants: TenantStore, tenant_id: str, fields: Mapping[str, str]) -> TenantRecord:
    """Give a tenant a login to its learning record store: lrs_endpoint, lrs_username, lrs_password.

    Raises NoSuchTenant, Unfit, StoreError.
    """
    return await _set_lrs(tenants, tenant_id, fields)


async def set_lrs_token(tenants: TenantStore, tenant_id: str, fields: Mapping[str, str]) -> TenantRecord:
    """Let a tenant get tokens for its learning record store from Keycloak: lrs_endpoint and the fields kc_*.

    A login that it has is removed, for it would go on winning. Raises NoSuchTenant, Unfit, StoreError.
    """
    return await _set_lrs(tenants, tenant_id, {**fields, "lrs_username": "", "lrs_password": ""})


async def _set_lrs(tenants: TenantStore, tenant_id: str, fields: Mapping[str, str]) -> TenantRecord:
    for field, value in fields.items():
        check_lrs(field, value)
    return await _change(tenants, tenant_id, fields)


async def remove_tenant(tenants: TenantStore, tenant_id: str) -> None:
    """Remove a tenant with its settings. Raises NoSuchTenant, StoreError."""
    if not tenant_id or not await tenants.remove(tenant_id):
        raise NoSuchTenant(tenant_id)


async def add_setting(
    tenants: TenantStore, setting_id: str, tenant_id: str, param: str, value: str, *, override: bool
) -> tuple[str, ...]:
    """Let a tenant's create and join calls have a parameter. The ids of the settings that this one replaces.

    Raises NoSuchTenant, Unfit, StoreError.
    """
    check_setting(param, value)
    replaced = await tenants.add_setting(setting_id, tenant_id, param, value, override=override)
    if replaced is None:
        raise NoSuchTenant(tenant_id)
    return replaced


async def remove_setting(tenants: TenantStore, setting_id: str) -> None:
    """Remove a setting. Raises NoSuchSetting, StoreError."""
    if not await tenants.remove_setting(setting_id):
        raise NoSuchSetting(setting_id)


async def _change(tenants: TenantStore, tenant_id: str, changes: Mapping[str, str]) -> TenantRecord:
    if changes:
        done = await tenants.update(tenant_id, changes)
        if done is None:
            raise NoSuchTenant(tenant_id)
        if not done:
            raise Taken(changes["name"])
    return await find_tenant(tenants, tenant_id)
