"""The commands `config`, the settings as they are in force, and `secret`, a value for those that want one."""

from __future__ import annotations

import secrets

from scalelite.admin.table import JSON, OK, SHOW_SECRETS, Call, Command, Context
from scalelite.settings import render, render_json


async def config(context: Context, call: Call) -> int:
    """Every variable with its value."""
    as_text = render_json if call.has(JSON) else render
    context.console.out(as_text(context.settings, show_secrets=call.has(SHOW_SECRETS)).removesuffix("\n"))
    return OK


async def secret(context: Context, _call: Call) -> int:
    """A new secret, as long as Rails makes them."""
    context.console.out(secrets.token_hex(64))
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
    Command(
        "secret",
        secret,
        "Make up a secret.\n\nIt is printed, and kept nowhere: put it into SECRET_KEY_BASE, for instance.",
        "secret",
        needs_pool=False,
        needs_settings=False,
        changes=False,
    ),
)
