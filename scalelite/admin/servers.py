"""The commands that list, add, remove and switch servers."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from scalelite.admin.console import confirm
from scalelite.admin.progress import Progress
from scalelite.admin.table import (
    FAILED,
    JSON,
    OK,
    SHOW_SECRETS,
    YES,
    Argument,
    Call,
    Command,
    Context,
    Failed,
    Flag,
)
from scalelite.admin.tables import drawn
from scalelite.admin.text import (
    MASK,
    host_of,
    json_text,
    read_boolean,
    read_multiplier,
    shown,
    url_fault,
    value_fault,
)
from scalelite.cluster.records import Server, ServerState
from scalelite.store.errors import StoreError

if TYPE_CHECKING:
    from scalelite.cluster.operations.servers import Cleared, Clearing, NotEnded, ServerClearance

UNREADABLE_MULTIPLIER = "WARNING! Load-multiplier was not readable or 0, so it is now 1"
INCOMPLETE = "Error: Please input at least a URL and a secret!"
ACTIVE_LOAD = """\
WARNING: You are trying to disable a server with active load. You should use the cordon option if
          you do not want to clear all the meetings"""
CLEARED = "meetings cleared"
#: The share of a command's deadline in which servers are asked; in the rest, records are dropped.
ASKING = 0.9

SERVER_ID = Argument("id", "The server's id, as `servers` shows it.")
SERVER_IDS = Argument("id", "The servers' ids.", many=True)
REMOVE_FORCED = Flag("force", "Remove it although meetings are recorded there. They are forgotten, not ended.")


async def find_server(context: Context, call: Call) -> Server:
    """The server that the argument `id` names. Raises Failed if there is none."""
    return await _find(context, call.get("id") or "")


async def _find(context: Context, server_id: str) -> Server:
    server = await context.pool.servers.find(server_id)
    if server is None:
        raise Failed(f"No server found with id: {shown(server_id)}")
    return server


async def list_servers(context: Context, call: Call) -> int:
    """All servers of the pool with their settings."""
    servers = await context.pool.servers.all()
    clear = call.has(SHOW_SECRETS) or call.rake
    if call.has(JSON):
        rows = [_as_json(server, clear=clear) for server in servers]
        context.console.out(json_text(rows))
    elif servers:
        cells = [_cells(server, clear=clear) for server in servers]
        headers = HEADERS if clear else HEADERS[:-1]
        plain = "\n".join(_as_text(server, clear=clear) for server in servers)
        context.console.out(drawn(context.console, call, headers, cells, right=("LOAD", "MULTIPLIER")) or plain)
    else:
        context.console.err("No servers are configured")
    return OK


def _as_text(server: Server, *, clear: bool) -> str:
    lines = [
        f"id: {shown(server.id)}",
        f"url: {shown(server.url)}",
        f"secret: {shown(server.secret) if clear else MASK}",
        server.state.value,
        f"load: {'unavailable' if server.load is None else server.load}",
        f"load multiplier: {server.load_multiplier}",
        f"bbb version: {shown(server.bbb_version or '')}",
        f"tag: {shown(server.tag or '')}",
        "online" if server.online else "offline",
    ]
    return "\n\t".join(lines)


HEADERS = ("ID", "URL", "STATE", "STATUS", "LOAD", "MULTIPLIER", "BBB VERSION", "TAG", "SECRET")


def _cells(server: Server, *, clear: bool) -> list[str]:
    cells = [
        shown(server.id),
        shown(server.url),
        server.state.value,
        "online" if server.online else "offline",
        "unavailable" if server.load is None else str(server.load),
        str(server.load_multiplier),
        shown(server.bbb_version or ""),
        shown(server.tag or ""),
    ]
    return [*cells, shown(server.secret)] if clear else cells


def _as_json(server: Server, *, clear: bool) -> dict[str, Any]:
    return {
        "id": server.id,
        "url": server.url,
        "secret": server.secret if clear else MASK,
        "state": server.state.value,
        "load": server.load,
        "load_multiplier": server.load_multiplier,
        "bbb_version": server.bbb_version or "",
        "tag": server.tag or "",
        "online": server.online,
    }


def check_values(secret: str | None, tag: str | None) -> None:
    """Raise Failed for a secret or a tag that no server may have."""
    fault = value_fault("Secret", secret or "") or value_fault("Tag", tag or "")
    if fault is not None:
        raise Failed(f"Error: {fault}")


async def add_server(context: Context, call: Call) -> int:
    """Record a new server, disabled and offline."""
    console, servers = context.console, context.pool.servers
    url: str = call.get("url")
    fault = url_fault(url)
    if fault is not None:
        raise Failed(f"Error: {fault}")
    secret: str = call.get("secret")
    if secret == "-":  # noqa: S105 - it says where the secret is
        secret = (await console.read_secret("Secret: ") or "").strip()
        if not secret:
            console.err(INCOMPLETE)
            return FAILED
    check_values(secret, call.get("tag"))
    multiplier = read_multiplier(call.get("load_multiplier"))
    if multiplier == 0:
        console.out(UNREADABLE_MULTIPLIER)
        multiplier = 1.0
    elif multiplier < 0:
        console.err("WARNING: With a negative load-multiplier, a server seems the emptier the fuller it is")
    if not url.rstrip("/").endswith("/api"):
        console.err("WARNING: Server URL does not end in /api; `bbb-conf --secret` shows the whole URL")
    for other in await servers.all():
        if other.url.rstrip("/") == url.rstrip("/"):
            console.err(f"WARNING: Server {shown(other.id)} has the same URL")
    server_id = host_of(url).lower() if context.settings.server_id_is_hostname else context.new_id()
    if not await servers.add(server_id, url, secret, multiplier, call.get("tag") or ""):
        raise Failed(f"Server already exists with id '{server_id}'")
    console.out(f"OK\nid: {server_id}")
    return OK


async def remove_server(context: Context, call: Call) -> int:
    """Take a server out of the pool, unless meetings are recorded there."""
    server = await find_server(context, call)
    context.console.out(f"Removing server {shown(server.id)}...")
    recorded = await context.pool.servers.remove(server.id, force=call.has(REMOVE_FORCED))
    if recorded and not call.has(REMOVE_FORCED):
        raise Failed(
            f"Server {shown(server.id)} was not removed: {_count(recorded)} recorded there. Cordon it and wait, or end "
            "them with servers:panic; --force forgets them"
        )
    if recorded:
        context.console.err(f"WARNING: {_count(recorded)} forgotten, and may still run there")
    context.console.out("OK")
    return OK


def _switch(state: ServerState, verb: str) -> Callable[[Context, Call], Coroutine[Any, Any, int]]:
    async def switch(context: Context, call: Call) -> int:
        from scalelite.cluster.operations.servers import ServerGone, change_state

        # One name that is wrong, and nothing is changed.
        for server in [await _find(context, server_id) for server_id in call.get("id") or ("",)]:
            context.console.out(f"{verb} server {shown(server.id)}...")
            try:
                await change_state(context.pool.servers, server.id, state)
            except (ServerGone, StoreError) as error:
                if state is ServerState.CORDONED:
                    raise Failed(f"Failed to cordon server {shown(server.id)} - {error}") from error
                raise Failed(str(error)) from error
            context.console.out("OK")
        return OK

    return switch


async def disable_server(context: Context, call: Call) -> int:
    """Disable a server; one that has load or meetings only if that is agreed to, and then its meetings are ended."""
    from scalelite.cluster.operations.servers import ServerGone, change_state

    console = context.console
    server = await find_server(context, call)
    console.out(f"Disabling server {shown(server.id)}...")
    try:
        if (server.load or 0) > 0 or await context.pool.meetings.on_server(server.id):
            refused = await confirm(console, ACTIVE_LOAD, agreed=call.has(YES), piped=call.rake)
            if refused:
                return refused
            with Progress(console, call, CLEARED) as progress:
                cleared = await _clearance(context).panic(server, _printer(progress), count=progress.at)
            _report(context, server, cleared)
        else:
            await change_state(context.pool.servers, server.id, ServerState.DISABLED)
    except ServerGone as error:
        raise Failed(str(error)) from error
    console.out("OK")
    return OK


async def panic_server(context: Context, call: Call) -> int:
    """Disable a server and end and forget all its meetings."""
    from scalelite.cluster.operations.servers import ServerGone

    console = context.console
    server = await find_server(context, call)
    console.out(f"Panicking server {shown(server.id)}...")
    try:
        recorded = await context.pool.meetings.on_server(server.id)
        if recorded:
            question = f"WARNING: You are trying to clear {_count(len(recorded))} off server {shown(server.id)}"
            refused = await confirm(console, question, agreed=call.has(YES), piped=call.rake)
            if refused:
                return refused
        with Progress(console, call, CLEARED) as progress:
            cleared = await _clearance(context).panic(
                server,
                _printer(progress),
                keep_state=bool(call.get("keep_state")),
                skip_end_calls=bool(call.get("skip_end_calls")),
                count=progress.at,
            )
    except (ServerGone, StoreError) as error:
        raise Failed(f"Failed to panic server {shown(server.id)} - {error}") from error
    _report(context, server, cleared)
    console.out("OK")
    return OK


def _clearance(context: Context) -> ServerClearance:
    from scalelite.cluster.operations.servers import ServerClearance

    pool = context.pool
    deadline = context.deadline * ASKING
    return ServerClearance(pool.servers, pool.meetings, lambda: pool.client, pool.clock, deadline)


def _printer(progress: Progress) -> Callable[[Clearing | NotEnded], None]:
    from scalelite.cluster.operations.servers import NotEnded

    def tell(event: Clearing | NotEnded) -> None:
        if isinstance(event, NotEnded):
            progress.err(f"WARNING: Could not end meeting id={shown(event.meeting_id)}: {shown(event.reason)}")
        else:
            progress.out(f"Clearing Meeting id={shown(event.meeting_id)}")

    return tell


def _report(context: Context, server: Server, cleared: Cleared) -> None:
    """What an operator should know of what is left."""
    if cleared.may_live:
        context.console.err(
            f"WARNING: {cleared.may_live} of {_count(cleared.meetings)} may still run on server {shown(server.id)}; "
            "the poller ends them once it answers"
        )
    if cleared.remaining:
        context.console.err(f"WARNING: {_count(cleared.remaining)} recorded on server {shown(server.id)} by now")


def _count(meetings: int) -> str:
    return "1 meeting" if meetings == 1 else f"{meetings} meetings"


COMMANDS = (
    Command(
        "servers",
        list_servers,
        "List the servers with their settings.\n\nSecrets are masked, save in the spelling of rake.",
        "servers --show-secrets",
        flags=(SHOW_SECRETS, JSON),
        changes=False,
    ),
    Command(
        "servers:add",
        add_server,
        "Add a server.\n\nIt starts disabled and offline: enable it, and the next poll makes it usable.",
        "servers:add https://bbb1.example.com/bigbluebutton/api - < secret.txt",
        (
            Argument("url", "Its API, as `bbb-conf --secret` shows it, with /api at the end."),
            Argument("secret", "Its secret; - reads it from standard input, so that it stays out of the history."),
            Argument("load_multiplier", "How much dearer a user is here than elsewhere; 1.0 if absent.", False),
            Argument("tag", "Meetings that ask for this tag go here.", False),
        ),
        missing=INCOMPLETE,
    ),
    Command(
        "servers:remove",
        remove_server,
        "Remove a server.\n\nRefused while meetings are recorded there.",
        "servers:remove bbb1.example.com",
        (SERVER_ID,),
        (REMOVE_FORCED,),
        destructive=True,
    ),
    Command(
        "servers:enable",
        _switch(ServerState.ENABLED, "Enabling"),
        "Let servers take new meetings.\n\nA disabled one does so from the next poll on, a cordoned one at once.",
        "servers:enable bbb1.example.com bbb2.example.com",
        (SERVER_IDS,),
    ),
    Command(
        "servers:cordon",
        _switch(ServerState.CORDONED, "Cordoning"),
        "Drain servers: no new meetings, running ones go on.\n\nOnce one is empty, it is disabled.",
        "servers:cordon bbb1.example.com",
        (SERVER_IDS,),
    ),
    Command(
        "servers:disable",
        disable_server,
        "Disable a server, and end the meetings it may have.\n\nTo let them go on, cordon it.",
        "servers:disable bbb1.example.com --yes",
        (SERVER_ID,),
        (YES,),
        destructive=True,
    ),
    Command(
        "servers:panic",
        panic_server,
        "Disable a crashed server, end its meetings and forget them.\n\n"
        "Whoever joins one is sent to a new meeting on another server. Meetings that can't be ended now are ended "
        "once the server answers.",
        "servers:panic bbb1.example.com --yes",
        (
            SERVER_ID,
            Argument("keep_state", "true: leave it enabled.", False, read_boolean),
            Argument("skip_end_calls", "true: do not ask the server to end them now.", False, read_boolean),
        ),
        (YES,),
        destructive=True,
    ),
)
