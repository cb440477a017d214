"""The commands that poll: once, or for ever in a process of its own. `liveness` as well."""

from __future__ import annotations

import os
import random
import secrets
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from scalelite.admin.progress import Progress
from scalelite.admin.signals import end_signals
from scalelite.admin.table import OK, Argument, Call, Command, Context, Failed

if TYPE_CHECKING:
    from scalelite.bbb.client import BBBClient
    from scalelite.bbb.xml import Answer
    from scalelite.poll.poller import Poller


def _poller(context: Context, client: Any) -> Poller:
    from scalelite.cluster.answers import LastAnswers
    from scalelite.poll.poller import Poller
    from scalelite.poll.rules import poll_rules

    pool: Any = context.pool
    return Poller(
        pool.clock,
        time.time,
        random.SystemRandom().uniform,
        pool.servers,
        pool.meetings,
        pool.leases,
        client,
        LastAnswers(),
        poll_rules(context.settings, jitter=0),
    )


async def poll_once(context: Context, call: Call) -> int:
    """One pass over all servers."""
    client: Any = context.pool.client
    servers = len(await context.pool.servers.all())
    with Progress(context.console, call, "servers polled") as progress:
        progress.at(0, servers)
        await _poller(context, _Counting(client, lambda done: progress.at(min(done, servers), servers))).run_pass()
    return OK


class _Counting:
    """A client that counts the servers that were asked for their meetings, which every pass begins with."""

    def __init__(self, client: BBBClient, count: Callable[[int], None]) -> None:
        self._client = client
        self._count = count
        self._done = 0
        self.index = client.index

    async def call(self, server: Any, action: str, params: Any, **how: Any) -> Answer:
        try:
            return await self._client.call(server, action, params, **how)
        finally:
            if action == "getMeetings":
                self._done += 1
                self._count(self._done)


async def poll_versions(context: Context, call: Call) -> int:
    """Ask all servers for their version."""
    from scalelite.bbb.client import BackendError
    from scalelite.cluster.operations.asking import all_of
    from scalelite.cluster.operations.counting import counted
    from scalelite.cluster.records import Server

    pool = context.pool
    client = pool.client
    progress = Progress(context.console, call, "servers asked")

    async def ask(server: Server) -> None:
        try:
            answer = await client.index(server)
        except BackendError as error:
            progress.err(f"WARNING: server {server.id} did not tell its version: {error}")
            return
        if answer.success:
            await pool.servers.set_bbb_version(server.id, answer.text("bbbVersion") or "")

    servers = await pool.servers.all()
    with progress:
        await all_of(counted([ask(server) for server in servers], progress.at))
    return OK


async def poll_forever(context: Context, call: Call) -> int:
    """Poll until a signal comes, whenever no other instance does."""
    from twisted.internet.defer import Deferred

    from scalelite.poll.service import PollService

    console, pool = context.console, context.pool
    if not context.own_process:
        raise Failed("The service polls by itself; poll:all polls at once")
    interval = call.get("interval") or float(context.settings.poll_interval)
    holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    service = PollService(_poller(context, pool.client), pool.leases, pool.clock, interval, holder)
    console.err(f"Running poller with interval {interval}")
    signalled: Deferred[str] = Deferred()
    with end_signals(pool.clock, signalled):
        service.startService()
        name = await signalled
        console.err(f"Exiting poller on signal: {name}")
        await service.stopService()
    return OK


def read_interval(text: str) -> float:
    """Seconds between two passes. Raises ValueError."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 86_400:
        raise ValueError("a number of seconds from 0.1 to 86400")
    return seconds


async def liveness(context: Context, _call: Call) -> int:
    """That the program can be run."""
    context.console.out("success")
    return OK


_AT_ONCE = (
    "Poll all servers now.\n\n"
    "One list of each server's meetings tells load, health and ended meetings, so that poll:all, poll:servers and "
    "poll:meetings are the same."
)

COMMANDS = (
    Command(
        "poll",
        poll_forever,
        "Poll in a process of its own.\n\n"
        "It stands by while another instance, such as the service itself, polls. SIGTERM ends it.",
        "poll 60",
        (
            Argument(
                "interval", "Seconds between two passes; POLL_INTERVAL if absent.", False, read_interval, public=True
            ),
        ),
    ),
    *(Command(name, poll_once, _AT_ONCE, name) for name in ("poll:all", "poll:servers", "poll:meetings")),
    Command("poll:versions", poll_versions, "Ask all servers for their version now.", "poll:versions"),
    Command(
        "liveness",
        liveness,
        "Print `success`.\n\nNothing is contacted: it tells that the program and its settings can be read.",
        "liveness",
        needs_pool=False,
        changes=False,
    ),
)
