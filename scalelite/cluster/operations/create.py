"""create: a meeting is reserved on a server, created there, and confirmed, so that it is never lost or doubled."""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import Protocol

import attrs
from twisted.logger import Logger

from scalelite.bbb import errors
from scalelite.bbb.client import BackendError, BBBClient, NeverSent
from scalelite.bbb.xml import Answer
from scalelite.cluster.callbacks import CallbackRewriter
from scalelite.cluster.operations.lrs import LRSPayloads
from scalelite.cluster.operations.relay import relayable
from scalelite.cluster.params import SERVER_TAG, TENANT_METADATA, ParamPolicy, Params, limited_duration
from scalelite.cluster.placement import parse_tags
from scalelite.cluster.records import CallbackURLs, Meeting, Tenant
from scalelite.cluster.voice_bridge import candidates
from scalelite.store.errors import StoreError
from scalelite.store.meetings import Host, MeetingStore, NewMeeting, Placement, Reservation

ATTEMPTS = 3
"""On how many servers a create is tried, one after another, while no connection to them can be made."""

_PASSWORD_LETTERS = string.ascii_letters + string.digits


class Chooser(Protocol):
    """A source of randomness, such as `random.SystemRandom()`."""

    def choices(self, population: str, *, k: int) -> list[str]: ...


class Callbacks(Protocol):
    """Keeps the callback URLs of a create call. Raises StoreError."""

    async def merge(self, meeting_id: str, tenant_id: str, urls: CallbackURLs) -> None: ...


@attrs.frozen
class CreateRules:
    """The installation's rules for new meetings.

    `max_duration` in minutes, 0 is none; `bridge_length` in digits. `patience`: seconds after which no further
    server is tried when no connection could be made to one.
    """

    policy: ParamPolicy
    max_duration: int = 0
    bridge_length: int = 9
    external_bridges: bool = False
    patience: float = 5


