"""Disable and panic: questions and their answers, meetings that end, and those that do not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import pytest_twisted

from scalelite.simulator import Fault
from scalelite.store.errors import StoreUnavailable
from tests.admin.desk import Desk, Result, both, hold_meetings, meetings_on, running_on, spelled, state_of
from tests.balancer import Balancer

QUESTION = "If you still wish to continue please enter `yes`\n"
LOAD_WARNING = (
    "WARNING: You are trying to disable a server with active load. You should use the cordon option if\n"
    "          you do not want to clear all the meetings\n"
)
NO_TERMINAL = "ERROR: Nothing was changed: there is no terminal to ask on, so add --yes if you are sure\n"


@both
@pytest_twisted.ensureDeferred
async def test_a_server_without_load_or_meetings_is_disabled_unasked(
    balancer: Balancer, desk: Desk, spelling: str
) -> None:
    await balancer.add_server("s1")
    await balancer.poll_now()
    result = await desk.run(*spelled(spelling, "servers:disable", "s1"))
    assert result == Result(0, "Disabling server s1...\nOK\n", "")
    assert await state_of(balancer, "s1") == "disabled"


@pytest.mark.parametrize("answer", ["yes", "YES", " Yes "])
@pytest_twisted.ensureDeferred
async def test_yes_ends_the_meetings_and_disables(balancer: Balancer, desk: Desk, answer: str) -> None:
    await hold_meetings(balancer, "m1", "m2")
    result = await desk.run("servers:disable", "s1", answers=(answer,), terminal=True)
    assert result == Result(
        0,
        f"Disabling server s1...\n{LOAD_WARNING}{QUESTION}Clearing Meeting id=m1\nClearing Meeting id=m2\nOK\n",
        "",
    )
    assert await state_of(balancer, "s1") == "disabled"
    assert await meetings_on(balancer, "s1") == []
    assert running_on(balancer, "m1") == running_on(balancer, "m2") == []


@pytest.mark.parametrize(
    ("words", "answers", "terminal", "status"),
    [
        (["servers:disable", "s1"], ("no",), True, 1),
        (["servers:disable", "s1"], ("",), True, 1),
        (["servers:disable", "s1"], ("y",), True, 1),
        (["servers:disable", "s1"], (), True, 1),
        (["servers:disable[s1]"], ("no",), True, 1),
        (["servers:disable[s1]"], ("no",), False, 1),
        (["servers:disable[s1]"], (), False, 2),
        (["servers:disable", "s1"], ("yes",), False, 2),
        (["servers:panic", "s1"], ("no",), True, 1),
        (["servers:panic", "s1"], (), True, 1),
        (["servers:panic[s1]"], ("no",), False, 1),
        (["servers:panic[s1]"], (), False, 2),
        (["servers:panic", "s1"], ("yes",), False, 2),
    ],
)
@pytest_twisted.ensureDeferred
async def test_anything_but_yes_changes_nothing(
    balancer: Balancer, desk: Desk, words: Sequence[str], answers: tuple[str, ...], terminal: bool, status: int
) -> None:
    await hold_meetings(balancer, "m1")
    result = await desk.run(*words, answers=answers, terminal=terminal)
    assert result.status == status
    if status == 1:
        assert result.out.endswith(f"{QUESTION}Aborted\n")
        assert result.err == ""
    else:
        assert result.err == NO_TERMINAL
        assert "OK" not in result.out
    assert await state_of(balancer, "s1") == "enabled"
    assert await meetings_on(balancer, "s1") == ["m1"]
    assert running_on(balancer, "m1") == ["s1"]


@pytest.mark.parametrize("name", ["servers:disable", "servers:panic"])
@pytest.mark.parametrize(
    "spelling",
    [("{name}", "s1", "--yes"), ("{name}", "--force", "s1"), ("{name}[s1]", "--yes")],
)
@pytest_twisted.ensureDeferred
async def test_yes_on_the_line_needs_no_terminal(
    balancer: Balancer, desk: Desk, name: str, spelling: tuple[str, ...]
) -> None:
    await hold_meetings(balancer, "m1")
    result = await desk.run(*(word.format(name=name) for word in spelling))
    assert (result.status, result.err) == (0, "")
    assert result.out.splitlines()[1:] == ["Clearing Meeting id=m1", "OK"]
    assert running_on(balancer, "m1") == []


@pytest.mark.parametrize("name", ["servers:disable", "servers:panic"])
@pytest_twisted.ensureDeferred
async def test_a_script_may_pipe_its_yes_into_the_rake_spelling(balancer: Balancer, desk: Desk, name: str) -> None:
    await hold_meetings(balancer, "m1")
    result = await desk.run(f"{name}[s1]", answers=("yes",))
    assert result.status == 0
    assert result.out.endswith(f"{QUESTION}Clearing Meeting id=m1\nOK\n")


@pytest_twisted.ensureDeferred
async def test_load_alone_is_asked_about_and_so_are_meetings_without_load(balancer: Balancer, desk: Desk) -> None:
    node = await balancer.add_server("s1")
    node.create("foreign")
    await balancer.poll_now()
    assert (await desk.run("servers:disable", "s1", answers=("no",), terminal=True)).status == 1
    await hold_meetings(balancer, "m1", server_id="s2")
    await balancer.redis("ZREM", balancer.key("server_load"), "s2")
    assert (await desk.run("servers:disable", "s2", answers=("no",), terminal=True)).status == 1


# panic


@both
@pytest_twisted.ensureDeferred
async def test_panic_of_a_server_without_meetings_asks_nothing(balancer: Balancer, desk: Desk, spelling: str) -> None:
    await balancer.add_server("s1")
    result = await desk.run(*spelled(spelling, "servers:panic", "s1"))
    assert result == Result(0, "Panicking server s1...\nOK\n", "")
    assert await state_of(balancer, "s1") == "disabled"


@pytest_twisted.ensureDeferred
async def test_panic_asks_and_then_clears(balancer: Balancer, desk: Desk) -> None:
    await hold_meetings(balancer, "m1", "m2")
    result = await desk.run("servers:panic", "s1", answers=("yes",), terminal=True)
    assert result == Result(
        0,
        "Panicking server s1...\n"
        f"WARNING: You are trying to clear 2 meetings off server s1\n{QUESTION}"
        "Clearing Meeting id=m1\nClearing Meeting id=m2\nOK\n",
        "",
    )
    assert await state_of(balancer, "s1") == "disabled"
    assert running_on(balancer, "m1") == running_on(balancer, "m2") == []


@pytest.mark.parametrize(
    ("flags", "state", "living"),
    [
        ("", "disabled", []),
        (",false,false", "disabled", []),
        (",true", "enabled", []),
        (",true,no", "enabled", []),
        (",,true", "disabled", ["s1"]),
        (",no,yes", "disabled", ["s1"]),
        (",true,true", "enabled", ["s1"]),
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_flags_of_panic_mean_what_they_say(
    balancer: Balancer, desk: Desk, flags: str, state: str, living: list[str]
) -> None:
    await hold_meetings(balancer, "m1")
    result = await desk.run(f"servers:panic[s1{flags}]", "--yes")
    assert (result.status, result.out) == (0, "Panicking server s1...\nClearing Meeting id=m1\nOK\n")
    assert await state_of(balancer, "s1") == state
    assert running_on(balancer, "m1") == living
    assert await balancer.where("m1") is None


@pytest_twisted.ensureDeferred
async def test_a_flag_that_is_neither_true_nor_false_changes_nothing(balancer: Balancer, desk: Desk) -> None:
    await hold_meetings(balancer, "m1")
    result = await desk.run("servers:panic[s1,perhaps]", "--yes")
    assert result == Result(1, "", "ERROR: KEEP_STATE must be true or false, not 'perhaps'\n")
    assert await state_of(balancer, "s1") == "enabled"


@pytest_twisted.ensureDeferred
async def test_meetings_that_can_not_be_ended_now_are_ended_by_the_poller(balancer: Balancer, desk: Desk) -> None:
    await hold_meetings(balancer, "m1", "m2")
    node = balancer.nodes["s1"]
    node.faults.set("end", Fault.WRONG_SECRET)
    result = await desk.run("servers:panic", "s1", "--yes")
    refusal = "checksumError: Checksums do not match"
    assert result.status == 0
    assert result.out == "Panicking server s1...\nClearing Meeting id=m1\nClearing Meeting id=m2\nOK\n"
    assert sorted(result.err.splitlines()) == [
        "WARNING: 2 of 2 meetings may still run on server s1; the poller ends them once it answers",
        f"WARNING: Could not end meeting id=m1: {refusal}",
        f"WARNING: Could not end meeting id=m2: {refusal}",
    ]
    assert await meetings_on(balancer, "s1") == []
    assert running_on(balancer, "m1") == ["s1"]
    node.faults.clear()
    await balancer.poll_now()
    assert running_on(balancer, "m1") == running_on(balancer, "m2") == []


@pytest_twisted.ensureDeferred
async def test_whoever_joins_after_a_panic_is_sent_to_a_new_meeting_elsewhere(balancer: Balancer, desk: Desk) -> None:
    await hold_meetings(balancer, "m1")
    await balancer.add_server("s2")
    await balancer.poll_now()
    await desk.run("servers:panic", "s1", "--yes")
    assert (await balancer.call("join", meetingID="m1", fullName="Ada", role="VIEWER")).key == "notFound"
    assert (await balancer.call("create", meetingID="m1", name="m1")).returncode == "SUCCESS"
    assert running_on(balancer, "m1") == ["s2"]


@pytest_twisted.ensureDeferred
async def test_a_store_that_fails_during_panic_is_reported(
    balancer: Balancer, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hold_meetings(balancer, "m1")

    async def fail(*args: object, **options: object) -> bool:
        raise StoreUnavailable("Redis did not answer within 3 s")

    monkeypatch.setattr(balancer.parts.meetings, "clear", fail)
    result = await desk.run("servers:panic", "s1", "--yes")
    assert result.status == 1
    assert result.err == "ERROR: Failed to panic server s1 - Redis did not answer within 3 s\n"
    assert "OK" not in result.out
