"""Splitting a line into words, quoted as in a shell."""

from __future__ import annotations

import re
from typing import Final

_PIECE: Final = re.compile(
    r"""(?P<blanks>[ \t\r\n]+) | (?P<plain>[^ \t\r\n'"\\]+) | '(?P<single>[^']*)'
    | "(?P<double>(?:[^"\\]|\\.)*)" | \\(?P<escaped>.)""",
    re.DOTALL | re.VERBOSE,
)
_COMMENT: Final = re.compile(r"#[^\n]*")
_IN_DOUBLE_QUOTES: Final = re.compile(r"\\([\\\"])")


def split_line(line: str) -> list[str]:
    """The words of a line. Raises ValueError for a quote that is not closed, or a backslash at the end.

    A comment begins with `#` where a word could begin: within a word, as secrets may have it, it is a character like
    others.
    """
    words: list[str] = []
    word: list[str] | None = None
    at = 0
    while at < len(line):
        found = (_COMMENT if word is None and line[at] == "#" else _PIECE).match(line, at)
        if found is None:
            raise ValueError("a quote is not closed")
        at = found.end()
        text = _text(found)
        if text is not None:
            word = [] if word is None else word
            word.append(text)
        elif word is not None:
            words.append("".join(word))
            word = None
    return words if word is None else [*words, "".join(word)]


def _text(piece: re.Match[str]) -> str | None:
    """What a piece adds to the word that it is in; None if it is in none."""
    kind = piece.lastgroup
    if kind is None or kind == "blanks":
        return None
    return _IN_DOUBLE_QUOTES.sub(r"\1", piece[kind]) if kind == "double" else piece[kind]
