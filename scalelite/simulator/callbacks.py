"""The calls a server makes by itself: meeting ended, recording ready, analytics, webhooks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections import deque
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

import attrs
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IConsumer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from scalelite.simulator.faults import Fault
from scalelite.simulator.records import Meeting, Recording, User
from scalelite.simulator.timeline import Appointment

if TYPE_CHECKING:
    from scalelite.simulator.node import Node

__all__ = ["CallbackAttempt", "Callbacks", "signed_token"]

END_RETRIES = (30.0, 60.0, 120.0, 300.0)
HOOK_RETRIES = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 30.0, 60.0, 60.0, 60.0, 60.0)
END_DEADLINE = 10.0
HOOK_DEADLINE = 5.0
MAX_ANSWER = 65536
_READY_KEYS = ("bbb-recording-ready-url", "bn-recording-ready-url", "canvas-recording-ready-url")


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def signed_token(claims: dict[str, Any], secret: str, algorithm: str) -> str:
    """A JSON Web Token; `algorithm` is HS256 or HS512."""
    header = {"alg": algorithm, "typ": "JWT"}
    head, body = (_base64(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
    signed = head + b"." + body
    digest = {"HS256": hashlib.sha256, "HS512": hashlib.sha512}[algorithm]
    return (signed + b"." + _base64(hmac.new(secret.encode(), signed, digest).digest())).decode()


@attrs.frozen(eq=False)
class CallbackAttempt:
    """One attempt to deliver a callback; `outcome` is an HTTP status, or what went wrong."""

    kind: str
    method: str
    url: str
    body: bytes
    attempt: int
    outcome: str
    time: float


@attrs.define(eq=False)
class _Job:
    kind: str
    method: str
    url: str
    retries: tuple[float, ...] = ()
    headers: dict[str, str] = attrs.field(factory=dict)
    body: bytes = b""
    attempt: int = 0


class _Discard(Protocol):
    """Reads a body to its end and throws it away."""

    def __init__(self) -> None:
        self.done: Deferred[None] = Deferred()
        self.lost = False
        self._size = 0

    def stop(self) -> None:
        if not self.lost and self.transport is not None:
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > MAX_ANSWER:
            self.stop()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = True
        if not self.done.called:
            self.done.callback(None)


@implementer(IBodyProducer)
class _Body:
    """A body that is sent in one piece."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length = len(data)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._data)
        return succeed(None)

    def pauseProducing(self) -> None:
        """There is nothing to pause."""

    def resumeProducing(self) -> None:
        """There is nothing to resume."""

    def stopProducing(self) -> None:
        """There is nothing to stop."""


