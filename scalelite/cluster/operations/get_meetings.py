"""getMeetings: all servers are asked at once, and whoever asks meanwhile shares the answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import attrs
from lxml import etree
from twisted.internet import defer
from twisted.logger import Logger

from scalelite.bbb import errors, xml
from scalelite.bbb.client import BackendError, BBBClient
from scalelite.cluster.answers import LastAnswers
from scalelite.cluster.statistics import number
from scalelite.store.servers import ServerStore, Target


@attrs.frozen
class ListedMeeting:
    """One `<meeting>` of a server's answer, serialised in UTF-8; `tenant_id` is "" without a tenant.

    `created` in milliseconds since the epoch, 0 if the server does not say.
    """

    meeting_id: str
    internal_id: str
    created: int
    tenant_id: str
    xml: bytes


def listed_meetings(root: etree._Element) -> Iterator[ListedMeeting]:
    """The meetings of a getMeetings `<response>`."""
    for meeting in root.iterfind("meetings/meeting"):
        meeting.tail = "\n"
        tenant_id = (meeting.findtext("metadata/tenant-id") or "").strip()
        yield ListedMeeting(
            meeting.findtext("meetingID") or "",
            meeting.findtext("internalMeetingID") or "",
            number(meeting.findtext("createTime")),
            tenant_id,
            etree.tostring(meeting, encoding="UTF-8", xml_declaration=False),
        )


def without_copies(listed: Iterable[ListedMeeting]) -> list[ListedMeeting]:
    """`listed` with each meeting once: of several copies that which was created last.

    A server goes on listing a meeting for some moments after its end, and it may have been created again elsewhere.
    """
    newest: dict[str | bytes, ListedMeeting] = {}
    for meeting in listed:
        key = meeting.meeting_id or meeting.internal_id or meeting.xml
        other = newest.get(key)
        if other is None or meeting.created > other.created:
            newest[key] = meeting
    return list(newest.values())


class Listing:
    """The meetings of all servers that answered; `missing` are the ids of those that did not."""

    def __init__(self, meetings: list[ListedMeeting], missing: tuple[str, ...]) -> None:
        self._meetings = meetings
        self.missing = missing
        self._rendered: dict[str, bytes] = {}

    def document(self, tenant_id: str) -> bytes:
        """The answer for a tenant, or for callers without tenant (""): each sees its own meetings only."""
        document = self._rendered.get(tenant_id)
        if document is None:
            own = [meeting.xml for meeting in self._meetings if meeting.tenant_id == tenant_id]
            document = self._rendered[tenant_id] = xml.render_meetings(own) if own else xml.NO_MEETINGS
        return document


@attrs.define
class _FanOut:
    waiting: list[defer.Deferred[Listing]] = attrs.field(factory=list)


class MeetingLister:
    """Lists meetings. A list kept from before stands in for a server's answer for `keep_for` seconds."""

    _log = Logger()

    def __init__(
        self,
        servers: ServerStore,
        client: BBBClient,
        last_answers: LastAnswers,
        seconds: Callable[[], float],
        keep_for: float,
    ) -> None:
        self._servers = servers
        self._client = client
        self._last_answers = last_answers
        self._seconds = seconds
        self._keep_for = keep_for
        self._current: _FanOut | None = None

    async def list(self) -> Listing:
        """Ask every server that is online and not disabled. Ends within one exchange's deadline.

        Raises InternalError if there are servers and none could be listed, StoreError if the store fails.
        """
        waiter: defer.Deferred[Listing] = defer.Deferred()
        if self._current is not None:
            self._current.waiting.append(waiter)
            return await waiter
        fan_out = self._current = _FanOut([waiter])
        defer.Deferred.fromCoroutine(self._fan_out()).addBoth(self._deliver, fan_out)
        return await waiter

    def _deliver(self, result: object, fan_out: _FanOut) -> None:
        self._current = None
        for waiter in fan_out.waiting:
            waiter.callback(result)  # type: ignore[arg-type]  # a Failure goes to each waiter's errback

    async def _fan_out(self) -> Listing:
        targets = await self._servers.targets()
        answers = await defer.gatherResults(
            [defer.Deferred.fromCoroutine(self._ask(target)) for target in targets], consumeErrors=True
        )
        listed: list[ListedMeeting] = []
        missing: list[str] = []
        unanswered = 0
        for target, (fresh, answer) in zip(targets, answers, strict=True):
            if not fresh:
                missing.append(target.id)
            if answer is None:
                unanswered += 1
                continue
            listed += (meeting for meeting in answer if meeting.meeting_id not in target.moved)
        if targets and unanswered == len(targets):
            raise errors.InternalError(errors.SERVER_UNREACHABLE)
        if missing:
            self._log.warn("getMeetings without a fresh answer of {servers}", servers=", ".join(missing))
        return Listing(without_copies(listed), tuple(missing))

    async def _ask(self, target: Target) -> tuple[bool, tuple[ListedMeeting, ...] | None]:
        """Whether the server answered, and its meetings, from before if need be."""
        asked = self._seconds()
        try:
            answer = await self._client.call(target, "getMeetings", {}, in_turn=True)
            if not answer.success:
                raise BackendError(f"refused: {answer.text('messageKey')}: {answer.text('message')}")
        except BackendError as error:
            self._log.warn("server {server} did not list its meetings: {error}", server=target.id, error=error)
            kept = self._last_answers.get(target.id, asked - self._keep_for)
            return False, None if kept is None else tuple(listed_meetings(xml.parse(kept).root))
        self._last_answers.put(target.id, asked, answer.raw)
        return True, tuple(listed_meetings(answer.root))
