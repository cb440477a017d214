"""The two ends of a command: a channel with its three streams, or a terminal."""

from __future__ import annotations

from collections.abc import Callable

from scalelite.admin.ssh.stdin import Input
from scalelite.admin.ssh.terminal import Terminal


class StreamConsole:
    """For a session without a terminal: standard output and error apart, nobody to be asked."""

    is_terminal = False
    width = None

    def __init__(self, stdin: Input, stdout: Callable[[bytes], None], stderr: Callable[[bytes], None]) -> None:
        self._stdin = stdin
        self._stdout = stdout
        self._stderr = stderr

    def out(self, line: str = "") -> None:
        self._stdout(f"{line}\n".encode(errors="backslashreplace"))

    def err(self, line: str) -> None:
        self._stderr(f"{line}\n".encode(errors="backslashreplace"))

    async def ask(self, question: str) -> str | None:
        self.out(question)
        return await self._stdin.read_line()

    async def read_secret(self, prompt: str) -> str | None:
        return await self._stdin.read_line()

    async def read_all(self) -> str:
        lines = []
        while (line := await self._stdin.read_line()) is not None:
            lines.append(line)
        return "\n".join(lines)


class TerminalConsole:
    """For a session with a terminal: all on one screen."""

    is_terminal = True

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal

    @property
    def width(self) -> int:
        """Columns of the terminal, as of now."""
        return self._terminal.size.width

    def out(self, line: str = "") -> None:
        self._terminal.write(f"{line}\n")

    def err(self, line: str) -> None:
        self._terminal.write(f"{line}\n")

    async def ask(self, question: str) -> str | None:
        self.out(question)
        return await self._terminal.read_line()

    async def read_secret(self, prompt: str) -> str | None:
        return await self._terminal.read_line(prompt, echo=False)

    async def read_all(self) -> str:
        lines = []
        while (line := await self._terminal.read_line()) is not None:
            lines.append(line)
        return "\n".join(lines)
