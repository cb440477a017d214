"""In what the versions of a BBB server differ."""

from __future__ import annotations

import attrs

__all__ = ["PROFILES", "Profile"]

_BOTH = frozenset({"GET", "POST"})
_GET = frozenset({"GET"})
_POST = frozenset({"POST"})
_FORMS = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})
_XML = frozenset({"application/xml", "text/xml"})

_METHODS = {
    "create": _BOTH,
    "isMeetingRunning": _BOTH,
    "end": _BOTH,
    "getMeetingInfo": _BOTH,
    "getMeetings": _BOTH,
    "getSessions": _BOTH,
    "stuns": _BOTH,
    "signOut": _BOTH,
    "getJoinUrl": _BOTH,
    "learningDashboard": _BOTH,
    "enter": _BOTH,
    "getRecordings": _BOTH,
    "updateRecordings": _BOTH,
    "getRecordingTextTracks": _BOTH,
    "join": _GET,
    "publishRecordings": _GET,
    "deleteRecordings": _GET,
    "sendChatMessage": _GET,
    "guestWait": _GET,
    "hooks/create": _GET,
    "hooks/destroy": _GET,
    "hooks/list": _GET,
    "hooks/ping": _GET,
    "insertDocument": _POST,
    "putRecordingTextTrack": _POST,
}


@attrs.frozen
class Profile:
    """The behaviour of one version: which calls it routes, by which methods, and how strict it is."""

    name: str
    version: str
    calls: frozenset[str]
    method_table: bool
    content_types: bool
    sorted_form: bool
    any_case_checksum: bool
    newest: bool
    graphql: bool
    parent_missing_key: str
    pagination: str
    name_limit: int = 256
    html5_path: str = "/html5client/"
    plugin_sdk: str = ""

    def methods(self, call: str) -> frozenset[str] | None:
        """The methods `call` takes, or None for any."""
        return _METHODS.get(call) if self.method_table else None

    def body_types(self, call: str) -> frozenset[str] | None:
        """The content types `call` takes for a body, or None for any."""
        if not self.content_types:
            return None
        if call == "create":
            return _FORMS | _XML
        return _XML if call == "insertDocument" else _FORMS


_ALL = frozenset(_METHODS)
_NEW_CALLS = frozenset({"sendChatMessage", "getJoinUrl"})
_OLD_CALLS = frozenset({"enter", "guestWait"})

_TWO_SIX = Profile(
    name="2.6",
    version="2.6.18",
    calls=_ALL - _NEW_CALLS,
    method_table=False,
    content_types=False,
    sorted_form=True,
    any_case_checksum=False,
    newest=False,
    graphql=False,
    parent_missing_key="parentMeetingIdMissing",
    pagination="pagination",
    html5_path="/html5client/join",
)
_THREE_ZERO = Profile(
    name="3.0",
    version="3.0.12",
    calls=_ALL - _OLD_CALLS,
    method_table=True,
    content_types=True,
    sorted_form=False,
    any_case_checksum=True,
    newest=False,
    graphql=True,
    parent_missing_key="parentMeetingIDMissing",
    pagination="total",
)

PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        _TWO_SIX,
        attrs.evolve(_TWO_SIX, name="2.7", version="2.7.12", method_table=True, content_types=True, pagination="total"),
        _THREE_ZERO,
        attrs.evolve(_THREE_ZERO, name="3.1", version="3.1.0", newest=True, plugin_sdk="0.1.0"),
    )
}
"""The versions that can be simulated, by name."""
