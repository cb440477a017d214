"""Targets that rest."""

from __future__ import annotations

from twisted.internet.task import Clock

from scalelite.recordings.breaker import FAILURES, FIRST_REST, LONGEST_REST, MOST, CircuitBreaker


def failing(breaker: CircuitBreaker, target: str, times: int) -> list[bool]:
    return [breaker.failed(target) for _ in range(times)]


def test_a_target_rests_after_failures_in_a_row_and_is_probed_by_one() -> None:
    clock = Clock()
    breaker = CircuitBreaker(clock.seconds)
    assert failing(breaker, "a", FAILURES - 1) == [False] * (FAILURES - 1)
    breaker.succeeded("a")
    assert failing(breaker, "a", FAILURES) == [False] * (FAILURES - 1) + [True]
    assert breaker.places() == {"a": 0}
    clock.advance(FIRST_REST)
    assert breaker.places() == {"a": 1}
    breaker.succeeded("a")
    assert breaker.places() == {}


def test_the_rest_doubles_with_each_probe_that_fails_up_to_a_bound() -> None:
    clock = Clock()
    breaker = CircuitBreaker(clock.seconds)
    failing(breaker, "a", FAILURES)
    # Asked before it rested, heard of later.
    assert failing(breaker, "a", 3) == [True] * 3
    rest = FIRST_REST
    for _ in range(8):
        clock.advance(rest - 1)
        assert breaker.places() == {"a": 0}
        clock.advance(1)
        assert breaker.places() == {"a": 1}
        breaker.failed("a")
        rest = min(LONGEST_REST, rest * 2)
    assert rest == LONGEST_REST


def test_what_is_remembered_is_bounded() -> None:
    breaker = CircuitBreaker(Clock().seconds)
    for number in range(MOST + 10):
        failing(breaker, f"t{number}", FAILURES)
    assert len(breaker.places()) == MOST
    assert "t0" not in breaker.places()
