"""The commands for many servers at once, by a file: sync, yaml and addAll."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from scalelite.admin.console import confirm
from scalelite.admin.progress import Progress
from scalelite.admin.table import FAILED, OK, YES, Argument, Call, Command, Context, Failed
from scalelite.admin.text import host_of, shown

if TYPE_CHECKING:
    from scalelite.cluster.operations.sync import Sync

NO_PATH = "Missing 'path' parameter"
PATH = Argument("path", "The file; - reads standard input.", public=True)


async def _text_of(context: Context, path: str) -> str:
    """The file's text. Raises Failed."""
    if path == "-":
        return await context.console.read_all()
    if not context.own_process:
        # It would be a file of the service's machine, which is not the operator's to read.
        raise Failed("Files can't be named here: give - as the path, and the file on standard input")
    from scalelite.admin.server_file import LARGEST_FILE

    try:
        with Path(path).open("rb") as file:
            return file.read(4 * LARGEST_FILE).decode()
    except FileNotFoundError:
        raise Failed(f"No such file or directory @ rb_sysopen - {path}") from None
    except OSError as error:
        raise Failed(f"{error.strerror} - {path}") from None
    except UnicodeDecodeError:
        raise Failed("Invalid YAML document: the file is not UTF-8") from None


async def sync(context: Context, call: Call) -> int:
    """Make the pool what a file says."""
    from scalelite.admin.server_file import wanted_servers
    from scalelite.cluster.operations.sync import Mode

    word = call.get("mode") or Mode.CORDON.value
    if word not in list(Mode):
        raise Failed(f"Unknown sync mode '{word}' (choose: {' '.join(Mode)})")
    mode, dry = Mode(word), bool(call.get("dryrun"))
    wanted = wanted_servers(await _text_of(context, call.get("path")))
    if mode is Mode.FORCE and not dry:
        refused = await _agreed(context, call, {one.id for one in wanted})
        if refused:
            return refused
    with Progress(context.console, call, "servers and meetings done") as progress:
        done = await _sync(context, progress, dry=dry).run(wanted, mode)
    return OK if done else FAILED


async def _agreed(context: Context, call: Call, named: set[str]) -> int:
    """Whether meetings of servers that the file does not name may be ended: 0, or an exit status."""
    leaving = {server.id for server in await context.pool.servers.all()} - named
    recorded = [meeting.server_id async for meeting in context.pool.meetings.scan() if meeting.server_id in leaving]
    # rake asked nothing here, and a file on standard input leaves no place for an answer.
    if not recorded or call.rake:
        return OK
    question = f"WARNING: You are trying to end {len(recorded)} meetings on {len(set(recorded))} servers"
    return await confirm(context.console, question, agreed=call.has(YES), piped=False)


def _sync(context: Context, progress: Progress, *, dry: bool) -> Sync:
    from scalelite.cluster.operations.sync import Sync

    pool = context.pool
    return Sync(
        pool.servers,
        pool.meetings,
        lambda: pool.client,
        pool.clock,
        lambda line: progress.out(shown(line)),
        lambda line: progress.err(shown(line)),
        deadline=context.deadline,
        dry=dry,
        count=progress.at,
    )


def read_dryrun(text: str) -> bool:
    """Whether nothing is to be changed: anything but a no means yes, as in Scalelite."""
    return text.lower() not in ("n", "no", "false")


async def dump_servers(context: Context, call: Call) -> int:
    """The servers as a file for sync."""
    from scalelite.admin.server_file import dump

    context.console.out(dump(await context.pool.servers.all(), verbose=bool(call.get("verbose"))))
    return OK


def read_verbose(text: str) -> bool:
    """Whether more is wanted. Scalelite takes any text for a yes."""
    return text.lower() not in ("n", "no", "false", "f", "off", "0")


async def add_all(context: Context, call: Call) -> int:
    """Add the servers of a list."""
    from scalelite.admin.server_file import listed_servers

    listed = listed_servers(await _text_of(context, call.get("path")))
    with Progress(context.console, call, "servers added") as progress:
        for done, (url, secret) in enumerate(listed, start=1):
            server_id: Any = host_of(url).lower() if context.settings.server_id_is_hostname else context.new_id()
            if not await context.pool.servers.add(server_id, url, secret):
                raise Failed(f"Server already exists with id '{server_id}'")
            progress.out(f"server: {url}\nid: {server_id}")
            progress.at(done, len(listed))
    return OK


COMMANDS = (
    Command(
        "servers:sync",
        sync,
        "Make the pool what a file says.\n\n"
        "The file is what servers:yaml prints. Its servers are added, changed, and enabled unless it says `enabled: "
        "false`. Servers that it does not name are kept (keep), removed once they are empty (cordon), or emptied and "
        "removed (force).",
        "servers:sync - cordon true < servers.yml",
        (
            PATH,
            Argument("mode", "keep, cordon (the default) or force.", False, public=True),
            Argument("dryrun", "true: only tell what would be done.", False, read_dryrun, public=True),
        ),
        (YES,),
        missing=NO_PATH,
        destructive=True,
    ),
    Command(
        "servers:yaml",
        dump_servers,
        "Print the servers as YAML, secrets in clear.\n\nIt is a backup, and what servers:sync reads.",
        "servers:yaml true",
        (Argument("verbose", "true: with state, load, version, and whether it is online.", False, read_verbose),),
        changes=False,
        shows_secrets=True,
    ),
    Command(
        "servers:addAll",
        add_all,
        "Add all servers of a YAML list.\n\nThe list below `servers:` holds `url` and `secret` of each. Better use "
        "servers:sync.",
        "servers:addAll servers.yml",
        (PATH,),
        missing=NO_PATH,
    ),
)
