"""The little of ERB that configuration files use: values of environment variables, with a default."""

from __future__ import annotations

import re
from collections.abc import Mapping

_TAG = re.compile(r"<%(.*?)%>", re.DOTALL)
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<env>ENV\.fetch\b|ENV\b)
      | (?P<string>'[^'\\]*'|"[^"\\#]*")
      | (?P<number>-?[0-9]+(?:\.[0-9]+)?)
      | (?P<word>nil|true|false)\b
      | (?P<mark>[\[\](){},])
    )""",
    re.VERBOSE,
)
_FORMS = "only ENV['NAME'], ENV.fetch('NAME') and ENV.fetch('NAME', 'default') are understood"


class ErbError(ValueError):
    """A tag that is not understood, or a variable without a default that is unset; one problem with its line each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problems))


def expand(text: str, environ: Mapping[str, str]) -> str:
    """Replace every ERB tag by the value it asks for; an empty or missing variable counts as unset.

    The value goes in as it is, before YAML is read, as ERB does. Raises `ErbError` with all faults.
    """
    problems: list[str] = []

    def value_of(match: re.Match[str]) -> str:
        line = text.count("\n", 0, match.start()) + 1
        try:
            return _evaluate(match.group(1), environ)
        except _Unset as error:
            problems.append(f"line {line}: {error} is unset and has no default")
        except _NotUnderstood:
            problems.append(f"line {line}: {_FORMS} of ERB")
        return ""

    expanded = _TAG.sub(value_of, text)
    # What is left over has no end; a value from the environment may hold such marks, the file may not.
    remaining = _TAG.sub("", text)
    if "<%" in remaining or "%>" in remaining:
        at = max(text.rfind("<%"), 0) if "<%" in remaining else text.rfind("%>")
        problems.append(f"line {text.count(chr(10), 0, at) + 1}: an ERB tag is not closed or not opened")
    if problems:
        raise ErbError(problems)
    return expanded


class _NotUnderstood(Exception):
    pass


class _Unset(Exception):
    pass


def _evaluate(code: str, environ: Mapping[str, str]) -> str:
    if not code.startswith("="):
        raise _NotUnderstood
    parser = _Parser(code[1:].removesuffix("-"), environ)
    value = parser.lookup()
    parser.end()
    return value


class _Parser:
    """Recursive descent over one tag; what it reads it evaluates at once."""

    def __init__(self, code: str, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._tokens: list[tuple[str, str]] = []
        at, code = 0, code.rstrip()
        while at < len(code):
            match = _TOKEN.match(code, at)
            if match is None or match.lastgroup is None:
                raise _NotUnderstood
            self._tokens.append((match.lastgroup, match.group(match.lastgroup)))
            at = match.end()
        self._tokens.reverse()

    def end(self) -> None:
        if self._tokens:
            raise _NotUnderstood

    def lookup(self) -> str:
        """``ENV['NAME']``, or ``ENV.fetch('NAME')`` with an argument or a block as default."""
        if self._take("env") == "ENV":
            self._mark("[")
            name = self._take("string")[1:-1]
            self._mark("]")
            return self._environ.get(name, "").strip()
        self._mark("(")
        name = self._take("string")[1:-1]
        default: str | None = None
        if self._next_is(","):
            self._mark(",")
            default = self._default()
        self._mark(")")
        if self._next_is("{"):
            self._mark("{")
            default = self._default()
            self._mark("}")
        value = self._environ.get(name, "").strip() or default
        if value is None:
            raise _Unset(name)
        return value

    def _default(self) -> str | None:
        kind = self._tokens[-1][0] if self._tokens else ""
        if kind == "string":
            return self._take("string")[1:-1]
        if kind == "number":
            return self._take("number")
        if kind == "word":
            word = self._take("word")
            return "" if word == "nil" else word
        try:
            return self.lookup()
        except _Unset:
            # Ruby would fail even where the outer variable is set; the outer one alone decides here.
            return None

    def _take(self, kind: str) -> str:
        if not self._tokens or self._tokens[-1][0] != kind:
            raise _NotUnderstood
        return self._tokens.pop()[1]

    def _next_is(self, mark: str) -> bool:
        return bool(self._tokens) and self._tokens[-1] == ("mark", mark)

    def _mark(self, mark: str) -> None:
        if not self._next_is(mark):
            raise _NotUnderstood
        self._tokens.pop()
