"""One pass over all servers: load, health, ended meetings, versions, old copies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

import attrs
from lxml import etree
from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from scalelite.bbb.client import BackendError, BBBClient, NeverSent
from scalelite.bbb.xml import Answer
from scalelite.cluster.answers import LastAnswers
from scalelite.cluster.records import Server
from scalelite.cluster.statistics import LoadRule, PollLimits, ServerStatistics, statistics
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

PATIENCE = 10.0
"""Seconds after which the single meetings of one server that are left wait for the next pass."""


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


@attrs.define
class _Pass:
    """A pass under way. `offset` is Redis' time minus ours: creates are stamped there, what is asked for here."""

    number: int
    offset: float
    may_go_on: Callable[[], bool]
    slots: defer.DeferredSemaphore
    doubtful_slots: defer.DeferredSemaphore
    report: PassReport = attrs.field(factory=PassReport)
    failed: set[str] = attrs.field(factory=set)
    listed: set[str] = attrs.field(factory=set)


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
        self._failed: set[str] = set()
        self._unused_bridges: set[tuple[str, str]] = set()
        self.last_good: dict[str, float] = {}

    async def run_pass(self, may_go_on: Callable[[], bool] = lambda: True) -> PassReport:
        """Poll every server once. Raises StoreError if the store can't be read; one server's trouble is its own.

        Nothing more is asked or recorded once `may_go_on` says no.
        """
        concurrency = max(1, self._rules.concurrency)
        current = _Pass(
            number=self._passes,
            offset=await self._leases.now() - self._clock.seconds(),
            may_go_on=may_go_on,
            slots=defer.DeferredSemaphore(concurrency),
            doubtful_slots=defer.DeferredSemaphore(max(1, concurrency // 2)),
        )
        servers = await self._servers.all()
        recorded: defaultdict[str, set[str]] = defaultdict(set)
        async for meeting in self._meetings.scan():
            recorded[meeting.server_id].add(meeting.id)
        self._passes += 1
        servers.sort(key=self._doubtful)
        await defer.gatherResults(
            [defer.Deferred.fromCoroutine(self._take_turn(current, server, recorded[server.id])) for server in servers],
            consumeErrors=True,
        )
        if may_go_on():
            await self._free_unused_bridges(current)
        known = {server.id for server in servers}
        self.last_good = {server_id: at for server_id, at in self.last_good.items() if server_id in known}
        self._failed = current.failed
        return current.report

    def since_last_good(self) -> dict[str, float]:
        """Seconds since each server answered a poll well, by server id; those that never did are left out."""
        now = self._clock.seconds()
        return {server_id: now - at for server_id, at in self.last_good.items()}

    def _doubtful(self, server: Server) -> bool:
        """Whether the server will probably not answer: it comes last, and may only take up half of the slots."""
        return not server.online or server.id in self._failed

    async def _take_turn(self, current: _Pass, server: Server, recorded: set[str]) -> None:
        try:
            if self._rules.jitter:
                await deferLater(self._clock, self._uniform(0, self._rules.jitter))
            if self._doubtful(server):
                async with current.doubtful_slots, current.slots:
                    await self._poll(current, server, recorded)
            else:
                async with current.slots:
                    await self._poll(current, server, recorded)
        except StoreError as error:
            self._log.error("could not record the poll of server {server}: {error}", server=server.id, error=error)
        except defer.CancelledError:
            self._log.debug("the poll of server {server} was broken off", server=server.id)
        except Exception:  # noqa: BLE001 - one server's trouble must not end the pass for the others
            self._log.failure("the poll of server {server} failed", server=server.id)

    async def _poll(self, current: _Pass, server: Server, recorded: set[str]) -> None:
        if not current.may_go_on():
            return
        report = current.report
        report.servers += 1
        asked_at = self._clock.seconds()
        asked = asked_at + current.offset - CLOCK_MARGIN
        answered = await self._ask_meetings(server)
        if not current.may_go_on():
            return
        if answered is None:
            report.failed += 1
            current.failed.add(server.id)
            outcome = await self._servers.record_poll(server.id, asked, None, self._rules.limits)
            if outcome.event:
                self._log.warn("server {server} is {event}", server=server.id, event=outcome.event)
            return
        answer, found = answered
        self._last_answers.put(server.id, asked_at, answer.raw)
        self.last_good[server.id] = asked_at
        current.listed.update(found.meeting_ids)
        outcome = await self._servers.record_poll(server.id, asked, found, self._rules.limits)
        report.answered += 1
        report.meetings += found.meetings
        report.users += found.users
        if outcome.event:
            self._log.info("server {server} is {event}", server=server.id, event=outcome.event)
        if outcome.event == "gone":
            return
        absent = sorted(recorded.difference(found.meeting_ids))
        report.dropped += await self._drop_absent(current, server, absent, asked)
        report.ended_copies += await self._end_copies(current, server, outcome.old_copies, answer, asked)
        if not current.may_go_on():
            return
        if server.bbb_version is None or outcome.event == "online" or current.number % VERSION_EVERY == 0:
            await self._ask_version(current, server)

    async def _ask_meetings(self, server: Server) -> tuple[Answer, ServerStatistics] | None:
        """The server's list of meetings and what it says; None for whatever is no good list."""
        try:
            answer = await self._client.call(server, "getMeetings", {})
            if answer.success:
                return answer, statistics(answer.root, self._now(), self._rules.load)
        except BackendError as error:
            self._log.warn("server {server} did not answer the poll: {error}", server=server.id, error=error)
            return None
        except defer.CancelledError:
            raise
        except Exception:  # noqa: BLE001 - what can't be made sense of is a failed poll
            self._log.failure("server {server} answered the poll with something odd", server=server.id)
            return None
        self._log.warn(
            "server {server} refused the poll: {key}: {message}",
            server=server.id, key=answer.text("messageKey"), message=answer.text("message"),
        )  # fmt: skip
        return None

    async def _drop_absent(self, current: _Pass, server: Server, absent: list[str], asked: float) -> int:
        """Drop records of meetings that the server did not list, each on its word that it does not know it."""

        async def check(meeting_id: str) -> bool:
            answer = await self._client.call(server, "getMeetingInfo", {"meetingID": meeting_id})
            if answer.success:
                await self._meetings.renew(meeting_id, server.id, asked)
                return False
            if answer.text("messageKey") != "notFound":
                return False
            return await self._meetings.drop_absent(meeting_id, server.id, asked, self._rules.limits.pending_grace)

        return sum(await self._in_groups(current, server, absent, check))

    async def _end_copies(
        self, current: _Pass, server: Server, copies: Iterable[OldCopy], answer: Answer, asked: float
    ) -> int:
        """End what still runs here although it lives elsewhere; forget what has ended."""
        passwords = _passwords(answer.root, {copy.meeting_id for copy in copies})
        grace = self._rules.limits.pending_grace

        async def settle(copy: OldCopy) -> bool:
            listed_with = passwords.get(copy.meeting_id)
            if listed_with is None:
                if asked > copy.since + grace:
                    await self._servers.forget_old_copy(server.id, copy.meeting_id)
                return False
            begun = await self._meetings.begin_end_copy(copy.meeting_id, server.id, grace)
            if not begun:
                return False
            # The record's password may not be the one with which it was created again.
            password = listed_with or copy.moderator_pw
            sent: dict[str, str | None] = {"meetingID": copy.meeting_id}
            if password:
                sent["password"] = password
            try:
                ended = await self._client.call(server, "end", sent)
            except NeverSent:
                await self._meetings.finish_end_copy(copy.meeting_id, server.id, begun)
                raise
            await self._meetings.finish_end_copy(copy.meeting_id, server.id, begun)
            if not ended.success and ended.text("messageKey") != "notFound":
                self._log.warn(
                    "server {server} did not end the old copy of a meeting: {key}",
                    server=server.id, key=ended.text("messageKey"),
                )  # fmt: skip
            # It is forgotten once a later answer does not list it any more.
            return ended.success

        return sum(await self._in_groups(current, server, list(copies), settle))

    async def _in_groups(
        self, current: _Pass, server: Server, items: Sequence[T], act: Callable[[T], Coroutine[Any, Any, bool]]
    ) -> list[bool]:
        """Do `act` for all items, a few at once, beginning anywhere, so that it is not always the same who wait.

        What is left waits for the next pass once PATIENCE is over, or all calls of a group have failed.
        """
        results: list[bool] = []
        until = self._clock.seconds() + PATIENCE
        first = int(self._uniform(0, len(items))) if len(items) > AT_ONCE else 0
        turn = [*items[first:], *items[:first]]
        for start in range(0, len(turn), AT_ONCE):
            if self._clock.seconds() > until or not current.may_go_on():
                self._log.info("{count} meetings of server {server} are looked into in the next pass",
                               count=len(turn) - start, server=server.id)  # fmt: skip
                break
            group = [defer.Deferred.fromCoroutine(act(item)) for item in turn[start : start + AT_ONCE]]
            outcome: Any = await defer.DeferredList(group, consumeErrors=True)
            failures = 0
            for succeeded, value in outcome:
                if succeeded:
                    results.append(value)
                elif value.check(BackendError):
                    failures += 1
                    self._log.warn("server {server}: {error}", server=server.id, error=value.value)
                else:
                    value.raiseException()
            if failures == len(group):
                break
        return results

    async def _ask_version(self, current: _Pass, server: Server) -> None:
        try:
            answer = await self._client.index(server)
        except BackendError as error:
            self._log.debug("server {server} did not tell its version: {error}", server=server.id, error=error)
            return
        if answer.success and current.may_go_on():
            await self._servers.set_bbb_version(server.id, answer.text("bbbVersion") or "")

    async def _free_unused_bridges(self, current: _Pass) -> None:
        """Free numbers whose meeting had no record in this pass and the one before, and is listed nowhere.

        Twice, since the original Scalelite takes a number before it writes the meeting.
        """
        unused = set(await self._meetings.unused_voice_bridges())
        for number, meeting_id in sorted(unused & self._unused_bridges):
            if meeting_id not in current.listed:
                current.report.freed_bridges += await self._meetings.free_voice_bridge(number, meeting_id)
        self._unused_bridges = unused


def _passwords(root: etree._Element, meeting_ids: Collection[str]) -> dict[str, str]:
    """The moderator passwords of those of the meetings that are listed, "" where none is given."""
    if not meeting_ids:
        return {}
    passwords: dict[str, str] = {}
    for meeting in root.iterfind("meetings/meeting"):
        meeting_id = meeting.findtext("meetingID")
        if meeting_id is not None and meeting_id in meeting_ids:
            passwords[meeting_id] = meeting.findtext("moderatorPW") or ""
    return passwords
