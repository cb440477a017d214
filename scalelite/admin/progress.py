"""A bar that tells how far a command has come, on a terminal; pipes and rake's spelling see none of it."""

from __future__ import annotations

from io import StringIO
from typing import Final, Self

from scalelite.admin.console import Console
from scalelite.admin.table import Call

#: Steps from which on it is worth a bar.
FEWEST: Final = 10
_LINE_UP_AND_AWAY: Final = "\x1b[1A\x1b[2K"


class Progress:
    """A bar below the lines that a command prints meanwhile; `what` says what its steps are.

    While it stands, whatever is printed goes through `out` and `err`. It is a context manager, and gone at the end.
    """

    def __init__(self, console: Console, call: Call, what: str) -> None:
        self._console = console
        self._what = what
        self._barred = console.width is not None and not call.rake
        self._shown: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._take_away()
        self._barred = False

    def out(self, line: str = "") -> None:
        """Print a result, above the bar."""
        self._print(line, error=False)

    def err(self, line: str) -> None:
        """Print an error or a warning, above the bar."""
        self._print(line, error=True)

    def at(self, done: int, total: int) -> None:
        """So many steps are done, of so many."""
        if not self._barred or total < FEWEST:
            return
        bar = self._bar(done, total)
        if bar != self._shown:
            over = "" if self._shown is None else _LINE_UP_AND_AWAY
            self._shown = bar
            self._console.out(f"{over}{bar}")

    def hide(self) -> None:
        """Take the bar away until the next step: what comes is not printed through here."""
        self._take_away()

    def _print(self, line: str, *, error: bool) -> None:
        bar = self._shown
        self._take_away()
        (self._console.err if error else self._console.out)(line)
        if bar is not None:
            self._shown = bar
            self._console.out(bar)

    def _take_away(self) -> None:
        if self._shown is not None:
            self._shown = None
            # Consoles end every line: one more up, so that the next one stands where the bar was.
            self._console.out(f"{_LINE_UP_AND_AWAY}\x1b[1A")

    def _bar(self, done: int, total: int) -> str:
        from rich.console import Console as Screen
        from rich.progress_bar import ProgressBar

        text = f" {done}/{total} {self._what}"
        width = max(10, min(60, (self._console.width or 80) - len(text) - 1))
        file = StringIO()
        screen = Screen(file=file, force_terminal=True, width=width, color_system="standard", legacy_windows=False)
        screen.print(ProgressBar(total=total, completed=done, width=width), end="")
        return file.getvalue().rstrip("\n") + text
