"""why and watch: what is known of a meeting, and the pool drawn again and again."""

from __future__ import annotations

import json
import re

import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from scalelite.admin.commands import TABLE
from scalelite.admin.line import parse
from scalelite.admin.run import run
from scalelite.admin.table import Actor, Context
from tests.admin.desk import Desk, MemoryConsole, Result, hold_meetings
from tests.balancer import Balancer


@pytest_twisted.ensureDeferred
async def test_why_tells_where_since_when_and_who_else_could_have_had_it(balancer: Balancer, desk: Desk) -> None:
    await balancer.add_server("s2", tag="gold", load_multiplier=2.0)
    await hold_meetings(balancer, "m1")
    meeting = balancer.nodes["s1"].meetings["m1"]
    result = await desk.run("why", "m1")
    assert (result.status, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0] == "Meeting: m1"
    assert lines[1] == "Server: s1 (enabled, online, load 15.0, no tag)"
    assert lines[2] == f"Number: {meeting.voice_bridge}"
    assert lines[3] == f"Since: {meeting.create_date}, as its server says; 0 users"
    assert re.fullmatch(r"Placed: \d+ s ago \(.*Z\); no poll has seen it there since", lines[4])
    assert re.fullmatch(r"Record: expires in \d+ h \d+ min, unless a poll sees the meeting alive", lines[5])
    assert lines[7:] == ["  SERVER  LOAD  TAG", "    s2     0.0  gold", "  * s1    15.0"]
    shown = json.loads((await desk.run("why", "m1", "--json")).out)
    assert (shown["server_id"], [row["server_id"] for row in shown["candidates"]]) == ("s1", ["s2", "s1"])


@pytest_twisted.ensureDeferred
async def test_why_tells_of_old_copies_and_of_servers_that_do_not_answer(balancer: Balancer, desk: Desk) -> None:
    await hold_meetings(balancer, "m1")
    await balancer.add_server("s2")
    await balancer.poll_now()
    await balancer.redis("HSET", balancer.key("server:s1"), "online", "false")
    await balancer.call("create", meetingID="m1", name="m1")
    assert await balancer.where("m1") == "s2"
    del balancer.nodes["s2"].meetings["m1"]
    out = (await desk.run("why", "m1")).out
    assert "Since: unknown, its server does not say: notFound: " in out
    assert "Old copy: may still run on s1, left 0 s ago (" in out


@pytest_twisted.ensureDeferred
async def test_why_of_an_unknown_meeting_is_an_error(desk: Desk) -> None:
    assert await desk.run("why", "nope") == Result(1, "", "ERROR: Couldn't find Meeting with id=nope\n")


@pytest_twisted.ensureDeferred
async def test_watch_draws_until_it_is_broken_off(balancer: Balancer, desk: Desk) -> None:
    await hold_meetings(balancer, "m1")
    for width, begins in ((40, "\x1b[2J\x1b[H"), (None, "")):
        clock = Clock()
        console = MemoryConsole(width=width)
        desk.pool.clock = clock
        context = Context(desk.settings, desk.pool, console, Actor("ada", "test"), str)
        watching = Deferred.fromCoroutine(run(context, parse(TABLE, ["watch", "5"])))
        while not clock.getDelayedCalls():
            await balancer.redis("PING")
        clock.advance(5)
        while not clock.getDelayedCalls():
            await balancer.redis("PING")
        assert len(console.printed) == 2
        assert console.printed[0].startswith(begins)
        assert "1 of 1 servers online, 0 meet" in console.printed[1]
        assert ("\x1b" in console.printed[1]) == (width is not None)
        watching.cancel()
        try:
            await watching
        except CancelledError:
            continue
        raise AssertionError("it goes on")
