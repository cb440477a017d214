"""Tables for people: drawn by rich where a terminal shows them; pipes and rake's spelling get plain lines."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from io import StringIO
from typing import Final

from scalelite.admin.console import Console
from scalelite.admin.table import Call
from scalelite.admin.text import width

_STYLES: Final = {
    "enabled": "green",
    "online": "green",
    "offline": "red",
    "cordoned": "yellow",
    "disabled": "bright_black",
    "published": "green",
    "unpublished": "yellow",
    "deleted": "bright_black",
    "dead": "red",
}


def listing(
    console: Console,
    call: Call,
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Collection[str] = (),
) -> str:
    """The table as a terminal shows it, or as plain lines with a heading. Cells must be printable."""
    table = drawn(console, call, headers, rows, right=right)
    if table is not None:
        return table
    widths = [max(map(width, column)) for column in zip(headers, *rows, strict=True)]
    lines = []
    for cells in (headers, *rows):
        padded = []
        for header, cell, wide in zip(headers, cells, widths, strict=True):
            blanks = " " * (wide - width(cell))
            padded.append(blanks + cell if header in right else cell + blanks)
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


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
    columns = console.width
    if columns is None or call.rake or not rows:
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
    screen = Screen(file=file, force_terminal=True, width=columns, color_system="standard", legacy_windows=False)
    screen.print(table)
    return file.getvalue().rstrip("\n")
