"""The commands around meetings, over simulated servers."""

from __future__ import annotations

import json

import attrs
import pytest
import pytest_twisted
from twisted.internet.task import Clock

from scalelite.simulator import Fault
from tests.admin.desk import Desk, Result, both, hold_meetings, meetings_on, running_on, spelled, state_of
from tests.balancer import Balancer

QUESTION = "WARNING: You are trying to clear active meetings.\nIf you still wish to continue please enter `yes`\n"


def block(balancer: Balancer, meeting_id: str, server_id: str = "s1") -> str:
    return f"\nMeetingID: {meeting_id}\n\tServer ID: {server_id}\n\tServer Url: {balancer.nodes[server_id].url}\n"


# meetings, meetings:list


@pytest.mark.parametrize("name", ["meetings", "meetings:list"])
@pytest.mark.parametrize("ids", [(), ("m1:m2",)])
@both
@pytest_twisted.ensureDeferred
async def test_meetings_are_listed_with_their_servers(
    balancer: Balancer, desk: Desk, spelling: str, name: str, ids: tuple[str, ...]
) -> None:
    await hold_meetings(balancer, "m2", "m1")
    result = await desk.run(*spelled(spelling, name, *ids))
    assert result == Result(0, block(balancer, "m1") + block(balancer, "m2"), "")


@pytest_twisted.ensureDeferred
async def test_ids_may_be_words_and_hold_colons(balancer: Balancer, desk: Desk) -> None:
    await hold_meetings(balancer, "m1", "m2", "a:b")
    result = await desk.run("meetings", "a:b", "m1")
    assert result == Result(0, block(balancer, "a:b") + block(balancer, "m1"), "")
    assert await desk.run("meetings[m1,m2]") == await desk.run("meetings", "m1", "m2")


@pytest.mark.parametrize("name", ["meetings", "meetings:list", "meetings:end", "meetings:info"])
@both
@pytest_twisted.ensureDeferred
async def test_an_unknown_meeting_is_an_error(balancer: Balancer, desk: Desk, spelling: str, name: str) -> None:
    result = await desk.run(*spelled(spelling, name, "nope"))
    assert result == Result(1, "", "ERROR: Couldn't find Meeting with id=nope\n")


@pytest_twisted.ensureDeferred
async def test_no_meetings_are_no_output(desk: Desk) -> None:
    assert await desk.run("meetings") == Result(0, "", "")
    assert await desk.run("meetings", "--json") == Result(0, "[]\n", "")


@pytest_twisted.ensureDeferred
async def test_json_tells_more_of_each_meeting(balancer: Balancer, desk: Desk) -> None:
    await hold_meetings(balancer, "m1")
    (row,) = json.loads((await desk.run("meetings", "--json")).out)
    assert (row["meeting_id"], row["name"], row["server_id"], row["users"]) == ("m1", "m1", "s1", 0)


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_shown_is_told_on_standard_error(balancer: Balancer, desk: Desk) -> None:
    await hold_meetings(balancer, "m1", "m2")
    del balancer.nodes["s1"].meetings["m2"]
    result = await desk.run("meetings")
    assert result == Result(0, block(balancer, "m1"), "WARNING: Meeting id=m2 is not known to server s1\n")
    balancer.nodes["s1"].faults.set("getMeetings", Fault.WRONG_SECRET)
    result = await desk.run("meetings")
    assert (result.status, result.out) == (0, "")
    assert result.err.startswith(
        "WARNING: Could not list server s1, where 2 of the meetings are recorded: checksumError"
    )


# meetings:end


@pytest.mark.parametrize("answer", ["yes", "YES"])
@both
@pytest_twisted.ensureDeferred
async def test_all_meetings_are_ended_after_a_yes(balancer: Balancer, desk: Desk, spelling: str, answer: str) -> None:
    await hold_meetings(balancer, "m1", "m2")
    result = await desk.run(*spelled(spelling, "meetings:end"), answers=(answer,), terminal=True)
    assert (result.status, result.out) == (0, QUESTION + "OK\n")
    assert sorted(result.err.splitlines()) == ["Clearing Meeting id=m1", "Clearing Meeting id=m2"]
    assert await meetings_on(balancer, "s1") == []
    assert running_on(balancer, "m1") == running_on(balancer, "m2") == []


