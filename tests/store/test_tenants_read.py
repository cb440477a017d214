"""Tenants in Redis (contract: section 6)."""

from __future__ import annotations

import pytest
import pytest_twisted

from scalelite.cluster.records import Tenant, TenantSetting
from scalelite.store.errors import StoreReplyError
from tests.store.layout import Stores


async def _add(stores: Stores, tenant_id: str, name: str, **fields: str) -> None:
    await stores.call("SADD", "tenants", tenant_id)
    await stores.call("HSET", f"tenant_name:{name}", "id", tenant_id)
    await stores.call("HSET", f"tenant:{tenant_id}", "name", name, *[part for pair in fields.items() for part in pair])


async def _set(stores: Stores, tenant_id: str, setting_id: str, **fields: str) -> None:
    await stores.call("SADD", f"tenant_settings:{tenant_id}", setting_id)
    pairs = [part for pair in {**fields, "tenant_id": tenant_id}.items() for part in pair]
    await stores.call("HSET", f"tenant_setting:{setting_id}", *pairs)


@pytest_twisted.ensureDeferred
async def test_tenant_is_found_by_name_with_all_its_fields(stores: Stores) -> None:
    more = {
        "lrs_endpoint": "https://lrs", "lrs_username": "u", "lrs_password": "p", "kc_token_url": "https://kc",
        "kc_client_id": "c", "kc_client_secret": "cs", "kc_username": "ku", "kc_password": "kp",
    }  # fmt: skip
    await _add(stores, "t1", "school", secrets="one:two", **more)
    assert await stores.tenants.find("school") == Tenant("t1", "school", (b"one", b"two"), **more)


@pytest_twisted.ensureDeferred
async def test_fields_that_are_absent_or_empty_are_none_and_empty_secrets_are_dropped(stores: Stores) -> None:
    await _add(stores, "t1", "school", secrets=":one::", lrs_endpoint="")
    tenant = await stores.tenants.find("school")
    assert tenant == Tenant("t1", "school", (b"one",))
    await _add(stores, "t2", "club")
    tenant = await stores.tenants.find("club")
    assert tenant is not None
    assert tenant.secrets == ()


@pytest_twisted.ensureDeferred
async def test_settings_override_only_if_they_say_exactly_true(stores: Stores) -> None:
    await _add(stores, "t1", "school", secrets="s")
    for setting_id, override in (("a", "true"), ("b", "false"), ("c", "True"), ("d", "1")):
        await _set(stores, "t1", setting_id, param=f"p-{setting_id}", value=f"v-{setting_id}", override=override)
    await _set(stores, "t1", "e", param="p-e")
    await _set(stores, "t2", "f", param="p-f", value="of another tenant")
    await stores.call("SADD", "tenant_settings:t1", "ghost")
    tenant = await stores.tenants.find("school")
    assert tenant is not None
    assert sorted(tenant.settings, key=lambda setting: setting.param) == [
        TenantSetting("p-a", "v-a", True),
        TenantSetting("p-b", "v-b", False),
        TenantSetting("p-c", "v-c", False),
        TenantSetting("p-d", "v-d", False),
        TenantSetting("p-e", "", False),
    ]
    assert tenant.overrides() == {"p-a": "v-a"}


@pytest_twisted.ensureDeferred
async def test_unknown_name_and_a_name_without_record_are_no_tenant(stores: Stores) -> None:
    assert await stores.tenants.find("nobody") is None
    assert await stores.tenants.find("") is None
    await stores.call("HSET", "tenant_name:ghost", "id", "t9")
    assert await stores.tenants.find("ghost") is None


@pytest_twisted.ensureDeferred
async def test_tenant_with_a_broken_setting_is_refused_rather_than_served_without_it(stores: Stores) -> None:
    await _add(stores, "t1", "school", secrets="s")
    await _set(stores, "t1", "a", param="p", value="v", override="true")
    await _add(stores, "t2", "club", secrets="s")
    await stores.put_foreign("tenant_setting:a")
    with pytest.raises(StoreReplyError):
        await stores.tenants.find("school")
    assert await stores.tenants.find("club") is not None


@pytest_twisted.ensureDeferred
async def test_ids_keep_leading_zeros_and_any_character(stores: Stores) -> None:
    await _add(stores, "007", "büro-1", secrets="ä:007")
    tenant = await stores.tenants.find("büro-1")
    assert tenant == Tenant("007", "büro-1", ("ä".encode(), b"007"))


@pytest_twisted.ensureDeferred
async def test_secrets_do_not_show_in_a_log(stores: Stores) -> None:
    await _add(stores, "t1", "school", secrets="hush", lrs_password="hush", kc_password="hush", kc_client_secret="hush")
    assert "hush" not in repr(await stores.tenants.find("school"))
