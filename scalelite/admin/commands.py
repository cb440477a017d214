"""The one table of commands, behind every front-end."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from scalelite.admin import audit, config, servers, status, tenants
from scalelite.admin.ssh import commands as ssh
from scalelite.admin.table import Command

TABLE: Final[Mapping[str, Command]] = MappingProxyType(
    {command.name: command for module in (servers, tenants, status, audit, config, ssh) for command in module.COMMANDS}
)
