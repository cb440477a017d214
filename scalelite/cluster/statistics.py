"""What a server's getMeetings answer says about its load. Source of the formulas: Scalelite's poller."""

from __future__ import annotations

import attrs
from lxml import etree

_READ = ("participantCount", "moderatorCount", "videoCount", "meetingID", "isBreakout", "createTime")
MAX_DIGITS = 15
"""Enough for a time in milliseconds, and exact as a float."""


@attrs.frozen
class LoadRule:
    """How users become load: a meeting younger than `join_buffer` minutes counts at least `min_users`."""

    min_users: int = 15
    join_buffer: int = 15


@attrs.frozen
class PollLimits:
    """Bounds that decide what a poll's result changes.

    Thresholds in consecutive polls, `meeting_ttl` and `pending_grace` in seconds, `new_meeting_load` before the
    server's multiplier. A create that has been pending for longer than `pending_grace` counts as failed once
    its meeting is absent.
    """

    healthy_threshold: int = 1
    unhealthy_threshold: int = 2
    meeting_ttl: int = 86400
    new_meeting_load: float = 15
    pending_grace: float = 60


@attrs.frozen
class ServerStatistics:
    """Figures of one server: `load` is before its multiplier, `users` include moderators once."""

    load: int = 0
    users: int = 0
    meetings: int = 0
    largest_meeting: int = 0
    videos: int = 0
    meeting_ids: tuple[str, ...] = ()


def number(text: str | None) -> int:
    """A count as BBB prints it: old versions group digits by locale (`1,700`).

    Nonsense, negative numbers and what no server could mean (over fifteen digits) count as 0.
    """
    if not text:
        return 0
    text = text.strip()
    if not (text.isascii() and text.isdigit()):
        if text.startswith("-"):
            return 0
        text = "".join([c for c in text if c in "0123456789"])
    return int(text) if text and len(text) <= MAX_DIGITS else 0


def statistics(root: etree._Element, now: float, rule: LoadRule) -> ServerStatistics:
    """Read a getMeetings `<response>`; `now` in seconds since the epoch.

    Attendees of a meeting are participants plus moderators, though BBB counts moderators among the
    participants already: Scalelite's weight for the heavier users. Breakout rooms add users but no load, since
    their users sit in the parent as well.
    """
    young_after = (now - rule.join_buffer * 60) * 1000
    load = users = largest = videos = count = 0
    ids: list[str] = []
    for meeting in root.iterfind("meetings/meeting"):
        count += 1
        values = {child.tag: child.text for child in meeting.iterchildren(*_READ)}
        participants = number(values.get("participantCount"))
        users += participants
        largest = max(largest, participants)
        videos += number(values.get("videoCount"))
        meeting_id = values.get("meetingID")
        if meeting_id:
            ids.append(meeting_id)
        if values.get("isBreakout") == "true":
            continue
        attendees = participants + number(values.get("moderatorCount"))
        if number(values.get("createTime")) > young_after:
            attendees = max(attendees, rule.min_users)
        load += attendees
    return ServerStatistics(load, users, count, largest, videos, tuple(ids))
