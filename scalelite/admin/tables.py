"""Tables for people: drawn by rich where a terminal shows them; pipes and rake's spelling get plain lines."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from io import StringIO
from typing import Final

from scalelite.admin.console import Console
from scalelite.admin.table import Call

_STYLES: Final = {
    "enabled": "green",
    "online": "green",
    "offline": "red",
    "cordoned": "yellow",
    "disabled": "bright_black",
}


def drawn(
    console: Console,
    call: Call,
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Collection[str] = (),
) -> str | None:
    """The table as a terminal shows it; None where the plain form belongs. Columns in `right` are flush right.

    Cells must be printable.
    """
    width = console.width
    if width is None or call.rake or not rows:
        return None
    # It takes a while to import, and pipes do without.
    from rich import box
    from rich.console import Console as Screen
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for header in headers:
        table.add_column(header, justify="right" if header in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    file = StringIO()
    screen = Screen(file=file, force_terminal=True, width=width, color_system="standard", legacy_windows=False)
    screen.print(table)
    return file.getvalue().rstrip("\n")


class Progress:
    """A bar that says how far many steps have come, on a terminal; nothing elsewhere, nor for a few steps.

    What there is to say meanwhile comes by `note`: with a bar, after it. Nothing else may be printed before `end`.
    """

    #: Steps from which on it is worth a bar.
    FEWEST: Final = 10

    def __init__(self, console: Console, call: Call, what: str, total: int) -> None:
        self._console = console
        self._what = what
        self._total = total
        self._done = 0
        self._percent = -1
        self._notes: list[str] = []
        self._barred = console.width is not None and not call.rake and total >= self.FEWEST

    def note(self, line: str) -> None:
        """A line for standard error."""
        if self._barred:
            self._notes.append(line)
        else:
            self._console.err(line)

    def step(self) -> None:
        """One more is done."""
        self._done += 1
        percent = 100 * self._done // self._total
        if self._barred and percent != self._percent:
            # Over the bar that is there: one line up, and that line away.
            over = "" if self._percent < 0 else "\x1b[1A\x1b[2K"
            self._percent = percent
            self._console.out(f"{over}{self._bar()}")

    def end(self) -> None:
        """Take the bar away, and print what was noted."""
        if self._percent >= 0:
            self._console.out("\x1b[1A\x1b[2K\x1b[1A")
        self._barred = False
        for line in self._notes:
            self._console.err(line)

    def _bar(self) -> str:
        from rich.console import Console as Screen
        from rich.progress_bar import ProgressBar

        text = f" {self._done}/{self._total} {self._what}"
        width = max(10, min(60, (self._console.width or 80) - len(text) - 1))
        file = StringIO()
        screen = Screen(file=file, force_terminal=True, width=width, color_system="standard", legacy_windows=False)
        screen.print(ProgressBar(total=self._total, completed=self._done, width=width), end="")
        return file.getvalue().rstrip("\n") + text
