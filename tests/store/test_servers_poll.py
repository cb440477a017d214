"""What a poll changes: health, load and metrics, applied to the server as it is at that moment (sections 7 and 8)."""

from __future__ import annotations

import attrs
import pytest
import pytest_twisted

from scalelite.cluster.records import ServerState
from scalelite.cluster.statistics import ServerStatistics
from scalelite.store.errors import StoreReplyError
from tests.store.layout import CORDONED, DISABLED, ENABLED, GRACE, PREFIX, TTL, Stores

FIGURES = ServerStatistics(
    load=46, users=34, meetings=4, largest_meeting=20, videos=3, meeting_ids=("a", "b", "c", "d")
)


@pytest_twisted.ensureDeferred
async def test_good_poll_writes_load_and_figures_as_scalelite_reads_them(stores: Stores) -> None:
    await stores.add("s1", multiplier=2.5)
    await stores.servers.record_poll("s1", await stores.time(), FIGURES, stores.limits)
    assert float(await stores.call("ZSCORE", "server_load", "s1")) == 115
    assert await stores.hash("server:s1") == {
        "url": "https://s1/api", "secret": "secret of s1", "load_multiplier": "2.5", "state": "enabled",
        "online": "true", "users": "34", "meetings": "4", "largest_meeting": "20", "videos": "3",
    }  # fmt: skip
    assert await stores.hash("s1") == {"unhealthy_counter": "0", "healthy_counter": "0"}


@pytest.mark.parametrize(
    ("state", "server_load", "cordoned_load"), [(ENABLED, 9, None), (CORDONED, None, 9), (DISABLED, None, None)]
)
@pytest_twisted.ensureDeferred
async def test_load_goes_where_the_state_says(
    stores: Stores, state: ServerState, server_load: float | None, cordoned_load: float | None
) -> None:
    await stores.add("s1", 3, state=state)
    assert (await stores.poll("s1", "m", load=9)).event == ""
    assert (await stores.scores("server_load")).get("s1") == server_load
    assert (await stores.scores("cordoned_server_load")).get("s1") == cordoned_load
    assert (await stores.hash("server:s1"))["state"] == state.value


@pytest.mark.parametrize("legacy_enabled", [True, False])
@pytest_twisted.ensureDeferred
async def test_server_of_the_time_without_states_stays_one(stores: Stores, legacy_enabled: bool) -> None:
    await stores.call("HSET", "server:old", "url", "u", "secret", "s", "online", "true")
    await stores.call("SADD", "servers", "old")
    if legacy_enabled:
        await stores.call("SADD", "server_enabled", "old")
    await stores.poll("old", "m", load=9)
    assert "state" not in await stores.hash("server:old")
    assert ("old" in await stores.members("server_enabled")) is legacy_enabled
    assert await stores.scores("server_load") == ({"old": 9} if legacy_enabled else {})


@pytest_twisted.ensureDeferred
async def test_server_goes_offline_at_the_threshold_and_its_records_stay(stores: Stores) -> None:
    await stores.add("s1", 30)
    await stores.create("m", bridges=("123",))
    await stores.poll("s1", "m", load=30, users=30)
    assert (await stores.fail("s1")).event == ""
    assert (await stores.hash("s1"))["unhealthy_counter"] == "1"
    assert await stores.scores("server_load") == {"s1": 30}
    assert (await stores.hash("server:s1"))["users"] == "30"

    assert (await stores.fail("s1")).event == "offline"
    assert await stores.scores("server_load") == {}
    assert await stores.hash("s1") == {"unhealthy_counter": "0", "healthy_counter": "0"}
    server = await stores.hash("server:s1")
    assert [server[name] for name in ("online", "state", "users", "meetings", "largest_meeting", "videos")] == [
        "false", "enabled", "0", "0", "0", "0",
    ]  # fmt: skip
    assert "s1" in await stores.members("server_enabled")
    assert await stores.where("m") == "s1"
    assert await stores.hash("voice_bridges") == {"123": "m"}
    assert await stores.members("meetings") == {"m"}


@pytest.mark.parametrize("state", [CORDONED, DISABLED])
@pytest_twisted.ensureDeferred
async def test_offline_server_keeps_its_state(stores: Stores, state: ServerState) -> None:
    await stores.add("s1", 7, state=state)
    assert (await stores.fail("s1", 2)).event == "offline"
    assert (await stores.hash("server:s1"))["state"] == state.value
    assert await stores.scores("cordoned_server_load") == {}
    assert (await stores.fail("s1", 3)).event == ""


@pytest_twisted.ensureDeferred
async def test_good_poll_in_between_starts_the_count_of_failures_anew(stores: Stores) -> None:
    await stores.add("s1")
    for _ in range(3):
        assert (await stores.fail("s1")).event == ""
        await stores.poll("s1")


