"""The BBB API: each action is admitted, looked up, and answered or passed on."""

from __future__ import annotations

import attrs

from scalelite.api.admission import Admission, Call
from scalelite.api.bodies import Accepts
from scalelite.api.replies import NO_CACHE, Reply
from scalelite.api.routing import Routes
from scalelite.api.site import Request
from scalelite.bbb import errors, xml
from scalelite.bbb.client import BBBClient
from scalelite.bbb.query import signed_url
from scalelite.cluster.callbacks import EndCallbacks
from scalelite.cluster.operations.create import MeetingCreator
from scalelite.cluster.operations.end import end_meeting
from scalelite.cluster.operations.get_meetings import MeetingLister
from scalelite.cluster.operations.relay import ask
from scalelite.cluster.params import NEVER_FORWARDED, ParamPolicy
from scalelite.store.meetings import Found, Host, MeetingStore

ROOT = "/bigbluebutton/api"
GET = ("GET",)
POST = ("POST",)
GET_POST = ("GET", "POST")


@attrs.frozen
class APIRules:
    """Settings that the API itself looks at."""

    join_policy: ParamPolicy
    algorithm: str
    build_number: str | None = None
    get_meetings_disabled: bool = False


class BigBlueButtonAPI:
    """The routes below /bigbluebutton/api."""

    def __init__(
        self,
        admission: Admission,
        meetings: MeetingStore,
        client: BBBClient,
        creator: MeetingCreator,
        lister: MeetingLister,
        rules: APIRules,
        ends: EndCallbacks | None = None,
    ) -> None:
        self._admission = admission
        self._meetings = meetings
        self._client = client
        self._creator = creator
        self._lister = lister
        self._rules = rules
        self._ends = ends
        self._index = Reply(xml.render_index(rules.build_number))

    def register(self, routes: Routes) -> None:
        """Add the API's routes."""
        admitted = self._admission.admitted
        routes.add(ROOT, GET_POST, self.index)
        for name, methods, accepts, action in (
            ("isMeetingRunning", GET_POST, Accepts.FORM, self.is_meeting_running),
            ("getMeetingInfo", GET_POST, Accepts.FORM, self.get_meeting_info),
            ("create", GET_POST, Accepts.FORM_OR_XML, self.create),
            ("end", GET_POST, Accepts.FORM, self.end),
            ("join", GET, Accepts.FORM, self.join),
            ("insertDocument", POST, Accepts.XML, self.insert_document),
            ("sendChatMessage", GET, Accepts.FORM, self.send_chat_message),
        ):
            routes.add(f"{ROOT}/{name}", methods, admitted(name, accepts, action))
        if self._rules.get_meetings_disabled:
            routes.add(f"{ROOT}/getMeetings", GET_POST, self._admission.fixed(xml.NO_MEETINGS))
        else:
            routes.add(f"{ROOT}/getMeetings", GET_POST, admitted("getMeetings", Accepts.FORM, self.get_meetings))

    def index(self, request: Request) -> Reply:
        """The API root: answers anybody, with the version of the API."""
        if request.method == b"POST":
            self._admission.read(request, Accepts.FORM)
        return self._index

    async def is_meeting_running(self, request: Request, call: Call) -> Reply:
        """A meeting that nobody knows is not running; that is no error."""
        found = await self._find(call)
        if found is None or found.host is None:
            return _NOT_RUNNING
        return await self._relayed(request, found.host, "isMeetingRunning", call)

    async def get_meeting_info(self, request: Request, call: Call) -> Reply:
        """What the meeting's server says of it."""
        _, host = await self._known(call)
        return self._shown(await self._relayed(request, host, "getMeetingInfo", call))

    async def create(self, request: Request, call: Call) -> Reply:
        """Place the meeting, or meet the one that exists."""
        call.meeting_id  # noqa: B018 - raises if it is missing
        answer, host = await self._creator.create(call.params, call.tenant, call.body)
        request.note = host.id
        return Reply(answer.document())

    async def join(self, request: Request, call: Call) -> Reply:
        """Send the user to the meeting's server, with a link signed for it. A HEAD request counts no join."""
        found = await self._find(call, joining=request.method == b"GET")
        if found is None or found.host is None:
            raise errors.MeetingNotFound
        host = found.host
        request.note = host.id
        if not host.takes_joins:
            raise errors.ServerUnavailable
        params = self._rules.join_policy.merge(call.params, call.tenant)
        location = signed_url(host.url, host.secret, "join", params, self._rules.algorithm)
        return Reply(b"", 302, b"text/html; charset=utf-8", ((b"Location", location.encode()), *NO_CACHE))

    async def end(self, request: Request, call: Call) -> Reply:
        """End the meeting on its server."""
        found = await self._find(call)
        if found is None:
            raise errors.MeetingNotFound
        request.note = found.meeting.server_id
        return Reply((await end_meeting(self._meetings, self._client, found, call.params)).document())

    async def insert_document(self, request: Request, call: Call) -> Reply:
        """Pass slides on to the meeting's server."""
        _, host = await self._known(call)
        request.note = host.id
        answer = await ask(
            self._client, host, "insertDocument", {"meetingID": call.meeting_id},
            failure=errors.INSERT_FAILED, body=call.body,
        )  # fmt: skip
        return Reply(answer.document())

    async def send_chat_message(self, request: Request, call: Call) -> Reply:
        """Pass a chat message on to the meeting's server (BBB 3.0; Scalelite has no such route)."""
        _, host = await self._known(call)
        request.note = host.id
        params = {name: value for name, value in call.params.items() if name not in NEVER_FORWARDED}
        answer = await ask(
            self._client, host, "sendChatMessage", params, failure=errors.SEND_CHAT_FAILED, repeatable=False
        )
        return Reply(answer.document())

    async def get_meetings(self, request: Request, call: Call) -> Reply:
        """All meetings that this caller may see, of all servers that answer in time."""
        listing = await self._lister.list()
        headers: tuple[tuple[bytes, bytes], ...] = ()
        if listing.missing:
            request.note = "partial"
            headers = ((b"X-Scalelite-Partial", ", ".join(listing.missing).encode("ascii", "replace")),)
        return self._shown(Reply(listing.document(call.tenant.id if call.tenant else ""), headers=headers))

    async def _find(self, call: Call, *, joining: bool = False) -> Found | None:
        return await self._meetings.find(call.meeting_id, call.strict_tenant_id, joining=joining)

    async def _known(self, call: Call) -> tuple[Found, Host]:
        found = await self._find(call)
        if found is None or found.host is None:
            raise errors.MeetingNotFound
        return found, found.host

    def _shown(self, reply: Reply) -> Reply:
        """`reply` with the callback URLs that clients gave."""
        return reply if self._ends is None else attrs.evolve(reply, body=self._ends.restored(reply.body))

    async def _relayed(self, request: Request, host: Host, action: str, call: Call) -> Reply:
        request.note = host.id
        answer = await ask(
            self._client, host, action, {"meetingID": call.meeting_id}, failure=errors.MEETING_UNREACHABLE
        )
        return Reply(answer.document())


_NOT_RUNNING = Reply(xml.NOT_RUNNING)
