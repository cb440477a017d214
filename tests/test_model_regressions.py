"""Short lives of a balancer, each of which ended badly once: found by the model test, kept as plain tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_twisted

from scalelite.cluster.records import ServerState
from scalelite.simulator import Fault
from tests.model.checks import check, check_quiet
from tests.model.world import World


@pytest_twisted.async_yield_fixture()
async def world() -> AsyncIterator[World]:
    opened = await World.open()
    yield opened
    await opened.close()


@pytest_twisted.ensureDeferred
async def test_meeting_created_again_elsewhere_is_listed_once_while_the_ended_one_is_still_listed(world: World) -> None:
    await world.create("m1")
    await world.advance(0.01)
    await world.end("m1")
    await world.create("m1")
    (there,) = world.copies("m1")
    assert [name for name, node in world.nodes.items() if "m1" in node.meetings] != [there]
    assert await world.listed() == ["m1"]
    await check_quiet(world)


@pytest_twisted.ensureDeferred
async def test_end_before_a_create_was_carried_out_does_not_lose_the_meeting(world: World) -> None:
    create = await world.begin_create("m1", carried_out=False)
    assert (await world.end("m1")).key == "notFound"
    await world.nodes["s1"].stop()
    await create.done
    # The server goes on with what it had read.
    await world.nodes["s1"].start()
    await world.finish_create(create)
    assert list(world.copies("m1")) == ["s1"]
    await check(world)
    assert await world.house.where("m1") == "s1"
    await check_quiet(world)


@pytest_twisted.ensureDeferred
async def test_repeated_create_in_doubt_does_not_lose_a_meeting_made_anew(world: World) -> None:
    await world.create("m1")
    (there,) = world.copies("m1")
    world.nodes[there].vanish("m1")
    create = await world.begin_create("m1", carried_out=False)
    await world.give_up_create(create)
    await world.advance(1)
    await world.poll()
    world.nodes[there].create("m1")
    await world.advance(1)
    await world.poll()
    assert await world.house.where("m1") == there
    await check_quiet(world)


@pytest_twisted.ensureDeferred
async def test_create_in_doubt_on_a_server_that_lost_the_meeting_leaves_no_second_copy(world: World) -> None:
    create = await world.begin_create("m1", carried_out=False)
    (first,) = [name for name in world.nodes if create.held and create.held.node is world.nodes[name]]
    await world.end("m1")
    await world.create("m1")
    (second,) = world.copies("m1")
    assert second != first
    held, create.held = create.held, None
    await world.give_up_create(create)
    assert held is not None
    held.let_go()
    assert set(world.copies("m1")) == {first, second}
    await check(world)
    await check_quiet(world)
    assert set(world.copies("m1")) == {second}


@pytest.mark.parametrize("arrives", [True, False])
@pytest_twisted.ensureDeferred
async def test_number_that_another_meeting_got_meanwhile_stays_that_meetings(world: World, arrives: bool) -> None:
    create = await world.begin_create("m1", carried_out=False, voiceBridge="70001")
    await world.end("m1")
    await world.create("m2", voiceBridge="70001")
    await (world.finish_create(create) if arrives else world.give_up_create(create))
    await check(world)
    await check_quiet(world)


@pytest_twisted.ensureDeferred
async def test_answer_that_is_neither_success_nor_failure_leaves_the_meeting_to_the_poller(world: World) -> None:
    for node in world.nodes.values():
        node.faults.set("create", Fault.XML_LOWERCASE_RETURNCODE)
    assert (await world.create("m1")).returncode != "SUCCESS"
    (there,) = world.copies("m1")
    await world.advance(1)
    await world.poll()
    assert await world.house.where("m1") == there
    await check_quiet(world)


@pytest_twisted.ensureDeferred
async def test_repeated_create_that_is_answered_after_the_meeting_moved_tells_where_it_is_now(world: World) -> None:
    await world.create("m1")
    (first,) = world.copies("m1")
    create = await world.begin_create("m1", carried_out=True)
    await world.set_state(first, ServerState.DISABLED)
    await world.create("m1")
    second = await world.house.where("m1")
    assert second != first
    await world.finish_create(create)
    assert world.told["m1"].server_id == second
    await check_quiet(world)


@pytest_twisted.ensureDeferred
async def test_meeting_that_came_to_be_long_after_its_first_create_is_not_pending_for_ever(world: World) -> None:
    for node in world.nodes.values():
        node.faults.set("getMeetingInfo", Fault.HTML_200)
    await world.create_in_doubt("m1", carried_out=False)
    await world.advance(world.house.grace + 5)
    await world.poll()
    await world.create_in_doubt("m1", carried_out=True)
    await check_quiet(world)
    assert len(world.copies("m1")) == 1


@pytest_twisted.ensureDeferred
async def test_meeting_is_not_placed_where_its_old_copy_is_being_ended(world: World) -> None:
    await world.create("m1")
    first = world.told["m1"].server_id
    await world.set_state(first, ServerState.DISABLED)
    await world.create("m1")
    second = world.told["m1"].server_id
    await world.set_state(first, ServerState.ENABLED)
    (third,) = set(world.nodes) - {first, second}
    await world.set_state(third, ServerState.DISABLED)
    await world.advance(1)
    await world.poll()
    await world.advance(5)
    world.nodes[first].create("m1")
    await world.begin_poll(first, held="end")
    await world.set_state(second, ServerState.DISABLED)
    await world.create("m1")
    await world.finish_poll()
    await check(world)
    await world.create("m1")
    await check_quiet(world)


@pytest.mark.parametrize("answered", [True, False])
@pytest_twisted.ensureDeferred
async def test_create_whose_copy_is_being_ended_tells_of_no_meeting_there(world: World, answered: bool) -> None:
    create = await world.begin_create("m1", carried_out=True)
    (first,) = world.copies("m1")
    await world.end("m1")
    await world.begin_poll(first, held="end")
    await (world.finish_create(create) if answered else world.give_up_create(create))
    await world.create("m1")
    await world.finish_poll()
    await check(world)
    await check_quiet(world)
    assert first not in world.copies("m1")
