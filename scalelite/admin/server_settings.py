"""The commands that change one server's settings."""

from __future__ import annotations

from scalelite.admin.servers import SERVER_ID, UNREADABLE_MULTIPLIER, check_values, find_server
from scalelite.admin.table import OK, Argument, Call, Command, Context, Failed, Flag
from scalelite.admin.text import read_multiplier, shown

SECRET_FROM_STDIN = Flag("secret-from-stdin", "Read the secret from standard input.")


async def update_server(context: Context, call: Call) -> int:
    """Change what is given of a server's secret, load multiplier and tag."""
    console = context.console
    server = await find_server(context, call)
    console.out(f"Updating server {shown(server.id)}...")
    secret = call.get("secret")
    if call.has(SECRET_FROM_STDIN):
        secret = (await console.read_secret("Secret: ") or "").strip()
        if not secret:
            raise Failed("There is no secret on standard input")
    multiplier = call.get("load_multiplier")
    number = None if multiplier is None else _multiplier(context, multiplier)
    await _change(context, server.id, secret=secret, load_multiplier=number, tag=call.get("tag"))
    console.out("OK")
    return OK


async def set_load_multiplier(context: Context, call: Call) -> int:
    """Set a server's load multiplier."""
    server = await find_server(context, call)
    await _change(context, server.id, load_multiplier=_multiplier(context, call.get("load_multiplier")))
    context.console.out("OK")
    return OK


async def set_tag(context: Context, call: Call) -> int:
    """Set a server's tag, or take it away."""
    server = await find_server(context, call)
    await _change(context, server.id, tag=call.get("tag") or "")
    context.console.out("OK")
    return OK


def _multiplier(context: Context, text: str | None) -> float:
    number = read_multiplier(text)
    if number == 0:
        context.console.out(UNREADABLE_MULTIPLIER)
        return 1.0
    if number < 0:
        context.console.err("WARNING: With a negative load-multiplier, a server seems the emptier the fuller it is")
    return number


async def _change(
    context: Context,
    server_id: str,
    *,
    secret: str | None = None,
    load_multiplier: float | None = None,
    tag: str | None = None,
) -> None:
    check_values(secret, tag)
    changed = await context.pool.servers.update(server_id, secret=secret, load_multiplier=load_multiplier, tag=tag)
    if not changed:
        raise Failed(f"Server with id '{server_id}' is deleted")


COMMANDS = (
    Command(
        "servers:update",
        update_server,
        "Change a server's secret, load multiplier and tag.\n\n"
        "What is absent or - stays as it is; an empty tag ('') removes it. A new multiplier counts from the next poll.",
        "servers:update bbb1.example.com - 2.0 gold",
        (
            SERVER_ID,
            Argument("secret", "The new secret.", False, skippable=True),
            Argument("load_multiplier", "How much dearer a user is here than elsewhere.", False, skippable=True),
            Argument("tag", "Meetings that ask for this tag go here.", False, skippable=True, keeps_empty=True),
        ),
        (SECRET_FROM_STDIN,),
    ),
    Command(
        "servers:loadMultiplier",
        set_load_multiplier,
        "Set a server's load multiplier.\n\nIt counts from the next poll on.",
        "servers:loadMultiplier bbb1.example.com 2.0",
        (SERVER_ID, Argument("load_multiplier", "How much dearer a user is here; 1.0 if absent.", False)),
    ),
    Command(
        "servers:tag",
        set_tag,
        "Set a server's tag.\n\nWithout one, its tag is removed.",
        "servers:tag bbb1.example.com gold",
        (SERVER_ID, Argument("tag", "Meetings that ask for this tag go here.", False)),
    ),
)
