"""An operator's terminal: keys in, a line with its prompt out, drawn anew where a key has changed it."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import attrs
from twisted.conch.insults.insults import ServerProtocol, TerminalProtocol
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from scalelite.admin.ssh.channel import Size
from scalelite.admin.ssh.editor import Editor, History
from scalelite.admin.text import width

#: Bytes that may be typed ahead while a command runs; what is more is lost, as on any terminal.
TYPE_AHEAD: Final = 4096
#: Bytes of the longest escape sequence that a key sends.
_LONGEST_SEQUENCE: Final = 32
#: Candidates that are listed, at most.
_LISTED: Final = 100

Completer = Callable[[str], Awaitable["Completion"]]

# The names that Conch gives to keys.
_KEY: Final[Any] = ServerProtocol
_INTERRUPT: Final = b"\x03"


class Interrupted(Exception):
    """Ctrl-C was typed in a line."""


@attrs.frozen
class Completion:
    """How what stands to the left of the cursor may go on: `start` stays, one of `words` follows it."""

    start: str
    words: Sequence[str]

    @property
    def common(self) -> str:
        """What all the words begin with."""
        first, last = min(self.words), max(self.words)
        count = next((i for i, c in enumerate(first) if last[i : i + 1] != c), len(first))
        return first[:count]


class Keys(ServerProtocol):
    """Makes keys of bytes, by Conch's parser; sequences that don't end are forgotten."""

    def dataReceived(self, data: bytes) -> None:
        for i in range(len(data)):
            super().dataReceived(data[i : i + 1])
            if self.state == b"bracket-escaped" and len(self.escBuf) > _LONGEST_SEQUENCE:
                self.escBuf.clear()
                self.state = b"data"


class Terminal(TerminalProtocol):
    """Reads lines and writes text. `send` takes bytes; `interrupt` is called for a Ctrl-C outside of the shell's line.

    While nobody reads, keys wait: they belong to whoever reads next.
    """

    _log = Logger()

    def __init__(self, send: Callable[[bytes], None], size: Size, interrupt: Callable[[], None]) -> None:
        self._send = send
        self._size = size
        self._interrupt = interrupt
        self._waiting: deque[tuple[bytes, Any]] = deque()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._line: _Line | None = None
        self._completing: Deferred[None] | None = None
        # Whether the last character that was written did not end a line.
        self._open_line = False
        self._keys = Keys(lambda: self)
        self._keys.makeConnection(self)

    def makeConnection(self, terminal: Any) -> None:
        self.terminal = terminal

    @property
    def size(self) -> Size:
        """In characters."""
        return self._size

    @property
    def waited_for(self) -> bool:
        """Whether a line is being read."""
        return self._line is not None

    # Out

    def write(self, text: str) -> None:
        """Print text; its line ends are made a terminal's."""
        if text:
            self._open_line = not text.endswith("\n")
            self._send(text.replace("\n", "\r\n").encode(errors="backslashreplace"))

    def fresh_line(self) -> None:
        """Go to the beginning of a line, unless the cursor is there."""
        if self._open_line:
            self.write("\n")

    def resized(self, size: Size) -> None:
        """The terminal has another size; what is being typed is drawn for it."""
        self._size = size
        if self._line is not None:
            self._line.draw(size.width)

    # In

    def received(self, data: bytes) -> None:
        """Bytes from the terminal."""
        self._keys.dataReceived(data)

    async def read_line(
        self,
        prompt: str = "",
        *,
        echo: bool = True,
        history: History | None = None,
        complete: Completer | None = None,
        interruptible: bool = False,
    ) -> str | None:
        """The next line; None for Ctrl-D in an empty one. `interruptible`: a Ctrl-C raises Interrupted."""
        line = _Line(self.write, prompt, Editor(history), echo=echo, complete=complete, interruptible=interruptible)
        line.done = Deferred(self._abandoned)
        self._line = line
        line.draw(self._size.width)
        self._serve()
        return await line.done

    def _abandoned(self, _done: Deferred[str | None]) -> None:
        self._leave("")

    def _leave(self, mark: str) -> _Line | None:
        """Leave the line that is being read, with the cursor below it."""
        line, self._line = self._line, None
        if self._completing is not None:
            self._completing.cancel()
        if line is not None:
            line.editor.end()
            line.draw(self._size.width)
            self.write(mark + "\n")
        return line

    def keystrokeReceived(self, keyID: bytes, modifier: Any) -> None:
        if keyID == _INTERRUPT:
            self._waiting.clear()
            line = self._line
            if line is None or not line.interruptible:
                if line is None:
                    self.write("^C\n")
                self._leave("^C")
                self._interrupt()
                if line is not None and not line.done.called:
                    line.done.errback(Interrupted())
                return
            self._leave("^C")
            line.done.errback(Interrupted())
        elif len(self._waiting) < TYPE_AHEAD:
            self._waiting.append((keyID, modifier))
            self._serve()

    def unhandledControlSequence(self, seq: bytes) -> None:
        key = _FURTHER_KEYS.get(seq)
        if key is not None:
            self.keystrokeReceived(*key)

    def _serve(self) -> None:
        # What several keys have changed is drawn once: a paste would take its length squared.
        while self._waiting and self._line is not None and self._completing is None:
            key, modifier = self._waiting.popleft()
            self._key(self._line, key, modifier)
        if self._line is not None:
            self._line.draw(self._size.width)

    def _key(self, line: _Line, key: bytes, modifier: Any) -> None:
        if key in b"\r\n":
            self._leave("")
            line.done.callback(line.editor.text)
            return
        if key == b"\x04" and not line.editor.text:
            self._leave("")
            line.done.callback(None)
            return
        if key == b"\t":
            if line.complete is not None:
                line.draw(self._size.width)
                self._completing = Deferred.fromCoroutine(self._complete(line, line.complete))
                self._completing.addErrback(self._not_completed).addBoth(self._completed)
            return
        if key == b"\x0c":
            self._send(b"\x1b[H\x1b[2J")
            line.forget_place()
            return
        act = (_ALT_ACTS if modifier == _KEY.ALT else _ACTS).get(key)
        if act is not None:
            act(line.editor)
        elif modifier is None and (len(key) == 1 and (key >= b" " and key != b"\x7f")):
            text = "".join(c for c in self._decoder.decode(key) if c.isprintable())
            if text and not line.editor.insert(text):
                self.write("\a")

    # Completion

    async def _complete(self, line: _Line, complete: Completer) -> None:
        editor = line.editor
        found = await complete(editor.before)
        if line is not self._line or not found.words:
            return
        text = found.start + found.common + (" " if len(found.words) == 1 else "")
        if text != editor.before and len(text) >= len(editor.before):
            editor.replace_before(text)
            line.draw(self._size.width)
        elif len(found.words) > 1:
            cursor = editor.cursor
            editor.end()
            line.draw(self._size.width)
            self.write("\n" + columns(found.words, self._size.width))
            editor.cursor = cursor
            line.forget_place()
            line.draw(self._size.width)

    def _not_completed(self, failure: Any) -> None:
        if self._line is not None:
            self._log.failure("a line could not be completed", failure)

    def _completed(self, _result: Any) -> None:
        self._completing = None
        self._serve()