class MeetingCreator:
    """Carries out create calls."""

    _log = Logger()

    def __init__(
        self,
        meetings: MeetingStore,
        client: BBBClient,
        callbacks: Callbacks,
        rewriter: CallbackRewriter,
        lrs: LRSPayloads,
        rules: CreateRules,
        random: Chooser,
        seconds: Callable[[], float],
    ) -> None:
        self._meetings = meetings
        self._client = client
        self._callbacks = callbacks
        self._rewriter = rewriter
        self._lrs = lrs
        self._rules = rules
        self._random = random
        self._seconds = seconds

    async def create(self, params: Params, tenant: Tenant | None, body: bytes = b"") -> tuple[Answer, Host]:
        """Create the meeting `params["meetingID"]`, or meet the one that exists; the answer and who gave it.

        `body` is the XML that came along (slides). Raises BBBError, or StoreError if the store fails before the
        server is asked.
        """
        await self._check_parent(params, tenant)
        new = self._new_meeting(params, tenant)
        excluded: set[str] = set()
        last_try = self._seconds() + self._rules.patience
        while True:
            reservation = await self._reserve(new, tenant, excluded)
            meeting, host = reservation.meeting, reservation.host
            assert meeting is not None
            assert host is not None
            try:
                forwarded = await self._forwarded(params, tenant, reservation)
                answer = await self._client.call(host, "create", forwarded, body=body)
                if answer.text("messageKey") == "idNotUnique" and _password_is_ours(params, forwarded, reservation):
                    # An earlier create put it there; BBB then compares both passwords, unless none is sent.
                    forwarded.pop("moderatorPW")
                    answer = await self._client.call(host, "create", forwarded, body=body)
            except Exception as error:
                never_sent = isinstance(error, NeverSent | StoreError)
                await self._release(meeting, refused=never_sent)
                if not isinstance(error, BackendError):
                    raise
                excluded.add(host.id)
                may_move = reservation.placement is Placement.NEW and len(excluded) < ATTEMPTS
                if never_sent and may_move and self._seconds() < last_try:
                    self._log.warn(
                        "no connection to server {server} to create a meeting: {error}", server=host.id, error=error
                    )
                    continue
                raise errors.InternalError(errors.CREATE_FAILED) from error
            if await self._settle(meeting, answer):
                return relayable(answer, errors.CREATE_FAILED), host
            # Another server holds the meeting by now: that is where the client must be sent.

    async def _check_parent(self, params: Params, tenant: Tenant | None) -> None:
        """A breakout room joins its parent's life, and its answer names it: the parent must be the tenant's own."""
        parent = params.get("parentMeetingID")
        if tenant and parent and await self._meetings.find(parent, tenant.id) is None:
            raise errors.MeetingNotFound

    def _new_meeting(self, params: Params, tenant: Tenant | None) -> NewMeeting:
        meeting_id = params["meetingID"] or ""
        password = params.get("moderatorPW")
        if not (password and password.strip()):
            password = "".join(self._random.choices(_PASSWORD_LETTERS, k=8))
        bridge = params.get("voiceBridge") if self._rules.external_bridges else None
        preferred = bridge if bridge and bridge.strip() else None
        return NewMeeting(
            meeting_id,
            tenant.id if tenant else "",
            password,
            parse_tags(self._rules.policy.server_tag(params, tenant)),
            tuple(candidates(meeting_id, self._rules.bridge_length, preferred)),
        )

    async def _reserve(self, new: NewMeeting, tenant: Tenant | None, excluded: set[str]) -> Reservation:
        reservation = await self._meetings.reserve(new, excluded=excluded)
        if reservation.placement is Placement.ASK:
            verdict = "keep" if await self._runs(reservation) else "move"
            assert reservation.host is not None
            reservation = await self._meetings.reserve(new, f"{verdict}:{reservation.host.id}", excluded)
        match reservation.placement:
            case Placement.NEW | Placement.EXISTING:
                return reservation
            case Placement.NO_SERVERS | Placement.NO_TAGGED_SERVER if excluded:
                raise errors.InternalError(errors.CREATE_FAILED)
            case Placement.NO_SERVERS:
                raise errors.InternalError(errors.NO_SERVERS)
            case Placement.NO_TAGGED_SERVER:
                raise errors.ServerTagUnavailable(new.tags.text)
            case Placement.CONFLICT:
                assert tenant is not None
                raise errors.InternalError(f"Couldn't find Meeting with id={new.id} and tenant_id={tenant.id}")
            case Placement.NO_BRIDGE:
                raise errors.InternalError("Could not find a free voice bridge.")
            case Placement.ASK:  # The meeting moved to another cordoned server between two steps.
                raise errors.InternalError(errors.CREATE_FAILED)

    async def _runs(self, reservation: Reservation) -> bool:
        """Whether a meeting on a cordoned server is in use there. No answer counts as no: the copy is remembered."""
        assert reservation.host is not None
        assert reservation.meeting is not None
        try:
            answer = await self._client.call(
                reservation.host, "isMeetingRunning", {"meetingID": reservation.meeting.id}
            )
        except BackendError:
            return False
        return answer.success and answer.text("running") == "true"

    async def _forwarded(self, params: Params, tenant: Tenant | None, reservation: Reservation) -> Params:
        meeting, host = reservation.meeting, reservation.host
        assert meeting is not None
        assert host is not None
        sent = dict(params)
        if reservation.pending:
            sent["moderatorPW"] = meeting.moderator_pw
        sent["voiceBridge"] = meeting.voice_bridge
        if tenant:
            for name in [name for name in sent if name.lower() in TENANT_METADATA]:
                # BBB takes them in any letter case, and the last one of them counts.
                del sent[name]
            sent["meta_tenant-id"] = tenant.id
            sent["meta_tenant-name"] = tenant.name
        if host.tag:
            sent[SERVER_TAG] = host.tag
        else:
            sent.pop(SERVER_TAG, None)
        if self._rules.max_duration:
            sent["duration"] = limited_duration(sent.get("duration"), self._rules.max_duration)
        if tenant and tenant.lrs_endpoint:
            payload = await self._lrs.payload(tenant, host.secret)
            if payload is not None:
                sent["meta_secret-lrs-payload"] = payload
        urls = self._rewriter.rewrite(sent, tenant)
        if urls is not None:
            # Under the caller's tenant, by whose host the reports come in, even if the record has none.
            await self._callbacks.merge(meeting.id, tenant.id if tenant else "", urls)
        return self._rules.policy.merge(sent, tenant, drop_server_tag=True)

    async def _settle(self, meeting: Meeting, answer: Answer) -> bool:
        """Second half: keep or give back the reservation by what the server said. False: the meeting moved away."""
        if answer.success or answer.text("messageKey") == "idNotUnique":
            # idNotUnique proves that the meeting lives there, if with other passwords.
            try:
                return await self._meetings.confirm(meeting)
            except StoreError as error:
                self._log.warn("a created meeting stays pending until the next poll: {error}", error=error)
                return True
        # A code that is neither SUCCESS nor FAILED leaves open what the server did.
        await self._release(meeting, refused=answer.returncode == "FAILED")
        return True

    async def _release(self, meeting: Meeting, *, refused: bool) -> None:
        try:
            await self._meetings.release(meeting, refused=refused)
        except StoreError as error:
            self._log.warn("a failed create stays pending until the next poll: {error}", error=error)


def _password_is_ours(params: Params, forwarded: Params, reservation: Reservation) -> bool:
    """Whether the call was sent with no password but the one that we made up for the meeting."""
    ours = reservation.meeting.moderator_pw if reservation.pending and reservation.meeting else None
    given = any((params.get(name) or "").strip() for name in ("moderatorPW", "attendeePW"))
    return not given and not forwarded.get("attendeePW") and bool(ours) and forwarded.get("moderatorPW") == ours
