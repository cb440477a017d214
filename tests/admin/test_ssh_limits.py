"""Delays after refused logins, places for sessions, and input by lines."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from scalelite.admin.console import LONGEST_LINE
from scalelite.admin.ssh.backoff import ADDRESSES, FORGOTTEN, LONGEST, Backoff
from scalelite.admin.ssh.slots import PATIENCE, NoneFree, Slots
from scalelite.admin.ssh.stdin import LARGEST_INPUT, Input
from scalelite.admin.table import Failed


def result_of(work: Any) -> Any:
    """The result of a coroutine that is done, the exception that it raised, or None while it waits."""
    outcome: list[Any] = []
    Deferred.fromCoroutine(work).addBoth(outcome.append)
    return outcome


# Backoff


def test_the_delay_doubles_with_each_failure_up_to_a_limit() -> None:
    backoff = Backoff(Clock())
    delays = [backoff.failed("a") for _ in range(40)]
    assert delays[:5] == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert max(delays) == delays[-1] == LONGEST


def test_addresses_do_not_share_their_failures() -> None:
    backoff = Backoff(Clock())
    for _ in range(5):
        backoff.failed("a")
    assert backoff.failed("b") == 0.1


def test_a_success_and_time_forget_failures() -> None:
    clock = Clock()
    backoff = Backoff(clock)
    backoff.failed("a")
    backoff.succeeded("a")
    assert backoff.failed("a") == 0.1
    clock.advance(FORGOTTEN - 1)
    assert backoff.failed("a") == 0.2
    clock.advance(FORGOTTEN + 1)
    assert backoff.failed("a") == 0.1


def test_no_number_of_addresses_fills_the_memory() -> None:
    backoff = Backoff(Clock())
    for number in range(3 * ADDRESSES):
        backoff.failed(f"address {number}")
    assert len(backoff) == ADDRESSES
    assert backoff.failed(f"address {3 * ADDRESSES - 1}") == 0.2


# Slots


def test_places_are_given_in_the_order_in_which_they_are_asked_for() -> None:
    slots = Slots(Clock(), 2)
    assert [result_of(slots.take()) for _ in range(2)] == [[None], [None]]
    third, fourth = result_of(slots.take()), result_of(slots.take())
    assert (third, fourth, slots.wanted) == ([], [], True)
    slots.free()
    assert (third, fourth) == ([None], [])
    slots.free()
    assert (fourth, slots.wanted) == ([None], False)
    slots.free()
    slots.free()
    assert result_of(slots.take()) == [None]


def test_who_waits_too_long_for_a_place_is_refused_and_takes_none() -> None:
    clock = Clock()
    slots = Slots(clock, 1)
    result_of(slots.take())
    waiting = result_of(slots.take())
    clock.advance(PATIENCE)
    assert waiting[0].check(NoneFree)
    assert not slots.wanted
    slots.free()
    assert result_of(slots.take()) == [None]


def test_who_goes_away_while_waiting_takes_no_place() -> None:
    slots = Slots(Clock(), 1)
    result_of(slots.take())
    waiting = Deferred.fromCoroutine(slots.take())
    waiting.cancel()
    outcome: list[Any] = []
    waiting.addBoth(outcome.append)
    assert outcome[0].check(CancelledError)
    assert not slots.wanted


def test_only_so_many_may_wait() -> None:
    slots = Slots(Clock(), 1)
    outcomes = [result_of(slots.take()) for _ in range(7)]
    assert outcomes[0] == [None]
    assert outcomes[1:6] == [[]] * 5
    assert outcomes[6][0].check(NoneFree)


# Input


@pytest.fixture
def used() -> list[int]:
    return []


@pytest.fixture
def source(used: list[int]) -> Input:
    return Input(used.append)


def test_lines_come_whole_however_they_arrive(source: Input, used: list[int]) -> None:
    line = result_of(source.read_line())
    for byte in "zwölf\r\n".encode():
        assert line == []
        source.received(bytes([byte]))
    assert line == ["zwölf"]
    source.received(b"a\nb\n\nc")
    source.end()
    assert [result_of(source.read_line()) for _ in range(5)] == [["a"], ["b"], [""], ["c"], [None]]
    assert sum(used) == 14


def test_at_its_end_the_input_stays(source: Input) -> None:
    line = result_of(source.read_line())
    assert source.waited_for
    source.end()
    assert line == [None]
    assert not source.waited_for
    assert result_of(source.read_line()) == [None]


def test_a_reader_that_gives_up_loses_nothing(source: Input) -> None:
    reader = Deferred.fromCoroutine(source.read_line())
    reader.addErrback(lambda failure: failure.trap(CancelledError))
    reader.cancel()
    assert not source.waited_for
    source.received(b"for the next one\n")
    assert result_of(source.read_line()) == ["for the next one"]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"x" * (LONGEST_LINE + 1), "longer than"),
        (b"x" * (LONGEST_LINE + 1) + b"\n", "longer than"),
        (b"\xff\n", "UTF-8"),
    ],
)
def test_a_line_that_cannot_be_used_is_an_error(source: Input, data: bytes, why: str) -> None:
    source.received(data)
    outcome = result_of(source.read_line())
    assert outcome[0].check(Failed)
    assert why in outcome[0].getErrorMessage()


def test_the_longest_line_is_taken(source: Input) -> None:
    source.received(b"x" * (LONGEST_LINE - 1) + b"\n")
    assert len(result_of(source.read_line())[0]) == LONGEST_LINE - 1


def test_input_is_bounded_as_a_whole(source: Input) -> None:
    line = b"x" * (LONGEST_LINE - 1) + b"\n"
    for _ in range(LARGEST_INPUT // LONGEST_LINE):
        source.received(line)
        assert len(result_of(source.read_line())[0]) == LONGEST_LINE - 1
    source.received(b"more\n")
    assert result_of(source.read_line())[0].check(Failed)
