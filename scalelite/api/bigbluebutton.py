"""The BBB API: each action is admitted, looked up, and answered or passed on."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import attrs
import orjson

from scalelite.api.admission import Admission, Call
from scalelite.api.bodies import Accepts
from scalelite.api.replies import NO_CACHE, Reply
from scalelite.api.routing import Routes
from scalelite.api.site import Request
from scalelite.bbb import errors, xml
from scalelite.bbb.client import BBBClient
from scalelite.bbb.query import signed_url
from scalelite.cluster.operations.analytics import AnalyticsRelay
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

Action = Callable[[Request, Call], Coroutine[Any, Any, Reply]]


@attrs.frozen
class APIRules:
    """Settings that the API itself looks at."""

    join_policy: ParamPolicy
    algorithm: str
    build_number: str | None = None
    get_meetings_disabled: bool = False
    recordings_disabled: bool = False


class BigBlueButtonAPI:
    """The routes below /bigbluebutton/api."""

    def __init__(
        self,
        admission: Admission,
        meetings: MeetingStore,
        client: BBBClient,
        creator: MeetingCreator,
        lister: MeetingLister,
        analytics: AnalyticsRelay,
        rules: APIRules,
    ) -> None:
        self._admission = admission
        self._meetings = meetings
        self._client = client
        self._creator = creator
        self._lister = lister
        self._analytics = analytics
        self._rules = rules
        self._index = Reply(xml.render_index(rules.build_number))

    def register(self, routes: Routes) -> None:
        """Add the API's routes."""
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
            routes.add(f"{ROOT}/{name}", methods, self._admitted(name, accepts, action))
        if self._rules.get_meetings_disabled:
            routes.add(f"{ROOT}/getMeetings", GET_POST, self._fixed(xml.NO_MEETINGS))
        else:
            routes.add(f"{ROOT}/getMeetings", GET_POST, self._admitted("getMeetings", Accepts.FORM, self.get_meetings))
        routes.add(f"{ROOT}/analytics_callback", POST, self.analytics_callback)
        if self._rules.recordings_disabled:
            not_found = xml.render_error(errors.RecordingsNotFound())
            routes.add(f"{ROOT}/getRecordings", GET_POST, self._fixed(xml.NO_RECORDINGS))
            routes.add(f"{ROOT}/updateRecordings", GET_POST, self._fixed(not_found))
            routes.add(f"{ROOT}/publishRecordings", GET, self._fixed(not_found))
            routes.add(f"{ROOT}/deleteRecordings", GET, self._fixed(not_found))

    def _admitted(self, name: str, accepts: Accepts, action: Action) -> Callable[[Request], Coroutine[Any, Any, Reply]]:
        """`action` behind the checks of admission."""
        admission = self._admission
        if admission.has_tenants:

            async def with_tenant(request: Request) -> Reply:
                return await action(request, await admission.admit_tenant(request, name, accepts))

            return with_tenant

        def without_tenant(request: Request) -> Coroutine[Any, Any, Reply]:
            return action(request, admission.admit(request, name, accepts))

        return without_tenant

    def _fixed(self, document: bytes) -> Callable[[Request], Reply]:
        """An action that is switched off: always the same answer, unsigned calls included."""
        reply = Reply(document)

        def fixed(request: Request) -> Reply:
            self._admission.read(request, Accepts.FORM)
            return reply

        return fixed

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
        return await self._relayed(request, host, "getMeetingInfo", call)

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
        return Reply(listing.document(call.tenant.id if call.tenant else ""), headers=headers)

    async def analytics_callback(self, request: Request) -> Reply:
        """Take a server's report on a meeting. Always 204: the server could do nothing about an error."""
        tenant = await self._admission.tenant(request) if self._admission.has_tenants else None
        authorization = request.requestHeaders.getRawHeaders(b"Authorization", [b""])[0].decode("latin-1")
        report = _report(request)
        if report is not None:
            await self._analytics.relay(authorization, report, tenant, self._admission.signing_secrets(tenant))
        return Reply(b"", 204)

    async def _find(self, call: Call, *, joining: bool = False) -> Found | None:
        return await self._meetings.find(call.meeting_id, call.strict_tenant_id, joining=joining)

    async def _known(self, call: Call) -> tuple[Found, Host]:
        found = await self._find(call)
        if found is None or found.host is None:
            raise errors.MeetingNotFound
        return found, found.host

    async def _relayed(self, request: Request, host: Host, action: str, call: Call) -> Reply:
        request.note = host.id
        answer = await ask(
            self._client, host, action, {"meetingID": call.meeting_id}, failure=errors.MEETING_UNREACHABLE
        )
        return Reply(answer.document())


_NOT_RUNNING = Reply(xml.NOT_RUNNING)


def _report(request: Request) -> dict[str, Any] | None:
    try:
        report = orjson.loads(request.content.read())
    except orjson.JSONDecodeError:
        return None
    return report if isinstance(report, dict) else None
