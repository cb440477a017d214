"""What can go wrong with a server: the nine groups of faults, and when each strikes."""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["GROUPS", "Fault", "FaultRule", "FaultSet"]


class Fault(StrEnum):
    """Every kind of fault. Names in brackets are options of `FaultSet.set`; seconds are real, not virtual.

    An answer that is replaced means a call that was not carried out, unless `processed=True` is given.
    """

    # Connection. With endpoint "*" they strike when the peer connects, else when the request is read.
    REFUSE = "refuse"
    """Nothing listens on the port. Only `duration` limits it; probability and count do not apply."""
    RESET = "reset"
    """TCP reset."""
    BLACKHOLE = "blackhole"
    """Accepted, never read and never answered."""
    DNS_GONE = "dns_gone"
    """The node's name (`Node.named_url`) does not resolve through `Simulator.resolver`."""
    TLS_EXPIRED = "tls_expired"
    """A node with `tls=True` shows an expired certificate."""
    CLOSE_ON_REUSE = "close_on_reuse"
    """The second request of a connection finds it closed."""

    # Time.
    DELAY = "delay"
    """The answer comes late [seconds=1]."""
    JITTER = "jitter"
    """The answer comes a random time late [lowest=0, highest=1]."""
    SLOW_ONE_IN = "slow_one_in"
    """One call in `calls` takes long [calls=20, seconds=30]."""
    HANG_BEFORE_HEADERS = "hang_before_headers"
    """The request is read and never answered."""
    HANG_AFTER_HEADERS = "hang_after_headers"
    """Carried out; headers come, the body does not."""
    DRIP = "drip"
    """Carried out; the body comes a byte at a time [interval=1]."""
    CREATE_SLOW = "create_slow"
    """create takes long, and other creates queue behind it [seconds=15] (a plugin manifest is being fetched)."""
    END_SLOW = "end_slow"
    """end is answered at once, but the meeting stays on [seconds=30, virtual]."""

    # HTTP.
    HTTP_500 = "http_500"
    """500 with a page like nginx's."""
    HTTP_502 = "http_502"
    """502 with a page like nginx's."""
    HTTP_503 = "http_503"
    """503 with a page like nginx's."""
    HTTP_504 = "http_504"
    """504 with a page like nginx's."""
    HTTP_404 = "http_404"
    """404: bbb-web is still starting."""
    REDIRECT_HTTPS = "redirect_https"
    """301 to https."""
    HTTP_429 = "http_429"
    """429 with Retry-After [retry_after=30]."""
    HTML_200 = "html_200"
    """200 with an HTML page."""
    EMPTY_200 = "empty_200"
    """200 with nothing in it."""
    WRONG_CONTENT_TYPE = "wrong_content_type"
    """Carried out; the right answer as application/octet-stream [content_type]."""
    GZIP = "gzip"
    """Carried out; the answer is compressed, asked for or not."""
    CONTENT_LENGTH_LONG = "content_length_long"
    """Carried out; Content-Length promises more than comes before the close [extra=100]."""
    CONTENT_LENGTH_SHORT = "content_length_short"
    """Carried out; Content-Length ends in the middle of the answer."""
    ENDLESS_CHUNKED = "endless_chunked"
    """Carried out; a chunked answer that goes on for ever [interval=0.1, chunk=1024]."""

    # XML; all carried out.
    XML_TRUNCATED = "xml_truncated"
    """The second half of the answer is missing."""
    XML_CONTROL_CHARACTER = "xml_control_character"
    """An illegal control character in a value."""
    XML_BROKEN_ERRORS = "xml_broken_errors"
    """FAILED with an errors list whose tags are not closed."""
    XML_NO_RETURNCODE = "xml_no_returncode"
    """No returncode element."""
    XML_ENTITY_BOMB = "xml_entity_bomb"
    """A document type with entities that expand a billionfold."""
    XML_EXTERNAL_ENTITY = "xml_external_entity"
    """An entity that names a local file [path=/etc/passwd]."""
    XML_LATIN1 = "xml_latin1"
    """A Latin-1 byte in what says it is UTF-8."""
    XML_GROUPED_NUMBERS = "xml_grouped_numbers"
    """Numbers as "1,700"."""
    XML_UNKNOWN_ELEMENTS = "xml_unknown_elements"
    """Elements nobody has heard of."""
    XML_LOWERCASE_RETURNCODE = "xml_lowercase_returncode"
    """success instead of SUCCESS."""

    # Auth.
    WRONG_SECRET = "wrong_secret"  # noqa: S105 - the name of a fault
    """checksumError whatever the checksum."""
    ONLY_SHA512 = "only_sha512"
    """Checksums of the other algorithms are refused."""
    ACCEPT_ANYTHING = "accept_anything"
    """Checksums are not looked at (an empty secret)."""

    # State. Those that happen once strike at the next matching request (`count` is 1 unless given).
    RESTART = "restart"
    """The connection breaks and the node has lost its memory; happens once."""
    CREATE_ANSWER_LOST = "create_answer_lost"
    """create is carried out, then the connection breaks."""
    CREATE_TWICE = "create_twice"
    """A repeated create makes the meeting anew with another createTime."""
    SILENT_END = "silent_end"
    """Meetings are gone without notice before the request is answered [meeting_id, else all]; happens once."""
    REAPPEAR_AFTER_END = "reappear_after_end"
    """An ended meeting is still listed by getMeetings [seconds=10, virtual]."""
    STUCK_COUNTS = "stuck_counts"
    """Users come and go, but the counts stay."""
    ZOMBIE = "zombie"
    """end says SUCCESS and ends nothing."""
    RECORDINGS_SLOW = "recordings_slow"
    """Recordings are published late [seconds=3600, virtual]."""
    DUPLICATE_MEETING = "duplicate_meeting"
    """create makes the same meeting on another node of the simulator, too."""

    # Load; each happens once, at the next matching request.
    LOAD_MEETINGS = "load_meetings"
    """Many meetings [meetings=500, users=20]."""
    LOAD_RECORDINGS = "load_recordings"
    """Many recordings [recordings=3000]."""
    LONG_NAMES = "long_names"
    """Meetings with names and ids of 256 characters [meetings=5, users=2]."""
    LOAD_BREAKOUTS = "load_breakouts"
    """A meeting with many breakout rooms [rooms=100]."""

    # Clock.
    CLOCK_AHEAD = "clock_ahead"
    """createTime is ahead [seconds=3600]."""
    CLOCK_BEHIND = "clock_behind"
    """createTime is behind [seconds=3600]."""
    CLOCK_BACKWARDS = "clock_backwards"
    """Each restart sets the node's clock back [seconds=3600]."""
    JWT_EXPIRED = "jwt_expired"
    """The analytics token has run out [seconds=3600]."""

    # Callbacks; the endpoint is one of CALLBACKS or "*".
    CALLBACK_LOST = "callback_lost"
    """It is not sent."""
    CALLBACK_DUPLICATED = "callback_duplicated"
    """It is sent twice."""
    CALLBACK_REORDERED = "callback_reordered"
    """It is sent after the next one (or a minute later if none follows)."""
    CALLBACK_LATE = "callback_late"
    """It is sent late [seconds=300, virtual]."""
    CALLBACK_UNKNOWN_MEETING = "callback_unknown_meeting"
    """It names a meeting nobody knows."""
    CALLBACK_WRONG_SIGNATURE = "callback_wrong_signature"
    """It is signed with another key."""


