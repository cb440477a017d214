"""A poller over scripted servers and a store in memory: what each server answers is up to the test."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from xml.sax.saxutils import escape

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater

from scalelite.bbb import xml
from scalelite.cluster.answers import LastAnswers
from scalelite.cluster.statistics import LoadRule
from scalelite.poll.poller import Poller, PollRules
from tests.store.layout import Stores

NOW = 1_700_000_000.0
FAILED = b"<response><returncode>FAILED</returncode><messageKey>%s</messageKey><message>no</message></response>"
NOT_FOUND = FAILED % b"notFound"

Action = Callable[["Backend", Mapping[str, str | None]], Awaitable[bytes] | bytes]


def meeting(
    meeting_id: str, participants: object = 0, moderators: object = 0, *, age: float = 60, breakout: bool = False,
    videos: object = 0, password: str = "",
) -> str:  # fmt: skip
    """A `<meeting>` of getMeetings that was created `age` minutes ago."""
    return (
        f"<meeting><meetingID>{escape(meeting_id)}</meetingID><createTime>{int((NOW - age * 60) * 1000)}</createTime>"
        f"<participantCount>{participants}</participantCount><moderatorCount>{moderators}</moderatorCount>"
        f"<videoCount>{videos}</videoCount><isBreakout>{str(breakout).lower()}</isBreakout>"
        f"<moderatorPW>{escape(password)}</moderatorPW></meeting>"
    )


@attrs.define
class Backend:
    """One scripted server. `on` replaces what it does for an action: bytes, an error to raise, or a callable."""

    meetings: dict[str, str] = attrs.field(factory=dict)
    version: str | None = "3.0.12"
    on: dict[str, bytes | Exception | Action] = attrs.field(factory=dict)
    calls: list[tuple[str, dict[str, str | None]]] = attrs.field(factory=list)

    def runs(self, *meeting_ids: str, **options: Any) -> None:
        """Let these meetings run here, too."""
        self.meetings.update({meeting_id: meeting(meeting_id, **options) for meeting_id in meeting_ids})

    def asked(self, action: str) -> list[dict[str, str | None]]:
        """The parameters of all calls of an action."""
        return [params for name, params in self.calls if name == action]

    def answer(self, action: str, params: Mapping[str, str | None]) -> bytes:
        """What it answers by itself."""
        known = params.get("meetingID") in self.meetings
        if action == "getMeetings":
            content = f"<meetings>{''.join(self.meetings.values())}</meetings>"
        elif action == "index":
            content = "" if self.version is None else f"<bbbVersion>{self.version}</bbbVersion>"
        elif not known:
            return NOT_FOUND
        else:
            content = ""
            if action == "end":
                del self.meetings[str(params["meetingID"])]
        return f"<response><returncode>SUCCESS</returncode>{content}</response>".encode()


@attrs.define
class ScriptedClient:
    """Stands in for BBBClient; counts what is under way."""

    backends: dict[str, Backend]
    active: int = 0
    most: int = 0

    async def call(self, server: Any, action: str, params: Mapping[str, str | None], **_: Any) -> xml.Answer:
        backend = self.backends[server.id]
        backend.calls.append((action, dict(params)))
        self.active += 1
        self.most = max(self.most, self.active)
        try:
            does = backend.on.get(action, backend.answer(action, params) if action not in backend.on else b"")
            if callable(does):
                does = does(backend, params)  # type: ignore[assignment]
            if isinstance(does, Exception):
                raise does
            return xml.parse(does if isinstance(does, bytes) else await does)  # type: ignore[misc]
        finally:
            self.active -= 1

    async def index(self, server: Any) -> xml.Answer:
        return await self.call(server, "index", {})


class Rig:
    """Scripted servers `backends`, the `stores`, a `clock` for jitter and patience, and the `poller` over them."""

    def __init__(self, stores: Stores, *, concurrency: int = 64, jitter: float = 0.0) -> None:
        self.stores = stores
        self.clock = Clock()
        self.backends: dict[str, Backend] = {}
        self.client = ScriptedClient(self.backends)
        self.answers = LastAnswers()
        self.drawn: list[float] = []
        rules = PollRules(LoadRule(), stores.limits, concurrency, jitter)
        self.poller = Poller(
            self.clock, lambda: NOW, self._uniform, stores.servers, stores.meetings, stores.leases,
            self.client, self.answers, rules,  # type: ignore[arg-type]
        )  # fmt: skip

    def _uniform(self, low: float, high: float) -> float:
        return self.drawn.pop(0) if self.drawn else low

    async def add(self, server_id: str, load: float | None = 0, **options: Any) -> Backend:
        """A server in the store and its scripted backend."""
        await self.stores.add(server_id, load, **options)
        backend = self.backends[server_id] = Backend()
        return backend

    async def poll(self, passes: int = 1) -> Any:
        """Run passes; the last one's report."""
        for _ in range(passes):
            report = await self.poller.run_pass()
        return report

    def begin(self, may_go_on: Callable[[], bool] = lambda: True) -> Deferred[Any]:
        """Begin a pass that the test has to let come to an end."""
        return Deferred.fromCoroutine(self.poller.run_pass(may_go_on))


async def until(happened: Callable[[], object]) -> None:
    """Let the reactor turn until it has happened; ten seconds at most, of which a store in memory needs none."""
    for turn in range(10_000):
        if happened():
            return
        await deferLater(reactor, 0 if turn < 500 else 0.001)  # type: ignore[arg-type]
    raise AssertionError("it did not happen")
