"""Second half of create, and the end of a meeting's record: confirmed, given back, kept pending, dropped, restored."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from scalelite.cluster.records import Meeting, ServerState
from scalelite.store.meetings import Placement
from tests.store.layout import CORDONED, DISABLED, ENABLED, GRACE, TTL, Stores

LONG_AGO = 1.0


async def _nothing_left(stores: Stores) -> None:
    assert await stores.members("meetings") == set()
    assert await stores.hash("voice_bridges") == {}
    assert await stores.redis.call("KEYS", "*meeting:*") == []
    assert await stores.redis.call("KEYS", "*balancer:*") == []


async def _moved(stores: Stores) -> tuple[Meeting, Meeting]:
    """Meeting "m" is on s1, which went offline, and has been placed on s2: the old record and the new one."""
    await stores.add("s1", 0)
    old = await stores.create("m", password="old", bridges=("1",))
    await stores.fail("s1", 2)
    await stores.add("s2", 0)
    return old, await stores.place("m", password="new")


@pytest_twisted.ensureDeferred
async def test_confirmed_meeting_is_not_pending_any_more(stores: Stores) -> None:
    await stores.add("s1")
    meeting = await stores.place("m")
    assert await stores.meetings.confirm(meeting)
    again = await stores.reserve("m")
    assert (again.placement, again.pending, again.meeting) == (Placement.EXISTING, False, meeting)


@pytest_twisted.ensureDeferred
async def test_refused_create_leaves_everything_as_it_was(stores: Stores) -> None:
    await stores.add("s1", 10, multiplier=2.0)
    meeting = await stores.place("m")
    await stores.meetings.release(meeting, refused=True)
    assert await stores.scores("server_load") == {"s1": 10}
    await _nothing_left(stores)


@pytest_twisted.ensureDeferred
async def test_refused_create_gives_back_what_it_took_though_load_and_multiplier_changed(stores: Stores) -> None:
    await stores.add("s1", 10, multiplier=2.0)
    meeting = await stores.place("m")
    await stores.call("HSET", "server:s1", "load_multiplier", "3.0")
    await stores.poll("s1", "other", load=4)
    assert await stores.scores("server_load") == {"s1": 4 * 3 + 15 * 2}
    await stores.meetings.release(meeting, refused=True)
    assert await stores.scores("server_load") == {"s1": 12}


@pytest_twisted.ensureDeferred
async def test_reservation_that_a_poll_gave_up_is_not_given_back_again(stores: Stores) -> None:
    await stores.add("s1", 10)
    meeting = await stores.place("m")
    await stores.poll("s1", load=3, asked=await stores.time() + GRACE + 5)
    assert await stores.scores("server_load") == {"s1": 3}
    await stores.meetings.release(meeting, refused=True)
    assert await stores.scores("server_load") == {"s1": 3}
    await _nothing_left(stores)


@pytest.mark.parametrize("state", [CORDONED, DISABLED])
@pytest_twisted.ensureDeferred
async def test_refused_create_does_not_bring_a_server_back_among_those_that_take_meetings(
    stores: Stores, state: ServerState
) -> None:
    await stores.add("s1", 10)
    meeting = await stores.place("m")
    await stores.servers.set_state("s1", state)
    await stores.meetings.release(meeting, refused=True)
    assert await stores.scores("server_load") == {}


@pytest_twisted.ensureDeferred
async def test_refused_create_is_kept_while_others_of_the_same_meeting_are_under_way(stores: Stores) -> None:
    await stores.add("s1", 0)
    first = await stores.place("m", bridges=("1",))
    await stores.reserve("m")
    await stores.reserve("m")
    await stores.meetings.release(first, refused=True)
    await stores.meetings.release(first, refused=True)
    assert await stores.where("m") == "s1"
    assert await stores.scores("server_load") == {"s1": 15}
    await stores.meetings.release(first, refused=True)
    assert await stores.scores("server_load") == {"s1": 0}
    await _nothing_left(stores)


@pytest_twisted.ensureDeferred
async def test_refused_create_takes_nothing_from_one_that_was_confirmed(stores: Stores) -> None:
    await stores.add("s1", 0)
    meeting = await stores.place("m", bridges=("1",))
    await stores.reserve("m")
    await stores.meetings.confirm(meeting)
    await stores.meetings.release(meeting, refused=True)
    assert await stores.where("m") == "s1"
    assert await stores.hash("voice_bridges") == {"1": "m"}
    assert await stores.scores("server_load") == {"s1": 15}


@pytest_twisted.ensureDeferred
async def test_one_refused_create_more_does_not_give_back_twice(stores: Stores) -> None:
    await stores.add("s1", 0)
    meeting = await stores.place("m")
    releases = [Deferred.fromCoroutine(stores.meetings.release(meeting, refused=True)) for _ in range(3)]
    await gatherResults(releases)
    assert await stores.scores("server_load") == {"s1": 0}


@pytest_twisted.ensureDeferred
async def test_retry_of_an_uncertain_create_meets_the_same_server(stores: Stores) -> None:
    await stores.add("s1", 0)
    await stores.add("s2", 1)
    meeting = await stores.place("m", password="first")
    await stores.meetings.release(meeting, refused=False)
    retry = await stores.reserve("m", password="second")
    assert (retry.placement, retry.pending, retry.meeting) == (Placement.EXISTING, True, meeting)
    assert await stores.scores("server_load") == {"s1": 15, "s2": 1}


@pytest_twisted.ensureDeferred
async def test_refusal_after_an_uncertain_create_keeps_the_record(stores: Stores) -> None:
    await stores.add("s1", 0)
    meeting = await stores.place("m")
    await stores.meetings.release(meeting, refused=False)
    await stores.reserve("m")
    await stores.meetings.release(meeting, refused=True)
    assert await stores.where("m") == "s1"
    assert (await stores.reserve("m")).pending


@pytest_twisted.ensureDeferred
async def test_meeting_that_lives_although_its_record_went_is_taken_up_again(stores: Stores) -> None:
    await stores.add("s1", 0)
    meeting = await stores.place("m", password="pw", bridges=("1",), tenant="t1")
    assert await stores.meetings.drop_ended(meeting)
    assert await stores.meetings.confirm(meeting)
    found = await stores.meetings.find("m", "t1")
    assert found is not None
    assert found.meeting == meeting
    assert await stores.hash("voice_bridges") == {"1": "m"}
    assert await stores.members("meetings") == {"m"}
    assert await stores.call("TTL", "meeting:m") > TTL - 10


@pytest.mark.parametrize("answered", [True, False])
@pytest_twisted.ensureDeferred
async def test_meeting_of_a_server_that_was_removed_meanwhile_is_not_recorded(stores: Stores, answered: bool) -> None:
    await stores.add("s1", 0)
    placed = await stores.place("m")
    await stores.servers.remove("s1", force=True)
    if answered:
        assert await stores.meetings.confirm(placed)
    else:
        await stores.meetings.release(placed, refused=False)
    assert await stores.where("m") is None
    assert await stores.meetings.unused_voice_bridges() == []


@pytest_twisted.ensureDeferred
async def test_create_that_ends_after_the_meeting_moved_leaves_a_copy_to_be_ended(stores: Stores) -> None:
    await stores.add("s1", 0)
    late = await stores.place("m", password="late")
    await stores.fail("s1", 2)
    await stores.add("s2", 0)
    await stores.meetings.confirm(await stores.place("m", password="new"))
    assert not await stores.meetings.confirm(late)
    assert await stores.where("m") == "s2"
    assert [copy.moderator_pw for copy in (await stores.poll("s1", "m")).old_copies] == ["late"]


@pytest_twisted.ensureDeferred
async def test_late_refusal_of_a_server_that_lost_the_meeting_changes_nothing(stores: Stores) -> None:
    old, new = await _moved(stores)
    await stores.meetings.release(old, refused=True)
    assert await stores.where("m") == "s2"
    assert await stores.scores("server_load") == {"s2": 15}
    assert await stores.meetings.confirm(new)


@pytest_twisted.ensureDeferred
async def test_moved_meeting_goes_back_when_the_new_server_refuses_it(stores: Stores) -> None:
    old, new = await _moved(stores)
    await stores.meetings.release(new, refused=True)
    found = await stores.meetings.find("m")
    assert found is not None
    assert found.meeting == old
    assert await stores.scores("server_load") == {"s2": 0}
    assert await stores.hash("balancer:old_copies:s1") == {}
    assert (await stores.poll("s1", "m")).old_copies == ()
    again = await stores.reserve("m")
    assert (again.placement, again.pending, again.meeting) == (Placement.EXISTING, False, old)


@pytest_twisted.ensureDeferred
async def test_moved_meeting_goes_back_when_the_new_server_proves_to_lack_it(stores: Stores) -> None:
    old, new = await _moved(stores)
    await stores.meetings.release(new, refused=False)
    later = await stores.time() + GRACE + 5
    assert await stores.meetings.drop_absent("m", "s2", later, GRACE)
    found = await stores.meetings.find("m")
    assert found is not None
    assert found.meeting == old
    assert await stores.members("meetings") == {"m"}
    assert await stores.hash("voice_bridges") == {"1": "m"}


@pytest_twisted.ensureDeferred
async def test_copy_is_not_ended_before_the_meeting_is_sure_to_live_elsewhere(stores: Stores) -> None:
    _, new = await _moved(stores)
    assert (await stores.poll("s1", "m")).old_copies == ()
    await stores.meetings.confirm(new)
    assert [copy.meeting_id for copy in (await stores.poll("s1", "m")).old_copies] == ["m"]


@pytest_twisted.ensureDeferred
async def test_meeting_moved_in_doubt_goes_back_to_a_server_that_has_returned(stores: Stores) -> None:
    old, new = await _moved(stores)
    await stores.meetings.release(new, refused=False)
    await stores.poll("s1", "m", load=20)
    await stores.fail("s2", 2)
    await stores.add("s3", 0)
    reservation = await stores.reserve("m", password="another")
    assert (reservation.placement, reservation.meeting) == (Placement.NEW, old)
    assert await stores.hash("balancer:old_copies:s1") != {}
    assert await stores.meetings.confirm(old)
    assert await stores.hash("balancer:old_copies:s1") == {}
    assert [copy.meeting_id for copy in (await stores.poll("s2", "m")).old_copies] == ["m"]


@pytest_twisted.ensureDeferred
async def test_meeting_moved_twice_in_doubt_goes_back_to_where_it_was_for_certain(stores: Stores) -> None:
    old, new = await _moved(stores)
    await stores.meetings.release(new, refused=False)
    await stores.fail("s2", 2)
    await stores.add("s3", 0)
    third = await stores.place("m")
    assert third.server_id == "s3"
    await stores.meetings.release(third, refused=True)
    found = await stores.meetings.find("m")
    assert found is not None
    assert found.meeting == old


@pytest_twisted.ensureDeferred
async def test_copy_that_is_the_meeting_again_is_not_remembered_once_it_is_seen(stores: Stores) -> None:
    await _moved(stores)
    await stores.poll("s1", "m")
    await stores.fail("s2", 2)
    back = await stores.place("m")
    assert back.server_id == "s1"
    await stores.poll("s1", "m", asked=await stores.time() + 1)
    assert await stores.hash("balancer:old_copies:s1") == {}


@pytest_twisted.ensureDeferred
async def test_moved_meeting_reserves_nothing_more_on_its_old_server(stores: Stores) -> None:
    await _moved(stores)
    await stores.poll("s1", asked=await stores.time() - 1000)
    assert await stores.scores("server_load") == {"s1": 0, "s2": 15}


@pytest_twisted.ensureDeferred
async def test_meeting_is_listed_from_its_own_server_only(stores: Stores) -> None:
    _, new = await _moved(stores)
    await stores.poll("s1", "m")
    for _ in range(2):
        assert {target.id: target.moved for target in await stores.servers.targets()} == {
            "s1": frozenset({"m"}),
            "s2": frozenset(),
        }
        await stores.meetings.confirm(new)
    await stores.meetings.drop_ended(new)
    assert {target.id: target.moved for target in await stores.servers.targets()}["s1"] == {"m"}
    await stores.servers.forget_old_copy("s1", "m")
    assert {target.id: target.moved for target in await stores.servers.targets()}["s1"] == set()


@pytest_twisted.ensureDeferred
async def test_pending_meeting_is_not_dropped_before_its_grace_is_over(stores: Stores) -> None:
    await stores.add("s1", 0)
    meeting = await stores.place("m", bridges=("1",))
    await stores.meetings.release(meeting, refused=False)
    now = await stores.time()
    assert not await stores.meetings.drop_absent("m", "s1", now + GRACE - 5, GRACE)
    assert await stores.where("m") == "s1"
    assert await stores.meetings.drop_absent("m", "s1", now + GRACE + 5, GRACE)
    await _nothing_left(stores)


@pytest_twisted.ensureDeferred
async def test_retry_starts_the_grace_of_a_pending_meeting_anew(stores: Stores) -> None:
    await stores.add("s1", 0)
    await stores.place("m")
    await stores.call("HSET", "balancer:pending:m", "since", LONG_AGO)
    await stores.reserve("m")
    assert not await stores.meetings.drop_absent("m", "s1", await stores.time() + 1, GRACE)


@pytest_twisted.ensureDeferred
async def test_just_confirmed_meeting_is_not_dropped_by_a_poll_asked_before(stores: Stores) -> None:
    await stores.add("s1", 0)
    asked = await stores.time()
    await stores.create("m")
    assert not await stores.meetings.drop_absent("m", "s1", asked, GRACE)
    assert await stores.where("m") == "s1"
    assert await stores.meetings.drop_absent("m", "s1", await stores.time() + 1, GRACE)


@pytest_twisted.ensureDeferred
async def test_meeting_placed_before_and_confirmed_after_a_poll_was_asked_is_not_dropped_by_it(stores: Stores) -> None:
    await stores.add("s1", 0)
    meeting = await stores.place("m")
    asked = await stores.time()
    await stores.meetings.confirm(meeting)
    assert not await stores.meetings.drop_absent("m", "s1", asked, GRACE)
    await stores.poll("s1", asked=asked)
    assert await stores.scores("server_load") == {"s1": 15}


@pytest_twisted.ensureDeferred
async def test_absent_meeting_goes_with_its_number_and_its_entry(stores: Stores) -> None:
    await stores.add("s1", 0)
    await stores.create("m", bridges=("1",))
    await stores.create("other", bridges=("2",))
    assert await stores.meetings.drop_absent("m", "s1", await stores.time() + 1, GRACE)
    assert await stores.members("meetings") == {"other"}
    assert await stores.hash("voice_bridges") == {"2": "other"}
    assert await stores.call("EXISTS", "meeting:m") == 0


@pytest_twisted.ensureDeferred
async def test_number_that_belongs_to_another_meeting_by_now_is_spared(stores: Stores) -> None:
    await stores.add("s1", 0)
    meeting = await stores.create("m", bridges=("1",))
    await stores.call("HSET", "voice_bridges", "1", "other")
    await stores.meetings.drop_ended(meeting)
    assert await stores.hash("voice_bridges") == {"1": "other"}


@pytest_twisted.ensureDeferred
async def test_word_of_a_server_that_does_not_hold_the_meeting_does_not_count(stores: Stores) -> None:
    await stores.add("s1", 0)
    await stores.create("m")
    foreign = Meeting("m", "s2")
    assert not await stores.meetings.drop_ended(foreign)
    assert not await stores.meetings.drop_absent("m", "s2", await stores.time() + 1, GRACE)
    assert not await stores.meetings.clear("m", "s2", may_live=True)
    assert not await stores.meetings.drop_ended(Meeting("unknown", "s1"))
    assert await stores.where("m") == "s1"


@pytest.mark.parametrize(("may_live", "copies"), [(True, ["m"]), (False, [])])
@pytest_twisted.ensureDeferred
async def test_meeting_given_up_by_an_operator_is_ended_later_if_it_may_live(
    stores: Stores, may_live: bool, copies: list[str]
) -> None:
    await stores.add("s1", 0)
    await stores.create("m")
    assert await stores.meetings.clear("m", "s1", may_live=may_live)
    assert await stores.where("m") is None
    assert [copy.meeting_id for copy in (await stores.poll("s1", "m")).old_copies] == copies


@pytest.mark.parametrize("how", ["ended", "cleared"])
@pytest_twisted.ensureDeferred
async def test_meeting_given_up_before_its_create_was_settled_is_ended_should_it_come_to_be(
    stores: Stores, how: str
) -> None:
    await stores.add("s1", 0)
    placed = await stores.place("m")
    if how == "ended":
        await stores.meetings.drop_ended(placed)
    else:
        await stores.meetings.clear("m", "s1", may_live=False)
    assert [copy.meeting_id for copy in (await stores.poll("s1", "m")).old_copies] == ["m"]


@pytest.mark.parametrize("how", ["cleared", "removed"])
@pytest_twisted.ensureDeferred
async def test_meeting_moved_in_doubt_goes_back_when_its_new_server_is_given_up(stores: Stores, how: str) -> None:
    await stores.add("s1", 0)
    await stores.create("m")
    await stores.add("s2", 0)
    await stores.servers.set_state("s1", DISABLED)
    moved = await stores.place("m")
    assert moved.server_id == "s2"
    await stores.meetings.release(moved, refused=False)
    if how == "cleared":
        assert await stores.meetings.clear("m", "s2", may_live=True)
    else:
        assert await stores.servers.remove("s2", force=True) == 1
    assert await stores.where("m") == "s1"


@pytest_twisted.ensureDeferred
async def test_listed_meeting_is_proven_to_live_and_not_pending(stores: Stores) -> None:
    await stores.add("s1", 0)
    meeting = await stores.place("m")
    asked_before = await stores.time() - 5
    await stores.meetings.release(meeting, refused=False)
    await stores.poll("s1", "m", load=15, asked=asked_before)
    assert (await stores.reserve("m")).pending
    await stores.poll("s1", "m", load=15, asked=await stores.time() + 1)
    assert not (await stores.reserve("m")).pending
    assert await stores.scores("server_load") == {"s1": 15}


@pytest_twisted.ensureDeferred
async def test_meeting_known_under_another_spelling_lives_on(stores: Stores) -> None:
    await stores.add("s1", 0)
    await stores.place(" m ")
    await stores.call("EXPIRE", "meeting: m ", 10)
    assert not await stores.meetings.renew(" m ", "s2", await stores.time() + 1)
    assert await stores.meetings.renew(" m ", "s1", await stores.time() - 5)
    assert (await stores.reserve(" m ")).pending
    assert await stores.meetings.renew(" m ", "s1", await stores.time() + 1)
    assert not (await stores.reserve(" m ")).pending
    assert await stores.call("TTL", "meeting: m ") > TTL - 10
    assert not await stores.meetings.renew("unknown", "s1", await stores.time())
    assert await stores.call("EXISTS", "meeting:unknown") == 0


@pytest_twisted.ensureDeferred
async def test_crash_after_the_reservation_is_healed_by_the_poller(stores: Stores) -> None:
    await stores.add("s1", 0)
    await stores.place("m", bridges=("1",))
    later = await stores.time() + GRACE + 5
    await stores.poll("s1", asked=later)
    assert await stores.meetings.drop_absent("m", "s1", later, GRACE)
    assert await stores.scores("server_load") == {"s1": 0}
    await _nothing_left(stores)


@pytest_twisted.ensureDeferred
async def test_crash_after_the_reservation_is_healed_by_the_next_create(stores: Stores) -> None:
    await stores.add("s1", 0)
    meeting = await stores.place("m")
    retry = await stores.reserve("m")
    assert (retry.placement, retry.pending, retry.meeting) == (Placement.EXISTING, True, meeting)
    assert await stores.meetings.confirm(meeting)
    assert not (await stores.reserve("m")).pending


@pytest_twisted.ensureDeferred
async def test_crash_after_the_server_created_it_is_healed_by_the_poller(stores: Stores) -> None:
    await stores.add("s1", 0)
    await stores.place("m")
    await stores.poll("s1", "m", load=15, asked=await stores.time() + 1)
    again = await stores.reserve("m")
    assert (again.placement, again.pending) == (Placement.EXISTING, False)
    assert await stores.scores("server_load") == {"s1": 15}


@pytest_twisted.ensureDeferred
async def test_crash_while_a_meeting_was_moved_is_healed_by_the_poller(stores: Stores) -> None:
    await _moved(stores)
    await stores.poll("s2", "m", load=15, asked=await stores.time() + 1)
    assert [copy.moderator_pw for copy in (await stores.poll("s1", "m")).old_copies] == ["old"]
    assert await stores.where("m") == "s2"


@pytest_twisted.ensureDeferred
async def test_join_counts_by_the_multiplier_if_the_server_takes_joins(stores: Stores) -> None:
    await stores.add("s1", 10, multiplier=2.0)
    await stores.create("m")
    found = await stores.meetings.find("m", joining=True)
    assert found is not None
    assert found.host is not None
    assert found.host.takes_joins
    assert await stores.scores("server_load") == {"s1": 10 * 1 + 30 + 2}
    await stores.meetings.find("m")
    assert await stores.scores("server_load") == {"s1": 42}
    await stores.meetings.find("unknown", joining=True)
    await stores.meetings.find("m", "another tenant", joining=True)
    assert await stores.scores("server_load") == {"s1": 42}


@pytest.mark.parametrize(
    ("state", "online", "takes"),
    [(ENABLED, False, False), (CORDONED, True, True), (CORDONED, False, False), (DISABLED, True, False)],
)
@pytest_twisted.ensureDeferred
async def test_join_of_a_server_that_takes_no_new_meetings_is_not_counted(
    stores: Stores, state: ServerState, online: bool, takes: bool
) -> None:
    await stores.add("s1", 10)
    await stores.create("m")
    await stores.servers.set_state("s1", state)
    if not online:
        await stores.fail("s1", 2)
    cordoned = await stores.scores("cordoned_server_load")
    found = await stores.meetings.find("m", joining=True)
    assert found is not None
    assert found.host is not None
    assert (found.host.state, found.host.online, found.host.takes_joins) == (state, online, takes)
    assert await stores.scores("server_load") == {}
    assert await stores.scores("cordoned_server_load") == cordoned


@pytest.mark.parametrize(
    ("owner", "caller", "found"),
    [("t1", "t1", True), ("t1", "t2", False), ("", "t1", False), ("t1", None, True), ("", None, True)],
)
@pytest_twisted.ensureDeferred
async def test_tenant_finds_its_own_meetings_only(stores: Stores, owner: str, caller: str | None, found: bool) -> None:
    await stores.add("s1", 0)
    await stores.create("m", tenant=owner)
    assert (await stores.meetings.find("m", caller) is not None) is found


@pytest_twisted.ensureDeferred
async def test_record_of_an_older_scalelite_is_read(stores: Stores) -> None:
    await stores.add("s1", 0)
    await stores.call("HSET", "meeting:m", "server_id", "s1")
    await stores.call("EXPIRE", "meeting:m", 100)
    await stores.call("SADD", "meetings", "m")
    found = await stores.meetings.find("m")
    assert found is not None
    assert found.meeting == Meeting("m", "s1", "", None, "")
    existing = await stores.reserve("m")
    assert (existing.placement, existing.meeting) == (Placement.EXISTING, found.meeting)
    assert await stores.meetings.drop_ended(found.meeting)
    await _nothing_left(stores)