def columns(words: Sequence[str], wide: int) -> str:
    """Words side by side, downwards as `ls` has them, with a line end; not all of very many."""
    shown = sorted(words)[:_LISTED]
    column = max(width(word) for word in shown) + 2
    across = max(1, wide // column)
    down = -(-len(shown) // across)
    lines = ["".join(word + " " * (column - width(word)) for word in shown[row::down]).rstrip() for row in range(down)]
    if len(words) > len(shown):
        lines.append(f"... and {len(words) - len(shown)} more")
    return "\n".join(lines) + "\n"


class _Line:
    """A line on the screen: its prompt, its text, and where it begins above the cursor."""

    def __init__(
        self,
        write: Callable[[str], None],
        prompt: str,
        editor: Editor,
        *,
        echo: bool,
        complete: Completer | None,
        interruptible: bool,
    ) -> None:
        self._write = write
        self._prompt = prompt
        self.editor = editor
        self._echo = echo
        self.complete = complete
        self.interruptible = interruptible
        self.done: Deferred[str | None] = Deferred()
        self._drawn: _Drawn | None = None

    def forget_place(self) -> None:
        """The cursor is at the beginning of a new line of the screen."""
        self._drawn = None

    def draw(self, wide: int) -> None:
        """Show the line as it is now, with the cursor where it belongs; no more is sent than is needed."""
        text = self.editor.text if self._echo else ""
        cursor = self.editor.cursor if self._echo else 0
        old = self._drawn
        if old is not None and (old.text, old.cursor, old.wide) == (text, cursor, wide):
            return
        if old is not None and old.wide == wide and cursor == len(text) and old.at_end and text.startswith(old.text):
            added = text[len(old.text) :]
            row, column = layout(added, wide, old.row, old.column)
            self._write(added + ("" if column else "\n"))
        else:
            row, column = layout(self._prompt + text[:cursor], wide)
            last_row, last_column = layout(text[cursor:], wide, row, column)
            # A terminal goes on to the next row only with the character after the last one of a row.
            full = "\n" if last_row and not last_column else ""
            up = f"\x1b[{old.row}A" if old is not None and old.row else ""
            back = f"\x1b[{last_row - row}A" if last_row > row else ""
            forth = f"\x1b[{column}C" if column else ""
            self._write(f"{up}\r\x1b[J{self._prompt}{text}{full}{back}\r{forth}")
        self._drawn = _Drawn(text, cursor, wide, row, column)


@attrs.frozen
class _Drawn:
    """What is on the screen: the text, its cursor, for how wide a terminal, and the cursor's row and column."""

    text: str
    cursor: int
    wide: int
    row: int
    column: int

    @property
    def at_end(self) -> bool:
        """Whether the cursor stands behind the text."""
        return self.cursor == len(self.text)


def layout(text: str, wide: int, row: int = 0, column: int = 0) -> tuple[int, int]:
    """Row and column of the cursor after `text` was written, by default from the beginning of a row."""
    for character in text:
        columns_ = width(character)
        if column + columns_ > wide:
            row, column = row + 1, 0
        column += columns_
        if column == wide:
            row, column = row + 1, 0
    return row, column


_ACTS: Final[dict[bytes, Callable[[Editor], None]]] = {
    b"\x7f": Editor.backspace,
    b"\x08": Editor.backspace,
    b"\x04": Editor.delete,
    _KEY.DELETE: Editor.delete,
    b"\x02": Editor.left,
    _KEY.LEFT_ARROW: Editor.left,
    b"\x06": Editor.right,
    _KEY.RIGHT_ARROW: Editor.right,
    b"\x01": Editor.home,
    _KEY.HOME: Editor.home,
    b"\x05": Editor.end,
    _KEY.END: Editor.end,
    b"\x10": Editor.older,
    _KEY.UP_ARROW: Editor.older,
    b"\x0e": Editor.newer,
    _KEY.DOWN_ARROW: Editor.newer,
    b"\x17": Editor.cut_word,
    b"\x15": Editor.cut_before,
    b"\x0b": Editor.cut_after,
    b"\x19": Editor.paste,
}
_ALT_ACTS: Final[dict[bytes, Callable[[Editor], None]]] = {
    b"b": Editor.word_left,
    b"f": Editor.word_right,
    b"\x7f": Editor.cut_word,
}
# Home, End and the arrows as terminals in application mode send them, and Ctrl with an arrow; as Conch hands them on.
_FURTHER_KEYS: Final[dict[bytes, tuple[bytes, Any]]] = {
    b"\x1b[OA": (_KEY.UP_ARROW, None),
    b"\x1b[OB": (_KEY.DOWN_ARROW, None),
    b"\x1b[OC": (_KEY.RIGHT_ARROW, None),
    b"\x1b[OD": (_KEY.LEFT_ARROW, None),
    b"\x1b[OH": (_KEY.HOME, None),
    b"\x1b[OF": (_KEY.END, None),
    b"\x1b[1;5C": (b"f", _KEY.ALT),
    b"\x1b[1;5D": (b"b", _KEY.ALT),
}
