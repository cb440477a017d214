"""The commands around the database: what it is, and bringing it to the present tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from scalelite.admin.table import FAILED, JSON, OK, Call, Command, Context
from scalelite.admin.text import json_text, shown

if TYPE_CHECKING:
    from scalelite.recordings.examination import Found
    from scalelite.settings import Settings


def _place(settings: Settings) -> str:
    """Which database it is, without a password."""
    from scalelite.settings.database_url import read_database_url

    assert settings.effective_database_url is not None
    url = read_database_url(settings.effective_database_url)
    if url.engine == "sqlite":
        return f"SQLite, {url.database}"
    host = url.options.get("host")
    return f"PostgreSQL, {url.database}{f' at {host}' if host else ''}"


async def status(context: Context, call: Call) -> int:
    """What the database is; status 1 unless it is up to date."""
    console = context.console
    desk = context.pool.recordings
    found = await desk.examine()
    if call.has(JSON):
        console.out(json_text(_as_json(context.settings, found)))
    else:
        console.out(f"Database: {shown(_place(context.settings))}\nState: {found.text}")
        for note in found.notes:
            console.out(f"Note: {shown(note)}")
    if found.current:
        return OK
    if not call.has(JSON):
        console.err("`scalelite db:upgrade` brings it up to date; so does the service when it starts")
    return FAILED


def _as_json(settings: Settings, found: Found) -> dict[str, Any]:
    return {
        "database": _place(settings),
        "state": found.text,
        "revision": found.revision,
        "usable": found.usable,
        "current": found.current,
        "notes": list(found.notes),
    }


async def upgrade(context: Context, _call: Call) -> int:
    """Make the tables, or those that are missing."""
    console, clock = context.console, context.pool.clock
    desk = context.pool.recordings

    def tell(text: str) -> None:
        # It is told in the thread that upgrades.
        reactor: Any = clock
        reactor.callFromThread(console.out, shown(text))

    found = await desk.in_thread(desk.upgrade(tell).run)
    console.out(f"The database is {found.text}\nOK")
    return OK


_UPGRADE: Final = (
    "Make the database's tables, or adopt Scalelite's.\n\n"
    "Nothing is taken away, so that Scalelite can use it as before. The service does the same when it starts, unless "
    "SCALELITE_DB_UPGRADE is false. db:migrate is the name that Scalelite has for it."
)

COMMANDS = (
    Command(
        "db:status",
        status,
        "Show which database it is, and whether it is up to date.",
        "db:status --json",
        flags=(JSON,),
        changes=False,
    ),
    *(Command(name, upgrade, _UPGRADE, name) for name in ("db:upgrade", "db:migrate")),
)
