"""How meetings come to life and end: users connect and leave, rooms expire, the end is asynchronous."""

from __future__ import annotations

import math
import string
from typing import TYPE_CHECKING

import attrs

from scalelite.simulator import recordings
from scalelite.simulator.faults import Fault
from scalelite.simulator.records import Meeting, User

if TYPE_CHECKING:
    from scalelite.simulator.node import Node

__all__ = ["Timings", "begin_end", "connect", "finish_end", "leave", "register", "started", "token", "vanish"]

_LETTERS = string.ascii_lowercase + string.digits


@attrs.define
class Timings:
    """The delays of a server, in virtual seconds (bigbluebutton.properties and what akka-apps does)."""

    users_timeout: float = 60.0
    entered_timeout: float = 45.0
    guest_timeout: float = 30.0
    audit: float = 5.0
    start_lag: float = 0.042
    end_fastest: float = 0.05
    end_slowest: float = 2.0
    expire_unjoined: float = 300.0
    expire_empty: float = 60.0
    no_moderator: float = 60.0
    analytics_lag: float = 30.0
    recording_fastest: float = 120.0
    recording_slowest: float = 600.0


def token(node: Node, length: int) -> str:
    """Random lower-case letters and digits."""
    return "".join(node.random.choices(_LETTERS, k=length))


def _at_audit(node: Node, delay: float) -> float:
    """The delay until the first audit that is at least `delay` away: rooms expire at audits only."""
    period = node.timings.audit
    if period <= 0:
        return delay
    elapsed = node.timeline.elapsed()
    return math.ceil((elapsed + delay) / period) * period - elapsed


def _minutes(meeting: Meeting, parameter: str, default: float) -> float:
    value = meeting.params.get(parameter, "")
    return float(value) * 60 if value.isdigit() else default


def started(node: Node, meeting: Meeting) -> None:
    """Set going what happens to a new meeting by itself."""
    node.timeline.call_later(node.timings.start_lag, _stamp_start, node, meeting)
    if not meeting.is_breakout:
        wait = _minutes(meeting, "meetingExpireIfNoUserJoinedInMinutes", node.timings.expire_unjoined)
        node.timeline.call_later(_at_audit(node, wait), _expire_unjoined, node, meeting)
    if meeting.duration > 0:
        node.timeline.call_later(_at_audit(node, meeting.duration * 60), _expire, node, meeting)
    node.emit("meeting-created", meeting)


def _stamp_start(node: Node, meeting: Meeting) -> None:
    meeting.start_time = node.clock_ms()
    node.touch(meeting)


def _expire_unjoined(node: Node, meeting: Meeting) -> None:
    if not meeting.has_user_joined:
        finish_end(node, meeting)


def _expire(node: Node, meeting: Meeting) -> None:
    finish_end(node, meeting)


def register(node: Node, meeting: Meeting, user: User) -> None:
    """`join` was passed: there is a session, but nobody is there yet."""
    meeting.users[user.user_id] = user
    node.sessions[user.session_token] = (meeting, user)
    timings = node.timings
    wait = timings.guest_timeout if user.guest_status == "WAIT" else timings.entered_timeout
    node.timeline.call_later(wait, _forget_registered, node, meeting, user)


def _forget_registered(node: Node, meeting: Meeting, user: User) -> None:
    if not user.connected and not user.left:
        _drop(node, meeting, user)


def _drop(node: Node, meeting: Meeting, user: User) -> None:
    meeting.users.pop(user.user_id, None)
    node.sessions.pop(user.session_token, None)


def connect(node: Node, meeting: Meeting, user: User) -> None:
    """The client of a user has connected: the user counts from now on."""
    if meeting.ended or user.connected or node.faults.hit(Fault.STUCK_COUNTS, "*"):
        return
    user.connected, user.left = True, False
    meeting.users[user.user_id] = user
    node.sessions[user.session_token] = (meeting, user)
    meeting.has_user_joined = True
    meeting.moderator_joined = meeting.moderator_joined or user.moderator
    meeting.last_user_left = None
    meeting.end_time = 0
    if not any(other.presenter for other in meeting.participants):
        user.presenter = user.moderator
    if meeting.record and meeting.params.get("autoStartRecording") == "true":
        meeting.recording_marks = True
    node.touch(meeting)
    node.emit("user-joined", meeting, user)


