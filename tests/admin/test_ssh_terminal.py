"""A line on a terminal: keys, drawing, history, completion. What is drawn is checked on a small terminal of its own."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from scalelite.admin.ssh.channel import Size
from scalelite.admin.ssh.editor import LONGEST, History
from scalelite.admin.ssh.terminal import TYPE_AHEAD, Completion, Interrupted, Terminal, columns
from scalelite.admin.text import width


class Screen:
    """A terminal that knows what is used here: line ends, a few movements, and to wait at the margin."""

    def __init__(self, wide: int) -> None:
        self.wide = wide
        self.rows: list[dict[int, str]] = [{}]
        self.row = self.column = 0
        self.margin = False

    def feed(self, data: bytes) -> None:
        for piece in re.findall(r"\x1b\[(?:\d*)[A-Z]|.", data.decode(), re.DOTALL):
            self._take(piece)

    def _take(self, piece: str) -> None:
        if piece.startswith("\x1b["):
            count, action = int(piece[2:-1] or 1), piece[-1]
            if action == "A":
                self.row = max(0, self.row - count)
            elif action == "C":
                self.column = min(self.wide - 1, self.column + count)
            elif action == "J":
                self.rows[self.row] = {c: t for c, t in self.rows[self.row].items() if c < self.column}
                del self.rows[self.row + 1 :]
            else:
                raise AssertionError(piece)
            self.margin = False
        elif piece == "\r":
            self.column, self.margin = 0, False
        elif piece == "\n":
            self._down()
        elif piece != "\a":
            self._write(piece)

    def _down(self) -> None:
        self.row, self.margin = self.row + 1, False
        while len(self.rows) <= self.row:
            self.rows.append({})

    def _write(self, character: str) -> None:
        wide = width(character)
        if wide == 0:
            return
        if self.margin or self.column + wide > self.wide:
            self.column = 0
            self._down()
        self.rows[self.row][self.column] = character
        self.column += wide
        if self.column == self.wide:
            self.column, self.margin = self.wide - 1, True

    @property
    def text(self) -> str:
        """All that is on it, rows joined without line ends."""
        return "".join(text for row in self.rows for _, text in sorted(row.items()))

    @property
    def before_cursor(self) -> str:
        """What stands above and to the left of the cursor."""
        rows = [
            row if i < self.row else {c: t for c, t in row.items() if c < self.column}
            for i, row in enumerate(self.rows)
        ]
        return "".join(text for row in rows[: self.row + 1] for _, text in sorted(row.items()))


class Desk:
    """A terminal in front of a screen."""

    def __init__(self, wide: int = 40) -> None:
        self.screen = Screen(wide)
        self.sent = b""
        self.interrupts = 0
        self.terminal = Terminal(self._send, Size(wide, 24), self._interrupt)

    def _send(self, data: bytes) -> None:
        self.sent += data
        self.screen.feed(data)

    def _interrupt(self) -> None:
        self.interrupts += 1

    def read(self, prompt: str = "> ", **options: Any) -> list[Any]:
        """Read a line; the list holds it once there is one."""
        outcome: list[Any] = []
        Deferred.fromCoroutine(self.terminal.read_line(prompt, **options)).addBoth(outcome.append)
        return outcome

    def type(self, text: str) -> None:
        self.terminal.received(text.encode())


LEFT, RIGHT, UP, DOWN = "\x1b[D", "\x1b[C", "\x1b[A", "\x1b[B"


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ("hello", "hello"),
        ("helo" + LEFT + "l", "hello"),
        ("xhello\x01\x04", "hello"),
        ("xhello\x1b[H\x1b[3~", "hello"),
        ("ello\x1b[1~h", "hello"),
        ("ello\x1bOHh\x1bOF!", "hello!"),
        ("hell" + LEFT * 9 + RIGHT * 9 + "o", "hello"),
        ("ello\x01h\x05!", "hello!"),
        ("hellooo\x7f\x08", "hello"),
        ("\x7f\x7fhello\x04\x04", "hello"),
        ("rubbish\x15hello", "hello"),
        ("hello world\x02\x02\x02\x02\x02\x02\x0b", "hello"),
        ("hello big  \x17", "hello "),
        ("one two\x17\x19\x19", "one twotwo"),
        ("two one \x1bb\x1bb\x0b\x05x\x19", "xtwo one "),
        ("a b\x1b[1;5D\x1b[1;5D\x1b[1;5C!", "a! b"),
        ("a word\x1b\x7f", "a "),
        ("äöü漢\x7f\x7fx", "äöx"),
        ("e\u0301t\u00e9", "e\u0301t\u00e9"),
        ("a\x00\x07\x1a\x1cb", "ab"),
        ("a\x1b[200~b\x1b[201~", "ab"),
        ("a\x1b[99;99;99zb\x1b[Zc", "abc"),
        ("a\x1b[5~\x1b[6~\x1b[15~b", "ab"),
        ("a\tb", "ab"),
    ],
)
def test_keys_edit_the_line(keys: str, line: str) -> None:
    desk = Desk()
    outcome = desk.read()
    desk.type(keys)
    assert outcome == []
    assert desk.screen.text.rstrip() == ("> " + line.replace("\u0301", "")).rstrip()
    desk.type("\r")
    assert outcome == [line]


KEYS = st.lists(
    st.one_of(
        st.text("abc dé漢", min_size=1, max_size=12),
        st.sampled_from(
            [LEFT, RIGHT, "\x7f", "x\x01\x04", "\x01", "\x05", "\x17", "\x15", "\x0b", "\x19", UP, DOWN, "\x1bb"]
        ),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(KEYS, st.integers(10, 30), st.sampled_from(["", "> ", "scalelite 3/4 online> "]))
def test_the_screen_always_shows_the_line_and_its_cursor(keys: list[str], wide: int, prompt: str) -> None:
    desk = Desk(wide)
    outcome = desk.read(prompt, history=History(lines=["an older line", "another one that is quite long"]))
    for key in keys:
        desk.type(key)
        line: Any = desk.terminal._line
        assert desk.screen.text == prompt + line.editor.text
        assert desk.screen.before_cursor == prompt + line.editor.before
    text = desk.terminal._line.editor.text  # type: ignore[union-attr]
    desk.type("\r")
    assert outcome == [text]
    # What comes next begins a line of its own, below all of this one.
    assert desk.screen.column == 0
    assert desk.screen.rows[desk.screen.row] == {}


def test_ctrl_d_ends_the_input_only_in_an_empty_line() -> None:
    desk = Desk()
    outcome = desk.read()
    desk.type("x\x04\x7f")
    assert outcome == []
    desk.type("\x04")
    assert outcome == [None]


def test_ctrl_c_leaves_the_line() -> None:
    desk = Desk()
    outcome = desk.read(interruptible=True)
    desk.type("half\x03more")
    assert outcome[0].check(Interrupted)
    assert desk.interrupts == 0
    assert "half^C" in desk.screen.text
    assert desk.read() == []
    assert desk.screen.text.endswith("> more")


def test_ctrl_c_while_nobody_reads_drops_what_was_typed_ahead() -> None:
    desk = Desk()
    desk.type("typed ahead\r\x03after")
    assert desk.interrupts == 1
    assert desk.read() == []
    assert desk.screen.text.endswith("> after")


def test_type_ahead_is_bounded() -> None:
    desk = Desk(1000)
    desk.type("x" * (TYPE_AHEAD + 100))
    outcome = desk.read()
    desk.type("\r")
    assert outcome == ["x" * TYPE_AHEAD]


def test_a_line_is_bounded() -> None:
    desk = Desk(1000)
    outcome = desk.read()
    for _ in range(20):
        desk.type("x" * 1000)
    desk.type("\r")
    assert len(outcome[0]) == LONGEST
    assert b"\a" in desk.sent


def test_an_endless_escape_sequence_is_forgotten() -> None:
    desk = Desk()
    outcome = desk.read()
    desk.type("\x1b[" + "1" * 100_000)
    desk.type("\x15ok\r")
    assert outcome == ["ok"]


def test_secrets_are_not_shown() -> None:
    desk = Desk()
    outcome = desk.read("Secret: ", echo=False)
    desk.type("hunter2\x7f2" + LEFT + RIGHT + "\r")
    assert outcome == ["hunter2"]
    assert desk.screen.text == "Secret: "


def test_the_history_goes_back_and_forth_and_keeps_edits() -> None:
    history = History(lines=["one", "two"])
    desk = Desk()
    outcome = desk.read(history=history)
    desk.type("new" + UP + "!" + UP + UP + UP + DOWN)
    assert desk.screen.text == "> two!"
    desk.type(DOWN + DOWN)
    assert desk.screen.text == "> new"
    desk.type(UP + "\r")
    assert outcome == ["two!"]
    assert history.lines == ["one", "two"]


def test_the_history_is_bounded_and_leaves_out_repetitions_blanks_and_what_begins_with_one() -> None:
    history = History(limit=3)
    for line in ("a", "a", "", "  ", " secret", "b", "c", "d"):
        history.add(line)
    assert history.lines == ["b", "c", "d"]


def test_a_resize_draws_the_line_anew() -> None:
    desk = Desk(40)
    desk.read()
    desk.type("x" * 50)
    desk.screen.__init__(20)  # type: ignore[misc]
    desk.terminal._line.forget_place()  # type: ignore[union-attr]
    desk.terminal.resized(Size(20, 24))
    assert desk.screen.text == "> " + "x" * 50
    assert desk.terminal.size == Size(20, 24)


# Completion


class Asked:
    """Completes with what a test says, when it says so."""

    def __init__(self, *words: str) -> None:
        self.words = words
        self.before: list[str] = []
        self.wait: Deferred[None] | None = None

    async def __call__(self, before: str) -> Completion:
        self.before.append(before)
        if self.wait is not None:
            await self.wait
        start = before[: len(before) - len(before.rsplit(" ", maxsplit=1)[-1])]
        return Completion(start, [word for word in self.words if word.startswith(before.rsplit(" ", maxsplit=1)[-1])])


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("sta\t", "status "),
        ("se\t", "servers:"),
        ("x\t", "x"),
        ("help sta\t", "help status "),
        ("sta us" + LEFT * 3 + "\t", "status  us"),
    ],
)
def test_tab_completes_what_stands_before_the_cursor(typed: str, line: str) -> None:
    desk = Desk()
    outcome = desk.read(complete=Asked("status", "servers:add", "servers:enable"))
    desk.type(typed + "\r")
    assert outcome == [line]


def test_a_second_tab_lists_what_is_possible() -> None:
    desk = Desk()
    desk.read(complete=Asked("servers:add", "servers:enable"))
    desk.type("ser\t\t")
    assert desk.screen.text == "> servers:servers:add     servers:enable> servers:"
    assert desk.screen.before_cursor == desk.screen.text


def test_keys_wait_while_a_completion_is_looked_for() -> None:
    asked = Asked("status")
    asked.wait = Deferred()
    desk = Desk()
    outcome = desk.read(complete=asked)
    desk.type("st\t --json\r")
    assert outcome == []
    asked.wait.callback(None)
    assert outcome == ["status  --json"]


def test_ctrl_c_gives_up_a_completion() -> None:
    asked = Asked("status")
    asked.wait = Deferred()
    desk = Desk()
    outcome = desk.read(complete=asked, interruptible=True)
    desk.type("st\t\x03")
    assert outcome[0].check(Interrupted)
    again = desk.read()
    desk.type("on\r")
    assert again == ["on"]


def test_very_many_possibilities_are_cut() -> None:
    text = columns([f"meeting-{i:04}" for i in range(1000)], 80)
    assert text.count("meeting-") == 100
    assert "... and 900 more" in text
    assert max(map(len, text.splitlines())) <= 80
