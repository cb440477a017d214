"""Servers in Redis: reading, adding, removing, and the table of administrative states (contract: section 7)."""

from __future__ import annotations

import pytest
import pytest_twisted

from scalelite.cluster.records import ServerState
from tests.store.layout import CORDONED, DISABLED, ENABLED, Stores


@pytest_twisted.ensureDeferred
async def test_new_server_has_scalelites_fields_and_takes_nothing_yet(stores: Stores) -> None:
    assert await stores.servers.add("s1", "https://bbb/api", "secret", 2.5, "eu")
    assert await stores.hash("server:s1") == {
        "url": "https://bbb/api", "secret": "secret", "online": "false", "load_multiplier": "2.5", "tag": "eu",
    }  # fmt: skip
    assert await stores.members("servers") == {"s1"}
    assert await stores.call("EXISTS", "server_enabled") == 0
    assert await stores.call("EXISTS", "server_load") == 0
    server = await stores.servers.find("s1")
    assert server is not None
    assert (server.state, server.online, server.load, server.tag) == (DISABLED, False, None, "eu")
    assert (server.load_multiplier, server.meetings, server.bbb_version) == (2.5, None, None)


@pytest_twisted.ensureDeferred
async def test_server_without_tag_has_no_tag_field(stores: Stores) -> None:
    await stores.servers.add("s1", "https://bbb/api", "secret")
    assert "tag" not in await stores.hash("server:s1")
    assert (await stores.hash("server:s1"))["load_multiplier"] == "1.0"


@pytest_twisted.ensureDeferred
async def test_id_that_is_taken_is_not_added_again(stores: Stores) -> None:
    await stores.servers.add("s1", "https://one/api", "one")
    assert not await stores.servers.add("s1", "https://two/api", "two")
    assert (await stores.hash("server:s1"))["url"] == "https://one/api"


@pytest_twisted.ensureDeferred
async def test_unknown_server_is_not_found(stores: Stores) -> None:
    assert await stores.servers.find("nobody") is None
    assert await stores.servers.find("") is None
    assert await stores.servers.set_state("nobody", ENABLED) is None
    assert await stores.servers.remove("nobody") is None
    await stores.servers.set_bbb_version("nobody", "3.0")
    assert await stores.redis.call("KEYS", "*") == []


@pytest_twisted.ensureDeferred
async def test_servers_are_listed_by_id_and_ids_without_record_are_skipped(stores: Stores) -> None:
    for server_id in ("b", "c", "a"):
        await stores.add(server_id)
    await stores.call("SADD", "servers", "ghost")
    assert [server.id for server in await stores.servers.all()] == ["a", "b", "c"]


@pytest_twisted.ensureDeferred
async def test_record_outside_the_set_of_servers_is_found_by_id(stores: Stores) -> None:
    await stores.call("HSET", "server:s1", "url", "u", "secret", "s", "state", "enabled")
    server = await stores.servers.find("s1")
    assert server is not None
    assert server.state is ENABLED
    assert await stores.servers.all() == []


@pytest.mark.parametrize(
    ("state", "enabled_set", "expected", "load"),
    [
        ("enabled", False, ENABLED, 7.0),
        ("cordoned", True, CORDONED, 9.0),
        ("disabled", True, DISABLED, None),
        (None, True, ENABLED, 7.0),
        (None, False, DISABLED, None),
        ("", True, ENABLED, 7.0),
        ("", False, DISABLED, None),
    ],
)
@pytest_twisted.ensureDeferred
async def test_state_field_decides_and_without_it_the_set_of_enabled_servers(
    stores: Stores, state: str | None, enabled_set: bool, expected: ServerState, load: float | None
) -> None:
    await stores.call("HSET", "server:odd", "url", "u", "secret", "s", "online", "true", "enabled", "true")
    await stores.call("SADD", "servers", "odd")
    if state is not None:
        await stores.call("HSET", "server:odd", "state", state)
    if enabled_set:
        await stores.call("SADD", "server_enabled", "odd")
    await stores.call("ZADD", "server_load", 7, "odd")
    await stores.call("ZADD", "cordoned_server_load", 9, "odd")
    for server in (await stores.servers.find("odd"), (await stores.servers.all())[0]):
        assert server is not None
        assert (server.state, server.load) == (expected, load)