GROUPS: dict[str, tuple[Fault, ...]] = {}
"""The kinds of each group, for help texts and checks."""

_FIRST_OF_GROUP = {
    Fault.REFUSE: "connection",
    Fault.DELAY: "time",
    Fault.HTTP_500: "http",
    Fault.XML_TRUNCATED: "xml",
    Fault.WRONG_SECRET: "auth",
    Fault.RESTART: "state",
    Fault.LOAD_MEETINGS: "load",
    Fault.CLOCK_AHEAD: "clock",
    Fault.CALLBACK_LOST: "callbacks",
}


def _fill_groups() -> None:
    name = ""
    for fault in Fault:
        name = _FIRST_OF_GROUP.get(fault, name)
        GROUPS[name] = (*GROUPS.get(name, ()), fault)


_fill_groups()

ONCE = frozenset({Fault.RESTART, Fault.SILENT_END, *GROUPS["load"]})
CALLBACKS = ("endCallback", "meetingEnded", "recordingReady", "analytics")
"""The names callbacks go by as endpoints of a fault."""


@attrs.define(eq=False)
class FaultRule:
    """One fault that was set. `endpoint` is a call (`create`), `html5client`, a callback or `*`.

    `left`: how many more times it strikes, None for ever. `until`: reading of the real clock at which it is over.
    """

    endpoint: str
    kind: Fault
    probability: float
    left: int | None
    until: float | None
    options: dict[str, Any]
    struck: int = 0

    def as_json(self) -> dict[str, Any]:
        """The rule for the control API."""
        return attrs.asdict(self)