@pytest_twisted.ensureDeferred
async def test_server_comes_online_after_so_many_good_polls_in_a_row(stores: Stores) -> None:
    limits = attrs.evolve(stores.limits, healthy_threshold=3)
    await stores.add("s1", 5)
    await stores.fail("s1", 2, limits)
    assert [(await stores.poll("s1", load=9, limits=limits)).event for _ in range(2)] == ["", ""]
    assert (await stores.hash("s1"))["healthy_counter"] == "2"
    assert (await stores.hash("server:s1"))["online"] == "false"
    assert await stores.scores("server_load") == {}
    await stores.fail("s1", 1, limits)
    assert (await stores.hash("s1"))["healthy_counter"] == "0"
    assert [(await stores.poll("s1", load=9, limits=limits)).event for _ in range(3)] == ["", "", "online"]
    assert await stores.hash("s1") == {"unhealthy_counter": "0", "healthy_counter": "0"}
    assert await stores.scores("server_load") == {"s1": 9}


@pytest_twisted.ensureDeferred
async def test_failures_of_an_offline_server_are_not_counted(stores: Stores) -> None:
    await stores.add("s1", None)
    await stores.fail("s1", 5)
    assert (await stores.hash("s1")).get("unhealthy_counter", "0") == "0"
    assert (await stores.poll("s1")).event == "online"
    assert (await stores.fail("s1")).event == ""


@pytest.mark.parametrize("wanted", [CORDONED, DISABLED])
@pytest_twisted.ensureDeferred
async def test_state_changed_while_the_server_was_asked_is_not_undone(stores: Stores, wanted: ServerState) -> None:
    await stores.add("s1", 30)
    asked = await stores.time()
    await stores.servers.set_state("s1", wanted)
    await stores.poll("s1", "m", load=40, asked=asked)
    assert (await stores.hash("server:s1"))["state"] == wanted.value
    assert await stores.scores("server_load") == {}
    assert await stores.scores("cordoned_server_load") == ({"s1": 40} if wanted is CORDONED else {})
    assert "s1" not in await stores.members("server_enabled")
    assert (await stores.reserve("x")).placement == "no_servers"


@pytest_twisted.ensureDeferred
async def test_server_enabled_while_it_was_asked_takes_meetings_at_once(stores: Stores) -> None:
    await stores.add("s1", 30, state=CORDONED)
    asked = await stores.time()
    await stores.servers.set_state("s1", ENABLED)
    await stores.poll("s1", load=0, asked=asked)
    assert (await stores.hash("server:s1"))["state"] == "enabled"
    assert await stores.scores("server_load") == {"s1": 0}


@pytest.mark.parametrize("state", [CORDONED, DISABLED])
@pytest_twisted.ensureDeferred
async def test_stale_entries_of_a_server_that_takes_no_meetings_are_healed(stores: Stores, state: ServerState) -> None:
    await stores.add("s1", 30, state=state)
    await stores.call("ZADD", "server_load", 30, "s1")
    await stores.call("SADD", "server_enabled", "s1")
    await stores.poll("s1", "m", load=40)
    assert await stores.scores("server_load") == {}
    assert await stores.scores("cordoned_server_load") == ({"s1": 40} if state is CORDONED else {})
    assert await stores.members("server_enabled") == set()


@pytest_twisted.ensureDeferred
async def test_stale_cordoned_load_of_an_enabled_server_is_healed(stores: Stores) -> None:
    await stores.add("s1", 30)
    await stores.call("ZADD", "cordoned_server_load", 30, "s1")
    await stores.poll("s1", load=40)
    assert await stores.scores("server_load") == {"s1": 40}
    assert await stores.scores("cordoned_server_load") == {}


@pytest_twisted.ensureDeferred
async def test_emptied_cordoned_server_becomes_disabled(stores: Stores) -> None:
    await stores.add("s1", 7, state=CORDONED)
    assert (await stores.poll("s1")).event == "emptied"
    server = await stores.hash("server:s1")
    assert (server["state"], server["online"]) == ("disabled", "true")
    assert await stores.scores("server_load") == {}
    assert await stores.scores("cordoned_server_load") == {}
    assert (await stores.poll("s1")).event == ""


@pytest_twisted.ensureDeferred
async def test_cordoned_server_with_a_meeting_without_attendees_stays_cordoned(stores: Stores) -> None:
    await stores.add("s1", 7, state=CORDONED)
    assert (await stores.poll("s1", "empty")).event == ""
    assert (await stores.hash("server:s1"))["state"] == "cordoned"