@pytest_twisted.ensureDeferred
async def test_state_that_nobody_knows_counts_as_disabled_and_does_not_hide_the_others(stores: Stores) -> None:
    await stores.add("s1")
    await stores.add("odd", 3)
    await stores.call("HSET", "server:odd", "state", "retired")
    assert [(s.id, s.state) for s in await stores.servers.all()] == [("odd", DISABLED), ("s1", ENABLED)]
    assert await stores.servers.set_state("odd", DISABLED) is DISABLED
    assert (await stores.hash("server:odd"))["state"] == "disabled"


@pytest.mark.parametrize(
    ("text", "expected"), [("2.5", 2.5), ("3", 3.0), ("", 1.0), ("abc", 1.0), ("0", 1.0), ("nan", 1.0), ("inf", 1.0)]
)
@pytest_twisted.ensureDeferred
async def test_load_multiplier_that_is_no_number_counts_as_one(stores: Stores, text: str, expected: float) -> None:
    await stores.add("s1")
    await stores.call("HSET", "server:s1", "load_multiplier", text)
    await stores.poll("s1", load=10)
    assert await stores.scores("server_load") == {"s1": 10 * expected}
    server = await stores.servers.find("s1")
    assert server is not None
    assert server.load_multiplier == expected
    await stores.call("HSET", "server:s1", "load_multiplier", "1.0")


@pytest.mark.parametrize(
    ("before", "after", "server_enabled", "server_load", "cordoned_load"),
    [
        (ENABLED, CORDONED, False, None, 7.0),
        (ENABLED, DISABLED, False, None, None),
        (CORDONED, ENABLED, True, 7.0, None),
        (CORDONED, DISABLED, False, None, None),
        (DISABLED, ENABLED, True, None, None),
        (DISABLED, CORDONED, False, None, None),
        (ENABLED, ENABLED, True, 7.0, None),
        (CORDONED, CORDONED, False, None, 7.0),
        (DISABLED, DISABLED, False, None, None),
    ],
)
@pytest_twisted.ensureDeferred
async def test_change_of_state_moves_the_load_with_it(
    stores: Stores, before: ServerState, after: ServerState, server_enabled: bool, server_load: float | None,
    cordoned_load: float | None,
) -> None:  # fmt: skip
    await stores.add("s1", 7, state=before)
    assert await stores.servers.set_state("s1", after) is before
    assert (await stores.hash("server:s1"))["state"] == after.value
    assert ("s1" in await stores.members("server_enabled")) is server_enabled
    assert (await stores.scores("server_load")).get("s1") == server_load
    assert (await stores.scores("cordoned_server_load")).get("s1") == cordoned_load
    assert (await stores.hash("server:s1"))["online"] == "true"


@pytest.mark.parametrize("after", [ENABLED, CORDONED, DISABLED])
@pytest_twisted.ensureDeferred
async def test_first_assignment_ends_the_time_without_states(stores: Stores, after: ServerState) -> None:
    await stores.call("HSET", "server:old", "url", "u", "secret", "s", "online", "true")
    await stores.call("SADD", "servers", "old")
    await stores.call("SADD", "server_enabled", "old")
    await stores.call("ZADD", "server_load", 5, "old")
    assert await stores.servers.set_state("old", after) is ENABLED
    assert (await stores.hash("server:old"))["state"] == after.value
    assert ("old" in await stores.members("server_enabled")) is (after is ENABLED)
    assert (await stores.scores("server_load")).get("old") == (5 if after is ENABLED else None)
    assert (await stores.scores("cordoned_server_load")).get("old") == (5 if after is CORDONED else None)


@pytest_twisted.ensureDeferred
async def test_just_enabled_server_gets_no_meetings_before_its_next_good_poll(stores: Stores) -> None:
    await stores.add("s1", 7, state=DISABLED)
    await stores.servers.set_state("s1", ENABLED)
    assert (await stores.reserve("m")).placement == "no_servers"
    await stores.poll("s1")
    assert (await stores.reserve("m")).placement == "new"


@pytest_twisted.ensureDeferred
async def test_load_left_under_the_other_state_is_used_when_none_is_known(stores: Stores) -> None:
    await stores.add("s1", 7, state=DISABLED)
    await stores.call("ZADD", "cordoned_server_load", 4, "s1")
    await stores.servers.set_state("s1", ENABLED)
    assert await stores.scores("server_load") == {"s1": 4}
    await stores.call("ZREM", "cordoned_server_load", "s1")
    await stores.add("s2", 7, state=DISABLED)
    await stores.call("ZADD", "server_load", 6, "s2")
    await stores.servers.set_state("s2", CORDONED)
    assert await stores.scores("cordoned_server_load") == {"s2": 6}
    assert await stores.scores("server_load") == {"s1": 4}