class FaultSet:
    """The faults of one node. `changed` is called after every change, also when one has run out."""

    def __init__(self, clock: IReactorTime, rng: random.Random, changed: Callable[[], object] = lambda: None) -> None:
        self._clock = clock
        self._random = rng
        self._changed = changed
        self.rules: list[FaultRule] = []
        self._timers: list[IDelayedCall] = []

    def set(
        self,
        endpoint: str = "*",
        kind: Fault | str = Fault.HTTP_500,
        *,
        count: int | None = None,
        probability: float = 1.0,
        duration: float | None = None,
        **options: Any,
    ) -> FaultRule:
        """Arm a fault: for the next `count` calls, with `probability`, for `duration` real seconds.

        Raises ValueError for a kind that does not exist.
        """
        fault = Fault(kind)
        if count is None and fault in ONCE:
            count = 1
        until = None if duration is None else self._clock.seconds() + duration
        rule = FaultRule(endpoint, fault, probability, count, until, options)
        self.rules.append(rule)
        if fault is Fault.REFUSE and duration is not None:
            # No request comes by that could notice the end of it.
            self._timers.append(self._clock.callLater(duration, self.expire))
        self._changed()
        return rule

    def clear(self, kind: Fault | str | None = None, endpoint: str | None = None) -> None:
        """Disarm faults: all, those of one kind, or those of one endpoint."""
        self.rules = [
            rule
            for rule in self.rules
            if (kind is not None and rule.kind != Fault(kind)) or (endpoint is not None and rule.endpoint != endpoint)
        ]
        self._changed()

    def close(self) -> None:
        """Disarm everything and leave nothing pending in the reactor."""
        self.rules = []
        for timer in self._timers:
            if timer.active():
                timer.cancel()
        self._timers.clear()

    @property
    def refusing(self) -> bool:
        """Whether connections are to be refused."""
        now = self._clock.seconds()
        return any(r.kind is Fault.REFUSE and (r.until is None or r.until > now) for r in self.rules)

    def expire(self) -> None:
        """Drop what has run out."""
        now = self._clock.seconds()
        kept = [r for r in self.rules if r.left != 0 and (r.until is None or r.until > now)]
        if len(kept) != len(self.rules):
            self.rules = kept
            self._changed()

    def active(self, kind: Fault) -> FaultRule | None:
        """The first rule of a kind, whatever its endpoint; it is not used up."""
        self.expire()
        return next((rule for rule in self.rules if rule.kind is kind), None)

    def hit(self, kind: Fault, endpoint: str, *, exact: bool = False) -> FaultRule | None:
        """Whether a fault strikes here; if it does it is used up by one. `exact`: "*" rules do not count."""
        if not self.rules:
            return None
        self.expire()
        for rule in self.rules:
            if rule.kind is not kind:
                continue
            if rule.endpoint != endpoint and (exact or "*" not in (rule.endpoint, endpoint)):
                continue
            if rule.probability < 1.0 and self._random.random() >= rule.probability:
                continue
            if kind is Fault.SLOW_ONE_IN:
                rule.struck += 1
                if rule.struck % int(rule.options.get("calls", 20)):
                    continue
            else:
                rule.struck += 1
            if rule.left is not None:
                rule.left -= 1
                self.expire()
            return rule
        return None
