"""The SSH door: the table of commands for operators with a key, as single commands and as a shell."""

from __future__ import annotations

from pathlib import Path

from scalelite.settings import Settings


def ssh_keys(settings: Settings) -> Path | None:
    """The file whose keys may log in; None: there is to be no SSH server."""
    if settings.ssh_disabled:
        return None
    if settings.ssh_authorized_keys is None and settings.environment == "development":
        return settings.data_dir / "ssh_authorized_keys"
    return settings.ssh_authorized_keys
