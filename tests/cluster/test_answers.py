"""The last answers of servers, bounded in age and size."""

from __future__ import annotations

from scalelite.cluster.answers import LastAnswers


def test_an_answer_is_given_out_while_it_is_young_enough() -> None:
    answers = LastAnswers()
    answers.put("s1", 100.0, b"one")
    assert answers.get("s1", 100.0) == b"one"
    assert answers.get("s1", 100.1) is None
    assert answers.get("s2", 0) is None


def test_a_new_answer_takes_the_place_of_the_old_one() -> None:
    answers = LastAnswers(max_bytes=10)
    for n in range(5):
        answers.put("s1", float(n), b"12345678")
    assert answers.get("s1", 4.0) == b"12345678"


def test_the_oldest_go_when_too_much_is_kept() -> None:
    answers = LastAnswers(max_bytes=10)
    answers.put("s1", 1.0, b"1234")
    answers.put("s2", 2.0, b"1234")
    answers.put("s1", 3.0, b"4321")
    answers.put("s3", 4.0, b"1234")
    assert answers.get("s2", 0) is None
    assert answers.get("s1", 0) == b"4321"
    assert answers.get("s3", 0) == b"1234"
    answers.put("s4", 5.0, b"longer than all that may be kept")
    assert [answers.get(f"s{n}", 0) for n in (1, 2, 3, 4)] == [None] * 4


def test_a_forgotten_answer_is_gone() -> None:
    answers = LastAnswers()
    answers.put("s1", 1.0, b"x")
    answers.forget("s1")
    answers.forget("s1")
    assert answers.get("s1", 0) is None
