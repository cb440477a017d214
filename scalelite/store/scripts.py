"""The Lua scripts, each with the shared helpers in front. All key names of Redis stand in them."""

from __future__ import annotations

from scalelite.store.connection import Script

_COMMON = Script.load("common").source


def script(name: str) -> Script:
    """The script of `lua/NAME.lua`, preceded by `lua/common.lua`. Its only key is the namespace prefix."""
    return Script.of(name, _COMMON + Script.load(name).source)
