"""The one table of commands, behind every front-end."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from scalelite.admin import audit, config, drain, meetings, server_settings, servers, status, sync, tenants
from scalelite.admin.ssh import commands as ssh
from scalelite.admin.table import Command

_MODULES: Final = (servers, server_settings, drain, sync, meetings, tenants, status, audit, config, ssh)

TABLE: Final[Mapping[str, Command]] = MappingProxyType(
    {command.name: command for module in _MODULES for command in module.COMMANDS}
)