@pytest.mark.parametrize(
    ("words", "answers", "terminal", "status"),
    [
        (["meetings:end"], ("no",), True, 1),
        (["meetings:end"], (), True, 1),
        (["meetings:end[]"], ("no",), False, 1),
        (["meetings:end[m1]"], (), False, 2),
        (["meetings:end", "m1"], ("yes",), False, 2),
    ],
)
@pytest_twisted.ensureDeferred
async def test_anything_but_yes_ends_no_meeting(
    balancer: Balancer, desk: Desk, words: list[str], answers: tuple[str, ...], terminal: bool, status: int
) -> None:
    await hold_meetings(balancer, "m1")
    result = await desk.run(*words, answers=answers, terminal=terminal)
    assert result.status == status
    assert running_on(balancer, "m1") == ["s1"]
    assert await meetings_on(balancer, "s1") == ["m1"]


@pytest_twisted.ensureDeferred
async def test_only_the_named_meetings_are_ended(balancer: Balancer, desk: Desk) -> None:
    await hold_meetings(balancer, "m1", "m2", "m3")
    assert (await desk.run("meetings:end", "m1:m3", "--yes")).status == 0
    assert await meetings_on(balancer, "s1") == ["m2"]


@pytest_twisted.ensureDeferred
async def test_no_meetings_to_end_is_no_error(desk: Desk) -> None:
    result = await desk.run("meetings:end", "--force")
    assert result == Result(0, "OK\n", "No meetings to clear\n")


@pytest_twisted.ensureDeferred
async def test_a_meeting_that_may_still_run_stays_recorded(balancer: Balancer, desk: Desk) -> None:
    await hold_meetings(balancer, "m1")
    balancer.nodes["s1"].faults.set("end", Fault.HANG_BEFORE_HEADERS)
    desk = attrs.evolve(desk, deadline=0.2)
    result = await desk.run("meetings:end", "m1", "--yes")
    assert (result.status, result.out) == (1, "")
    assert result.err.splitlines() == [
        "Clearing Meeting id=m1",
        "WARNING: Could not end meeting id=m1: no answer before the command's time was up",
        "ERROR: 1 meeting of 1 may still run, and their records stay",
    ]
    assert await meetings_on(balancer, "s1") == ["m1"]


@pytest_twisted.ensureDeferred
async def test_a_meeting_whose_server_is_gone_is_forgotten(balancer: Balancer, desk: Desk) -> None:
    await hold_meetings(balancer, "m1")
    await balancer.redis("DEL", balancer.key("server:s1"))
    assert (await desk.run("meetings:end", "m1", "--yes")).status == 0
    assert await balancer.redis("EXISTS", balancer.key("meeting:m1")) == 0


# meetings:info


@both
@pytest_twisted.ensureDeferred
async def test_info_prints_scalelites_lines(balancer: Balancer, desk: Desk, spelling: str) -> None:
    await balancer.add_server("s1")
    await balancer.poll_now()
    meta = {"meta_bbb-context-name": "Chemistry", "meta_bbb-origin": "Greenlight"}
    await balancer.call("create", meetingID="room-42", name="Chemistry", **meta)
    result = await desk.run(*spelled(spelling, "meetings:info", "room-42"))
    meeting = balancer.nodes["s1"].meetings["room-42"]
    assert (result.status, result.err) == (0, "")
    assert result.out.splitlines()[:12] == [
        "",
        "Meeting ID: room-42",
        "\tMeeting Name: Chemistry",
        f"\tInternal MeetingID: {meeting.internal_id}",
        f"\tCreated Date: {meeting.create_date}",
        "\tRecording Enabled: false",
        "\tServer id: s1",
        f"\tSerevr url: {balancer.nodes['s1'].url}",
        "\tMetaData:",
        "\t\tbbb-context-name: Chemistry",
        result.out.splitlines()[10],
        "\t\tbbb-recording-tags: ",
    ]
    assert "\t\tbbb-origin: Greenlight\n" in result.out
    assert len(result.out.splitlines()) == 21
    shown = json.loads((await desk.run("meetings:info", "room-42", "--json")).out)
    assert (shown["name"], shown["metadata"]["bbb-origin"]) == ("Chemistry", "Greenlight")


@pytest_twisted.ensureDeferred
async def test_info_without_an_id_asks_for_one(desk: Desk) -> None:
    assert await desk.run("meetings:info[]") == Result(1, "", "Error: Please input a meetingID!\n")


@pytest_twisted.ensureDeferred
async def test_info_that_cannot_be_had_is_a_warning(balancer: Balancer, desk: Desk) -> None:
    await hold_meetings(balancer, "m1")
    del balancer.nodes["s1"].meetings["m1"]
    result = await desk.run("meetings:info", "m1")
    assert (result.status, result.out) == (0, "")
    assert result.err.startswith("WARNING: Could not get info for meeting id=m1: notFound: ")


