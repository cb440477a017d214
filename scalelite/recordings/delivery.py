"""Delivers a notice: one attempt, signed with the secrets of whoever created the meeting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto
from io import BytesIO
from typing import Final, Protocol
from urllib.parse import urlencode

import attrs
from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.client import FileBodyProducer
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

from scalelite.bbb.client import Transport, collect
from scalelite.cluster.callbacks import Kind, Notice
from scalelite.cluster.records import split_secrets
from scalelite.cluster.tokens import signed_token
from scalelite.recordings.targets import Refused, Target, TargetRules
from scalelite.store.tenants import TenantStore

CONNECT_TIMEOUT: Final = 5.0
EXCHANGE_TIMEOUT: Final = 10.0
ATTEMPT_TIMEOUT: Final = 30.0
"""Seconds: for one request up to the last byte of its answer, and for all requests of an attempt together."""

MAX_REPLY: Final = 65536
TOKEN_LIFE: Final = 86400
"""Seconds that our signature on a report is valid."""

_GONE: Final = (404, 410)
_TOO_BUSY: Final = 429


class Verdict(Enum):
    """What became of an attempt."""

    DONE = auto()
    LATER = auto()
    """Try again."""
    NEVER = auto()
    """Trying again is in vain."""


@attrs.frozen
class Outcome:
    """The verdict and its reason, without secrets. `answered`: whether the target did, None if it was not asked."""

    verdict: Verdict
    reason: str = ""
    answered: bool | None = None


class Secrets(Protocol):
    """Which secrets sign what a tenant's front-end gets. Raises StoreError."""

    async def of(self, tenant_id: str) -> Sequence[bytes]: ...


class SigningSecrets:
    """The load balancer's secrets, or the tenant's own as they are now. `tenants` is None where there are none."""

    def __init__(self, own: Sequence[bytes], tenants: TenantStore | None) -> None:
        self._own = tuple(secret for secret in own if secret)
        self._tenants = tenants

    async def of(self, tenant_id: str) -> Sequence[bytes]:
        """In the order in which they are to be tried; none if there is no such tenant."""
        if self._tenants is None or not tenant_id:
            return self._own
        tenant = await self._tenants.get(tenant_id)
        return () if tenant is None else split_secrets(tenant.secrets)


class Deliverer:
    """Makes the requests. `algorithms` are the digests of checksums that are accepted; `now` is the time of day."""

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        transport: Transport,
        rules: TargetRules,
        secrets: Secrets,
        algorithms: Sequence[str],
        now: Callable[[], float],
    ) -> None:
        self._reactor = reactor
        self._transport = transport
        self._rules = rules
        self._secrets = secrets
        self._ready_algorithm = "HS512" if "SHA512" in algorithms and "SHA256" not in algorithms else "HS256"
        self._now = now

    async def deliver(self, notice: Notice) -> Outcome:
        """Try once, by each secret in order until one is taken. Raises StoreError if the secrets can't be read."""
        try:
            url = notice.url
            if notice.kind is Kind.MEETING_ENDED:
                url += ("&" if "?" in url else "?") + notice.payload
            target = self._rules.target(url)
        except Refused as error:
            return Outcome(Verdict.NEVER, str(error))
        if notice.kind is Kind.MEETING_ENDED:
            return await self._told(target, [(b"GET", _UNSIGNED, b"")], give_up_when_gone=True)
        secrets = await self._secrets.of(notice.tenant_id)
        if not secrets:
            return Outcome(Verdict.NEVER, "there is no secret to sign it with, or no such tenant")
        if notice.kind is Kind.RECORDING_READY:
            requests = [(b"POST", _FORM, self._ready(notice, secret)) for secret in secrets]
            return await self._told(target, requests, give_up_when_gone=True)
        body = notice.payload.encode()
        requests = [(b"POST", self._report_headers(secret), body) for secret in secrets]
        return await self._told(target, requests, give_up_when_gone=False)

    def _ready(self, notice: Notice, secret: bytes) -> bytes:
        claims = {"meeting_id": notice.meeting_id, "record_id": notice.record_id}
        token = signed_token(claims, secret, self._ready_algorithm, typed=False)
        return urlencode({"signed_parameters": token}).encode()

    def _report_headers(self, secret: bytes) -> Headers:
        token = signed_token({"exp": int(self._now()) + TOKEN_LIFE}, secret, "HS512")
        return Headers(
            {
                b"Content-Type": [b"application/json"],
                b"User-Agent": [b"BigBlueButton Analytics Callback"],
                b"Authorization": [b"Bearer " + token.encode()],
            }
        )

    async def _told(
        self, target: Target, requests: Sequence[tuple[bytes, Headers, bytes]], *, give_up_when_gone: bool
    ) -> Outcome:
        """One request after another, until one is taken. A URL that is not there is only that for good."""
        until = self._reactor.seconds() + ATTEMPT_TIMEOUT
        status = 0
        for method, headers, body in requests:
            patience = min(EXCHANGE_TIMEOUT, until - self._reactor.seconds())
            if patience <= 0:
                return Outcome(Verdict.LATER, "it took too long", answered=True)
            try:
                status = await self._ask(target, method, headers, body, patience)
            except Refused as error:
                return Outcome(Verdict.NEVER, str(error))
            except CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever a client's URL leads to is an outcome
                return Outcome(Verdict.LATER, _named(error), answered=False)
            if 200 <= status < 300:
                return Outcome(Verdict.DONE, answered=True)
            if status in _GONE and give_up_when_gone:
                break
        verdict = Verdict.NEVER if status in _GONE else Verdict.LATER
        return Outcome(verdict, f"HTTP {status}", answered=status < 500 and status != _TOO_BUSY)

    async def _ask(self, target: Target, method: bytes, headers: Headers, body: bytes, patience: float) -> int:
        """The status of the answer. What comes after its head does not matter, but is read for politeness."""
        until = self._reactor.seconds() + patience
        producer = FileBodyProducer(BytesIO(body)) if method == b"POST" else None
        sent = Deferred.fromCoroutine(self._send(method, target.url, headers, producer))
        try:
            response: IResponse = await sent.addTimeout(patience, self._reactor)
        except CancelledError:
            raise
        except Exception as error:
            # A request that is broken off tells of that in several ways.
            if self._reactor.seconds() >= until:
                raise _NoAnswer from error
            raise
        try:
            await collect(response, MAX_REPLY).addTimeout(max(0.0, until - self._reactor.seconds()), self._reactor)
        except CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - the status stands
            self._log.debug("the answer of {target} was not read: {error}", target=target.name, error=_named(error))
        return int(response.code)

    async def _send(self, method: bytes, url: bytes, headers: Headers, body: FileBodyProducer | None) -> IResponse:
        response: IResponse = await self._transport(method, url, headers, body)
        return response


_UNSIGNED = Headers({b"User-Agent": [b"Scalelite"]})
_FORM = Headers({b"User-Agent": [b"Scalelite"], b"Content-Type": [b"application/x-www-form-urlencoded"]})


class _NoAnswer(Exception):
    """There was none in time."""


def _named(error: Exception) -> str:
    """What went wrong, without the error's text: it may quote the URL."""
    if isinstance(error, _NoAnswer):
        return "no answer in time"
    # Twisted wraps what ended a request, in several classes that have only this in common.
    causes = [failure.value for failure in getattr(error, "reasons", ())] or [error]
    if any(isinstance(cause, SSL.Error | VerificationError) for cause in causes):
        return "TLS failed, or its certificate is not trusted"
    return type(causes[0]).__name__
