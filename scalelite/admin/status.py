"""The command `status`: a table of what the servers are doing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from scalelite.admin.table import JSON, OK, Call, Command, Context
from scalelite.admin.tables import drawn
from scalelite.admin.text import host_of, json_text, shown, width
from scalelite.cluster.records import Server

HEADERS: Final = (
    "HOSTNAME",
    "STATE",
    "STATUS",
    "MEETINGS",
    "USERS",
    "LARGEST MEETING",
    "VIDEOS",
    "LOAD",
    "BBB VERSION",
    "TAG",
)
NUMBERS: Final = ("MEETINGS", "USERS", "LARGEST MEETING", "VIDEOS", "LOAD")
_LOAD: Final = HEADERS.index("LOAD")


async def status(context: Context, call: Call) -> int:
    """One line a server, by host name."""
    servers = _by_host(await context.pool.servers.all())
    if call.has(JSON):
        context.console.out(json_text([_as_json(server) for server in servers]))
        return OK
    rows = [_cells(server) for server in servers]
    plain = "\n".join(["", *table(rows)])
    context.console.out(drawn(context.console, call, HEADERS, rows, right=NUMBERS) or plain)
    return OK


def overview(servers: Sequence[Server], moment: str) -> list[str]:
    """The pool at a moment: its sums, an empty line, and the table of `status`."""
    online = sum(server.online for server in servers)
    meetings = sum(_number(server.meetings) or 0 for server in servers if server.online)
    users = sum(_number(server.users) or 0 for server in servers if server.online)
    sums = f"{moment}  {online} of {len(servers)} servers online, {meetings} meetings, {users} users"
    return [sums, "", *table([_cells(server) for server in _by_host(servers)])]


def _by_host(servers: Sequence[Server]) -> list[Server]:
    return sorted(servers, key=lambda server: (host_of(server.url).encode("utf-8", "surrogatepass"), server.id))


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of the table, none without rows.

    As Scalelite prints it: headers centred with the odd blank to the left, cells flush left save for the load.
    """
    if not rows:
        return []
    widths = [max(width(HEADERS[i]), *(width(row[i]) for row in rows)) for i in range(len(HEADERS))]
    header = []
    for text, wide in zip(HEADERS, widths, strict=True):
        spare = wide - len(text)
        header.append(" " * (spare - spare // 2) + text + " " * (spare // 2))
    body = []
    for row in rows:
        padding = [" " * (wide - width(text)) for text, wide in zip(row, widths, strict=True)]
        body.append([padding[i] + row[i] if i == _LOAD else row[i] + padding[i] for i in range(len(HEADERS))])
    return [f" {'  '.join(cells)} " for cells in [header, *body]]


def _cells(server: Server) -> list[str]:
    return [
        shown(host_of(server.url)),
        server.state.value,
        "online" if server.online else "offline",
        shown(server.meetings or ""),
        shown(server.users or ""),
        shown(server.largest_meeting or ""),
        shown(server.videos or ""),
        "" if server.load is None else str(server.load),
        shown(server.bbb_version or ""),
        shown(server.tag or ""),
    ]


def _as_json(server: Server) -> dict[str, Any]:
    return {
        "id": server.id,
        "hostname": host_of(server.url),
        "state": server.state.value,
        "online": server.online,
        "meetings": _number(server.meetings),
        "users": _number(server.users),
        "largest_meeting": _number(server.largest_meeting),
        "videos": _number(server.videos),
        "load": server.load,
        "bbb_version": server.bbb_version or "",
        "tag": server.tag or "",
    }


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() else None


COMMANDS = (
    Command(
        "status",
        status,
        "Show what the servers are doing.\n\nThe figures are those of the last poll.",
        "status --json",
        flags=(JSON,),
        changes=False,
    ),
)