# servers:meeting_list


@both
@pytest_twisted.ensureDeferred
async def test_meeting_list_shows_what_each_server_runs(balancer: Balancer, desk: Desk, spelling: str) -> None:
    await balancer.add_server("s2", enabled=False)
    await hold_meetings(balancer, "m2", "m1")
    result = await desk.run(*spelled(spelling, "servers:meeting_list"))
    assert result == Result(
        0,
        f"\nServer ID: s1\nServer Url: {balancer.nodes['s1'].url}\nMeetingIDs: \n\tm1\n\tm2\n"
        f"\nServer ID: s2\nServer Url: {balancer.nodes['s2'].url}\nMeetingIDs: \n\t\n",
        "\tNo meetings to display\n",
    )
    one = await desk.run(*spelled(spelling, "servers:meeting_list", "s1"), *(["--json"]))
    assert json.loads(one.out) == [
        {"server_id": "s1", "server_url": balancer.nodes["s1"].url, "meetings": ["m1", "m2"], "error": None}
    ]


@pytest_twisted.ensureDeferred
async def test_meeting_list_tells_of_servers_that_fail(balancer: Balancer, desk: Desk) -> None:
    await balancer.add_server("s1")
    balancer.nodes["s1"].faults.set("getMeetings", Fault.WRONG_SECRET)
    result = await desk.run("servers:meeting_list")
    assert result.status == 0
    assert result.err.startswith("\nFailed to get server id=s1 status: checksumError: ")
    unknown = await desk.run("servers:meeting_list", "s1:nope")
    assert unknown == Result(1, "", "ERROR: Couldn't find Server with id=nope\n")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("servers:meeting_list", "\nFailed to get meetings list status: no answer before the command's time was up\n"),
        (
            "meetings",
            "WARNING: Could not list server s1, where 1 of the meetings are recorded: no answer before the command's "
            "time was up\n",
        ),
    ],
)
@pytest_twisted.ensureDeferred
async def test_listings_wait_for_servers_as_long_as_the_setting_says(
    balancer: Balancer, desk: Desk, name: str, told: str
) -> None:
    await hold_meetings(balancer, "m1")
    balancer.nodes["s1"].faults.set("getMeetings", Fault.HANG_BEFORE_HEADERS)
    desk.settings = attrs.evolve(desk.settings, poller_wait_timeout=0.2)
    result = await desk.run(name)
    assert (result.status, result.err) == (0, told)


# servers:drain


@pytest_twisted.ensureDeferred
async def test_drain_cordons_and_shows_what_is_left(balancer: Balancer, desk: Desk) -> None:
    await hold_meetings(balancer, "m1", "m2")
    result = await desk.run("servers:drain", "s1")
    assert result == Result(0, "Draining server s1...\n2 meetings, 0 users\nOK\n", "")
    assert await state_of(balancer, "s1") == "cordoned"


@pytest_twisted.ensureDeferred
async def test_drain_of_an_empty_server_is_done_at_once(balancer: Balancer, desk: Desk) -> None:
    await balancer.add_server("s1")
    result = await desk.run("servers:drain", "s1", "--wait")
    assert result == Result(0, "Draining server s1...\nServer s1 is empty\nOK\n", "")


@pytest.mark.parametrize("enabled", [False, True])
@pytest_twisted.ensureDeferred
async def test_drain_waits_until_it_is_empty_or_enabled_again(balancer: Balancer, desk: Desk, enabled: bool) -> None:
    from twisted.internet.defer import Deferred

    await hold_meetings(balancer, "m1")

    class Waits(Clock):
        """Does, whenever somebody waits, what others do meanwhile."""

        def callLater(self, delay: float, callable: object, *args: object, **kw: object) -> object:
            call = super().callLater(delay, callable, *args, **kw)
            word = ("servers:enable", "s1") if enabled else ("meetings:end", "m1", "--yes")
            Deferred.fromCoroutine(other.run(*word)).addCallback(lambda _: self.advance(delay))
            return call

    other = Desk.of(balancer)
    desk.pool.clock = Waits()
    result = await desk.run("servers:drain", "s1", "--wait")
    begin = "Draining server s1...\n1 meeting, 0 users\n"
    if enabled:
        assert result == Result(1, begin, "ERROR: Server s1 was enabled again meanwhile\n")
    else:
        assert result == Result(0, begin + "Server s1 is empty\nOK\n", "")
