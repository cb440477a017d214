"""The bar that tells how far a command has come: for terminals, and gone in the end."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest
import pytest_twisted

from scalelite.admin.commands import TABLE
from scalelite.admin.line import parse
from scalelite.admin.run import run
from scalelite.admin.table import Actor, Context
from scalelite.simulator import Fault
from tests.admin.desk import Desk, MemoryConsole, hold_meetings
from tests.balancer import Balancer


@attrs.define
class Screen(MemoryConsole):
    """A console whose two streams are one screen: `rows` is what stands there, `seen` all that ever stood there."""

    rows: list[str] = attrs.field(factory=lambda: [""])
    seen: set[str] = attrs.field(factory=set)
    row: int = 0

    def out(self, line: str = "") -> None:
        super().out(line)
        self._show(line + "\n")

    def err(self, line: str) -> None:
        super().err(line)
        self._show(line + "\n")

    def _show(self, text: str) -> None:
        while text:
            if text.startswith("\x1b["):
                end = next(i for i, c in enumerate(text) if c.isalpha())
                sequence, text = text[: end + 1], text[end + 1 :]
                if sequence == "\x1b[1A":
                    self.row -= 1
                elif sequence == "\x1b[2K":
                    self.rows[self.row] = ""
                else:
                    assert sequence.endswith("m")
                continue
            if text[0] == "\n":
                self.seen.add(self.rows[self.row])
                self.row += 1
                if self.row == len(self.rows):
                    self.rows.append("")
            else:
                self.rows[self.row] += text[0]
            text = text[1:]

    @property
    def bars(self) -> list[str]:
        """What the bars said."""
        return sorted(line.split("━ ")[-1] for line in self.seen if "━" in line)


async def on_screen(
    desk: Desk, words: Sequence[str], *, width: int | None = 120, answers: Sequence[str] = ()
) -> Screen:
    screen = Screen(list(answers), width=width)
    await run(
        Context(desk.settings, desk.pool, screen, Actor("ada", "test"), iter_ids(), 15.0, True), parse(TABLE, words)
    )
    return screen


def iter_ids() -> object:
    numbers = iter(range(1, 1000))
    return lambda: f"new-{next(numbers)}"


SERVERS_FILE = "servers:\n" + "".join(f"  s{i}: {{secret: x}}\n" for i in range(1, 13))
SERVERS_LIST = "servers:\n" + "".join(f"  - {{url: 'http://s{i}/api', secret: x}}\n" for i in range(1, 13))

MANY = [
    (["servers:panic", "s1", "--yes"], "12/12 meetings cleared", "Clearing Meeting id=m11"),
    (["servers:disable", "s1", "--yes"], "12/12 meetings cleared", "Clearing Meeting id=m11"),
    (["meetings:end", "--yes"], "12/12 meetings done", "Clearing Meeting id=m11"),
    (["servers:sync", "-", "force", "--yes"], "25/25 servers and meetings done", "[s12] Server created"),
    (["servers:addAll", "-"], "12/12 servers added", "id: new-12"),
]


@pytest.mark.parametrize(("words", "bar", "line"), MANY, ids=[words[0] for words, _, _ in MANY])
@pytest_twisted.ensureDeferred
async def test_what_takes_many_steps_shows_a_bar_below_its_lines(
    balancer: Balancer, desk: Desk, words: list[str], bar: str, line: str
) -> None:
    await hold_meetings(balancer, *(f"m{i}" for i in range(12)), server_id="s0" if "sync" in words[0] else "s1")
    answers = [SERVERS_FILE] if "sync" in words[0] else [SERVERS_LIST]
    screen = await on_screen(desk, words, answers=answers)
    assert bar in screen.bars
    assert line in screen.rows
    assert not any("━" in row for row in screen.rows)


@pytest.mark.parametrize(
    ("name", "bar"),
    [
        ("poll:all", "12/12 servers polled"),
        ("poll:versions", "12/12 servers asked"),
        ("servers:meeting_list", "12/12 servers asked"),
        ("doctor", "12/12 servers looked at"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_asking_many_servers_shows_a_bar(balancer: Balancer, desk: Desk, name: str, bar: str) -> None:
    for i in range(12):
        await balancer.add_server(f"s{i}")
    balancer.nodes["s3"].faults.set("*", Fault.HTTP_500)
    screen = await on_screen(desk, [name])
    assert bar in screen.bars
    assert not any("━" in row for row in screen.rows)


@pytest.mark.parametrize(("width", "rake"), [(None, False), (120, True)], ids=["piped", "rake"])
@pytest_twisted.ensureDeferred
async def test_pipes_and_the_spelling_of_rake_see_lines_only(
    balancer: Balancer, desk: Desk, width: int | None, rake: bool
) -> None:
    await hold_meetings(balancer, *(f"m{i:02}" for i in range(12)))
    words = ["rake", "servers:panic[s1]", "--yes"] if rake else ["servers:panic", "s1", "--yes"]
    screen = await on_screen(desk, words, width=width)
    lines = [f"Clearing Meeting id=m{i:02}\n" for i in range(12)]
    assert screen.printed == ["Panicking server s1...\n", *lines, "OK\n"]


@pytest_twisted.ensureDeferred
async def test_a_few_steps_are_not_worth_a_bar(balancer: Balancer, desk: Desk) -> None:
    await hold_meetings(balancer, "m1", "m2")
    assert (await on_screen(desk, ["servers:panic", "s1", "--yes"])).bars == []


@pytest_twisted.ensureDeferred
async def test_the_bar_is_gone_where_a_command_fails_half_way(balancer: Balancer, desk: Desk) -> None:
    desk.settings = attrs.evolve(desk.settings, server_id_is_hostname=True)
    await balancer.parts.servers.add("s12", "http://s12/api", "x")
    screen = await on_screen(desk, ["servers:addAll", "-"], answers=[SERVERS_LIST])
    assert "11/12 servers added" in screen.bars
    assert screen.rows[-2:] == ["ERROR: Server already exists with id 's12'", ""]
    assert not any("━" in row for row in screen.rows)
