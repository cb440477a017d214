"""Telephone numbers are Scalelite's own, so that a meeting keeps its number after the change."""

from __future__ import annotations

import pytest

from scalelite.cluster.voice_bridge import RESERVED, TRIES, candidates

VECTORS = {
    "test-meeting-1": ["394201124", "323861283", "971977200"],
    "Demo Meeting": ["953452953", "855719023", "914829676"],
    "é": ["141757235", "295984251", "241658751"],
}
"""First three draws of nine digits, as observed on Scalelite."""


@pytest.mark.parametrize("meeting_id", VECTORS)
def test_the_draws_equal_scalelites(meeting_id: str) -> None:
    assert list(candidates(meeting_id, 9))[:3] == VECTORS[meeting_id]


@pytest.mark.parametrize("length", [1, 2, 5, 7, 9, 18])
def test_numbers_have_the_wanted_length_and_no_leading_zero(length: int) -> None:
    for number in [*candidates("m1", length), *candidates("m2", length)]:
        assert len(number) == length
        assert number.isdigit()
        assert number[0] != "0"


def test_a_preferred_number_comes_first_and_does_not_advance_the_draws() -> None:
    drawn = list(candidates("test-meeting-1", 9))
    assert len(drawn) == TRIES
    assert list(candidates("test-meeting-1", 9, "0123 verbatim")) == ["0123 verbatim", *drawn[: TRIES - 1]]


def test_the_reserved_number_is_skipped_and_counts_as_a_try() -> None:
    assert list(candidates("m1", 9, RESERVED)) == list(candidates("m1", 9))[: TRIES - 1]
    assert all(RESERVED not in candidates(f"m{n}", 5) for n in range(300))
