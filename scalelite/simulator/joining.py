"""The call join: it registers a user and sends the browser to the client (BBB API: join)."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from scalelite.simulator import lifecycle
from scalelite.simulator.answers import NO_CACHE, Failed, failed, message, success, tag
from scalelite.simulator.call import Call
from scalelite.simulator.creating import meeting_id_of
from scalelite.simulator.http import Response
from scalelite.simulator.records import Meeting, User

if TYPE_CHECKING:
    from scalelite.simulator.node import Node

__all__ = ["join", "refused"]

_CUSTOM = re.compile(r"userdata-([a-zA-Z][a-zA-Z0-9_-]*)\Z")


def join(node: Node, call: Call) -> Response:
    """Answer a join; raises Failed."""
    params = call.params
    meeting_id = meeting_id_of(params)
    name = params.get("fullName", "") or f"{params.get('firstName', '')} {params.get('lastName', '')}".strip()
    if not name:
        raise Failed("missingParamFullName", "You must specify a name for the attendee who will be joining")
    meeting = node.meetings.get(meeting_id)
    if meeting is None:
        text = "The meeting ID that you supplied did not match any existing meetings"
        raise Failed("invalidMeetingIdentifier", text)
    if meeting.forcibly_ended:
        text = "You can not join the meeting because it was forcibly ended"
        raise Failed("meetingForciblyEnded", text)
    moderator = _role(meeting, params)
    _admissible(meeting, params)
    guest_status = _guest_status(meeting, moderator, params.get("guest", ""))
    if guest_status == "DENY":
        raise Failed("guestDeniedAccess", "You do not have access to this meeting", redirect="unless")
    identity = "w_" + lifecycle.token(node, 12)
    user = User(
        user_id=identity,
        external_id=params.get("userID") or identity,
        name=name,
        moderator=moderator,
        session_token=lifecycle.token(node, 16),
        auth_token=lifecycle.token(node, 12),
        cookie=lifecycle.token(node, 32).upper(),
        guest_status=guest_status,
        customdata={found[1]: value for key, value in params.items() if (found := _CUSTOM.match(key))},
        logout_url=params.get("logoutURL") or meeting.params.get("logoutURL", ""),
    )
    replaced = node.sessions.get(params.get("replaceSessionToken", ""))
    if replaced is not None:
        lifecycle.leave(node, *replaced)
    lifecycle.register(node, meeting, user)
    return _joined(node, call, meeting, user)


def _role(meeting: Meeting, params: dict[str, str]) -> bool:
    role = params.get("role", "").upper()
    if role in ("MODERATOR", "VIEWER"):
        return role == "MODERATOR"
    password = params.get("password", "")
    if password and password == meeting.moderator_pw:
        return True
    if password and password == meeting.attendee_pw:
        return False
    raise Failed("Params required", "No user credentials were provided: give a role or a password", redirect="never")


def _admissible(meeting: Meeting, params: dict[str, str]) -> None:
    create_time = params.get("createTime", "")
    if create_time and create_time != str(meeting.create_time):
        text = "The createTime parameter submitted mismatches with the current running meeting."
        raise Failed("mismatchCreateTimeParam", text, redirect="unless")
    if 0 < meeting.max_users <= sum(not user.left for user in meeting.users.values()):
        text = "The maximum number of participants allowed for this meeting has been reached."
        raise Failed("maxParticipantsReached", text, redirect="unless")


def _guest_status(meeting: Meeting, moderator: bool, guest: str) -> str:
    if moderator or guest == "false":
        return "ALLOW"
    waits = "WAIT" if guest == "true" else "ALLOW"
    policies = {
        "ALWAYS_ACCEPT": "ALLOW",
        "ALWAYS_DENY": "DENY",
        "ASK_MODERATOR": waits,
        "ALWAYS_ACCEPT_AUTH": waits,
    }
    return policies.get(meeting.guest_policy, "DENY")


def _joined(node: Node, call: Call, meeting: Meeting, user: User) -> Response:
    waiting = user.guest_status == "WAIT" and not node.profile.graphql
    path = "/html5client/guestWait" if waiting else node.profile.html5_path
    layout = "waitLayout=1&" if node.profile.graphql and call.params.get("enforceLayout") else ""
    url = f"{node.public_url}{path}?{layout}sessionToken={user.session_token}"
    cookie = ("Set-Cookie", f"JSESSIONID={user.cookie}; Path=/bigbluebutton; HttpOnly")
    if call.params.get("redirect", "true") != "false":
        return Response(b"", 302, "", (("Location", url), cookie, *NO_CACHE))
    key, text = ("guestWait", "Guest waiting for approval to join meeting.")
    if not waiting:
        key, text = "successfullyJoined", "You have joined successfully."
    answer = success(
        message(key, text)
        + tag("meeting_id", meeting.internal_id)
        + tag("user_id", user.user_id)
        + tag("auth_token", user.auth_token)
        + tag("session_token", user.session_token)
        + tag("guestStatus", user.guest_status)
        + tag("url", url)
    )
    answer.headers = (*answer.headers, cookie)
    return answer


def refused(node: Node, call: Call, error: Failed) -> Response:
    """A join that failed: most errors go with the browser to the page of the front end."""
    params = call.params
    asked_for_xml = params.get("redirect") == "false" and node.profile.graphql
    if error.redirect == "never" or (error.redirect == "unless" and asked_for_xml):
        return failed(error)
    meeting = node.meetings.get(params.get("meetingID", ""))
    page = params.get("errorRedirectUrl") or params.get("logoutURL", "")
    if not page and meeting is not None:
        page = meeting.params.get("logoutURL", "")
    if not re.match(r"https?://[^\x00-\x20\x7f]+\Z", page):
        page = node.public_url + "/"
    errors = json.dumps([{"key": error.key, "message": error.message}], separators=(",", ":"))
    location = f"{page}{'&' if '?' in page else '?'}errors={quote(errors, safe='')}"
    return Response(b"", 302, "", (("Location", location), *NO_CACHE), verdict=error.key)
