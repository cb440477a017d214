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
