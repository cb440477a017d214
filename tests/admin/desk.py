"""An operator's desk in a test: a console that is only memory, and commands run on a balancer's pool."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import attrs
import pytest
from twisted.internet import reactor

from scalelite import service
from scalelite.admin.commands import TABLE
from scalelite.admin.line import parse
from scalelite.admin.run import error_line, run
from scalelite.admin.table import Actor, Command, Context, Failed
from scalelite.bbb.client import BBBClient
from scalelite.desk import no_database, recording_desk
from scalelite.recordings.desk import RecordingDesk
from scalelite.settings import Settings
from scalelite.store.audit import AuditStore
from scalelite.store.inspection import InspectionStore
from scalelite.store.leases import LeaseStore
from scalelite.store.meetings import MeetingStore
from scalelite.store.servers import ServerStore
from scalelite.store.tenants import TenantStore
from tests.balancer import Balancer


@attrs.define
class MemoryConsole:
    """Answers questions from `answers`, and is at the end of input after them."""

    answers: list[str] = attrs.field(factory=list)
    is_terminal: bool = False
    printed: list[str] = attrs.field(factory=list)
    complaints: list[str] = attrs.field(factory=list)
    secret_prompts: list[str] = attrs.field(factory=list)
    width: int | None = None

    def out(self, line: str = "") -> None:
        self.printed.append(line + "\n")

    def err(self, line: str) -> None:
        self.complaints.append(line + "\n")

    async def ask(self, question: str) -> str | None:
        self.out(question)
        return self.answers.pop(0) if self.answers else None

    async def read_secret(self, prompt: str) -> str | None:
        self.secret_prompts.append(prompt)
        return self.answers.pop(0) if self.answers else None

    async def read_all(self) -> str:
        text = "\n".join(self.answers)
        self.answers.clear()
        return text


class BalancerPool:
    """A balancer's own stores, and a BBB client."""

    def __init__(self, parts: service.Parts) -> None:
        self._parts = parts
        self.clock: Any = reactor
        prefix = parts.settings.redis.prefix
        self.audit = AuditStore(parts.redis, prefix)
        self.inspection = InspectionStore(parts.redis, prefix)
        self.leases: LeaseStore = parts.leases

    @property
    def servers(self) -> ServerStore:
        return self._parts.servers

    @property
    def meetings(self) -> MeetingStore:
        return self._parts.meetings

    @property
    def tenants(self) -> TenantStore:
        return self._parts.tenants

    @cached_property
    def recordings(self) -> RecordingDesk:
        archive = self._parts.archive
        if archive is None:
            raise Failed(no_database(self._parts.settings))
        return recording_desk(archive)

    @cached_property
    def client(self) -> BBBClient:
        return service.bbb_client(self._parts)


@attrs.frozen
class Result:
    """What a command line came to."""

    status: int
    out: str
    err: str


@attrs.define
class Desk:
    """Runs command lines; `pool` and `settings` may be replaced."""

    pool: Any
    settings: Settings
    deadline: float = 15.0
    own_process: bool = True
    _ids: Any = attrs.field(factory=lambda: itertools.count(1))

    @classmethod
    def of(cls, balancer: Balancer) -> Desk:
        return cls(BalancerPool(balancer.parts), balancer.settings)

    async def run(
        self,
        *words: str,
        answers: tuple[str, ...] = (),
        terminal: bool = False,
        table: Mapping[str, Command] = TABLE,
    ) -> Result:
        """Run a command line, as the front-ends do; `answers` is what is on standard input."""
        console = MemoryConsole(list(answers), terminal)
        context = Context(
            self.settings,
            self.pool,
            console,
            Actor("ada", "test"),
            lambda: f"new-{next(self._ids)}",
            self.deadline,
            self.own_process,
        )
        try:
            status = await run(context, parse(table, words))
        except Failed as failure:
            console.err(error_line(failure))
            status = failure.status
        return Result(status, "".join(console.printed), "".join(console.complaints))


both = pytest.mark.parametrize("spelling", ["plain", "rake"])


def spelled(spelling: str, name: str, *arguments: str) -> list[str]:
    """A command in one of the spellings."""
    return [name, *arguments] if spelling == "plain" else [f"{name}[{','.join(arguments)}]"]


async def state_of(balancer: Balancer, server_id: str) -> str | None:
    """A server's state in effect; None if it has no record."""
    found = await balancer.parts.servers.find(server_id)
    return found.state.value if found else None


async def meetings_on(balancer: Balancer, server_id: str) -> list[str]:
    """The ids of the meetings that are recorded on a server."""
    return [meeting.id for meeting in await balancer.parts.meetings.on_server(server_id)]


def running_on(balancer: Balancer, meeting_id: str) -> list[str]:
    """The servers on which a meeting runs and has not been told to end."""
    return [s for s in balancer.living_on(meeting_id) if not balancer.nodes[s].meetings[meeting_id].forcibly_ended]


async def hold_meetings(balancer: Balancer, *meeting_ids: str, server_id: str = "s1") -> None:
    """One server that holds these meetings."""
    await balancer.add_server(server_id)
    await balancer.poll_now()
    for meeting_id in meeting_ids:
        assert (await balancer.call("create", meetingID=meeting_id, name=meeting_id)).returncode == "SUCCESS"
