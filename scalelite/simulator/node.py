"""One simulated server: what it remembers, what it listens on, and what tests may do to it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs

from scalelite.simulator import creating, lifecycle, recordings
from scalelite.simulator.callbacks import Callbacks
from scalelite.simulator.checksums import ALGORITHMS
from scalelite.simulator.edge import Edge
from scalelite.simulator.faults import Fault, FaultSet
from scalelite.simulator.hooks import Hooks
from scalelite.simulator.http import Response
from scalelite.simulator.listening import Listener
from scalelite.simulator.profiles import PROFILES
from scalelite.simulator.records import LoggedRequest, Meeting, Recording, User
from scalelite.simulator.timeline import Timeline
from scalelite.simulator.weekday import Weekday

if TYPE_CHECKING:
    from scalelite.simulator.simulator import Simulator

__all__ = ["Node", "NodeOptions"]

REQUESTS_KEPT = 1000
NAMES = ("Ada", "Grace", "Alan", "Edsger", "Barbara", "Donald", "Frances", "Tony", "Радия", "מרים")


@attrs.frozen(kw_only=True)
class NodeOptions:
    """How a node is set up.

    `delay`: real seconds by which every answer is late. `public_url`: what users' links begin with, when a proxy
    stands before the node. `offset`: virtual seconds by which its clock is off. `reveal_version`: the index tells
    the BBB version. `algorithms`: checksum algorithms that are accepted.
    """

    secret: str = "secret"  # noqa: S105 - nothing real is behind it
    profile: str = "3.0"
    port: int = 0
    host: str = "127.0.0.1"
    scale: float = 1.0
    delay: float = 0.0
    public_url: str = ""
    offset: float = 0.0
    reveal_version: bool = False
    algorithms: tuple[str, ...] = ALGORITHMS
    tls: bool = False
    allow_fetch_all_recordings: bool = True
    default_guest_policy: str = "ALWAYS_ACCEPT"


class Node:
    """A BigBlueButton server. Made by `Simulator.add_node`; attributes may be read and set by tests at any time."""

    def __init__(self, simulator: Simulator, number: int, options: NodeOptions) -> None:
        self.simulator = simulator
        self.number = number
        self.options = options
        self.secret = options.secret
        self.profile = PROFILES[options.profile]
        self.algorithms = frozenset(options.algorithms)
        self.host = options.host
        self.delay = options.delay
        self.skew = options.offset
        self.random = random.Random(f"{simulator.seed}/{number}")  # noqa: S311 - it has to be repeatable
        self.timings = lifecycle.Timings()
        self.timeline = Timeline(simulator.clock, epoch=simulator.epoch, scale=options.scale)
        self.faults: FaultSet = FaultSet(simulator.clock, self.random, self._faults_changed)
        self.callbacks = Callbacks(self, simulator.agent, simulator.reactor)
        self.hooks: Hooks = Hooks(self)
        self.weekday: Weekday = Weekday(self)
        self.edge = Edge(self)
        self.meetings: dict[str, Meeting] = {}
        self.by_internal: dict[str, Meeting] = {}
        self.bridges: dict[str, Meeting] = {}
        self.ghosts: list[Meeting] = []
        self.sessions: dict[str, tuple[Meeting, User]] = {}
        self.recordings: dict[str, Recording] = {}
        self.requests: list[LoggedRequest] = []
        self.changes = 0
        self.listing: tuple[int, Response] | None = None
        self.create_free_at = 0.0
        self.listener = Listener(
            simulator.reactor,
            self.edge,
            options.host,
            options.port,
            tls=self.faults if options.tls else None,
            refusing=lambda: self.faults.refusing,
        )

    # Where it is, and whether.

    @property
    def scheme(self) -> str:
        """http or https."""
        return "https" if self.options.tls else "http"

    @property
    def base_url(self) -> str:
        """`http://HOST:PORT`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL of the API, as a load balancer is told it."""
        return f"{self.base_url}/bigbluebutton/api"

    @property
    def named_url(self) -> str:
        """`url` with a host name, which only `Simulator.resolver` knows."""
        return f"{self.scheme}://node-{self.number}.bbb.test:{self.port}/bigbluebutton/api"

    @property
    def public_url(self) -> str:
        """What the links for users begin with."""
        return self.options.public_url or self.base_url

    # Listening.

    @property
    def port(self) -> int:
        """The port it listens on; it stays the same for good once it was opened."""
        return self.listener.port

    @property
    def listening(self) -> bool:
        """Whether connections are accepted at this moment."""
        return self.listener.listening

    async def start(self) -> None:
        """Listen; raises CannotListenError if the port is taken."""
        await self.listener.open()

    async def stop(self) -> None:
        """Refuse connections and break those that are open; memory is kept, time goes on."""
        await self.listener.close()

    async def restart(self) -> None:
        """Stop, lose all meetings and callbacks, and listen again on the same port. Recordings are on disk."""
        await self.stop()
        self.forget()
        await self.start()

    async def close(self) -> None:
        """Stop for good and leave nothing behind in the reactor."""
        self.callbacks.forget()
        self.timeline.cancel_all()
        self.faults.close()
        await self.stop()
        self.listener.release()

    def forget(self) -> None:
        """Lose what a restart loses."""
        self.callbacks.forget()
        self.timeline.cancel_all()
        if rule := self.faults.hit(Fault.CLOCK_BACKWARDS, "*"):
            self.skew -= float(rule.options.get("seconds", 3600.0))
        for meeting in self.meetings.values():
            meeting.ended = True
        self.meetings.clear()
        self.by_internal.clear()
        self.bridges.clear()
        self.ghosts.clear()
        self.sessions.clear()
        self.hooks.forget()
        self.changes += 1
        recordings.resume(self)

    def _faults_changed(self) -> None:
        if not self.listener.settled:
            self.simulator.background(self.listener.switch())

    # Time, log and caches.

    def clock_ms(self) -> int:
        """The node's own clock in milliseconds, with whatever is wrong with it."""
        seconds = self.timeline.now() + self.skew
        if self.faults.rules:
            for kind, sign in ((Fault.CLOCK_AHEAD, 1), (Fault.CLOCK_BEHIND, -1)):
                if rule := self.faults.active(kind):
                    seconds += sign * float(rule.options.get("seconds", 3600.0))
        return int(seconds * 1000)

    def advance(self, seconds: float) -> None:
        """Put the node's clock forward by virtual seconds; whatever falls due happens now."""
        self.timeline.advance(seconds)

    def touch(self, meeting: Meeting) -> None:
        """A meeting has changed: what was rendered of it is out of date."""
        meeting.fragment = None
        self.changes += 1

    def log(self, entry: LoggedRequest) -> None:
        """Keep a request; at least the last REQUESTS_KEPT stay."""
        self.requests.append(entry)
        if len(self.requests) > 2 * REQUESTS_KEPT:
            del self.requests[:REQUESTS_KEPT]

    def lay_ghost(self, meeting: Meeting) -> None:
        """An ended meeting is listed no more."""
        if meeting in self.ghosts:
            self.ghosts.remove(meeting)
            self.changes += 1

    def emit(self, event: str, meeting: Meeting, user: User | None = None) -> None:
        """Tell the webhooks."""
        if self.hooks.registered:
            self.hooks.emit(event, meeting, user)

    def emit_recording(self, event: str, recording: Recording) -> None:
        """Tell the webhooks about a recording."""
        if self.hooks.registered:
            self.hooks.emit_recording(event, recording)

    # What tests, the demo and the control API do.

    def create(self, meeting_id: str, **params: str) -> Meeting:
        """Create a meeting without a request; `params` as of the API call (metadata as `meta_...`).

        Raises `answers.Failed` where the call would answer FAILED.
        """
        given = {"meetingID": meeting_id, "name": meeting_id, **params}
        return creating.create(self, given)[0]

    def add_users(
        self,
        meeting_id: str,
        count: int = 1,
        *,
        moderators: int = 0,
        videos: int = 0,
        voices: int = 0,
        listeners: int = 0,
        phones: int = 0,
        names: Sequence[str] = (),
    ) -> list[User]:
        """Let `count` users join and connect; of them so many are moderators, have video, voice, and so on."""
        meeting = self.meetings[meeting_id]
        users = []
        for index in range(count):
            identity = "w_" + lifecycle.token(self, 12)
            name = names[index] if index < len(names) else self._name()
            user = User(
                user_id=identity,
                external_id=identity,
                name=name,
                moderator=index < moderators,
                session_token=lifecycle.token(self, 16),
                auth_token=lifecycle.token(self, 12),
                video=index < videos,
                voice=index < voices,
                listen_only=voices <= index < voices + listeners,
                client_type="DIAL-IN-USER" if index >= count - phones else "HTML5",
            )
            lifecycle.connect(self, meeting, user)
            users.append(user)
        return users

    def _name(self) -> str:
        return f"{self.random.choice(NAMES)} {self.random.randrange(10000)}"

    def remove_users(self, meeting_id: str, count: int | None = None) -> None:
        """Let users leave, the last ones first; all of them without `count`."""
        meeting = self.meetings[meeting_id]
        present = meeting.participants
        for user in present[::-1][: len(present) if count is None else count]:
            lifecycle.leave(self, meeting, user)

    def admit_guests(self, meeting_id: str) -> list[User]:
        """Let everyone in who waits in the lobby."""
        waiting = [user for user in self.meetings[meeting_id].users.values() if user.guest_status == "WAIT"]
        for user in waiting:
            user.guest_status = "ALLOW"
        return waiting

    def press_record(self, meeting_id: str) -> None:
        """Press the record button; without effect if the meeting was created without record=true."""
        meeting = self.meetings[meeting_id]
        meeting.recording_marks = meeting.record
        self.emit("meeting-recording-started", meeting)

    def end(self, meeting_id: str, *, at_once: bool = False) -> None:
        """End a meeting as the call `end` does, or `at_once` without the usual moments in between."""
        meeting = self.meetings[meeting_id]
        if at_once:
            lifecycle.finish_end(self, meeting)
        else:
            lifecycle.begin_end(self, meeting)

    def vanish(self, meeting_id: str) -> None:
        """Let a meeting be gone without callbacks or recording."""
        lifecycle.vanish(self, self.meetings[meeting_id])

    def open_breakouts(self, meeting_id: str, count: int, users: int = 0) -> list[Meeting]:
        """Open `count` breakout rooms, with `users` users in each."""
        rooms = creating.open_breakouts(self, self.meetings[meeting_id], count)
        for room in rooms:
            self.add_users(room.meeting_id, users)
        return rooms

    def publish_recording(
        self,
        meeting_id: str,
        *,
        formats: Sequence[str] = ("presentation",),
        delay: float = 0.0,
        size: int = 1048576,
        metadata: dict[str, str] | None = None,
    ) -> Recording:
        """Publish a recording after `delay` virtual seconds: of a running meeting, or one that is made up."""
        meeting = self.meetings.get(meeting_id)
        if meeting is None:
            recording = recordings.invented(self, meeting_id, meeting_id)
        else:
            recording = recordings.of_meeting(self, meeting, len(meeting.participants))
        recording.metadata.update(metadata or {})
        self.recordings[recording.record_id] = recording
        if delay > 0:
            self.timeline.call_later(delay, recordings.publish, self, recording, tuple(formats), size)
        else:
            recordings.publish(self, recording, formats, size)
        return recording

    def fill(self, meetings: int, users: int = 0, *, prefix: str = "filled", names: int = 0) -> list[Meeting]:
        """Make `meetings` meetings of `users` users; `names`: length to which ids and names are padded."""
        made = []
        for number in range(meetings):
            identity = f"{prefix}-{self.number}-{number}".ljust(names, "x")
            made.append(self.create(identity, name=f"{prefix} {number}".ljust(names, "x")))
            self.add_users(identity, users, moderators=1, videos=users // 4, voices=users // 2)
        return made

    def fill_recordings(self, count: int) -> list[Recording]:
        """Make up `count` published recordings."""
        return [self.publish_recording(f"recorded-{self.number}-{number}") for number in range(count)]

    def describe(self) -> dict[str, Any]:
        """The node for the control API."""
        return {
            "number": self.number,
            "port": self.port,
            "url": self.url,
            "profile": self.profile.name,
            "listening": self.listening,
            "now": self.timeline.now(),
            "meetings": [
                {
                    "meetingID": meeting.meeting_id,
                    "internalMeetingID": meeting.internal_id,
                    "createTime": meeting.create_time,
                    "running": meeting.running,
                    "users": len(meeting.participants),
                    "breakout": meeting.is_breakout,
                }
                for meeting in self.meetings.values()
            ],
            "recordings": len(self.recordings),
            "faults": [rule.as_json() for rule in self.faults.rules],
        }
