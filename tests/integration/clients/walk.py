"""One course of two meetings that every Python client library takes: `python CLIENT.py API SECRET NAME ID ID`.

Prints a JSON list with what the client made of the answers, an object for each meeting; `walk.js` does the same.
"""

import json
import sys
import urllib.request
from typing import Any, Protocol

MODERATOR_PW = "moderator pw"


class Client(Protocol):
    """What a script teaches the course about its library."""

    def create(self, meeting_id: str, name: str) -> str:
        """The id of the created meeting as the client reads it."""

    def join_url(self, meeting_id: str) -> str:
        """Where the client sends the browser of a moderator named Ann."""

    def running(self, meeting_id: str) -> bool | None:
        """isMeetingRunning; None if the library lacks it."""

    def info(self, meeting_id: str) -> tuple[str, int]:
        """Name and number of participants."""

    def meetings(self) -> list[str] | None:
        """The ids in the answer to getMeetings; None if the library does not show them."""

    def end(self, meeting_id: str) -> None:
        """End it; raises if that is refused."""

    def refusal(self, meeting_id: str) -> str:
        """How the client tells that the meeting is unknown."""


def open_link(url: str) -> str:
    """Go where a browser would go; the address of the page that it arrives at."""
    with urllib.request.urlopen(url, timeout=20) as page:
        page.read()
        return str(page.url)


def observe(client: Client, meeting_id: str, name: str) -> dict[str, Any]:
    """Create, join, look, end."""
    seen: dict[str, Any] = {"created": client.create(meeting_id, name), "running": [client.running(meeting_id)]}
    seen["page"] = open_link(client.join_url(meeting_id))
    seen["running"].append(client.running(meeting_id))
    seen["name"], seen["participants"] = client.info(meeting_id)
    return seen


def walk(make: Any) -> None:
    """Take the course with the client that `make(api, secret)` gives."""
    api, secret, name, *meeting_ids = sys.argv[1:]
    client: Client = make(api, secret)
    course = [observe(client, meeting_id, name) for meeting_id in meeting_ids]
    listed = client.meetings()
    for seen, meeting_id in zip(course, meeting_ids, strict=True):
        seen["listed"] = None if listed is None else listed.count(meeting_id)
        client.end(meeting_id)
        seen["after"] = client.refusal(meeting_id)
    json.dump(course, sys.stdout)
