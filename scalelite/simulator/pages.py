"""The pages people see: the client that counts a user, the status page, and the framework's error pages."""

from __future__ import annotations

from http.client import responses as REASONS
from typing import TYPE_CHECKING

from scalelite.simulator import lifecycle
from scalelite.simulator.answers import escape
from scalelite.simulator.checksums import parse_query
from scalelite.simulator.http import Request, Response
from scalelite.simulator.records import Meeting, User

if TYPE_CHECKING:
    from scalelite.simulator.node import Node

__all__ = ["framework_page", "nginx_page", "page"]

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #ddd}"
    "button{font:inherit;padding:.4rem 1.2rem}dt{color:#666}dd{margin:0 0 .6rem}"
)
_HEADERS = (
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
)


def _html(title: str, content: str, status: int = 200, *, refresh: int = 0) -> Response:
    again = f'<meta http-equiv="refresh" content="{refresh}">' if refresh else ""
    text = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">{again}<title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>{content}</body></html>\n"
    )
    return Response(text.encode(), status, "text/html;charset=utf-8", _HEADERS)


def nginx_page(status: int) -> bytes:
    """The page nginx shows for a status."""
    title = f"{status} {REASONS.get(status, 'Unknown')}"
    return (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
        "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    ).encode()


def framework_page(status: int) -> Response:
    """The page bbb-web shows for a path or method it does not know."""
    title = "Page Not Found" if status == 404 else "Method Not Allowed"
    text = (
        f'<!doctype html>\n<html>\n<head><title>{title}</title><meta name="layout" content="main"></head>\n'
        f'<body>\n<ul class="errors"><li>Error: {title} ({status})</li></ul>\n</body>\n</html>\n'
    )
    return Response(text.encode(), status, "text/html;charset=utf-8")


def page(node: Node, request: Request) -> Response:
    """Any path that is not of the API."""
    path = request.path
    params = parse_query(request.query)
    if path == "/":
        return _status(node, params)
    if path.startswith("/html5client"):
        return _client(node, request, params)
    if path.startswith("/playback/"):
        return _playback(node, path)
    return Response(nginx_page(404), 404, "text/html")


def _status(node: Node, params: dict[str, str]) -> Response:
    rows = "".join(
        f"<tr><td>{escape(meeting.name)}</td><td>{escape(meeting.meeting_id)}</td>"
        f"<td>{len(meeting.participants)}</td><td>{'yes' if meeting.running else 'no'}</td></tr>"
        for meeting in node.meetings.values()
    )
    errors = f"<p>Sent here with: <code>{escape(params['errors'])}</code></p>" if "errors" in params else ""
    table = f"<table><tr><th>Meeting</th><th>meetingID</th><th>Users</th><th>Running</th></tr>{rows}</table>"
    about = f"<p>Simulated BigBlueButton {escape(node.profile.version)}, {len(node.meetings)} meetings.</p>"
    return _html(f"BigBlueButton node {node.number}", errors + about + (table if rows else ""))


def _client(node: Node, request: Request, params: dict[str, str]) -> Response:
    session = node.sessions.get(params.get("sessionToken", ""))
    if session is None:
        return _html("No such session", "<p>The session has ended, or never was.</p>", 404)
    meeting, user = session
    if request.path == "/html5client/leave":
        if request.method != "POST":
            return framework_page(405)
        lifecycle.leave(node, meeting, user)
        return _left(node, meeting, user)
    if user.guest_status == "WAIT":
        text = f"<p>{escape(user.name)}, a moderator of {escape(meeting.name)} has to let you in.</p>"
        return _html("Please wait", text, refresh=5)
    lifecycle.connect(node, meeting, user)
    return _inside(node, meeting, user)


def _facts(node: Node, meeting: Meeting, user: User) -> str:
    facts = (
        ("Meeting", meeting.name),
        ("meetingID", meeting.meeting_id),
        ("Internal meeting ID", meeting.internal_id),
        ("User", user.name),
        ("User ID", user.external_id),
        ("Role", user.role),
        ("Server", node.public_url),
    )
    return f"<dl>{''.join(f'<dt>{term}</dt><dd>{escape(value)}</dd>' for term, value in facts)}</dl>"


def _inside(node: Node, meeting: Meeting, user: User) -> Response:
    names = "".join(f"<li>{escape(other.name)}</li>" for other in meeting.participants)
    form = (
        f'<form method="post" action="/html5client/leave?sessionToken={escape(user.session_token)}">'
        '<button type="submit">Leave</button></form>'
    )
    people = f"<p>In the room:</p><ul>{names}</ul>"
    return _html(meeting.name, _facts(node, meeting, user) + people + form)


def _left(node: Node, meeting: Meeting, user: User) -> Response:
    link = ""
    if user.logout_url.startswith(("https://", "http://")):
        link = f'<p><a href="{escape(user.logout_url)}">Go on</a></p>'
    return _html("You have left", _facts(node, meeting, user) + link)


def _playback(node: Node, path: str) -> Response:
    parts = [part for part in path.split("/") if part]
    recording = next((node.recordings[part] for part in parts if part in node.recordings), None)
    if recording is None or recording.state != "published":
        return Response(nginx_page(404), 404, "text/html")
    text = f"<p>Recording {escape(recording.record_id)}, format {escape(parts[1])}.</p>"
    return _html(recording.name, text)
