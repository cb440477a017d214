"""The calls the browser makes with its session token."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import quote

from scalelite.simulator import lifecycle
from scalelite.simulator.answers import NO_CACHE, json_answer, success
from scalelite.simulator.call import Call
from scalelite.simulator.checksums import digest
from scalelite.simulator.http import Response
from scalelite.simulator.records import Meeting, User

if TYPE_CHECKING:
    from scalelite.simulator.node import Node

__all__ = ["enter", "get_join_url", "guest_wait", "learning_dashboard", "sign_out", "stuns"]


def _refuse(key: str, text: str) -> Response:
    content = {"returncode": "FAILED", "messageKey": key, "message": text}
    return json_answer(content, verdict=key)


def _session(node: Node, call: Call) -> tuple[Meeting, User] | Response:
    token = call.params.get("sessionToken", "")
    if not token:
        return _refuse("missingToken", "You must provide a session token")
    session = node.sessions.get(token)
    if session is None:
        return _refuse("missingSession", "Invalid session token")
    meeting, user = session
    bound = meeting.params.get("allowRequestsWithoutSession") != "true"
    if bound and user.cookie and call.cookie("JSESSIONID") != user.cookie:
        return _refuse("missingSession", "Invalid session token")
    return session


def get_join_url(node: Node, call: Call) -> Response:
    """A link for the same user on another device: always of this node, signed with SHA-1."""
    session = _session(node, call)
    if isinstance(session, Response):
        return session
    meeting, user = session
    params = {
        "existingUserID": user.user_id,
        "fullName": user.name,
        "meetingID": meeting.meeting_id,
        "redirect": "true",
        "role": "MODERATOR" if user.moderator else "VIEWER",
        "sessionName": call.params.get("sessionName", ""),
    }
    if call.params.get("replaceSession") == "true":
        params["replaceSessionToken"] = user.session_token
    if call.params.get("enforceLayout"):
        params["enforceLayout"] = call.params["enforceLayout"]
    params |= {key: value for key, value in call.params.items() if key.startswith("userdata-")}
    query = "&".join(f"{key}={quote(params[key], safe='')}" for key in sorted(params) if params[key])
    checksum = digest("join", query.encode(), node.secret)
    url = f"{node.public_url}/bigbluebutton/api/join?{query}&checksum={checksum}"
    return json_answer({"returncode": "SUCCESS", "message": "Join URL provided successfully.", "url": url})


def learning_dashboard(node: Node, call: Call) -> Response:
    """The learning dashboard, for moderators; its data is JSON within JSON."""
    session = _session(node, call)
    if isinstance(session, Response):
        return session
    meeting, user = session
    if not user.moderator:
        return _refuse("accessDenied", "Only moderators may see the learning dashboard")
    users = {
        other.user_id: {"name": other.name, "isModerator": other.moderator, "extId": other.external_id}
        for other in meeting.participants
    }
    data = {"intId": meeting.internal_id, "extId": meeting.meeting_id, "name": meeting.name, "users": users}
    return json_answer({"returncode": "SUCCESS", "data": json.dumps(data)})


def enter(node: Node, call: Call) -> Response:
    """What the client starts with (up to 2.7)."""
    session = _session(node, call)
    if isinstance(session, Response):
        return session
    meeting, user = session
    if user.guest_status == "WAIT":
        return _refuse("guestWait", "Guest waiting for approval to join meeting.")
    return json_answer(
        {
            "returncode": "SUCCESS",
            "fullname": user.name,
            "confname": meeting.name,
            "meetingID": meeting.internal_id,
            "externMeetingID": meeting.meeting_id,
            "internalUserID": user.user_id,
            "externUserID": user.external_id,
            "role": user.role,
            "authToken": user.auth_token,
            "voicebridge": meeting.voice_bridge,
            "dialnumber": meeting.dial_number,
            "record": "true" if meeting.record else "false",
            "logoutUrl": user.logout_url or node.public_url,
        }
    )


def guest_wait(node: Node, call: Call) -> Response:
    """Whether a guest in the lobby has been let in (up to 2.7)."""
    session = _session(node, call)
    if isinstance(session, Response):
        return session
    _, user = session
    url = f"{node.public_url}{node.profile.html5_path}?sessionToken={user.session_token}"
    if user.guest_status == "ALLOW" and call.params.get("redirect") == "true":
        return Response(b"", 302, "", (("Location", url), *NO_CACHE))
    return json_answer({"returncode": "SUCCESS", "messageKey": f"guest{user.guest_status.title()}", "url": url})


def stuns(node: Node, call: Call) -> Response:
    """STUN and TURN servers, without the usual wrapper."""
    session = _session(node, call)
    if isinstance(session, Response):
        return session
    content: dict[str, list[object]] = {"stunServers": [], "turnServers": [], "remoteIceCandidates": []}
    return json_answer(content, wrapped=False)


def sign_out(node: Node, call: Call) -> Response:
    """Leave; SUCCESS with or without a session."""
    session = node.sessions.get(call.params.get("sessionToken", ""))
    if session is not None:
        lifecycle.leave(node, *session)
    return success()
