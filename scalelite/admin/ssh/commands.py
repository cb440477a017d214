"""The command `ssh:fingerprint`: how to know the SSH server again."""

from __future__ import annotations

from scalelite.admin.ssh.hostkey import HostKeyError, read_host_key
from scalelite.admin.table import OK, Call, Command, Context, Failed


async def fingerprint(context: Context, _call: Call) -> int:
    """The host key's fingerprint, and the key as a line of known_hosts."""
    settings = context.settings
    try:
        key = read_host_key(settings.data_dir)
    except HostKeyError as error:
        raise Failed(str(error)) from error
    if key is None:
        raise Failed("There is no host key yet: the service makes it when its SSH server first starts")
    context.console.out(f"{key.fingerprint} (ED25519)\n{known_host(settings.ssh_bind, settings.ssh_port)} {key.public}")
    return OK


def known_host(host: str, port: int) -> str:
    """A host as known_hosts writes it."""
    return host if port == 22 else f"[{host.strip('[]')}]:{port}"


COMMANDS = (
    Command(
        "ssh:fingerprint",
        fingerprint,
        "Show the SSH server's fingerprint.\n\nThat of its host key, and the key as a line for known_hosts.",
        "ssh:fingerprint",
        needs_pool=False,
        changes=False,
    ),
)
