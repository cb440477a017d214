"""What operators do with meetings: see which run where, and end some of them. Tells what happens; prints nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs
from lxml import etree
from twisted.internet.interfaces import IReactorTime

from scalelite.bbb.client import BackendError, BBBClient
from scalelite.cluster.operations.asking import Asked, Question, all_of, ask_until, end_until, reason_of
from scalelite.cluster.operations.counting import Count, counted, uncounted
from scalelite.cluster.records import Meeting, Server
from scalelite.store.meetings import MeetingStore
from scalelite.store.servers import ServerStore


@attrs.frozen
class Listing:
    """What one server says that it runs: its `<meeting>` elements by meeting id, or why it says nothing."""

    server: Server
    meetings: Mapping[str, etree._Element] = attrs.field(factory=dict)
    trouble: str | None = None
    refused: bool = False
    """Whether the trouble is a refusal, not the want of an answer."""


async def list_servers(
    client: BBBClient, clock: IReactorTime, deadline: float, servers: Sequence[Server], count: Count = uncounted
) -> list[Listing]:
    """What runs on each of the servers, asked all at once; `deadline` in seconds, for all of them.

    `count` is told how many are done.
    """
    limit = clock.seconds() + deadline

    async def one(server: Server) -> Listing:
        try:
            answer = await ask_until(client, clock, limit, Question(server, "getMeetings"))
        except BackendError as error:
            return Listing(server, trouble=str(error))
        if not answer.success:
            return Listing(server, trouble=reason_of(answer), refused=True)
        found = {element.findtext("meetingID") or "": element for element in answer.root.iterfind("meetings/meeting")}
        return Listing(server, found)

    return await all_of(counted([one(server) for server in servers], count))


class NoSuchMeeting(Exception):
    """No meeting of that id is recorded."""

    def __init__(self, meeting_id: str) -> None:
        super().__init__(f"Couldn't find Meeting with id={meeting_id}")


async def find_meetings(meetings: MeetingStore, words: Iterable[str]) -> list[Meeting]:
    """The meetings that are named, all of them without names, by id. Raises NoSuchMeeting, StoreError.

    A word is an id, or several joined by `:`; if it is the id of a meeting as it stands, it is that one.
    """
    words = list(words)
    if not words:
        everything = {meeting.id: meeting async for meeting in meetings.scan()}
        return [everything[meeting_id] for meeting_id in sorted(everything)]
    named: dict[str, Meeting] = {}
    for word in words:
        found = await meetings.find(word)
        for meeting_id in [word] if found else word.split(":"):
            if not meeting_id:
                continue
            one = found or await meetings.find(meeting_id)
            if one is None:
                raise NoSuchMeeting(meeting_id)
            named[meeting_id] = one.meeting
    return list(named.values())


@attrs.frozen
class Ending:
    """A meeting was to be ended; `reason` says why it may still run, and its record stays then."""

    meeting: Meeting
    reason: str | None


async def end_meetings(
    servers: ServerStore,
    meetings: MeetingStore,
    client: Callable[[], BBBClient],
    clock: IReactorTime,
    deadline: float,
    chosen: Sequence[Meeting],
    tell: Callable[[Ending], None],
    count: Count = uncounted,
) -> int:
    """End meetings, all at once and within `deadline` seconds; how many may still run.

    The record goes once the server says that the meeting is over, or if its server is gone. `count` is told how many
    are done.
    """
    limit = clock.seconds() + deadline
    hosts: dict[str, Asked] = {server.id: server for server in await servers.all()}

    async def one(meeting: Meeting) -> bool:
        host = hosts.get(meeting.server_id)
        reason = None if host is None else await end_until(client(), clock, limit, host, meeting)
        if reason is None:
            await meetings.drop_ended(meeting)
        tell(Ending(meeting, reason))
        return reason is None

    over = await all_of(counted([one(meeting) for meeting in chosen], count))
    return over.count(False)


def by_server(meetings: Iterable[Meeting]) -> dict[str, list[Meeting]]:
    """Meetings by the server that holds them."""
    found: defaultdict[str, list[Meeting]] = defaultdict(list)
    for meeting in meetings:
        found[meeting.server_id].append(meeting)
    return dict(found)