def leave(node: Node, meeting: Meeting, user: User) -> None:
    """A user goes; `running` stays true until the server forgets them."""
    if not user.connected or node.faults.hit(Fault.STUCK_COUNTS, "*"):
        return
    user.connected = user.presenter = False
    user.left = True
    if not meeting.participants:
        meeting.end_time = node.clock_ms()
    node.timeline.call_later(node.timings.users_timeout, _purge, node, meeting, user)
    if meeting.params.get("endWhenNoModerator") == "true" and _moderators(meeting) == 0:
        wait = _minutes(meeting, "endWhenNoModeratorDelayInMinutes", node.timings.no_moderator)
        node.timeline.call_later(_at_audit(node, wait), _expire_unmoderated, node, meeting)
    node.touch(meeting)
    node.emit("user-left", meeting, user)


def _moderators(meeting: Meeting) -> int:
    return sum(user.moderator for user in meeting.participants)


def _expire_unmoderated(node: Node, meeting: Meeting) -> None:
    if meeting.moderator_joined and _moderators(meeting) == 0:
        finish_end(node, meeting)


def _purge(node: Node, meeting: Meeting, user: User) -> None:
    if not user.left or meeting.ended:
        return
    user.left = False
    _drop(node, meeting, user)
    node.touch(meeting)
    if meeting.running or meeting.is_breakout:
        return
    stamp = meeting.last_user_left = node.timeline.elapsed()
    wait = _minutes(meeting, "meetingExpireWhenLastUserLeftInMinutes", node.timings.expire_empty)
    if wait == 0:
        finish_end(node, meeting)
    else:
        node.timeline.call_later(_at_audit(node, wait), _expire_empty, node, meeting, stamp)


def _expire_empty(node: Node, meeting: Meeting, stamp: float) -> None:
    if meeting.last_user_left == stamp and not meeting.running:
        finish_end(node, meeting)


def begin_end(node: Node, meeting: Meeting) -> None:
    """End a meeting by request: visible at once as forcibly ended, gone some moments later."""
    if meeting.forcibly_ended or meeting.ended or node.faults.hit(Fault.ZOMBIE, "end"):
        return
    meeting.forcibly_ended = True
    node.touch(meeting)
    wait = node.random.uniform(node.timings.end_fastest, node.timings.end_slowest)
    if slow := node.faults.hit(Fault.END_SLOW, "end"):
        wait = float(slow.options.get("seconds", 30.0))
    node.timeline.call_later(wait, finish_end, node, meeting)


def finish_end(node: Node, meeting: Meeting) -> None:
    """A meeting ends now, its breakout rooms with it; callbacks and the recording follow."""
    if meeting.ended:
        return
    for room in meeting.breakouts:
        child = node.by_internal.get(room)
        if child is not None:
            finish_end(node, child)
    joined = [user for user in meeting.users.values() if user.connected or user.left]
    vanish(node, meeting)
    if rule := node.faults.hit(Fault.REAPPEAR_AFTER_END, "*"):
        node.ghosts.append(meeting)
        node.timeline.call_later(float(rule.options.get("seconds", 10.0)), node.lay_ghost, meeting)
    node.emit("meeting-ended", meeting)
    node.callbacks.meeting_ended(meeting, joined)
    recordings.after_meeting(node, meeting, len(joined))


def vanish(node: Node, meeting: Meeting) -> None:
    """Take a meeting out of memory without telling anyone."""
    meeting.ended = True
    for user in list(meeting.users.values()):
        user.connected = user.left = False
        node.sessions.pop(user.session_token, None)
    meeting.users.clear()
    if node.meetings.get(meeting.meeting_id) is meeting:
        del node.meetings[meeting.meeting_id]
    node.by_internal.pop(meeting.internal_id, None)
    if node.bridges.get(meeting.voice_bridge) is meeting:
        del node.bridges[meeting.voice_bridge]
    node.touch(meeting)
