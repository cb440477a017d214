"""Looking for what is wrong in the pool, and mending what can be mended without asking anybody."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from types import MappingProxyType
from typing import Any, Final

import attrs
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, TimeoutError
from twisted.internet.interfaces import IReactorTime

from scalelite.bbb.probe import Probe
from scalelite.cluster.operations.asking import all_of
from scalelite.cluster.operations.counting import Count, counted, uncounted
from scalelite.cluster.records import Server, ServerState
from scalelite.store.inspection import InspectionStore, Problem
from scalelite.store.leases import LeaseStore
from scalelite.store.meetings import MeetingStore
from scalelite.store.servers import ServerStore

#: Seconds by which a server's clock, which tells whole seconds, may differ from ours, and Redis' from ours.
SKEW: Final = 5.0
REDIS_SKEW: Final = 2.0
#: Seconds before its end at which a certificate is worth a word.
EXPIRY: Final = 21 * 86_400
#: Servers that are looked at at the same time.
AT_ONCE: Final = 50
#: The poller's lease.
POLLER: Final = "poller"
NOT_LOOKED_AT: Final = "not looked at: the time was up"


@attrs.frozen
class Finding:
    """Something wrong with a `subject` ("server", "meeting", ...) of that id. `fix`: what mending does, if it can."""

    subject: str
    id: str
    problem: str
    fix: str | None = None
    fixed: bool = False


# By kind: whose problem it is, how to say it with its detail, and what mending does.
_KINDS: Final = MappingProxyType(
    {
        "server_gone": ("server", "is listed, and has no record", "takes it off the list"),
        "server_type": ("server", "has a record that is a {}, not a hash", None),
        "server_url": ("server", "has a record without URL", None),
        "server_field": ("server", "has the field {}, which Scalelite refuses", "removes the field"),
        "stale_load": ("server", "has an entry in {} that is stale", "removes the entry"),
        "stale_enabled": ("server", "is among the enabled ones, and is not enabled", "takes it off that list"),
        "not_enabled": ("server", "is enabled, and not among the enabled ones", "adds it to that list"),
        "never_answered": ("server", "never answered: check its URL, and whether it runs", None),
        "server_offline": ("server", "is offline", None),
        "tenant_gone": ("tenant", "is listed, and has no record", "takes it off the list"),
        "tenant_field": ("tenant", "has the field {}, which Scalelite refuses", "removes the field"),
        "counters_left": ("server", "has counters of polls, and no record", "removes the counters"),
        "settings_left": ("tenant", "has settings, and no record", "removes the list of them"),
        "setting_left": ("setting", "is of tenant {}, which does not exist", "removes the setting"),
        "meeting_gone": ("meeting", "is listed, and has no record", "takes it off the list"),
        "meeting_type": ("meeting", "has a record that is a {}, not a hash", None),
        "orphan": ("meeting", "is on server {}, which does not exist", "forgets the meeting"),
        "meeting_field": ("meeting", "has the field {}, which Scalelite refuses", "removes the field"),
        "immortal": ("meeting", "has a record that never expires", "lets it expire"),
        "unlisted": ("meeting", "has a record, and is not listed", "lists it"),
        "no_bridge": ("meeting", "has the number {}, which leads nowhere", "has the number lead to it"),
    }
)


def finding_of(problem: Problem) -> Finding:
    """What a problem of the records means."""
    subject, text, fix = _KINDS[problem.kind]
    return Finding(subject, problem.id, text.format(problem.detail), fix)


Work = Callable[[], Coroutine[Any, Any, list[Finding]]]


class Doctor:
    """Looks at the records, the poller, clocks and certificates. All methods raise StoreError.

    `look` asks what is at a URL; `now` is the time in seconds since the epoch; `meeting_ttl` in seconds. `deadline`:
    seconds for all of an examination. What there was no time for is a finding.
    """

    def __init__(
        self,
        servers: ServerStore,
        meetings: MeetingStore,
        leases: LeaseStore,
        inspection: InspectionStore,
        look: Callable[[str], Coroutine[Any, Any, Probe]],
        clock: IReactorTime,
        now: Callable[[], float],
        meeting_ttl: int,
        deadline: float,
    ) -> None:
        self._servers = servers
        self._meetings = meetings
        self._leases = leases
        self._inspection = inspection
        self._look = look
        self._clock = clock
        self._now = now
        self._meeting_ttl = meeting_ttl
        self._deadline = deadline

    async def examine(self, *, fix: bool, count: Count = uncounted) -> list[Finding]:
        """Everything that is wrong; mended as far as possible if `fix`. `count` is told of servers looked at."""
        limit = self._clock.seconds() + self._deadline
        return [
            *await self._records(limit, fix=fix),
            *await self._in_time("numbers", limit, lambda: self._numbers(limit, fix=fix)),
            *await self._in_time("poller", limit, self._poller),
            *await self._in_time("Redis' clock", limit, self._redis_clock),
            *await self._hosts(limit, count),
        ]

    def _left(self, limit: float) -> float:
        """Seconds until then; 0 if it is over."""
        return max(0.0, limit - self._clock.seconds())

    async def _in_time(self, what: str, limit: float, work: Work) -> list[Finding]:
        """What a part finds until `limit`, or that there was no time for it."""
        left = self._left(limit)
        if not left:
            return [Finding(what, "", NOT_LOOKED_AT)]
        try:
            return await Deferred.fromCoroutine(work()).addTimeout(left, self._clock)
        except TimeoutError:
            return [Finding(what, "", NOT_LOOKED_AT)]

    async def _records(self, limit: float, *, fix: bool) -> list[Finding]:
        async def look() -> list[Finding]:
            return [
                *await self._in_time("servers' records", limit, servers),
                *await self._in_time("meetings' records", limit, meetings),
                *await self._in_time("leftovers", limit, leftovers),
            ]

        async def servers() -> list[Finding]:
            return [finding_of(problem) for problem in await self._inspection.servers()]

        async def meetings() -> list[Finding]:
            return [finding_of(problem) for problem in await self._inspection.meetings()]

        async def leftovers() -> list[Finding]:
            return [finding_of(problem) for problem in await self._inspection.leftovers()]

        # What is listed and left over as well is one finding.
        found = list(dict.fromkeys(await look()))
        mendable = dict.fromkeys((f.subject, f.id) for f in found if f.fix is not None)
        if not fix or not mendable:
            return found
        unmended = False
        for subject, subject_id in mendable:
            if not self._left(limit):
                unmended = True
                break
            if subject == "server":
                await self._inspection.mend_server(subject_id)
            elif subject == "tenant":
                await self._inspection.mend_tenant(subject_id)
            elif subject == "setting":
                await self._inspection.mend_setting(subject_id)
            else:
                await self._inspection.mend_meeting(subject_id, self._meeting_ttl)
        # One thing mended can be the end of another, or its beginning: only a second look tells.
        left = set(await look())
        if any(finding.problem == NOT_LOOKED_AT for finding in left):
            what = "were not all mended" if unmended else "were mended, and not looked at again"
            return [*found, Finding("records", "", f"{what}: the time was up")]
        mended = [attrs.evolve(finding, fixed=True) for finding in found if finding not in left and finding.fix]
        return [*mended, *sorted(left, key=lambda finding: (finding.subject, finding.id, finding.problem))]

    async def _numbers(self, limit: float, *, fix: bool) -> list[Finding]:
        findings = []
        for number, meeting_id in sorted(await self._meetings.unused_voice_bridges()):
            # Half a second is kept for coming back, for else nobody would learn of what is freed.
            fixed = fix and self._left(limit) > 0.5 and await self._meetings.free_voice_bridge(number, meeting_id)
            what = f"is kept for meeting {meeting_id}, which is over"
            findings.append(Finding("number", number, what, "frees it", fixed))
        return findings

    async def _poller(self) -> list[Finding]:
        if await self._leases.holder(POLLER) is None:
            return [Finding("poller", "", "does not run anywhere: start the service")]
        return []

    async def _redis_clock(self) -> list[Finding]:
        before = self._now()
        theirs = await self._leases.now()
        skew = theirs - (before + self._now()) / 2
        return [Finding("clock", "redis", _skewed(skew))] if abs(skew) > REDIS_SKEW else []

    async def _hosts(self, limit: float, count: Count) -> list[Finding]:
        servers = [server for server in await self._servers.all() if server.state is not ServerState.DISABLED]
        same: defaultdict[str, list[str]] = defaultdict(list)
        for server in servers:
            same[server.url.rstrip("/")].append(server.id)
        findings = [
            Finding("server", ids[0], f"has the same URL as {', '.join(ids[1:])}") for ids in same.values() if ids[1:]
        ]
        slots = DeferredSemaphore(AT_ONCE)

        async def in_turn(server: Server) -> list[Finding]:
            async with slots:
                return await self._host(server, limit)

        for found in await all_of(counted([in_turn(server) for server in servers], count)):
            findings += found
        return findings

    async def _host(self, server: Server, limit: float) -> list[Finding]:
        left = self._left(limit)
        if not left:
            return [Finding("server", server.id, NOT_LOOKED_AT)]
        began = self._now()
        try:
            seen = await Deferred.fromCoroutine(self._look(server.url)).addTimeout(left, self._clock)
        except CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever keeps it from being looked at is the finding
            if not self._left(limit):
                return [Finding("server", server.id, NOT_LOOKED_AT)]
            reason = " ".join(str(error).split()) or type(error).__name__
            return [Finding("server", server.id, f"cannot be reached: {reason}")]
        findings = []
        now = self._now()
        if seen.date is not None:
            skew = seen.date + 0.5 - (began + now) / 2
            if abs(skew) > SKEW + (now - began) / 2:
                findings.append(Finding("clock", server.id, _skewed(skew)))
        if seen.expires is not None and seen.expires - now < EXPIRY:
            days = int((seen.expires - now) // 86_400)
            when = "has expired" if seen.expires <= now else f"expires in {days} days" if days else "expires today"
            findings.append(Finding("certificate", server.id, when))
        return findings


def _skewed(skew: float) -> str:
    return f"is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this machine's"


def as_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """The findings as values for JSON."""
    return [attrs.asdict(finding) for finding in findings]
