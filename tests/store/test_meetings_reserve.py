"""First half of create: choosing a server (contract: find_available), finding a meeting, and placing it anew."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from scalelite.cluster.records import Meeting
from scalelite.store.errors import StoreReplyError
from scalelite.store.meetings import Placement
from tests.store.layout import CORDONED, DISABLED, ENABLED, TTL, Stores

# Server id, load, tag.
POOL = (("none-20", 20, ""), ("none-30", 30, ""), ("eu-10", 10, "eu"), ("eu-25", 25, "eu"), ("us-5", 5, "us"))


@pytest.mark.parametrize(
    ("tags", "chosen"),
    [
        (None, "none-20"),
        ("", "none-20"),
        ("  ", "none-20"),
        ("!", "none-20"),
        ("eu", "eu-10"),
        ("eu!", "eu-10"),
        ("eu;us", "us-5"),
        ("us;eu!", "us-5"),
        ("eu;none", "eu-10"),
        ("none", "none-20"),
        ("none!", "none-20"),
        ("asia", "none-20"),
        ("asia;africa", "none-20"),
        ("asia;none!", "none-20"),
        ("EU", "none-20"),
        (" eu", "none-20"),
        ("asia!", None),
        ("asia;africa!", None),
        ("EU!", None),
        (";", "none-20"),
        (";!", None),
    ],
)
@pytest_twisted.ensureDeferred
async def test_tags_decide_among_the_least_loaded(stores: Stores, tags: str | None, chosen: str | None) -> None:
    for server_id, load, tag in POOL:
        await stores.add(server_id, load, tag=tag)
    reservation = await stores.reserve("m", tags=tags)
    if chosen is None:
        assert reservation.placement is Placement.NO_TAGGED_SERVER
        assert await stores.members("meetings") == set()
    else:
        assert reservation.host is not None
        assert reservation.host.id == chosen


@pytest.mark.parametrize("tags", [None, "asia"])
@pytest_twisted.ensureDeferred
async def test_untagged_meetings_never_go_to_tagged_servers(stores: Stores, tags: str | None) -> None:
    await stores.add("eu", 0, tag="eu")
    assert (await stores.reserve("m", tags=tags)).placement is Placement.NO_SERVERS


@pytest.mark.parametrize("tags", [None, "eu", "eu!"])
@pytest_twisted.ensureDeferred
async def test_no_server_that_takes_meetings_is_no_server_even_with_a_required_tag(
    stores: Stores, tags: str | None
) -> None:
    await stores.add("off", None, tag="eu")
    await stores.add("cordoned", 0, tag="eu", state=CORDONED)
    await stores.add("disabled", 0, tag="eu", state=DISABLED)
    assert (await stores.reserve("m", tags=tags)).placement is Placement.NO_SERVERS


@pytest_twisted.ensureDeferred
async def test_equal_loads_go_by_id(stores: Stores) -> None:
    for server_id in ("b", "a", "c"):
        await stores.add(server_id, 5)
    assert [(await stores.place(f"m{i}")).server_id for i in range(4)] == ["a", "b", "c", "a"]


@pytest_twisted.ensureDeferred
async def test_entry_of_a_server_without_record_is_passed_over(stores: Stores) -> None:
    await stores.add("s1", 5)
    await stores.call("ZADD", "server_load", 0, "ghost")
    assert (await stores.place("m")).server_id == "s1"


@pytest_twisted.ensureDeferred
async def test_choice_looks_beyond_the_first_servers_of_a_large_pool(stores: Stores) -> None:
    for number in range(70):
        await stores.call("ZADD", "server_load", 0, f"ghost-{number:03}")
    await stores.add("plain", 50)
    await stores.add("eu", 60, tag="eu")
    assert (await stores.place("m1")).server_id == "plain"
    assert (await stores.place("m2", tags="eu!")).server_id == "eu"


@pytest_twisted.ensureDeferred
async def test_membership_of_server_load_is_what_makes_a_server_eligible(stores: Stores) -> None:
    await stores.call("HSET", "server:s1", "url", "u", "secret", "s")
    await stores.call("ZADD", "server_load", 1, "s1")
    assert (await stores.place("m")).server_id == "s1"


@pytest_twisted.ensureDeferred
async def test_servers_that_failed_already_are_not_chosen_again(stores: Stores) -> None:
    for load, server_id in enumerate(("s1", "s2", "s3")):
        await stores.add(server_id, load)
    assert (await stores.place("m", excluded=("s1", "s2"))).server_id == "s3"
    reservation = await stores.reserve("x", excluded=("s1", "s2", "s3"))
    assert reservation.placement is Placement.NO_SERVERS


@pytest_twisted.ensureDeferred
async def test_new_meeting_is_recorded_as_scalelite_does(stores: Stores) -> None:
    await stores.add("s1", 10, multiplier=2.0)
    reservation = await stores.reserve("m", tenant="t1", password="mod", bridges=("123", "456"))
    assert (reservation.placement, reservation.pending) == (Placement.NEW, True)
    assert reservation.meeting == Meeting("m", "s1", "mod", "123", "t1")
    assert reservation.host is not None
    assert (reservation.host.url, reservation.host.secret) == ("https://s1/api", "secret of s1")
    assert await stores.hash("meeting:m") == {
        "server_id": "s1", "moderator_pw": "mod", "voice_bridge": "123", "tenant_id": "t1",
    }  # fmt: skip
    assert TTL - 10 < await stores.call("TTL", "meeting:m") <= TTL
    assert await stores.members("meetings") == {"m"}
    assert await stores.hash("voice_bridges") == {"123": "m"}
    assert await stores.scores("server_load") == {"s1": 40}


@pytest_twisted.ensureDeferred
async def test_tenant_id_is_empty_without_a_tenant(stores: Stores) -> None:
    await stores.add("s1")
    await stores.place("m")
    assert (await stores.hash("meeting:m"))["tenant_id"] == ""


@pytest_twisted.ensureDeferred
async def test_burst_of_creates_spreads_over_the_servers(stores: Stores) -> None:
    for server_id in ("s1", "s2", "s3"):
        await stores.add(server_id)
    await stores.add("s4", 40)
    placed = await gatherResults([Deferred.fromCoroutine(stores.place(f"m{i}")) for i in range(9)])
    used = [meeting.server_id for meeting in placed]
    assert {server_id: used.count(server_id) for server_id in used} == {"s1": 3, "s2": 3, "s3": 3}


@pytest_twisted.ensureDeferred
async def test_parallel_creates_of_one_meeting_meet_on_one_server(stores: Stores) -> None:
    await stores.add("s1")
    await stores.add("s2")
    calls = [Deferred.fromCoroutine(stores.reserve("m", password=f"pw{i}", bridges=(f"{i}",))) for i in range(5)]
    reservations = await gatherResults(calls)
    assert [r.placement for r in reservations] == [Placement.NEW] + [Placement.EXISTING] * 4
    assert {r.meeting for r in reservations} == {Meeting("m", "s1", "pw0", "0", "")}
    assert all(r.pending for r in reservations)
    assert await stores.hash("voice_bridges") == {"0": "m"}
    assert await stores.scores("server_load") == {"s1": 15, "s2": 0}


@pytest_twisted.ensureDeferred
async def test_existing_meeting_is_met_without_another_reservation(stores: Stores) -> None:
    await stores.add("s1")
    await stores.add("s2", 5, tag="eu")
    meeting = await stores.create("m")
    reservation = await stores.reserve("m", password="other", tags="eu!", bridges=("9",))
    assert reservation.placement is Placement.EXISTING
    assert not reservation.pending
    assert reservation.meeting == meeting
    assert await stores.scores("server_load") == {"s1": 15, "s2": 5}
    assert "9" not in await stores.hash("voice_bridges")


@pytest.mark.parametrize(
    ("owner", "caller", "placement"),
    [("t1", "t2", "conflict"), ("t1", "t1", "existing"), ("", "t1", "existing"), ("t1", "", "existing")],
)
@pytest_twisted.ensureDeferred
async def test_meeting_of_another_tenant_is_a_conflict(stores: Stores, owner: str, caller: str, placement: str) -> None:
    await stores.add("s1")
    await stores.create("m", tenant=owner)
    assert (await stores.reserve("m", tenant=caller)).placement == placement
    assert (await stores.hash("meeting:m"))["tenant_id"] == owner


@pytest_twisted.ensureDeferred
async def test_taken_numbers_are_skipped_and_an_own_one_is_found_again(stores: Stores) -> None:
    await stores.add("s1")
    await stores.create("other", bridges=("1",))
    await stores.call("HSET", "voice_bridges", "2", "m")
    assert (await stores.place("m", bridges=("1", "2", "3"))).voice_bridge == "2"
    assert await stores.hash("voice_bridges") == {"1": "other", "2": "m"}


@pytest_twisted.ensureDeferred
async def test_leaked_numbers_are_taken_over_before_a_create_fails(stores: Stores) -> None:
    await stores.add("s1")
    await stores.create("alive", bridges=("1",))
    await stores.call("HSET", "voice_bridges", "2", "gone", "3", "gone too")
    assert (await stores.place("m", bridges=("1", "2", "3"))).voice_bridge == "2"
    assert (await stores.hash("voice_bridges"))["1"] == "alive"


@pytest_twisted.ensureDeferred
async def test_create_without_a_free_number_changes_nothing(stores: Stores) -> None:
    await stores.add("s1")
    await stores.create("alive", bridges=("1",))
    assert (await stores.reserve("m", bridges=("1",))).placement is Placement.NO_BRIDGE
    assert await stores.members("meetings") == {"alive"}
    assert await stores.scores("server_load") == {"s1": 15}


@pytest_twisted.ensureDeferred
async def test_meeting_on_a_cordoned_server_is_asked_about(stores: Stores) -> None:
    await stores.add("s1")
    await stores.add("s2", 50)
    meeting = await stores.create("m")
    await stores.servers.set_state("s1", CORDONED)
    asked = await stores.reserve("m")
    assert (asked.placement, asked.meeting) == (Placement.ASK, meeting)
    kept = await stores.reserve("m", verdict="keep:s1")
    assert (kept.placement, kept.meeting) == (Placement.EXISTING, meeting)
    assert await stores.where("m") == "s1"
    moved = await stores.reserve("m", verdict="move:s1", password="new")
    assert moved.placement is Placement.NEW
    assert moved.meeting == Meeting("m", "s2", "new", meeting.voice_bridge, "")


@pytest.mark.parametrize("verdict", ["keep:s2", "move:s2"])
@pytest_twisted.ensureDeferred
async def test_verdict_about_another_server_does_not_count(stores: Stores, verdict: str) -> None:
    await stores.add("s1")
    await stores.create("m")
    await stores.servers.set_state("s1", CORDONED)
    assert (await stores.reserve("m", verdict=verdict)).placement is Placement.ASK


@pytest_twisted.ensureDeferred
async def test_meeting_being_created_on_a_server_cordoned_meanwhile_is_not_asked_about(stores: Stores) -> None:
    await stores.add("s1")
    await stores.add("s2", 50)
    await stores.place("m")
    await stores.servers.set_state("s1", CORDONED)
    again = await stores.reserve("m")
    assert (again.placement, again.pending) == (Placement.EXISTING, True)
    assert again.host is not None
    assert again.host.id == "s1"


async def _lose(stores: Stores, how: str) -> None:
    if how == "offline":
        await stores.fail("s1", 2)
    elif how == "disabled":
        await stores.servers.set_state("s1", DISABLED)
    else:
        await stores.call("DEL", "server:s1")
        await stores.call("SREM", "servers", "s1")
        await stores.call("ZREM", "server_load", "s1")


@pytest.mark.parametrize("how", ["offline", "disabled", "gone"])
@pytest_twisted.ensureDeferred
async def test_meeting_whose_server_is_lost_is_placed_anew_and_its_copy_remembered(stores: Stores, how: str) -> None:
    await stores.add("s1")
    await stores.add("s2", 50)
    old = await stores.create("m", password="old")
    await stores.call("EXPIRE", "meeting:m", 10)
    await _lose(stores, how)
    reservation = await stores.reserve("m", password="new", bridges=("777",))
    assert reservation.placement is Placement.NEW
    assert reservation.meeting == Meeting("m", "s2", "new", old.voice_bridge, "")
    assert await stores.hash("meeting:m") == {
        "server_id": "s2", "moderator_pw": "new", "voice_bridge": old.voice_bridge, "tenant_id": "",
    }  # fmt: skip
    assert await stores.call("TTL", "meeting:m") > 10
    assert (await stores.scores("server_load"))["s2"] == 65
    assert await stores.meetings.confirm(reservation.meeting)

    await stores.call("HSET", "server:s1", "url", "u", "secret", "s", "state", "enabled")
    copies = (await stores.poll("s1", "m")).old_copies
    assert [(copy.meeting_id, copy.moderator_pw) for copy in copies] == [("m", "old")]
    assert abs(copies[0].since - await stores.time()) < 60


@pytest_twisted.ensureDeferred
async def test_lost_meeting_stays_where_it_is_while_no_server_fits(stores: Stores) -> None:
    await stores.add("s1")
    await stores.create("m")
    await stores.fail("s1", 2)
    before = await stores.hash("meeting:m")
    assert (await stores.reserve("m")).placement is Placement.NO_SERVERS
    await stores.add("s2", 5)
    assert (await stores.reserve("m", tags="eu!")).placement is Placement.NO_TAGGED_SERVER
    assert await stores.hash("meeting:m") == before


@pytest_twisted.ensureDeferred
async def test_meeting_of_nobody_belongs_to_the_tenant_that_has_it_placed_anew(stores: Stores) -> None:
    await stores.add("s1")
    await stores.add("s2", 5)
    await stores.create("m")
    await stores.fail("s1", 2)
    await stores.place("m", tenant="t1")
    assert await stores.meetings.find("m", "t1") is not None


@pytest_twisted.ensureDeferred
async def test_expired_record_is_no_obstacle(stores: Stores) -> None:
    await stores.add("s1")
    await stores.create("m", bridges=("1",))
    await stores.call("DEL", "meeting:m")
    meeting = await stores.place("m", bridges=("1", "2"), password="new")
    assert (meeting.voice_bridge, meeting.moderator_pw) == ("1", "new")


@pytest_twisted.ensureDeferred
async def test_broken_server_record_does_not_keep_meetings_from_the_others(stores: Stores) -> None:
    await stores.add("s1", 20)
    await stores.add("s2", 5)
    await stores.create("on-s2")
    await stores.put_foreign("server:s2")
    assert (await stores.place("m")).server_id == "s1"
    found = await stores.meetings.find("on-s2")
    assert found is not None
    assert found.host is None
    assert [server.id for server in await stores.servers.all()] == ["s1"]
    assert [target.id for target in await stores.servers.targets()] == ["s1"]
    assert (await stores.poll("s2", "on-s2")).event == "gone"


@pytest_twisted.ensureDeferred
async def test_broken_meeting_record_is_an_error_for_that_meeting_alone(stores: Stores) -> None:
    await stores.add("s1")
    await stores.create("m1")
    await stores.create("m2")
    await stores.put_foreign("meeting:m1")
    for call in (stores.reserve("m1"), stores.meetings.find("m1")):
        with pytest.raises(StoreReplyError):
            await call
    assert (await stores.reserve("m2")).placement is Placement.EXISTING
    await stores.poll("s1", "m1", "m2", load=9)
    assert await stores.scores("server_load") == {"s1": 9}
    assert [meeting.id async for meeting in stores.meetings.scan()] == ["m2"]
    assert await stores.servers.remove("s1") == 1


@pytest_twisted.ensureDeferred
async def test_enabled_again_server_gets_its_meetings_back(stores: Stores) -> None:
    await stores.add("s1")
    await stores.add("s2", 5)
    await stores.create("m")
    await stores.servers.set_state("s1", DISABLED)
    await stores.servers.set_state("s1", ENABLED)
    assert (await stores.reserve("m")).placement is Placement.EXISTING
