"""From a request to its answer: routing, methods, content types, checksums, and the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scalelite.simulator import (
    breakage,
    calls,
    checksums,
    control,
    forms,
    joining,
    pages,
    recording_calls,
    session_calls,
)
from scalelite.simulator.answers import Failed, failed, success
from scalelite.simulator.call import Call, Endpoint
from scalelite.simulator.faults import Fault
from scalelite.simulator.http import Connection, Request, Response
from scalelite.simulator.records import LoggedRequest

if TYPE_CHECKING:
    from scalelite.simulator.node import Node

__all__ = ["ENDPOINTS", "Edge"]

API = "/bigbluebutton/api"
_RECORDINGS = "You did not pass the checksum security check"

ENDPOINTS: dict[str, Endpoint] = {
    "": Endpoint(calls.index, checked=False),
    "create": Endpoint(calls.create),
    "join": Endpoint(joining.join),
    "isMeetingRunning": Endpoint(calls.is_meeting_running),
    "end": Endpoint(calls.end),
    "getMeetingInfo": Endpoint(calls.get_meeting_info),
    "getMeetings": Endpoint(calls.get_meetings),
    "getSessions": Endpoint(calls.get_sessions),
    "insertDocument": Endpoint(calls.insert_document),
    "sendChatMessage": Endpoint(calls.send_chat_message),
    "getRecordings": Endpoint(recording_calls.get_recordings, refusal=_RECORDINGS),
    "publishRecordings": Endpoint(recording_calls.publish_recordings, refusal=_RECORDINGS),
    "deleteRecordings": Endpoint(recording_calls.delete_recordings, refusal=_RECORDINGS),
    "updateRecordings": Endpoint(recording_calls.update_recordings, refusal=_RECORDINGS),
    "getRecordingTextTracks": Endpoint(recording_calls.get_recording_text_tracks, refusal=_RECORDINGS),
    "putRecordingTextTrack": Endpoint(recording_calls.put_recording_text_track, refusal=_RECORDINGS),
    "getJoinUrl": Endpoint(session_calls.get_join_url, checked=False),
    "learningDashboard": Endpoint(session_calls.learning_dashboard, checked=False),
    "enter": Endpoint(session_calls.enter, checked=False),
    "guestWait": Endpoint(session_calls.guest_wait, checked=False),
    "stuns": Endpoint(session_calls.stuns, checked=False),
    "signOut": Endpoint(session_calls.sign_out, checked=False),
    "hooks/create": Endpoint(lambda node, call: node.hooks.create(call.params)),
    "hooks/destroy": Endpoint(lambda node, call: node.hooks.destroy(call.params)),
    "hooks/list": Endpoint(lambda node, call: node.hooks.list(call.params)),
    "hooks/ping": Endpoint(lambda _node, _call: success(), checked=False),
}
"""Every call of the API; which of them a version has is a matter of its profile."""


class Edge:
    """The site of one node."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def connected(self, connection: Connection) -> None:
        """A peer has connected: faults of the connection strike."""
        self.node.listener.connected(connection)
        if self.node.faults.rules:
            breakage.on_connect(self.node, connection)

    def disconnected(self, connection: Connection) -> None:
        """A peer is gone."""
        self.node.listener.disconnected(connection)

    def handle(self, connection: Connection, request: Request) -> None:
        """Answer a request, or break it as the faults will have it."""
        path = request.path
        if path.startswith("/_sim/"):
            control.handle(self.node.simulator, self.node, connection, request)
            return
        name = self.name_of(path)
        if self.node.faults.rules:
            breakage.serve(self, connection, request, name)
        elif self.node.delay:
            response = self.answer(request, name)
            connection.later(self.node.simulator.clock, self.node.delay, connection.send, response)
        else:
            connection.send(self.answer(request, name))

    @staticmethod
    def name_of(path: str) -> str | None:
        """The call a path stands for, `html5client` for the client's pages, None for other pages."""
        if path.startswith(API):
            rest = path[len(API) :]
            if not rest or rest[0] == "/":
                return rest.lstrip("/")
        if path == "/bigbluebutton/":
            return ""
        return "html5client" if path.startswith("/html5client") else None

    def answer(self, request: Request, name: str | None) -> Response:
        """The answer of a server that works, written down in the log."""
        if name is None or name == "html5client":
            response = pages.page(self.node, request)
            params = checksums.parse_query(request.query)
        else:
            response, params = self._call(request, name)
        verdict = response.verdict
        if verdict == "ok" and response.status >= 400:
            verdict = f"http {response.status}"
        self.log(request, name, params, verdict)
        return response

    def log(self, request: Request, name: str | None, params: dict[str, str], verdict: str) -> None:
        """Write a request down."""
        node = self.node
        node.log(
            LoggedRequest(
                action=request.path if name is None else name,
                method=request.method,
                raw_path=request.target.decode("latin-1"),
                query=params,
                body=request.body,
                verdict=verdict,
                time=node.timeline.now(),
            )
        )

    def _call(self, request: Request, name: str) -> tuple[Response, dict[str, str]]:
        profile = self.node.profile
        params = checksums.parse_query(request.query)
        endpoint = ENDPOINTS.get(name)
        if endpoint is None or (name and name not in profile.calls):
            return pages.framework_page(404), params
        methods = profile.methods(name)
        if methods is not None and request.method not in methods:
            return pages.framework_page(405), params
        call = Call(name, request, params)
        form: bytes | None = None
        media_type = ""
        try:
            if request.body:
                media_type = request.media_type
                allowed = profile.body_types(name)
                if allowed is not None and media_type not in allowed:
                    text = "POST request Content-Type is missing or unsupported"
                    raise Failed("unsupportedContentType", text)
                if media_type == "application/x-www-form-urlencoded":
                    form = request.body
            if endpoint.checked and self.node.secret:
                self._verify(name, request.query, form, endpoint)
            if form is not None:
                call.params = checksums.parse_query(form) | params
            elif media_type == "multipart/form-data":
                fields, call.files = forms.multipart(request.headers[b"content-type"], request.body)
                call.params = fields | params
            return endpoint.answer(self.node, call), call.params
        except Failed as error:
            if name == "join":
                return joining.refused(self.node, call, error), call.params
            return failed(error), call.params

    def _verify(self, name: str, query: bytes, form: bytes | None, endpoint: Endpoint) -> None:
        node, profile = self.node, self.node.profile
        allowed = node.algorithms
        problem: str | None = None
        if node.faults.rules:
            if node.faults.hit(Fault.ACCEPT_ANYTHING, name):
                return
            if node.faults.hit(Fault.ONLY_SHA512, name):
                allowed = frozenset({"sha512"})
            if node.faults.hit(Fault.WRONG_SECRET, name):
                problem = checksums.WRONG
        problem = problem or checksums.check(
            name,
            query,
            form,
            secret=node.secret,
            allowed=allowed,
            newest=profile.newest,
            sorted_form=profile.sorted_form,
            any_case=profile.any_case_checksum,
        )
        if problem is not None:
            raise Failed("checksumError", endpoint.refusal or problem)
