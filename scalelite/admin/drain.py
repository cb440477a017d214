"""The command `servers:drain`: no new meetings on a server, and how far it is on its way to be empty."""

from __future__ import annotations

from typing import Final

from scalelite.admin.servers import SERVER_ID, find_server
from scalelite.admin.table import OK, Call, Command, Context, Failed, Flag
from scalelite.admin.text import shown
from scalelite.cluster.records import ServerState

WAIT: Final = Flag("wait", "Come back once it is empty, and tell what is left until then.")
#: Seconds between two looks.
LOOK: Final = 5.0


async def drain(context: Context, call: Call) -> int:
    """Cordon a server; wait until no meetings are recorded there, if asked to."""
    from twisted.internet.task import deferLater

    from scalelite.cluster.operations.servers import ServerGone, change_state

    console, pool = context.console, context.pool
    server = await find_server(context, call)
    name = shown(server.id)
    console.out(f"Draining server {name}...")
    if server.state is not ServerState.DISABLED:
        try:
            await change_state(pool.servers, server.id, ServerState.CORDONED)
        except ServerGone as error:
            raise Failed(str(error)) from error
    told: int | None = None
    while True:
        left = len(await pool.meetings.on_server(server.id))
        if left and left != told:
            now = await pool.servers.find(server.id)
            users = f", {shown(now.users)} users" if now is not None and now.users else ""
            console.out(f"{left} {'meeting' if left == 1 else 'meetings'}{users}")
            told = left
        if not left or not call.has(WAIT):
            break
        await deferLater(pool.clock, LOOK)
        now = await pool.servers.find(server.id)
        if now is None:
            raise Failed(f"Server with id '{name}' is deleted")
        if now.state is ServerState.ENABLED:
            raise Failed(f"Server {name} was enabled again meanwhile")
    if not left:
        console.out(f"Server {name} is empty")
    console.out("OK")
    return OK


COMMANDS = (
    Command(
        "servers:drain",
        drain,
        "Cordon a server, and show what is left on it.\n\nMeetings go on until their users leave.",
        "servers:drain bbb1.example.com --wait",
        (SERVER_ID,),
        (WAIT,),
    ),
)
