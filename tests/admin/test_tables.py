"""What a terminal sees instead of plain lines, and that pipes and rake's spelling never do."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
import pytest_twisted

from scalelite.admin.commands import TABLE
from scalelite.admin.line import parse
from scalelite.admin.run import run
from scalelite.admin.table import Actor, Context
from tests.admin.desk import Desk, MemoryConsole, hold_meetings
from tests.balancer import Balancer


async def on_terminal(desk: Desk, *words: str, width: int | None = 120) -> MemoryConsole:
    console = MemoryConsole(width=width)
    await run(Context(desk.settings, desk.pool, console, Actor("ada", "test"), str), parse(TABLE, words))
    return console


def text(printed: Sequence[str]) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", "".join(printed))


@pytest.mark.parametrize(("words", "header"), [(["status"], "HOSTNAME"), (["servers"], "URL"), (["meetings"], "NAME")])
@pytest_twisted.ensureDeferred
async def test_listings_are_tables_on_a_terminal(balancer: Balancer, desk: Desk, words: list[str], header: str) -> None:
    await hold_meetings(balancer, "m1")
    seen = await on_terminal(desk, *words)
    assert header in text(seen.printed)
    assert "─" in text(seen.printed)
    assert "\x1b[" in "".join(seen.printed)
    for plain in (await on_terminal(desk, *words, width=None), await on_terminal(desk, "rake", *words)):
        assert not re.search("[\x1b─]", "".join(plain.printed))
    json_printed = await on_terminal(desk, *words, "--json")
    assert "".join(json_printed.printed).startswith("[")


@pytest_twisted.ensureDeferred
async def test_a_narrow_terminal_gets_no_longer_lines(balancer: Balancer, desk: Desk) -> None:
    await hold_meetings(balancer, "m1")
    seen = await on_terminal(desk, "status", width=40)
    assert max(map(len, text(seen.printed).splitlines())) <= 40


@pytest_twisted.ensureDeferred
async def test_secrets_are_in_the_table_only_if_asked_for(balancer: Balancer, desk: Desk) -> None:
    await balancer.parts.servers.add("one", "https://h/api", "0f3c")
    assert "0f3c" not in text((await on_terminal(desk, "servers")).printed)
    assert "0f3c" in text((await on_terminal(desk, "servers", "--show-secrets")).printed)


@pytest_twisted.ensureDeferred
async def test_a_tag_is_no_markup_of_the_table(balancer: Balancer, desk: Desk) -> None:
    await balancer.parts.servers.add("one", "https://h/api", "s", 1.0, "[bold]x[/bold]\x1b[2J")
    assert "[bold]x[/bold]\\x1b[2J" in text((await on_terminal(desk, "servers", width=200)).printed)
