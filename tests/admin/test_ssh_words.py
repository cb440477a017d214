"""Lines become words as in a shell."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalelite.admin.ssh.words import split_line


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", []),
        (" \t ", []),
        ("servers:add URL se#cret gold", ["servers:add", "URL", "se#cret", "gold"]),
        ("servers:add[URL,se#cret,1.0,gold]", ["servers:add[URL,se#cret,1.0,gold]"]),
        ("servers # all of them", ["servers"]),
        ("# nothing", []),
        ("''#no-comment", ["#no-comment"]),
        ("'#1' \\#2 \"#3\"", ["#1", "#2", "#3"]),
        ("status # one\nservers", ["status", "servers"]),
        ("a '' \"\"", ["a", "", ""]),
        ("o'n'e two\\ words", ["one", "two words"]),
        (r'"a\"b\\c\d"', [r'a"b\c\d']),
        (r"'a\b'", [r"a\b"]),
        ("non\u00a0breaking", ["non\u00a0breaking"]),
    ],
)
def test_words_are_quoted_as_in_a_shell(line: str, words: list[str]) -> None:
    assert split_line(line) == words


@pytest.mark.parametrize("line", ["'", '"', "a 'b", 'a "b\\"', "a\\"])
def test_a_quote_that_is_not_closed_is_an_error(line: str) -> None:
    with pytest.raises(ValueError, match="not closed"):
        split_line(line)


@given(st.lists(st.text()))
def test_quoted_words_come_back_as_they_are(words: list[str]) -> None:
    assert split_line(shlex.join(words)) == words


@given(st.text(alphabet=" \t\n'\"\\ab", max_size=20))
def test_without_comments_lines_are_split_as_by_the_standard_library(line: str) -> None:
    try:
        expected = shlex.split(line)
    except ValueError:
        with pytest.raises(ValueError, match="not closed"):
            split_line(line)
    else:
        assert split_line(line) == expected
