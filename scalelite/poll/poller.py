"""One pass over all servers: load, health, ended meetings, versions, old copies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

import attrs
from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from scalelite.bbb.client import BackendError, BBBClient
from scalelite.bbb.xml import Answer
from scalelite.cluster.answers import LastAnswers
from scalelite.cluster.records import Server
from scalelite.cluster.statistics import LoadRule, PollLimits, statistics
from scalelite.store.errors import StoreError
from scalelite.store.leases import LeaseStore
from scalelite.store.meetings import MeetingStore
from scalelite.store.servers import OldCopy, ServerStore

T = TypeVar("T")

VERSION_EVERY = 10
"""A server that is not new is asked for its version in one pass of so many."""

CLOCK_MARGIN = 0.25
"""Seconds taken off the moment at which a server was asked: Redis' clock and ours are read one after the other."""

AT_ONCE = 8
"""How many single meetings of one server are looked into at the same time."""


@attrs.frozen
class PollRules:
    """How a pass is run. `concurrency`: servers asked at once; `jitter`: seconds over which their turns are spread."""

    load: LoadRule
    limits: PollLimits
    concurrency: int
    jitter: float


@attrs.define
class PassReport:
    """What a pass did, for the log."""

    servers: int = 0
    answered: int = 0
    failed: int = 0
    meetings: int = 0
    users: int = 0
    dropped: int = 0
    ended_copies: int = 0
    freed_bridges: int = 0


