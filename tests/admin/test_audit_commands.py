"""The audit log: what every changing command leaves there, and what it never does."""

from __future__ import annotations

import json

import pytest_twisted

from scalelite.admin.commands import TABLE
from scalelite.admin.table import Call, Command, Context, Failed
from scalelite.cluster.audit import Entry
from scalelite.store.audit import AuditStore
from scalelite.store.errors import StoreUnavailable
from tests.admin.desk import Desk
from tests.balancer import Balancer

URL = "https://bbb7.example.net/bigbluebutton/api"


async def log_of(desk: Desk) -> list[dict[str, str]]:
    shown: list[dict[str, str]] = json.loads((await desk.run("audit", "--json")).out)
    return [{name: value for name, value in row.items() if name != "time"} for row in shown]


@pytest_twisted.ensureDeferred
async def test_a_change_is_recorded_with_who_what_and_how_it_ended_but_no_secret(desk: Desk) -> None:
    await desk.run("servers:add", URL, "0f3c-secret", "2", "gold")
    await desk.run("servers:enable", "nope")
    assert await log_of(desk) == [
        {
            "actor": "ada",
            "origin": "test",
            "command": "servers:add",
            "target": f"{URL} ***** 2 gold",
            "result": "ok",
        },
        {
            "actor": "ada",
            "origin": "test",
            "command": "servers:enable",
            "target": "nope",
            "result": "No server found with id: nope",
        },
    ]


@pytest_twisted.ensureDeferred
async def test_lines_show_time_actor_command_and_result(desk: Desk) -> None:
    await desk.run("servers:enable[nope]")
    line = (await desk.run("audit", "1")).out
    assert line[4] == "-"
    assert line.endswith("Z  ada (test)  servers:enable nope: No server found with id: nope\n")


@pytest_twisted.ensureDeferred
async def test_what_only_reads_is_not_recorded(desk: Desk) -> None:
    for name in ("servers", "status", "audit"):
        await desk.run(name)
    result = await desk.run("audit")
    assert (result.out, result.err) == ("", "Nothing was changed yet\n")


def test_no_argument_that_may_hold_a_secret_is_public() -> None:
    from scalelite.admin.audit import PUBLIC

    for command in TABLE.values():
        for argument in command.arguments:
            doubtful = any(word in argument.name for word in ("secret", "password", "value", "key"))
            assert not (doubtful and (argument.public or argument.name in PUBLIC)), (command.name, argument.name)


@pytest_twisted.ensureDeferred
async def test_only_the_newest_entries_are_kept(balancer: Balancer) -> None:
    store = AuditStore(balancer.parts.redis, "x:", kept=3)
    for number in range(5):
        await store.finish(await store.begin(Entry("a", "b", str(number), "")), Entry("a", "b", str(number), "", "ok"))
    assert [entry.command for entry in await store.last(10)] == ["2", "3", "4"]
    assert [entry.command for entry in await store.last(2)] == ["3", "4"]
    assert len(await balancer.redis("HKEYS", "x:balancer:audit")) == 4


@pytest_twisted.ensureDeferred
async def test_a_command_whose_process_dies_stays_unfinished(balancer: Balancer) -> None:
    store = AuditStore(balancer.parts.redis, "x:")
    await store.begin(Entry("a", "b", "servers:panic", "s1"))
    (entry,) = await store.last(1)
    assert (entry.command, entry.result) == ("servers:panic", "unfinished")
    assert entry.time > 1_600_000_000


@pytest_twisted.ensureDeferred
async def test_a_log_that_cannot_be_written_holds_nobody_up(desk: Desk) -> None:
    class Full:
        async def begin(self, entry: Entry) -> int:
            raise StoreUnavailable("OOM")

    desk.pool.audit = Full()
    assert (await desk.run("servers:add", URL, "s")).status == 0


@pytest_twisted.ensureDeferred
async def test_a_failure_is_recorded_in_one_line(desk: Desk) -> None:
    async def fail(context: Context, call: Call) -> int:
        raise Failed("two\nlines")

    table = {"break": Command("break", fail, "Break.", "break")}
    await desk.run("break", table=table)
    assert [(row["command"], row["result"]) for row in await log_of(desk)] == [("break", "two lines")]
