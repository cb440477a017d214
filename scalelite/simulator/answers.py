"""The XML of the answers, element by element in the order a BBB server has them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Sequence

import attrs

from scalelite.simulator.http import Response
from scalelite.simulator.records import Meeting, User

__all__ = [
    "NO_CACHE",
    "Failed",
    "Index",
    "created",
    "escape",
    "failed",
    "index",
    "java_date",
    "json_answer",
    "meeting_info",
    "meetings",
    "message",
    "success",
    "tag",
    "xml",
]

NO_CACHE = (("Cache-Control", "no-cache"),)
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;"})


class Failed(Exception):
    """A call that is answered FAILED.

    `listed`: with an `<errors>` list instead of messageKey and message. `redirect`: a join whose errors go to the
    browser, `always` or only `unless` it asked for redirect=false.
    """

    def __init__(self, key: str, message: str, *, listed: bool = False, redirect: str = "") -> None:
        super().__init__(key, message)
        self.key = key
        self.message = message
        self.listed = listed
        self.redirect = redirect


def escape(text: str) -> str:
    """Text as XML character data; characters XML cannot hold are dropped."""
    return _NOT_XML.sub("", text).translate(_ESCAPES)


def tag(name: str, value: object) -> str:
    """One element. Booleans are lower case, anything else is escaped text."""
    if value is True:
        return f"<{name}>true</{name}>"
    if value is False:
        return f"<{name}>false</{name}>"
    return f"<{name}>{value if isinstance(value, int) else escape(str(value))}</{name}>"


def xml(content: str, *, cached: bool = False, verdict: str = "ok") -> Response:
    """A `<response>` holding `content`. `cached`: the two calls that lack Cache-Control."""
    body = f"<response>{content}</response>".encode()
    return Response(body, headers=() if cached else NO_CACHE, verdict=verdict)


def success(content: str = "", *, cached: bool = False) -> Response:
    """SUCCESS and `content`."""
    return xml("<returncode>SUCCESS</returncode>" + content, cached=cached)


def message(key: str, text: str) -> str:
    """messageKey and message."""
    return tag("messageKey", key) + tag("message", text)


def failed(error: Failed) -> Response:
    """FAILED, HTTP 200 as everything the API answers."""
    if error.listed:
        inner = f"<errors><error>{tag('key', error.key)}{tag('message', error.message)}</error></errors>"
    else:
        inner = message(error.key, error.message)
    return xml("<returncode>FAILED</returncode>" + inner, verdict=error.key)


def json_answer(content: object, *, wrapped: bool = True, verdict: str = "ok") -> Response:
    """JSON, in a `response` member unless `wrapped` is false."""
    text = json.dumps({"response": content} if wrapped else content, ensure_ascii=False)
    return Response(text.encode(), 200, "application/json;charset=utf-8", NO_CACHE, verdict)


def java_date(seconds: float) -> str:
    """A moment as Java's `Date.toString` prints it in UTC."""
    return time.strftime("%a %b %d %H:%M:%S UTC %Y", time.gmtime(seconds))


def created(meeting: Meeting, *, repeated: bool) -> Response:
    """The answer to create; `repeated` for a meeting that was there already."""
    note = (
        message("duplicateWarning", "This conference was already in existence and may currently be in progress.")
        if repeated
        else "<messageKey></messageKey><message></message>"
    )
    return success(
        "".join(
            (
                tag("meetingID", meeting.meeting_id),
                tag("internalMeetingID", meeting.internal_id),
                tag("parentMeetingID", meeting.parent_id),
                tag("attendeePW", meeting.attendee_pw),
                tag("moderatorPW", meeting.moderator_pw),
                tag("createTime", meeting.create_time),
                tag("voiceBridge", meeting.voice_bridge),
                tag("dialNumber", meeting.dial_number),
                tag("createDate", meeting.create_date),
                tag("hasUserJoined", meeting.has_user_joined),
                tag("duration", meeting.duration),
                tag("hasBeenForciblyEnded", meeting.forcibly_ended),
                note,
            )
        )
    )