def _analytics(node: Node, meeting: Meeting, joined: Sequence[User], meeting_id: str) -> bytes:
    end = node.clock_ms()
    start = meeting.start_time or meeting.create_time
    moments = [datetime.fromtimestamp(ms / 1000, UTC).isoformat() for ms in (start, end)]
    duration = max(0, (end - start) // 1000)
    attendees = [
        {
            "ext_user_id": user.external_id,
            "name": user.name,
            "moderator": user.moderator,
            "joins": [moments[0]],
            "leaves": [moments[1]],
            "duration": duration,
            "engagement": {
                "chats": 0, "talks": 0, "raisehand": 0, "emojis": 0, "poll_votes": 0, "talk_time": 0
            },
        }
        for user in joined
    ]  # fmt: skip
    document = {
        "version": "1.0",
        "meeting_id": meeting_id,
        "internal_meeting_id": meeting.internal_id,
        "data": {
            "metadata": {"meeting_name": meeting.name, **meeting.metadata},
            "duration": duration,
            "start": moments[0],
            "finish": moments[1],
            "attendees": attendees,
            "files": [],
            "polls": [],
        },
    }
    return json.dumps(document).encode()


class Callbacks:
    """The callbacks of one node. End callbacks go out one at a time, as bbb-web has one thread for them.

    `deadline`: real seconds a receiver has for its whole answer; webhooks have HOOK_DEADLINE. `log`: all attempts.
    """

    def __init__(self, node: Node, agent: IAgent, reactor: IReactorTime) -> None:
        self._node = node
        self._agent = agent
        self._reactor = reactor
        self.log: list[CallbackAttempt] = []
        self._queue: deque[_Job] = deque()
        self._working = False
        self._generation = 0
        self.deadline = END_DEADLINE
        self._tasks: set[Deferred[None]] = set()
        self._held: tuple[_Job, Appointment] | None = None

    def meeting_ended(self, meeting: Meeting, joined: Sequence[User]) -> None:
        """Tell the URLs that the meeting named when it was created that it has ended."""
        node = self._node
        if (url := meeting.metadata.get("endcallbackurl", "")) and not meeting.is_breakout:
            marks = "true" if meeting.recording_marks else "false"
            meeting_id = quote(self._identity("endCallback", meeting.meeting_id), safe="")
            joint = "&" if "?" in url else "?"
            target = f"{url}{joint}recordingmarks={marks}&meetingID={meeting_id}"
            self._dispatch(_Job("endCallback", "GET", target, END_RETRIES))
        if (url := meeting.params.get("meetingEndedURL", "")) and not meeting.is_breakout:
            self._dispatch(_Job("meetingEnded", "GET", url, END_RETRIES))
        kept = meeting.record or meeting.params.get("meetingKeepEvents") == "true"
        if kept and meeting.metadata.get("analytics-callback-url"):
            body = _analytics(node, meeting, joined, self._identity("analytics", meeting.meeting_id))
            node.timeline.call_later(node.timings.analytics_lag, self._analytics, meeting, body)

    def _analytics(self, meeting: Meeting, body: bytes) -> None:
        expiry = int(self._reactor.seconds()) + 86400
        if rule := self._node.faults.hit(Fault.JWT_EXPIRED, "*"):
            expiry = int(self._reactor.seconds()) - int(rule.options.get("seconds", 3600))
        token = signed_token({"exp": expiry}, self._key("analytics"), "HS512")
        headers = {
            "Content-Type": "application/json",
            "Authorization": f"Bearer {token}",
            "User-Agent": "BigBlueButton Analytics Callback",
        }
        url = meeting.metadata["analytics-callback-url"]
        self._dispatch(_Job("analytics", "POST", url, headers=headers, body=body))

    def recording_ready(self, recording: Recording) -> None:
        """Announce one published format of a recording."""
        for key in _READY_KEYS:
            if url := recording.metadata.get(key, ""):
                claims = {
                    "meeting_id": self._identity("recordingReady", recording.meeting_id),
                    "record_id": recording.record_id,
                }
                token = signed_token(claims, self._key("recordingReady"), "HS256")
                headers = {"Content-Type": "application/x-www-form-urlencoded"}
                body = f"signed_parameters={quote_plus(token)}".encode()
                self._dispatch(_Job("recordingReady", "POST", url, headers=headers, body=body))

    def webhook(self, url: str, event: dict[str, Any]) -> None:
        """Send one event to a registered hook (bbb-webhooks)."""
        node = self._node
        stamp = int(node.timeline.now() * 1000)
        text = json.dumps([event], separators=(",", ":"))
        body = f"event={quote_plus(text)}&timestamp={stamp}&domain={node.host}"
        key = self._key("hook")
        checksum = hashlib.sha1(f"{url}{body}{key}".encode(), usedforsecurity=False).hexdigest()
        target = f"{url}{'&' if '?' in url else '?'}checksum={checksum}"
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        job = _Job("hook", "POST", target, HOOK_RETRIES, headers, body.encode())
        self._dispatch(job)

    def forget(self) -> None:
        """Drop whatever has not been delivered (a restart loses it)."""
        self._generation += 1
        self._queue.clear()
        self._held = None
        for task in list(self._tasks):
            task.cancel()

    def _identity(self, kind: str, meeting_id: str) -> str:
        unknown = self._node.faults.hit(Fault.CALLBACK_UNKNOWN_MEETING, kind)
        return f"unknown-{self._node.random.randrange(10**9)}" if unknown else meeting_id

    def _key(self, kind: str) -> str:
        wrong = self._node.faults.hit(Fault.CALLBACK_WRONG_SIGNATURE, kind)
        return "not the secret of this server" if wrong else self._node.secret

    def _dispatch(self, job: _Job) -> None:
        faults = self._node.faults
        if faults.hit(Fault.CALLBACK_LOST, job.kind):
            self._note(job, "lost")
            return
        if rule := faults.hit(Fault.CALLBACK_LATE, job.kind):
            self._node.timeline.call_later(float(rule.options.get("seconds", 300.0)), self._enqueue, job)
            return
        if self._held is None and faults.hit(Fault.CALLBACK_REORDERED, job.kind):
            self._held = (job, self._node.timeline.call_later(60.0, self._release))
            return
        if faults.hit(Fault.CALLBACK_DUPLICATED, job.kind):
            self._enqueue(attrs.evolve(job))
        self._enqueue(job)
        self._release()

    def _release(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held[1].cancel()
            self._enqueue(held[0])

    def _enqueue(self, job: _Job) -> None:
        if job.kind in ("endCallback", "meetingEnded"):
            self._queue.append(job)
            if not self._working:
                self._working = True
                self._spawn(self._work())
        else:
            self._spawn(self._deliver(job))

    def _spawn(self, task: Coroutine[Deferred[Any], Any, None]) -> None:
        running = Deferred.fromCoroutine(task)
        self._tasks.add(running)

        def finished(result: object) -> object:
            self._tasks.discard(running)
            if isinstance(result, Failure):
                result.trap(CancelledError)
            return None

        running.addBoth(finished)

    async def _work(self) -> None:
        try:
            while self._queue:
                await self._deliver(self._queue.popleft())
        finally:
            self._working = False

    async def _deliver(self, job: _Job) -> None:
        job.attempt += 1
        generation = self._generation
        try:
            status = await self._send(job)
        except CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a receiver does is an outcome to log and retry
            outcome, delivered = f"{type(error).__name__}: {error}", False
        else:
            outcome, delivered = str(status), 200 <= status < 300 or (job.kind == "hook" and status == 401)
        if generation != self._generation:
            return
        self._note(job, outcome)
        if not delivered and job.attempt <= len(job.retries):
            self._node.timeline.call_later(job.retries[job.attempt - 1], self._enqueue, job)

    async def _send(self, job: _Job) -> int:
        headers = Headers({name: [value] for name, value in job.headers.items()})
        body = _Body(job.body) if job.body else None
        exchange = Deferred.fromCoroutine(self._exchange(job, headers, body))
        deadline = HOOK_DEADLINE if job.kind == "hook" else self.deadline
        exchange.addTimeout(deadline, self._reactor)
        return await exchange

    async def _exchange(self, job: _Job, headers: Headers, body: _Body | None) -> int:
        response: IResponse = await self._agent.request(job.method.encode(), job.url.encode(), headers, body)
        discard = _Discard()
        response.deliverBody(discard)
        try:
            await discard.done
        finally:
            discard.stop()
        return int(response.code)

    def _note(self, job: _Job, outcome: str) -> None:
        now = self._node.timeline.now()
        attempt = CallbackAttempt(job.kind, job.method, job.url, job.body, job.attempt, outcome, now)
        self.log.append(attempt)
        del self.log[:-1000]