@pytest.mark.parametrize("confirmed", [False, True])
@pytest_twisted.ensureDeferred
async def test_cordoned_server_where_a_meeting_is_being_created_stays_cordoned(stores: Stores, confirmed: bool) -> None:
    await stores.add("s1", 0)
    asked = await stores.time()
    meeting = await stores.place("m")
    await stores.servers.set_state("s1", CORDONED)
    if confirmed:
        await stores.meetings.confirm(meeting)
    assert (await stores.poll("s1", asked=asked)).event == ""
    assert (await stores.hash("server:s1"))["state"] == "cordoned"
    later = await stores.time() + GRACE + 1
    assert (await stores.poll("s1", asked=later)).event == "emptied"


@pytest_twisted.ensureDeferred
async def test_poll_asked_before_a_create_keeps_its_reservation(stores: Stores) -> None:
    await stores.add("s1", 10, multiplier=2.0)
    asked = await stores.time()
    meeting = await stores.place("m")
    assert await stores.scores("server_load") == {"s1": 40}
    await stores.poll("s1", "other", load=4, asked=asked)
    assert await stores.scores("server_load") == {"s1": (4 + 15) * 2}
    await stores.meetings.confirm(meeting)
    await stores.poll("s1", "other", load=5, asked=asked)
    assert await stores.scores("server_load") == {"s1": (5 + 15) * 2}
    await stores.poll("s1", "other", "m", load=20)
    assert await stores.scores("server_load") == {"s1": 40}
    await stores.poll("s1", "other", load=5)
    assert await stores.scores("server_load") == {"s1": 10}


@pytest_twisted.ensureDeferred
async def test_reservation_counts_until_a_pending_create_must_have_failed(stores: Stores) -> None:
    await stores.add("s1", 0)
    await stores.place("m")
    now = await stores.time()
    await stores.poll("s1", asked=now + GRACE - 5)
    assert await stores.scores("server_load") == {"s1": 15}
    await stores.poll("s1", asked=now + GRACE + 5)
    assert await stores.scores("server_load") == {"s1": 0}


@pytest_twisted.ensureDeferred
async def test_meetings_seen_alive_live_on(stores: Stores) -> None:
    await stores.add("s1")
    await stores.add("s2", 100)
    for meeting_id in ("seen", "unseen"):
        await stores.create(meeting_id)
        await stores.call("EXPIRE", f"meeting:{meeting_id}", 10)
    await stores.poll("s2", "seen")
    assert await stores.call("TTL", "meeting:seen") <= 10
    await stores.poll("s1", "seen", "unknown")
    assert await stores.call("TTL", "meeting:seen") > TTL - 10
    assert await stores.call("TTL", "meeting:unseen") <= 10
    assert await stores.call("EXISTS", "meeting:unknown") == 0


@pytest_twisted.ensureDeferred
async def test_poll_of_a_removed_server_writes_nothing(stores: Stores) -> None:
    await stores.add("s1")
    await stores.servers.remove("s1")
    assert (await stores.poll("s1", "m", load=9)).event == "gone"
    assert (await stores.fail("s1")).event == "gone"
    assert await stores.redis.call("KEYS", "*") == []


@pytest_twisted.ensureDeferred
async def test_hundreds_of_meetings_are_recorded_in_one_step(stores: Stores) -> None:
    await stores.add("s1")
    ids = tuple(f"meeting {number}" for number in range(10_000))
    await stores.poll("s1", *ids, load=10_000)
    assert (await stores.hash("server:s1"))["meetings"] == "10000"


@pytest_twisted.ensureDeferred
async def test_server_whose_counters_collide_with_another_key_is_its_own_trouble(stores: Stores) -> None:
    await stores.add("s1")
    await stores.servers.add("servers", "https://x/api", "secret")
    with pytest.raises(StoreReplyError) as refused:
        await stores.poll("servers")
    assert refused.value.code == "WRONGTYPE"
    assert (await stores.hash("server:servers"))["online"] == "false"
    await stores.poll("s1", load=8)
    assert await stores.scores("server_load") == {"s1": 8}
    assert len(await stores.servers.all()) == 2


@pytest_twisted.ensureDeferred
async def test_loads_without_short_decimal_form_survive(stores: Stores) -> None:
    await stores.add("s1", multiplier=0.1)
    await stores.poll("s1", load=7)
    assert await stores.scores("server_load") == {"s1": 7 * 0.1}
    text = await stores.redis.call("ZSCORE", PREFIX + "server_load", "s1")
    assert float(text) == 7 * 0.1


@pytest_twisted.ensureDeferred
async def test_copy_that_nobody_remembers_is_noticed_when_it_is_listed(stores: Stores) -> None:
    await stores.add("s1", 0)
    await stores.add("s2", 50)
    await stores.create("m")
    copies = (await stores.poll("s2", "m", "created past the balancer")).old_copies
    assert [(copy.meeting_id, copy.moderator_pw) for copy in copies] == [("m", "")]
    assert {target.id: target.moved for target in await stores.servers.targets()}["s2"] == {"m"}
    assert (await stores.poll("s1", "m")).old_copies == ()
    assert await stores.where("m") == "s1"
