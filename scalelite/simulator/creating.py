"""The call create, its rules, and breakout rooms (BBB API: create)."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from scalelite.simulator import answers, lifecycle
from scalelite.simulator.answers import Failed
from scalelite.simulator.faults import Fault
from scalelite.simulator.records import Meeting

if TYPE_CHECKING:
    from scalelite.simulator.node import Node

__all__ = ["create", "meeting_id_of", "open_breakouts"]

_META = re.compile(r"meta_[a-zA-Z][a-zA-Z0-9-]*\Z")
_UNSANE = re.compile(r"[\x00-\x1f\x7f]|<[^>]*>")
_BOOLEANS = (
    "record", "autoStartRecording", "allowStartStopRecording", "webcamsOnlyForModerator", "isBreakout", "freeJoin",
    "muteOnStart", "endWhenNoModerator", "meetingKeepEvents", "recordFullDurationMedia", "notifyRecordingIsOn",
    "allowModsToUnmuteUsers", "allowModsToEjectCameras", "allowRequestsWithoutSession",
    "preUploadedPresentationOverrideDefault", "lockSettingsDisableCam", "lockSettingsDisableMic",
    "lockSettingsDisablePrivateChat", "lockSettingsDisablePublicChat", "lockSettingsHideUserList",
    "lockSettingsLockOnJoin", "lockSettingsLockOnJoinConfigurable", "breakoutRoomsRecord",
)  # fmt: skip
_INTEGERS = (
    "duration", "maxParticipants", "voiceBridge", "sequence", "endWhenNoModeratorDelayInMinutes", "userCameraCap",
    "meetingCameraCap", "meetingExpireIfNoUserJoinedInMinutes", "meetingExpireWhenLastUserLeftInMinutes",
    "learningDashboardCleanupDelayInMinutes", "logoutTimer",
)  # fmt: skip
NOT_UNIQUE = "A meeting already exists with that meeting ID.  Please use a different meeting ID."
TRIES = 10


def meeting_id_of(params: dict[str, str]) -> str:
    """The parameter meetingID; raises Failed if it is missing or not one."""
    meeting_id = params.get("meetingID", "")
    if not meeting_id:
        raise Failed("missingParamMeetingID", "You must provide a meeting ID")
    if not 2 <= len(meeting_id) <= 256:
        raise Failed("validationError", "Meeting ID must be between 2 and 256 characters")
    if "," in meeting_id:
        raise Failed("validationError", "Meeting ID cannot contain ','")
    if meeting_id != meeting_id.strip() or _UNSANE.search(meeting_id):
        raise Failed("validationError", "Meeting ID contains invalid characters")
    return meeting_id


def _validate(node: Node, params: dict[str, str]) -> str:
    meeting_id = meeting_id_of(params)
    name = params.get("name", "")
    if not name:
        raise Failed("validationError", "You must provide a meeting name")
    if not 2 <= len(name) <= node.profile.name_limit:
        raise Failed("validationError", f"Meeting name must be between 2 and {node.profile.name_limit} characters")
    for password in ("attendeePW", "moderatorPW"):
        if params.get(password) and not 2 <= len(params[password]) <= 64:
            raise Failed("invalidPassword", "Password must be between 2 and 64 characters")
    for flag in _BOOLEANS:
        if params.get(flag, "") not in ("", "true", "false"):
            raise Failed("validationError", f"{flag} must be true or false")
    for number in _INTEGERS:
        if params.get(number, "") and not re.fullmatch(r"[0-9]+", params[number]):
            raise Failed("validationError", f"{number} must be an integer")
    return meeting_id


def create(node: Node, params: dict[str, str]) -> tuple[Meeting, bool]:
    """Create a meeting, or find the one that is there (then the second item is true); raises Failed."""
    meeting_id = _validate(node, params)
    parent = _parent_of(node, params) if params.get("isBreakout") == "true" else None
    existing = node.meetings.get(meeting_id)
    if existing is not None:
        attendee, moderator = params.get("attendeePW", ""), params.get("moderatorPW", "")
        same = (attendee, moderator) == (existing.attendee_pw, existing.moderator_pw)
        if not same and (attendee or moderator):
            raise Failed("idNotUnique", NOT_UNIQUE)
        if not node.faults.hit(Fault.CREATE_TWICE, "create"):
            return existing, True
        users = list(existing.users.values())
        lifecycle.vanish(node, existing)
        again = _make(node, meeting_id, params, parent, later_than=existing.create_time)
        for user in users:
            again.users[user.user_id] = user
        return again, True
    return _make(node, meeting_id, params, parent), False


def _parent_of(node: Node, params: dict[str, str]) -> Meeting:
    identity = params.get("parentMeetingID", "")
    if not identity:
        raise Failed(node.profile.parent_missing_key, "No parent meeting ID was provided for the breakout room")
    parent = node.meetings.get(identity) or node.by_internal.get(identity)
    if parent is None:
        raise Failed("parentMeetingDoesNotExist", "No parent meeting exists for the breakout room")
    return parent


def _make(
    node: Node, meeting_id: str, params: dict[str, str], parent: Meeting | None, *, later_than: int = 0
) -> Meeting:
    create_time = max(node.clock_ms(), later_than + 1)
    digest = hashlib.sha1(meeting_id.encode(), usedforsecurity=False).hexdigest()
    meeting = Meeting(
        meeting_id=meeting_id,
        internal_id=f"{digest}-{create_time}",
        name=params["name"],
        create_time=create_time,
        create_date=answers.java_date(create_time / 1000),
        voice_bridge=_voice_bridge(node, params.get("voiceBridge", "")),
        dial_number=params.get("dialNumber") or "613-555-1234",
        attendee_pw=params.get("attendeePW") or lifecycle.token(node, 8),
        moderator_pw=params.get("moderatorPW") or lifecycle.token(node, 8),
        params=dict(params),
        metadata={key[5:].lower(): value for key, value in params.items() if _META.match(key)},
        record=params.get("record") == "true",
        duration=int(params.get("duration") or 0),
        max_users=int(params.get("maxParticipants") or 0),
        guest_policy=params.get("guestPolicy") or node.options.default_guest_policy,
    )
    if parent is not None:
        _attach(node, meeting, parent, int(params.get("sequence") or 0), params.get("freeJoin") == "true")
    _store(node, meeting)
    return meeting


def _attach(node: Node, room: Meeting, parent: Meeting, sequence: int, free_join: bool) -> None:
    room.is_breakout = True
    room.parent_id = parent.internal_id
    room.sequence = sequence
    room.free_join = free_join
    room.metadata = {**parent.metadata, **room.metadata}
    parent.breakouts.append(room.internal_id)
    node.touch(parent)


def _store(node: Node, meeting: Meeting) -> None:
    node.meetings[meeting.meeting_id] = meeting
    node.by_internal[meeting.internal_id] = meeting
    node.bridges.setdefault(meeting.voice_bridge, meeting)
    node.touch(meeting)
    lifecycle.started(node, meeting)


def _voice_bridge(node: Node, wanted: str) -> str:
    taken = node.bridges
    if wanted:
        if wanted in taken:
            raise Failed("nonUniqueVoiceBridge", "The selected voice bridge is already in use.", listed=True)
        return wanted
    for _ in range(TRIES):
        drawn = f"{node.random.randrange(100000):05d}"
        if drawn not in taken:
            return drawn
    raise Failed("nonUniqueVoiceBridge", "The selected voice bridge is already in use.", listed=True)


def open_breakouts(node: Node, parent: Meeting, count: int) -> list[Meeting]:
    """Open rooms as the server does by itself, without a call of the API."""
    rooms = []
    for index in range(count):
        sequence = len(parent.breakouts) + 1
        stamp = node.clock_ms() + index
        seed = f"{parent.internal_id}-{stamp}-{sequence}"
        external = f"{hashlib.sha1(seed.encode(), usedforsecurity=False).hexdigest()}-{stamp}"
        room = Meeting(
            meeting_id=external,
            internal_id=f"{hashlib.sha1(external.encode(), usedforsecurity=False).hexdigest()}-{stamp}",
            name=f"{parent.name} (Room {sequence})",
            create_time=stamp,
            create_date=answers.java_date(stamp / 1000),
            voice_bridge=f"{parent.voice_bridge}{sequence}",
            dial_number=parent.dial_number,
            attendee_pw=parent.attendee_pw,
            moderator_pw=parent.moderator_pw,
            params={"meetingID": external, "isBreakout": "true"},
            metadata={},
            record=parent.params.get("breakoutRoomsRecord", "true") == "true" and parent.record,
        )
        _attach(node, room, parent, sequence, False)
        _store(node, room)
        rooms.append(room)
    return rooms