@pytest_twisted.ensureDeferred
async def test_server_with_meetings_is_removed_by_force_only_and_its_records_with_it(stores: Stores) -> None:
    await stores.add("s1")
    await stores.add("s2", 5)
    await stores.fail("s1")
    await stores.create("m", bridges=("123",))
    assert await stores.servers.remove("s1") == 1
    assert await stores.servers.find("s1") is not None
    assert await stores.where("m") == "s1"
    assert await stores.servers.remove("s1", force=True) == 1
    assert await stores.where("m") is None
    keys = {key.removeprefix(stores.prefix) for key in await stores.redis.call("KEYS", "*")}
    assert keys == {"servers", "server:s2", "server_enabled", "server_load", "s2"}


@pytest_twisted.ensureDeferred
async def test_server_without_meetings_is_removed_from_every_set(stores: Stores) -> None:
    await stores.add("s1")
    await stores.add("s2", state=CORDONED)
    await stores.fail("s2")
    assert await stores.servers.remove("s1") == 0
    assert await stores.servers.remove("s2") == 0
    assert await stores.redis.call("KEYS", "*") == []


@pytest.mark.parametrize("server_id", ["servers", "meetings", "voice_bridges", "server:s2"])
@pytest_twisted.ensureDeferred
async def test_removing_a_server_with_the_name_of_another_key_spares_that_key(stores: Stores, server_id: str) -> None:
    await stores.add("s2")
    await stores.create("m", bridges=("123",))
    await stores.servers.add(server_id, "https://x/api", "secret")
    assert await stores.servers.remove(server_id) == 0
    assert [server.id for server in await stores.servers.all()] == ["s2"]
    assert await stores.members("meetings") == {"m"}
    assert await stores.hash("voice_bridges") == {"123": "m"}


@pytest_twisted.ensureDeferred
async def test_version_is_kept_also_when_it_is_empty(stores: Stores) -> None:
    await stores.add("s1")
    await stores.servers.set_bbb_version("s1", "")
    assert (await stores.hash("server:s1"))["bbb_version"] == ""
    await stores.servers.set_bbb_version("s1", "3.0.12")
    server = await stores.servers.find("s1")
    assert server is not None
    assert server.bbb_version == "3.0.12"


@pytest_twisted.ensureDeferred
async def test_servers_that_are_online_and_not_disabled_list_meetings(stores: Stores) -> None:
    await stores.add("enabled")
    await stores.add("cordoned", state=CORDONED)
    await stores.add("disabled", state=DISABLED)
    await stores.add("offline", None)
    assert sorted((t.id, t.url, t.secret, t.moved) for t in await stores.servers.targets()) == [
        ("cordoned", "https://cordoned/api", "secret of cordoned", frozenset()),
        ("enabled", "https://enabled/api", "secret of enabled", frozenset()),
    ]


@pytest_twisted.ensureDeferred
async def test_secrets_do_not_show_in_a_log(stores: Stores) -> None:
    await stores.add("s1")
    meeting = await stores.create("m", password="hush")
    shown = f"{await stores.servers.all()} {await stores.servers.targets()} {await stores.meetings.find('m')} {meeting}"
    assert "secret of" not in shown
    assert "hush" not in shown


@pytest_twisted.ensureDeferred
async def test_update_changes_only_the_fields_that_are_given(stores: Stores) -> None:
    await stores.add("s1", load=None, tag="gold", multiplier=2.0)
    before = await stores.hash("server:s1")
    assert await stores.servers.update("s1")
    assert await stores.hash("server:s1") == before
    assert await stores.servers.update("s1", load_multiplier=1.5)
    assert await stores.hash("server:s1") == {**before, "load_multiplier": "1.5"}
    assert await stores.servers.update("s1", secret="new", tag="silver")
    assert await stores.hash("server:s1") == {**before, "load_multiplier": "1.5", "secret": "new", "tag": "silver"}
    assert await stores.servers.update("s1", tag="")
    assert "tag" not in await stores.hash("server:s1")
    assert not await stores.servers.update("nobody", tag="x")
    assert await stores.hash("server:nobody") == {}
