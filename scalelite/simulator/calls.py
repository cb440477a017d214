"""The calls about meetings (BBB API: administration and monitoring)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scalelite.simulator import answers, creating, forms, lifecycle
from scalelite.simulator.answers import Failed, message, success, tag
from scalelite.simulator.call import Call
from scalelite.simulator.creating import meeting_id_of
from scalelite.simulator.http import Response
from scalelite.simulator.records import Meeting

if TYPE_CHECKING:
    from scalelite.simulator.node import Node

__all__ = [
    "create",
    "end",
    "get_meeting_info",
    "get_meetings",
    "get_sessions",
    "index",
    "insert_document",
    "is_meeting_running",
    "send_chat_message",
]

_TRUE = success(tag("running", True))
_FALSE = success(tag("running", False))


def _known(node: Node, params: dict[str, str], key: str = "notFound") -> Meeting:
    meeting = node.meetings.get(meeting_id_of(params))
    if meeting is None:
        raise Failed(key, "A meeting with that ID does not exist")
    return meeting


def index(node: Node, call: Call) -> Response:
    """The index: what version this is. With `Content-Type: application/json` newer servers answer JSON."""
    graphql = None
    if node.profile.graphql:
        socket = node.public_url.replace("http", "ws", 1)
        graphql = (f"{socket}/graphql", f"{node.public_url}/api/rest")
    version = node.profile.version if node.options.reveal_version else ""
    facts = answers.Index(version, graphql, node.profile.plugin_sdk)
    if node.profile.graphql and call.request.media_type == "application/json":
        return answers.json_answer({"returncode": "SUCCESS", **dict(facts.pairs())})
    return answers.index(facts)


def create(node: Node, call: Call) -> Response:
    """Create a meeting; a repeated create is a SUCCESS with a warning, and its slides are ignored."""
    meeting, repeated = creating.create(node, call.params)
    if not repeated and call.request.body and call.request.media_type.endswith("xml"):
        meeting.documents += forms.documents(call.request.body)
    return answers.created(meeting, repeated=repeated)


def is_meeting_running(node: Node, call: Call) -> Response:
    """Whether anyone is in a meeting; false for one that does not exist."""
    meeting = node.meetings.get(meeting_id_of(call.params))
    return _TRUE if meeting is not None and meeting.running else _FALSE


def end(node: Node, call: Call) -> Response:
    """Ask for the end of a meeting, which comes some moments later."""
    meeting = _known(node, call.params)
    password = call.params.get("password", "")
    if password and password != meeting.moderator_pw:
        raise Failed("invalidPassword", "The supplied moderator password is incorrect")
    lifecycle.begin_end(node, meeting)
    text = (
        "A request to end the meeting was sent.  Please wait a few seconds, and then use the getMeetingInfo or "
        "isMeetingRunning API calls to verify that it was ended."
    )
    return success(message("sentEndMeetingRequest", text))


def get_meeting_info(node: Node, call: Call) -> Response:
    """Everything about a meeting."""
    return answers.meeting_info(_known(node, call.params))


def get_meetings(node: Node, _call: Call) -> Response:
    """Everything about all meetings, in no particular order; rendered again only after a change."""
    if node.listing is None or node.listing[0] != node.changes:
        listed = [*node.meetings.values(), *node.ghosts]
        node.random.shuffle(listed)
        node.listing = (node.changes, answers.meetings(listed))
    return node.listing[1]


def get_sessions(node: Node, _call: Call) -> Response:
    """The sessions of all users; undocumented, still routed."""
    shown = "".join(
        f"<session>{tag('meetingID', meeting.meeting_id)}{tag('fullname', user.name)}"
        f"{tag('internalUserId', user.user_id)}</session>"
        for meeting, user in node.sessions.values()
    )
    return success(f"<sessions>{shown}</sessions>")


def insert_document(node: Node, call: Call) -> Response:
    """Add slides to a running meeting; without a body a server answers nothing at all."""
    meeting = _known(node, call.params)
    if not call.request.body:
        return Response(b"", verdict="empty")
    meeting.documents += forms.documents(call.request.body)
    return success(message("", "Presentation is being uploaded"))


def send_chat_message(node: Node, call: Call) -> Response:
    """Write into the public chat of a meeting."""
    text = call.params.get("message", "")
    if not 1 <= len(text) <= 500:
        raise Failed("validationError", "Message must be between 1 and 500 characters")
    author = call.params.get("userName") or "System"
    if len(author) > 255:
        raise Failed("validationError", "User name must be at most 255 characters")
    _known(node, call.params, "meetingNotFound").chat.append((author, text))
    return success(message("", "Message sent successfully"))
