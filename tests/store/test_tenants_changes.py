"""Changes of tenants in Redis: each one step, in Scalelite's layout, and nothing left behind."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from scalelite.cluster.tenants import SettingRecord, TenantRecord
from tests.store.layout import Stores


async def keys(stores: Stores) -> set[str]:
    return {key.removeprefix(stores.prefix) for key in await stores.redis.call("KEYS", "*")}


def together(*work: Any) -> Deferred[list[Any]]:
    return gatherResults([Deferred.fromCoroutine(coroutine) for coroutine in work])


@pytest_twisted.ensureDeferred
async def test_a_tenant_is_a_record_a_member_and_an_index(stores: Stores) -> None:
    assert await stores.tenants.add("t1", "school", "b:a")
    assert await stores.hash("tenant:t1") == {"name": "school", "secrets": "b:a"}
    assert await stores.hash("tenant_name:school") == {"id": "t1"}
    assert await stores.members("tenants") == {"t1"}
    assert await keys(stores) == {"tenant:t1", "tenant_name:school", "tenants"}
    found = await stores.tenants.find("school")
    assert found is not None
    assert found.secrets == (b"b", b"a")


@pytest_twisted.ensureDeferred
async def test_a_taken_id_or_name_changes_nothing(stores: Stores) -> None:
    await stores.tenants.add("t1", "school", "s")
    assert not await stores.tenants.add("t2", "school", "other")
    assert not await stores.tenants.add("t1", "club", "other")
    assert await stores.tenants.all() == [TenantRecord("t1", "school", "s")]
    assert await keys(stores) == {"tenant:t1", "tenant_name:school", "tenants"}


@pytest_twisted.ensureDeferred
async def test_a_name_whose_tenant_is_gone_is_free(stores: Stores) -> None:
    await stores.call("HSET", "tenant_name:school", "id", "gone")
    assert await stores.tenants.add("t1", "school", "s")
    assert await stores.hash("tenant_name:school") == {"id": "t1"}


@pytest_twisted.ensureDeferred
async def test_a_name_that_lost_its_index_is_taken_all_the_same(stores: Stores) -> None:
    await stores.tenants.add("t1", "school", "s")
    await stores.call("DEL", "tenant_name:school")
    assert not await stores.tenants.add("t2", "school", "s")


@pytest_twisted.ensureDeferred
async def test_of_two_that_take_a_name_at_once_one_gets_it(stores: Stores) -> None:
    done = await together(*(stores.tenants.add(f"t{i}", "school", f"s{i}") for i in range(5)))
    assert sorted(done) == [False, False, False, False, True]
    assert len(await stores.tenants.all()) == 1


@pytest_twisted.ensureDeferred
async def test_changes_of_different_fields_at_once_are_all_kept(stores: Stores) -> None:
    await stores.tenants.add("t1", "school", "s")
    await together(
        stores.tenants.update("t1", {"name": "club"}),
        stores.tenants.update("t1", {"secrets": "new:old"}),
        stores.tenants.update("t1", {"lrs_endpoint": "https://lrs"}),
    )
    assert await stores.tenants.get("t1") == TenantRecord("t1", "club", "new:old", {"lrs_endpoint": "https://lrs"})


@pytest_twisted.ensureDeferred
async def test_a_rename_moves_the_index(stores: Stores) -> None:
    await stores.tenants.add("t1", "school", "s")
    assert await stores.tenants.update("t1", {"name": "club"}) is True
    assert await stores.tenants.find("school") is None
    assert await keys(stores) == {"tenant:t1", "tenant_name:club", "tenants"}
    assert await stores.tenants.update("t1", {"name": "club"}) is True
    assert await stores.hash("tenant_name:club") == {"id": "t1"}


@pytest_twisted.ensureDeferred
async def test_a_rename_to_a_taken_name_changes_nothing(stores: Stores) -> None:
    await stores.tenants.add("t1", "school", "s")
    await stores.tenants.add("t2", "club", "c")
    assert await stores.tenants.update("t1", {"secrets": "new", "name": "club"}) is False
    assert await stores.tenants.all() == [TenantRecord("t2", "club", "c"), TenantRecord("t1", "school", "s")]
    assert await stores.hash("tenant_name:school") == {"id": "t1"}


@pytest.mark.parametrize("leave", ["remove", "rename"])
@pytest_twisted.ensureDeferred
async def test_of_two_tenants_of_one_name_the_other_can_be_called_afterwards(stores: Stores, leave: str) -> None:
    # Scalelite lets them have it, and the second takes the index over.
    await stores.tenants.add("t1", "school", "one")
    await stores.call("HSET", "tenant:t2", "name", "school", "secrets", "two")
    await stores.call("SADD", "tenants", "t2")
    await stores.call("HSET", "tenant_name:school", "id", "t2")
    if leave == "remove":
        assert await stores.tenants.remove("t2")
    else:
        assert await stores.tenants.update("t2", {"name": "club"})
    found = await stores.tenants.find("school")
    assert found is not None
    assert found.id == "t1"


@pytest_twisted.ensureDeferred
async def test_leaving_a_name_does_not_take_it_from_who_holds_it(stores: Stores) -> None:
    others = [f"t{number}" for number in range(1, 9)]
    for tenant_id in [*others, "holder"]:
        await stores.call("HSET", f"tenant:{tenant_id}", "name", "school", "secrets", "s")
        await stores.call("SADD", "tenants", tenant_id)
    await stores.call("HSET", "tenant_name:school", "id", "holder")
    for tenant_id in others:
        assert await stores.tenants.remove(tenant_id)
        assert await stores.hash("tenant_name:school") == {"id": "holder"}


@pytest_twisted.ensureDeferred
async def test_an_empty_value_removes_a_field(stores: Stores) -> None:
    await stores.tenants.add("t1", "school", "s")
    await stores.tenants.update("t1", {"lrs_endpoint": "https://lrs", "lrs_username": "u"})
    await stores.tenants.update("t1", {"lrs_username": ""})
    assert await stores.hash("tenant:t1") == {"name": "school", "secrets": "s", "lrs_endpoint": "https://lrs"}


@pytest_twisted.ensureDeferred
async def test_a_tenant_that_is_not_there_is_not_made_by_a_change(stores: Stores) -> None:
    assert await stores.tenants.update("t1", {"name": "school"}) is None
    assert await stores.tenants.add_setting("s1", "t1", "p", "v", override=True) is None
    assert not await stores.tenants.remove("t1")
    assert not await stores.tenants.remove_setting("s1")
    assert not await stores.tenants.remove_setting("")
    assert await stores.tenants.get("t1") is None
    assert await stores.tenants.get("") is None
    assert await keys(stores) == set()


@pytest_twisted.ensureDeferred
async def test_a_tenant_goes_with_its_settings_and_only_with_them(stores: Stores) -> None:
    await stores.tenants.add("t1", "school", "s")
    await stores.tenants.add("t2", "club", "s")
    await stores.tenants.add_setting("a", "t1", "p", "v", override=True)
    await stores.tenants.add_setting("b", "t2", "p", "v", override=False)
    assert await stores.tenants.remove("t1")
    assert await keys(stores) == {
        "tenants", "tenant:t2", "tenant_name:club", "tenant_settings:t2", "tenant_setting:b",
    }  # fmt: skip
    assert await stores.tenants.remove("t2")
    assert await keys(stores) == set()


@pytest_twisted.ensureDeferred
async def test_settings_left_by_scalelite_do_not_come_to_a_new_tenant_of_that_id(stores: Stores) -> None:
    await stores.call("SADD", "tenant_settings:t1", "old")
    await stores.call("HSET", "tenant_setting:old", "param", "p", "value", "v", "override", "true", "tenant_id", "t1")
    await stores.tenants.add("t1", "school", "s")
    assert await stores.tenants.get("t1") == TenantRecord("t1", "school", "s")


@pytest_twisted.ensureDeferred
async def test_a_setting_replaces_those_of_its_parameter_and_kind(stores: Stores) -> None:
    await stores.tenants.add("t1", "school", "s")
    for setting_id, value, override in (("a", "1", "false"), ("b", "2", "TRUE"), ("c", "3", "true")):
        await stores.call("SADD", "tenant_settings:t1", setting_id)
        await stores.call(
            "HSET", f"tenant_setting:{setting_id}", "param", "logo", "value", value, "override", override,
            "tenant_id", "t1",
        )  # fmt: skip
    # Scalelite takes anything but `true` for a default.
    replaced = await stores.tenants.add_setting("new", "t1", "logo", "4", override=False)
    assert replaced is not None
    assert sorted(replaced) == ["a", "b"]
    assert await stores.hash("tenant_setting:new") == {
        "param": "logo", "value": "4", "override": "false", "tenant_id": "t1",
    }  # fmt: skip
    record = await stores.tenants.get("t1")
    assert record is not None
    assert record.settings == (SettingRecord("new", "logo", "4", False), SettingRecord("c", "logo", "3", True))
    assert await stores.tenants.remove_setting("c")
    assert await stores.members("tenant_settings:t1") == {"new"}


@pytest_twisted.ensureDeferred
async def test_meetings_are_counted_by_tenant(stores: Stores) -> None:
    await stores.add("s1")
    await stores.create("m1", tenant="t1")
    await stores.create("m2", tenant="t1")
    await stores.create("m3", tenant="t2")
    await stores.create("m4")
    assert [await stores.tenants.count_meetings(tenant) for tenant in ("t1", "t2", "t3")] == [2, 1, 0]


@pytest_twisted.ensureDeferred
async def test_a_record_of_a_foreign_type_hides_no_other(stores: Stores) -> None:
    await stores.tenants.add("t1", "school", "s")
    await stores.call("SADD", "tenants", "t2", "ghost")
    await stores.put_foreign("tenant:t2")
    await stores.put_foreign("tenant_settings:t1")
    assert await stores.tenants.all() == [TenantRecord("t1", "school", "s")]


@pytest_twisted.ensureDeferred
async def test_tenants_are_listed_by_name(stores: Stores) -> None:
    for tenant_id, name in (("1", "c"), ("2", "a"), ("3", "b")):
        await stores.tenants.add(tenant_id, name, "s")
    assert [tenant.name for tenant in await stores.tenants.all()] == ["a", "b", "c"]


def test_records_show_no_secrets() -> None:
    record = TenantRecord("t", "n", "hush", {"lrs_password": "hush"}, (SettingRecord("s", "p", "hush", True),))
    assert "hush" not in repr(record)
