"""The one table of commands, behind every front-end."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from scalelite.admin import (
    audit,
    completion,
    config,
    db,
    doctor,
    drain,
    meetings,
    outbox,
    poll,
    recordings,
    recordings_changes,
    recordings_import,
    recordings_orphans,
    server_settings,
    servers,
    status,
    sync,
    tenants,
    watch,
    why,
)
from scalelite.admin.ssh import commands as ssh
from scalelite.admin.table import Command

_MODULES: Final = (
    servers, server_settings, drain, sync, meetings, why, tenants, recordings, recordings_changes,
    recordings_import, recordings_orphans, outbox, db, status, watch, doctor, poll, audit, config, completion, ssh,
)  # fmt: skip

TABLE: Final[Mapping[str, Command]] = MappingProxyType(
    {command.name: command for module in _MODULES for command in module.COMMANDS}
)
