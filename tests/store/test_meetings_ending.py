"""Old copies that are just being ended: the call on its way would end a meeting that is placed there now."""

from __future__ import annotations

import pytest
import pytest_twisted

from scalelite.cluster.records import Meeting
from scalelite.store.meetings import Placement
from tests.store.layout import DISABLED, GRACE, Stores


async def _left_behind(stores: Stores, *, confirmed: bool = True) -> Meeting:
    """Meeting "m" was on s1, which takes meetings again, and has been placed on s2: its present record."""
    await stores.add("s1", 0)
    await stores.create("m", password="old")
    await stores.fail("s1", 2)
    await stores.add("s2", 0)
    present = await stores.place("m", password="new")
    if confirmed:
        assert await stores.meetings.confirm(present)
    await stores.poll("s1", "m")
    assert set(await stores.scores("server_load")) == {"s1", "s2"}
    return present


async def _give_up(stores: Stores, how: str) -> None:
    """The meeting can't stay on s2."""
    await stores.servers.set_state("s2", DISABLED)
    if how == "meeting ended":
        await stores.meetings.drop_ended(Meeting("m", "s2", "new", None, ""))


@pytest.mark.parametrize("how", ["server lost", "meeting ended"])
@pytest_twisted.ensureDeferred
async def test_meeting_is_placed_elsewhere_while_its_old_copy_is_being_ended(stores: Stores, how: str) -> None:
    await _left_behind(stores)
    await stores.add("s3", 1000)
    assert await stores.meetings.begin_end_copy("m", "s1", GRACE)
    await _give_up(stores, how)
    assert (await stores.place("m")).server_id == "s3"
    assert (await stores.place("another")).server_id == "s1"


@pytest.mark.parametrize("how", ["server lost", "meeting ended"])
@pytest_twisted.ensureDeferred
async def test_last_server_takes_the_meeting_once_the_end_of_its_old_copy_is_answered(stores: Stores, how: str) -> None:
    await _left_behind(stores)
    begun = await stores.meetings.begin_end_copy("m", "s1", GRACE)
    await _give_up(stores, how)
    assert (await stores.reserve("m")).placement is Placement.NO_SERVERS
    await stores.meetings.finish_end_copy("m", "s1", begun)
    assert (await stores.place("m")).server_id == "s1"


@pytest_twisted.ensureDeferred
async def test_end_that_nobody_answered_keeps_a_meeting_off_for_the_grace_only(stores: Stores) -> None:
    await _left_behind(stores)
    assert await stores.meetings.begin_end_copy("m", "s1", GRACE)
    assert 0 < await stores.call("TTL", "balancer:ending:m") <= GRACE
    await stores.call("HSET", "balancer:ending:m", "s1", repr(await stores.time()))
    await _give_up(stores, "server lost")
    assert (await stores.place("m")).server_id == "s1"


@pytest.mark.parametrize("first", [True, False])
@pytest_twisted.ensureDeferred
async def test_answer_to_one_of_two_ends_does_not_say_that_both_are_over(stores: Stores, first: bool) -> None:
    await _left_behind(stores)
    begun = [await stores.meetings.begin_end_copy("m", "s1", GRACE) for _ in range(2)]
    assert all(begun)
    await stores.meetings.finish_end_copy("m", "s1", begun[0] if first else begun[1])
    await _give_up(stores, "server lost")
    assert (await stores.reserve("m")).placement is Placement.NO_SERVERS


@pytest_twisted.ensureDeferred
async def test_end_on_one_server_says_nothing_of_another(stores: Stores) -> None:
    await _left_behind(stores)
    await stores.add("s3", 0)
    await stores.poll("s3", "m")
    on_first = await stores.meetings.begin_end_copy("m", "s1", GRACE)
    assert await stores.meetings.begin_end_copy("m", "s3", GRACE)
    await stores.meetings.finish_end_copy("m", "s1", on_first)
    await _give_up(stores, "server lost")
    assert (await stores.place("m")).server_id == "s1"


@pytest_twisted.ensureDeferred
async def test_copy_is_not_ended_while_the_meeting_may_have_to_go_back_to_it(stores: Stores) -> None:
    present = await _left_behind(stores, confirmed=False)
    assert not await stores.meetings.begin_end_copy("m", "s1", GRACE)
    await stores.meetings.release(present, refused=True)
    assert await stores.where("m") == "s1"
    assert not await stores.meetings.begin_end_copy("m", "s1", GRACE)


@pytest_twisted.ensureDeferred
async def test_copy_that_is_the_meeting_again_is_not_ended(stores: Stores) -> None:
    await _left_behind(stores)
    await stores.servers.set_state("s2", DISABLED)
    assert (await stores.place("m")).server_id == "s1"
    assert not await stores.meetings.begin_end_copy("m", "s1", GRACE)


@pytest_twisted.ensureDeferred
async def test_copy_that_is_not_remembered_any_more_is_not_ended(stores: Stores) -> None:
    await _left_behind(stores)
    await stores.servers.forget_old_copy("s1", "m")
    assert not await stores.meetings.begin_end_copy("m", "s1", GRACE)


@pytest_twisted.ensureDeferred
async def test_create_that_was_given_up_is_not_confirmed_while_its_copy_is_being_ended(stores: Stores) -> None:
    await stores.add("s1", 0)
    meeting = await stores.place("m")
    await stores.meetings.drop_ended(meeting)
    begun = await stores.meetings.begin_end_copy("m", "s1", GRACE)
    assert not await stores.meetings.confirm(meeting)
    assert await stores.where("m") is None
    await stores.meetings.finish_end_copy("m", "s1", begun)
    assert [copy.meeting_id for copy in (await stores.poll("s1", "m")).old_copies] == ["m"]


@pytest.mark.parametrize("ending", [True, False])
@pytest_twisted.ensureDeferred
async def test_create_in_doubt_that_was_given_up_is_not_recorded_again_while_its_copy_is_being_ended(
    stores: Stores, ending: bool
) -> None:
    await stores.add("s1", 0)
    meeting = await stores.place("m")
    await stores.meetings.drop_ended(meeting)
    if ending:
        assert await stores.meetings.begin_end_copy("m", "s1", GRACE)
    await stores.meetings.release(meeting, refused=False)
    assert await stores.where("m") == (None if ending else "s1")
    assert set(await stores.hash("balancer:old_copies:s1")) == {"m"}
