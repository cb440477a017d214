"""What a simulated server keeps in memory: meetings, users, recordings, and the log of its requests."""

from __future__ import annotations

import attrs

__all__ = ["LoggedRequest", "Meeting", "Playback", "Recording", "User"]


@attrs.define(eq=False)
class User:
    """Somebody who has passed `join`; counts as a participant only while `connected`.

    `left` is true from leaving until the server forgets the user, `usersTimeout` (60 s) later.
    """

    user_id: str
    external_id: str
    name: str
    moderator: bool
    session_token: str
    auth_token: str
    cookie: str = ""
    guest_status: str = "ALLOW"
    connected: bool = False
    left: bool = False
    presenter: bool = False
    listen_only: bool = False
    voice: bool = False
    video: bool = False
    client_type: str = "HTML5"
    customdata: dict[str, str] = attrs.field(factory=dict)
    logout_url: str = ""

    @property
    def role(self) -> str:
        """The role as the answers spell it."""
        if self.client_type == "DIAL-IN-USER":
            return "DIAL-IN-USER"
        return "MODERATOR" if self.moderator else "VIEWER"


@attrs.define(eq=False)
class Meeting:
    """A meeting in the memory of one node. Times are milliseconds of the node's own clock."""

    meeting_id: str
    internal_id: str
    name: str
    create_time: int
    create_date: str
    voice_bridge: str
    dial_number: str
    attendee_pw: str
    moderator_pw: str
    params: dict[str, str]
    metadata: dict[str, str]
    record: bool = False
    duration: int = 0
    max_users: int = 0
    guest_policy: str = "ALWAYS_ACCEPT"
    parent_id: str = "bbb-none"
    is_breakout: bool = False
    sequence: int = 0
    free_join: bool = False
    users: dict[str, User] = attrs.field(factory=dict)
    breakouts: list[str] = attrs.field(factory=list)
    documents: list[str] = attrs.field(factory=list)
    chat: list[tuple[str, str]] = attrs.field(factory=list)
    start_time: int = 0
    end_time: int = 0
    last_user_left: float | None = None
    moderator_joined: bool = False
    has_user_joined: bool = False
    forcibly_ended: bool = False
    ended: bool = False
    zombie: bool = False
    recording_marks: bool = False
    fragment: str | None = None

    @property
    def participants(self) -> list[User]:
        """The users whose client is connected."""
        return [user for user in self.users.values() if user.connected]

    @property
    def running(self) -> bool:
        """Whether anyone is there, or left less than `usersTimeout` ago."""
        return any(user.connected or user.left for user in self.users.values())


@attrs.define(eq=False)
class Playback:
    """One published format of a recording. `length` is minutes, `size` bytes, `processing_time` ms."""

    type: str
    url: str
    length: int = 60
    size: int = 1048576
    processing_time: int = 61234
    thumbnails: tuple[str, ...] = ()


@attrs.define(eq=False)
class Recording:
    """A recording on the node's disk: unlike meetings it outlives a restart."""

    record_id: str
    meeting_id: str
    internal_id: str
    name: str
    start_time: int
    end_time: int
    participants: int
    metadata: dict[str, str]
    state: str = "processing"
    is_breakout: bool = False
    parent_id: str = ""
    breakouts: tuple[str, ...] = ()
    playback: list[Playback] = attrs.field(factory=list)
    tracks: list[dict[str, str]] = attrs.field(factory=list)
    raw_size: int = 5242880


@attrs.frozen(eq=False)
class LoggedRequest:
    """One request as the node saw it.

    `verdict` is `ok`, a messageKey, or `http NNN` for an answer that is not the API's; `fault:KIND` when a fault
    took the place of the answer. `time` is virtual seconds since 1970.
    """

    action: str
    method: str
    raw_path: str
    query: dict[str, str]
    body: bytes
    verdict: str
    time: float
