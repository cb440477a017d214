"""OpenSSH's client on a terminal: the shell with its prompt, editing, history, completion, and Ctrl-C."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent

from tests.integration.openssh import Shell
from tests.integration.ssh_door import Door

pytestmark = pytest.mark.integration

reactor: Any = _reactor

PROMPT = "online> "


@pytest_twisted.async_yield_fixture()
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    opened = await Door.open(tmp_path)
    yield opened
    await opened.close()


async def shell(door: Door, **options: Any) -> Shell:
    """A shell at its first prompt."""
    opened = door.client.shell(**{"key": door.ada, **options})
    await opened.until(PROMPT)
    return opened


async def left(opened: Shell) -> int:
    """Ctrl-D; the exit status."""
    opened.type("\x04")
    return (await opened.done).status


@pytest_twisted.ensureDeferred
async def test_a_shell_greets_runs_lines_and_ends_with_ctrl_d(door: Door) -> None:
    opened = door.client.shell(key=door.ada)
    assert "ada@laptop, admin of this pool" in await opened.until(PROMPT)
    opened.type("test:both\r")
    assert "to standard output: å\nto standard error\n" in await opened.until(PROMPT)
    assert await left(opened) == 41


@pytest.mark.parametrize("word", ["exit", "quit", "logout"])
@pytest_twisted.ensureDeferred
async def test_a_shell_ends_with_a_word(door: Door, word: str) -> None:
    opened = await shell(door)
    opened.type(f"{word}\r")
    assert (await opened.done).status == 0


@pytest_twisted.ensureDeferred
async def test_the_prompt_shows_how_the_pool_is_now(door: Door) -> None:
    opened = await shell(door)
    await door.balancer.add_servers(2)
    await door.balancer.add_server("s3")
    opened.type("\r")
    assert "scalelite 2/3 " in await opened.until(PROMPT)
    assert await left(opened) == 0


@pytest_twisted.ensureDeferred
async def test_the_prompt_comes_even_if_the_store_does_not_answer(door: Door) -> None:
    opened = await shell(door)
    await door.balancer.parts.redis.stopService()
    opened.type("\r")
    await opened.until("(no store)> ")
    opened.type("status\r")
    await opened.until("ERROR: ")
    await opened.until("(no store)> ")
    assert await left(opened) == 1


@pytest_twisted.ensureDeferred
async def test_a_line_can_be_edited(door: Door) -> None:
    opened = await shell(door)
    # A letter too many, taken back from the middle; the beginning and the end of the line; a word cut.
    opened.type("tesst:both\x1b[D\x1b[D\x1b[D\x1b[D\x1b[D\x1b[D\x7f\x05 needless\x17\x01\x05\r")
    await opened.until("to standard output: å\n")
    await opened.until(PROMPT)
    opened.type("rubbish\x15test:both\r")
    await opened.until("to standard output: å\n")
    await opened.until(PROMPT)
    assert await left(opened) == 41


@pytest_twisted.ensureDeferred
async def test_letters_beyond_ascii_are_one_character_each(door: Door) -> None:
    opened = await shell(door)
    opened.type("test:who äöü漢€\x7f\x7f\x7f\x7f\x7fä x\r")
    await opened.until("ada@laptop")
    await opened.until(PROMPT)
    assert any("test:who ä *****: ok" in line for line in door.logged)
    assert await left(opened) == 0


@pytest_twisted.ensureDeferred
async def test_lines_come_back_from_the_history(door: Door) -> None:
    opened = await shell(door)
    opened.type("test:both\r")
    await opened.until(PROMPT)
    opened.type("nonsense\r")
    await opened.until("Unknown command")
    await opened.until(PROMPT)
    opened.type("\x1b[A\x1b[A\r")
    await opened.until("to standard output: å\n")
    await opened.until(PROMPT)
    assert await left(opened) == 41


@pytest_twisted.ensureDeferred
async def test_tab_completes_commands_server_ids_and_meeting_ids(door: Door) -> None:
    await door.balancer.add_server("alpha-1")
    await door.balancer.add_server("alpha-2")
    await door.balancer.add_server("beta")
    opened = await shell(door)
    opened.type("servers:cord\t")
    await opened.until("servers:cordon ")
    opened.type("a\t")
    await opened.until("alpha-")
    opened.type("\t")
    await opened.until("alpha-1  alpha-2\n")
    opened.type("2\r")
    await opened.until("Cordoning server alpha-2")
    await opened.until(PROMPT)
    opened.type("servers:panic b\t--y\t\r")
    await opened.until("Panicking server beta")
    await opened.until(PROMPT)
    opened.type("help servers:tagg\t\x15")
    await opened.until(PROMPT)
    assert await left(opened) == 0


@pytest_twisted.ensureDeferred
async def test_a_question_is_asked_on_the_terminal(door: Door) -> None:
    node = await door.balancer.add_server("s1")
    await door.balancer.poll_now()
    await door.balancer.call("create", meetingID="m1", name="m1")
    opened = await shell(door)
    opened.type("servers:panic s1\r")
    await opened.until("please enter `yes`\n")
    opened.type("no\r")
    await opened.until("Aborted")
    await opened.until(PROMPT)
    assert not node.meetings["m1"].forcibly_ended
    opened.type("servers:panic s1\r")
    await opened.until("please enter `yes`\n")
    opened.type("yes\r")
    await opened.until("OK")
    assert node.meetings["m1"].forcibly_ended
    await opened.until(PROMPT)
    assert await left(opened) == 0


@pytest_twisted.ensureDeferred
async def test_a_single_command_can_have_a_terminal_too(door: Door) -> None:
    opened = door.client.shell("test:ask", key=door.ada, options=("-t",))
    await opened.until("Sure?\n")
    opened.type("maybe\x7f\x7f\x7f\x7f\x7fyes\r")
    await opened.until("the answer is 'yes', a terminal: True")
    assert (await opened.done).status == 3


@pytest_twisted.ensureDeferred
async def test_a_secret_is_not_shown_while_it_is_typed(door: Door) -> None:
    opened = await shell(door)
    opened.type("test:secret\r")
    await opened.until("Secret: ")
    opened.type("hunter2\r")
    assert "hunter2" not in await opened.until("7 characters")
    await opened.until(PROMPT)
    opened.type("\x1b[A\x1b[A\x15")
    assert await left(opened) == 0
    assert b"hunter2" not in opened.out


@pytest_twisted.ensureDeferred
async def test_ctrl_c_ends_a_running_command_and_not_the_shell(door: Door) -> None:
    opened = await shell(door)
    opened.type("test:wait\r")
    await opened.until("waiting")
    opened.type("\x03")
    await opened.until("^C")
    await opened.until(PROMPT)
    assert door.cancelled == ["ada@laptop"]
    assert await left(opened) == 130


@pytest_twisted.ensureDeferred
async def test_ctrl_c_at_a_question_ends_the_command_and_changes_nothing(door: Door) -> None:
    opened = await shell(door)
    opened.type("test:ask\r")
    await opened.until("Sure?\n")
    opened.type("yes\x03")
    await opened.until("^C")
    assert "the answer" not in await opened.until(PROMPT)
    assert await left(opened) == 130


@pytest_twisted.ensureDeferred
async def test_ctrl_c_at_the_prompt_forgets_the_line(door: Door) -> None:
    opened = await shell(door)
    opened.type("test:both\x03")
    await opened.until("^C\n")
    await opened.until(PROMPT)
    opened.type("\r")
    assert "standard output" not in await opened.until(PROMPT)
    assert await left(opened) == 130


@pytest_twisted.ensureDeferred
async def test_ctrl_c_ends_a_single_command_on_a_terminal_with_status_130(door: Door) -> None:
    opened = door.client.shell("test:wait", key=door.ada, options=("-t",))
    await opened.until("waiting")
    opened.type("\x03")
    assert (await opened.done).status == 130


@pytest_twisted.ensureDeferred
async def test_watch_draws_the_pool_until_ctrl_c(door: Door) -> None:
    await door.balancer.add_servers(1)
    opened = await shell(door)
    opened.type("watch 0.5\r")
    await opened.until("127.0.0.1")
    await opened.until("127.0.0.1")
    opened.type("\x03")
    await opened.until(PROMPT)
    assert await left(opened) == 130


@pytest_twisted.ensureDeferred
async def test_what_is_typed_ahead_waits_for_its_turn(door: Door) -> None:
    opened = await shell(door)
    opened.type("test:wait\r")
    await opened.until("waiting")
    opened.type("test:both\r")
    door.hold.callback(None)
    before = await opened.until("to standard output")
    assert before.index("done") < before.index("test:both")
    await opened.until(PROMPT)
    assert await left(opened) == 41


@pytest_twisted.ensureDeferred
async def test_pasted_lines_are_run_one_after_another(door: Door) -> None:
    opened = await shell(door)
    opened.type("test:width\rtest:both\rtest:width\r")
    text = await opened.until("80 columns") + await opened.until("80 columns")
    assert text.count("to standard output") == 1
    await opened.until(PROMPT)
    assert await left(opened) == 0


@pytest_twisted.ensureDeferred
async def test_a_command_knows_the_width_of_the_terminal_as_it_is_now(door: Door) -> None:
    opened = await shell(door, width=111)
    opened.type("test:width\r")
    await opened.until("111 columns")
    await opened.until(PROMPT)
    opened.resize(57)
    turns = 0
    while not any(s._terminal.size.width == 57 for s in sessions(door)):
        turns += 1
        assert turns < 1000
        await a_turn()
    opened.type("test:width\r")
    await opened.until("57 columns")
    await opened.until(PROMPT)
    assert await left(opened) == 0


def sessions(door: Door) -> list[Any]:
    return [s for transport in door.service.gate.connections for s in transport.connection.sessions()]  # type: ignore[union-attr]


async def a_turn() -> None:
    turn: Deferred[None] = Deferred()
    reactor.callLater(0.01, turn.callback, None)
    await turn


@pytest_twisted.ensureDeferred
async def test_a_broken_command_leaves_the_shell_alive(door: Door, unhandled_errors: list[LogEvent]) -> None:
    opened = await shell(door)
    opened.type("test:broken\r")
    await opened.until("ERROR: The command broke")
    await opened.until(PROMPT)
    assert await left(opened) == 1
    assert "as a test wants it" in unhandled_errors.pop()["log_failure"].getErrorMessage()


@pytest_twisted.ensureDeferred
async def test_several_operators_work_at_once_each_in_a_shell_of_their_own(door: Door) -> None:
    ada, vic = await shell(door), await shell(door, key=door.vic)
    ada.type("test:wait\r")
    await ada.until("waiting")
    vic.type("test:both\r")
    await vic.until("to standard output")
    await vic.until(PROMPT)
    vic.type("test:ask\r")
    await vic.until("test:ask is not for viewers")
    door.hold.callback(None)
    await ada.until("done")
    await ada.until(PROMPT)
    assert await left(vic) == 1
    assert await left(ada) == 0


@pytest_twisted.ensureDeferred
async def test_viewers_are_offered_their_own_commands_only(door: Door) -> None:
    opened = await shell(door, key=door.vic)
    opened.type("servers\t\t")
    opened.type("\x15stat\t")
    text = await opened.until("status ")
    assert "servers:cordon" not in text
    opened.type("\x15")
    assert await left(opened) == 0


@pytest_twisted.ensureDeferred
async def test_the_screen_is_left_as_it_is(door: Door) -> None:
    opened = await shell(door)
    opened.type("test:both\r")
    await opened.until("to standard error")
    await opened.until(PROMPT)
    assert await left(opened) == 41
    # Neither a reset of the terminal nor a mode that would stay.
    assert b"\x1bc" not in opened.out
    assert b"\x1b[4h" not in opened.out
    assert b"\x1b[?" not in opened.out


@pytest_twisted.ensureDeferred
async def test_an_idle_shell_is_told_and_closed(tmp_path: Path) -> None:
    door = await Door.open(tmp_path, ssh_idle_timeout=0.0)
    opened = await shell(door)
    door.look()
    await opened.until("you were idle for 0 seconds\n")
    assert (await opened.done).status == 255
    await door.close()


@pytest_twisted.ensureDeferred
async def test_a_shell_whose_command_runs_is_not_idle(tmp_path: Path) -> None:
    door = await Door.open(tmp_path, ssh_idle_timeout=0.001)
    opened = await shell(door)
    opened.type("test:wait\r")
    await opened.until("waiting")
    door.look()
    door.hold.callback(None)
    await opened.until("done")
    await door.close()
