"""Where a command's words go and its questions are answered: this process's terminal, later an SSH channel."""

from __future__ import annotations

import getpass
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol, TextIO

#: Characters of one line of input, at most.
LONGEST_LINE: Final = 65_536
#: Bytes of a whole input, at most.
LARGEST_INPUT: Final = 16 * 1024 * 1024


class Failed(Exception):
    """A command can't do what it was asked; the message is for the operator, `status` the exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


class Console(Protocol):
    """What a command may print to and ask. Lines come and go without their line end."""

    @property
    def is_terminal(self) -> bool:
        """Whether somebody sits there who can be asked."""

    @property
    def width(self) -> int | None:
        """Columns of the terminal that shows what is printed; None if that goes elsewhere."""

    def out(self, line: str = "") -> None:
        """Print a result; may hold several lines."""

    def err(self, line: str) -> None:
        """Print an error or a warning."""

    async def ask(self, question: str) -> str | None:
        """Print a question and read a line; None at the end of input."""

    async def read_secret(self, prompt: str) -> str | None:
        """Read a line; on a terminal, the prompt is shown and what is typed is not. None at the end of input."""

    async def read_all(self) -> str:
        """Everything up to the end of input. Raises Failed where it can't be had whole."""


class LocalConsole:
    """The standard streams. Reading blocks the whole process: while somebody thinks, nothing else is to be done."""

    def __init__(self, stdin: TextIO, stdout: TextIO, stderr: TextIO) -> None:
        self._stdin = stdin
        self._stdout = stdout
        self._stderr = stderr

    @property
    def is_terminal(self) -> bool:
        return self._stdin.isatty()

    @property
    def width(self) -> int | None:
        return os.get_terminal_size(self._stdout.fileno()).columns or 80 if self._stdout.isatty() else None

    def out(self, line: str = "") -> None:
        self._stdout.write(line + "\n")
        self._stdout.flush()

    def err(self, line: str) -> None:
        self._stderr.write(line + "\n")
        self._stderr.flush()

    async def ask(self, question: str) -> str | None:
        try:
            with _default_signals():
                self.out(question)
                return self._read_line()
        except KeyboardInterrupt:
            self._end_line()
            return None

    async def read_secret(self, prompt: str) -> str | None:
        try:
            with _default_signals():
                return getpass.getpass(prompt, self._stderr) if self.is_terminal else self._read_line()
        except (EOFError, KeyboardInterrupt):
            self._end_line()
            return None

    async def read_all(self) -> str:
        try:
            with _default_signals():
                data = self._stdin.buffer.read(LARGEST_INPUT + 1)
        except KeyboardInterrupt:
            self._end_line()
            raise Failed("The input was broken off") from None
        return whole_text(data)

    def _read_line(self) -> str | None:
        try:
            line = self._stdin.readline(LONGEST_LINE)
        except UnicodeDecodeError:
            return None
        return line.rstrip("\r\n") if line else None

    def _end_line(self) -> None:
        """Leave the line on which the terminal shows ^C, or the prompt."""
        self._stderr.write("\n")
        self._stderr.flush()


def whole_text(data: bytes) -> str:
    """The input as text. Raises Failed if it is too long, or no UTF-8: a part of it could be taken for the whole."""
    if len(data) > LARGEST_INPUT:
        raise Failed(f"The input is longer than {LARGEST_INPUT} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Failed("The input is not UTF-8") from None


@contextmanager
def _default_signals() -> Iterator[None]:
    """While a read blocks the reactor, its own handlers could do nothing: Ctrl-C and SIGTERM must work all the same."""
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.SIGTERM: signal.signal(signal.SIGTERM, signal.SIG_DFL),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def confirm(console: Console, question: str, *, agreed: bool, piped: bool) -> int:
    """Whether to go on: 0, or the exit status to end with. `agreed`: it was said on the command line already.

    `piped`: an answer on a standard input that is no terminal counts, as it does for rake; none does not.
    """
    if agreed:
        return 0
    if console.is_terminal or piped:
        answer = await console.ask(f"{question}\nIf you still wish to continue please enter `yes`")
        if answer is not None or console.is_terminal:
            if answer is not None and answer.strip().lower() == "yes":
                return 0
            console.out("Aborted")
            return 1
    console.err("ERROR: Nothing was changed: there is no terminal to ask on, so add --yes if you are sure")
    return 2
