"""Faults of state, load and clock: what the node forgets, remembers too long, or tells wrongly."""

from __future__ import annotations

import pytest_twisted

from scalelite.simulator import Fault
from tests.simulator.peer import World, call, started


@pytest_twisted.ensureDeferred
async def test_restart_breaks_the_call_and_loses_all_meetings(world: World) -> None:
    world.node.create("m1")
    world.node.faults.set("getMeetings", Fault.RESTART)
    peer = await started(world.node, "getMeetings")
    await peer.until(lambda peer: False)
    assert peer.lost == "ConnectionLost"
    assert (await call(world.node, "getMeetings")).key == "noMeetings"


@pytest_twisted.ensureDeferred
async def test_create_may_succeed_while_its_answer_is_lost(world: World) -> None:
    world.node.faults.set("create", Fault.CREATE_ANSWER_LOST, count=1)
    peer = await started(world.node, "create", meetingID="m1", name="Demo")
    await peer.until(lambda peer: False)
    assert (peer.data, peer.lost) == (b"", "ConnectionLost")
    again = await call(world.node, "create", meetingID="m1", name="Demo")
    assert again.key == "duplicateWarning"


@pytest_twisted.ensureDeferred
async def test_create_twice_may_give_two_create_times(world: World) -> None:
    world.node.faults.set("create", Fault.CREATE_TWICE)
    times = [(await call(world.node, "create", meetingID="m1", name="Demo")).text("createTime") for _ in range(2)]
    assert times[0] != times[1]


@pytest_twisted.ensureDeferred
async def test_meetings_may_end_without_notice(world: World) -> None:
    world.node.create("m1", meta_endCallbackUrl="http://127.0.0.1:1/")
    world.node.create("m2")
    world.node.faults.set("getMeetings", Fault.SILENT_END, meeting_id="m1")
    listed = (await call(world.node, "getMeetings")).xml
    assert [element.text for element in listed.iterfind("meetings/meeting/meetingID")] == ["m2"]
    assert not world.node.callbacks.log


@pytest_twisted.ensureDeferred
async def test_an_ended_meeting_may_be_listed_for_a_while(world: World) -> None:
    world.node.create("m1")
    world.node.faults.set(kind=Fault.REAPPEAR_AFTER_END)
    world.node.end("m1", at_once=True)
    assert (await call(world.node, "getMeetings")).text("meetings/meeting/meetingID") == "m1"
    assert (await call(world.node, "getMeetingInfo", meetingID="m1")).key == "notFound"
    world.pass_time(11)
    assert (await call(world.node, "getMeetings")).key == "noMeetings"


@pytest_twisted.ensureDeferred
async def test_counts_may_be_stuck(world: World) -> None:
    world.node.create("m1")
    world.node.add_users("m1", 2)
    world.node.faults.set(kind=Fault.STUCK_COUNTS)
    world.node.remove_users("m1")
    world.pass_time(600)
    assert (await call(world.node, "getMeetingInfo", meetingID="m1")).text("participantCount") == "2"


@pytest_twisted.ensureDeferred
async def test_a_zombie_survives_its_end(world: World) -> None:
    world.node.create("m1", meetingExpireIfNoUserJoinedInMinutes="60")
    world.node.faults.set("end", Fault.ZOMBIE)
    assert (await call(world.node, "end", meetingID="m1")).key == "sentEndMeetingRequest"
    world.pass_time(60)
    info = await call(world.node, "getMeetingInfo", meetingID="m1")
    assert info.text("hasBeenForciblyEnded") == "false"


@pytest_twisted.ensureDeferred
async def test_recordings_may_be_slow_to_appear(world: World) -> None:
    world.node.create("m1", record="true")
    world.node.press_record("m1")
    world.node.faults.set(kind=Fault.RECORDINGS_SLOW, seconds=7200)
    world.node.end("m1", at_once=True)
    world.pass_time(7200)
    assert (await call(world.node, "getRecordings")).key == "noRecordings"
    world.pass_time(601)
    assert (await call(world.node, "getRecordings")).text("recordings/recording/meetingID") == "m1"


@pytest_twisted.ensureDeferred
async def test_the_same_meeting_may_be_on_two_nodes(world: World) -> None:
    other = await world.sim.add_node()
    world.node.faults.set("create", Fault.DUPLICATE_MEETING, count=1)
    await call(world.node, "create", meetingID="m1", name="Demo", meta_a="b")
    assert world.node.meetings["m1"].metadata == other.meetings["m1"].metadata == {"a": "b"}


@pytest_twisted.ensureDeferred
async def test_load_can_be_heaped_up(world: World) -> None:
    world.node.faults.set("getMeetings", Fault.LOAD_MEETINGS)
    answer = await call(world.node, "getMeetings")
    assert len(answer.xml.findall("meetings/meeting")) == 500
    assert len(answer.xml.findall("meetings/meeting/attendees/attendee")) == 10000
    assert len(answer.body) > 1_000_000
    assert len((await call(world.node, "getMeetings")).xml.findall("meetings/meeting")) == 500


@pytest_twisted.ensureDeferred
async def test_recordings_can_be_heaped_up(world: World) -> None:
    world.node.faults.set("getRecordings", Fault.LOAD_RECORDINGS)
    assert len((await call(world.node, "getRecordings")).xml.findall("recordings/recording")) == 3000


@pytest_twisted.ensureDeferred
async def test_names_can_be_as_long_as_they_may(world: World) -> None:
    world.node.faults.set(kind=Fault.LONG_NAMES)
    listed = (await call(world.node, "getMeetings")).xml
    lengths = {len(element.text or "") for element in listed.iterfind("meetings/meeting/meetingName")}
    assert lengths == {256}
    assert {len(meeting_id) for meeting_id in world.node.meetings} == {256}


@pytest_twisted.ensureDeferred
async def test_a_meeting_can_have_a_hundred_breakout_rooms(world: World) -> None:
    world.node.faults.set(kind=Fault.LOAD_BREAKOUTS)
    listed = (await call(world.node, "getMeetings")).xml
    assert len(listed.findall("meetings/meeting")) == 101
    assert len(listed.findall("meetings/meeting/breakoutRooms/breakout")) == 100


@pytest_twisted.ensureDeferred
async def test_the_clock_can_be_an_hour_off(world: World) -> None:
    times = []
    for number, kind in enumerate((None, Fault.CLOCK_AHEAD, Fault.CLOCK_BEHIND)):
        world.node.faults.clear()
        if kind is not None:
            world.node.faults.set(kind=kind)
        answer = await call(world.node, "create", meetingID=f"m{number}", name="Demo")
        times.append(int(answer.text("createTime") or 0) - 1_700_000_000_000)
    assert times == [0, 3_600_000, -3_600_000]


@pytest_twisted.ensureDeferred
async def test_the_clock_can_go_backwards_with_a_restart(world: World) -> None:
    world.node.faults.set(kind=Fault.CLOCK_BACKWARDS, seconds=60)
    before = world.node.create("m1").create_time
    await world.node.restart()
    assert world.node.create("m1").create_time == before - 60_000