class Poller:
    """Polls servers. `last_good` tells, by server id, when (seconds of `clock`) each one answered well last."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        now: Callable[[], float],
        uniform: Callable[[float, float], float],
        servers: ServerStore,
        meetings: MeetingStore,
        leases: LeaseStore,
        client: BBBClient,
        last_answers: LastAnswers,
        rules: PollRules,
    ) -> None:
        self._clock = clock
        self._now = now
        self._uniform = uniform
        self._servers = servers
        self._meetings = meetings
        self._leases = leases
        self._client = client
        self._last_answers = last_answers
        self._rules = rules
        self._passes = 0
        self._unused_bridges: set[tuple[str, str]] = set()
        self.last_good: dict[str, float] = {}

    async def run_pass(self) -> PassReport:
        """Poll every server once. Raises StoreError if the store can't be read; one server's trouble is its own."""
        report = PassReport()
        # Redis' time minus ours: what "asked for after" is measured by, since creates are stamped there.
        offset = await self._leases.now() - self._clock.seconds()
        servers = await self._servers.all()
        recorded: defaultdict[str, set[str]] = defaultdict(set)
        async for meeting in self._meetings.scan():
            recorded[meeting.server_id].add(meeting.id)
        slots = defer.DeferredSemaphore(max(1, self._rules.concurrency))
        await defer.gatherResults(
            [slots.run(self._start, server, recorded[server.id], offset, report) for server in servers]
        )
        await self._free_unused_bridges(report)
        known = {server.id for server in servers}
        self.last_good = {server_id: at for server_id, at in self.last_good.items() if server_id in known}
        self._passes += 1
        return report

    def since_last_good(self) -> dict[str, float]:
        """Seconds since each server answered a poll well, by server id; those that never did are left out."""
        now = self._clock.seconds()
        return {server_id: now - at for server_id, at in self.last_good.items()}

    def _start(self, server: Server, recorded: set[str], offset: float, report: PassReport) -> defer.Deferred[None]:
        return defer.Deferred.fromCoroutine(self._poll(server, recorded, offset, report))

    async def _poll(self, server: Server, recorded: set[str], offset: float, report: PassReport) -> None:
        report.servers += 1
        try:
            if self._rules.jitter:
                await deferLater(self._clock, self._uniform(0, self._rules.jitter))
            await self._poll_server(server, recorded, offset, report)
        except StoreError as error:
            self._log.error("could not record the poll of server {server}: {error}", server=server.id, error=error)
        except Exception:  # noqa: BLE001 - one server's trouble must not end the pass for the others
            self._log.failure("the poll of server {server} failed", server=server.id)

    async def _poll_server(self, server: Server, recorded: set[str], offset: float, report: PassReport) -> None:
        asked_at = self._clock.seconds()
        asked = asked_at + offset - CLOCK_MARGIN
        answer = await self._meetings_of(server)
        if answer is None:
            report.failed += 1
            outcome = await self._servers.record_poll(server.id, asked, None, self._rules.limits)
            if outcome.event:
                self._log.warn("server {server} is {event}", server=server.id, event=outcome.event)
            return
        found = statistics(answer.root, self._now(), self._rules.load)
        self._last_answers.put(server.id, asked_at, answer.raw)
        self.last_good[server.id] = asked_at
        outcome = await self._servers.record_poll(server.id, asked, found, self._rules.limits)
        report.answered += 1
        report.meetings += found.meetings
        report.users += found.users
        if outcome.event:
            self._log.info("server {server} is {event}", server=server.id, event=outcome.event)
        listed = set(found.meeting_ids)
        report.dropped += await self._drop_absent(server, sorted(recorded - listed), asked)
        report.ended_copies += await self._end_copies(server, outcome.old_copies, listed, recorded, asked)
        if not server.bbb_version or outcome.event or self._passes % VERSION_EVERY == 0:
            await self._ask_version(server)

    async def _meetings_of(self, server: Server) -> Answer | None:
        try:
            answer = await self._client.call(server, "getMeetings", {})
        except BackendError as error:
            self._log.warn("server {server} did not answer the poll: {error}", server=server.id, error=error)
            return None
        if not answer.success:
            self._log.warn(
                "server {server} refused the poll: {key}: {message}",
                server=server.id, key=answer.text("messageKey"), message=answer.text("message"),
            )  # fmt: skip
            return None
        return answer

    async def _drop_absent(self, server: Server, absent: list[str], asked: float) -> int:
        """Drop records of meetings that the server did not list, each on its word that it does not know it."""

        async def check(meeting_id: str) -> bool:
            answer = await self._client.call(server, "getMeetingInfo", {"meetingID": meeting_id})
            if answer.success or answer.text("messageKey") != "notFound":
                return False
            return await self._meetings.drop_absent(meeting_id, server.id, asked, self._rules.limits.pending_grace)

        results = await self._in_groups(server, absent, check)
        return sum(results)

    async def _end_copies(
        self, server: Server, copies: Iterable[OldCopy], listed: set[str], recorded: set[str], asked: float
    ) -> int:
        """End what still runs here although it lives elsewhere; forget what has ended."""
        grace = self._rules.limits.pending_grace

        async def settle(copy: OldCopy) -> bool:
            if copy.meeting_id in listed:
                found = await self._meetings.find(copy.meeting_id)
                if found is not None and found.meeting.server_id == server.id:
                    await self._servers.forget_old_copy(server.id, copy.meeting_id)
                    return False
                answer = await self._client.call(
                    server, "end", {"meetingID": copy.meeting_id, "password": copy.moderator_pw}
                )
                if not answer.success and answer.text("messageKey") != "notFound":
                    self._log.warn(
                        "server {server} did not end the old copy of a meeting: {key}",
                        server=server.id, key=answer.text("messageKey"),
                    )  # fmt: skip
                # It is forgotten once a later answer does not list it any more.
                return answer.success
            if asked > copy.since + grace:
                await self._servers.forget_old_copy(server.id, copy.meeting_id)
            return False

        return sum(await self._in_groups(server, list(copies), settle))

    async def _in_groups(
        self, server: Server, items: Sequence[T], act: Callable[[T], Coroutine[Any, Any, bool]]
    ) -> list[bool]:
        """Do `act` for all items, a few at once; give up on this server for this pass at the first failed call."""
        results: list[bool] = []
        for start in range(0, len(items), AT_ONCE):
            group = [defer.Deferred.fromCoroutine(act(item)) for item in items[start : start + AT_ONCE]]
            outcome: Any = await defer.DeferredList(group, consumeErrors=True)
            for succeeded, value in outcome:
                if succeeded:
                    results.append(value)
                elif value.check(BackendError):
                    self._log.warn("server {server}: {error}", server=server.id, error=value.value)
                    return results
                else:
                    value.raiseException()
        return results

    async def _ask_version(self, server: Server) -> None:
        try:
            answer = await self._client.index(server)
        except BackendError as error:
            self._log.debug("server {server} did not tell its version: {error}", server=server.id, error=error)
            return
        if answer.success:
            await self._servers.set_bbb_version(server.id, answer.text("bbbVersion") or "")

    async def _free_unused_bridges(self, report: PassReport) -> None:
        """Free numbers whose meeting had no record in this pass and the one before.

        Twice, since the original Scalelite takes a number before it writes the meeting.
        """
        unused = set(await self._meetings.unused_voice_bridges())
        for number, meeting_id in sorted(unused & self._unused_bridges):
            report.freed_bridges += await self._meetings.free_voice_bridge(number, meeting_id)
        self._unused_bridges = unused
