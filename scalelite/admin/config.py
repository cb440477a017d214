"""The command `config`: the settings as they are in force."""

from __future__ import annotations

from scalelite.admin.table import JSON, OK, SHOW_SECRETS, Call, Command, Context
from scalelite.settings import render, render_json


async def config(context: Context, call: Call) -> int:
    """Every variable with its value."""
    as_text = render_json if call.has(JSON) else render
    context.console.out(as_text(context.settings, show_secrets=call.has(SHOW_SECRETS)).removesuffix("\n"))
    return OK


COMMANDS = (
    Command(
        "config",
        config,
        "Show the settings, and what to be warned of.",
        "config --json",
        flags=(JSON, SHOW_SECRETS),
        needs_pool=False,
        changes=False,
    ),
)