def _attendee(user: User) -> str:
    custom = "".join(tag(name, value) for name, value in user.customdata.items())
    return (
        f"<attendee>{tag('userID', user.external_id)}{tag('fullName', user.name)}{tag('role', user.role)}"
        f"{tag('isPresenter', user.presenter)}{tag('isListeningOnly', user.listen_only)}"
        f"{tag('hasJoinedVoice', user.voice)}{tag('hasVideo', user.video)}{tag('clientType', user.client_type)}"
        f"{f'<customdata>{custom}</customdata>' if custom else ''}</attendee>"
    )


def _info(meeting: Meeting) -> str:
    users = meeting.participants
    parts = [
        tag("meetingName", meeting.name),
        tag("meetingID", meeting.meeting_id),
        tag("internalMeetingID", meeting.internal_id),
        tag("createTime", meeting.create_time),
        tag("createDate", meeting.create_date),
        tag("voiceBridge", meeting.voice_bridge),
        tag("dialNumber", meeting.dial_number),
        tag("attendeePW", meeting.attendee_pw) if meeting.attendee_pw else "",
        tag("moderatorPW", meeting.moderator_pw) if meeting.moderator_pw else "",
        tag("running", meeting.running),
        tag("duration", meeting.duration),
        tag("hasUserJoined", meeting.has_user_joined),
        tag("recording", meeting.record),
        tag("hasBeenForciblyEnded", meeting.forcibly_ended),
        tag("startTime", meeting.start_time),
        tag("endTime", meeting.end_time),
        tag("participantCount", len(users)),
        tag("listenerCount", sum(user.listen_only for user in users)),
        tag("voiceParticipantCount", sum(user.voice for user in users)),
        tag("videoCount", sum(user.video for user in users)),
        tag("maxUsers", meeting.max_users),
        tag("moderatorCount", sum(user.moderator for user in users)),
        "<attendees>",
        *map(_attendee, users),
        "</attendees><metadata>",
        *(tag(name, value) for name, value in meeting.metadata.items()),
        "</metadata>",
        tag("isBreakout", meeting.is_breakout),
    ]
    if meeting.is_breakout:
        parts += [
            tag("parentMeetingID", meeting.parent_id),
            tag("sequence", meeting.sequence),
            tag("freeJoin", meeting.free_join),
        ]
    if meeting.breakouts:
        rooms = "".join(tag("breakout", room) for room in meeting.breakouts)
        parts.append(f"<breakoutRooms>{rooms}</breakoutRooms>")
    return "".join(parts)


def info_fragment(meeting: Meeting) -> str:
    """The elements of one meeting, kept with it until it changes."""
    if meeting.fragment is None:
        meeting.fragment = _info(meeting)
    return meeting.fragment


def meeting_info(meeting: Meeting) -> Response:
    """The answer to getMeetingInfo."""
    return success(info_fragment(meeting), cached=True)


def meetings(listed: Sequence[Meeting]) -> Response:
    """The answer to getMeetings."""
    if not listed:
        return success("<meetings/>" + message("noMeetings", "no meetings were found on this server"))
    inner = "</meeting><meeting>".join(map(info_fragment, listed))
    return success(f"<meetings><meeting>{inner}</meeting></meetings>")


@attrs.frozen
class Index:
    """What the index of the API tells about a server."""

    bbb_version: str = ""
    graphql: tuple[str, str] | None = None
    plugin_sdk: str = ""

    def pairs(self) -> Iterable[tuple[str, str]]:
        """Element names and values, in order."""
        yield "version", "2.0"
        yield "apiVersion", "2.0"
        yield "bbbVersion", self.bbb_version
        if self.graphql is not None:
            yield "graphqlWebsocketUrl", self.graphql[0]
            yield "graphqlApiUrl", self.graphql[1]
        if self.plugin_sdk:
            yield "html5PluginSdkVersion", self.plugin_sdk


def index(facts: Index) -> Response:
    """The answer to the index."""
    return success("".join(tag(name, value) if value else f"<{name}/>" for name, value in facts.pairs()))
