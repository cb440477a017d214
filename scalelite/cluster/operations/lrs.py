"""Makes the learning-record payload of a create call; never holds a create up for long, never fails it."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

import orjson
from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from twisted.web.http_headers import Headers

from scalelite.bbb.client import Transport, collect
from scalelite.bbb.query import encode
from scalelite.cluster.lrs import encrypt, plain_payload
from scalelite.cluster.records import Tenant

_FORM = Headers({b"Content-Type": [b"application/x-www-form-urlencoded"], b"Accept": [b"application/json"]})
MAX_TOKEN_ANSWER = 65536
REST = 15.0
"""Seconds for which a token endpoint is not asked again after it failed: not every create is to wait for it."""

MOST_RESTING = 1000


class _Resting(Exception):
    """The token endpoint has failed just now."""


class LRSPayloads:
    """Gets tokens (Keycloak) and encrypts. `patience` bounds the token call, in seconds."""

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        transport: Transport,
        post: Callable[[bytes], object],
        random_bytes: Callable[[int], bytes],
        patience: float,
    ) -> None:
        self._reactor = reactor
        self._transport = transport
        self._post = post
        self._random_bytes = random_bytes
        self._patience = patience
        self._rests_until: dict[str, float] = {}

    async def payload(self, tenant: Tenant, server_secret: str) -> str | None:
        """The value of `meta_secret-lrs-payload`; None, with a warning in the log, if it can't be made."""
        if not (tenant.lrs_endpoint or "").strip():
            return None
        try:
            assert tenant.lrs_endpoint is not None
            if (tenant.lrs_username or "").strip():
                plain = plain_payload(tenant.lrs_endpoint, username=tenant.lrs_username, password=tenant.lrs_password)
            else:
                token = await self._token_in_time(tenant)
                plain = plain_payload(tenant.lrs_endpoint, token=token)
            value: str = await deferToThread(
                encrypt, plain, server_secret, self._random_bytes(8), self._random_bytes(8)
            )
        except Exception as error:  # noqa: BLE001 - Scalelite's rule: any failure leaves the parameter out
            self._log.warn(
                "no LRS payload for tenant {tenant}: {error}", tenant=tenant.name, error=type(error).__name__
            )
            return None
        return value

    async def _token_in_time(self, tenant: Tenant) -> str:
        endpoint, now = tenant.kc_token_url or "", self._reactor.seconds()
        if now < self._rests_until.get(endpoint, now):
            raise _Resting
        try:
            token: str = await defer.Deferred.fromCoroutine(self._token(tenant)).addTimeout(
                self._patience, self._reactor
            )
        except Exception:
            if len(self._rests_until) >= MOST_RESTING:
                self._rests_until.clear()
            self._rests_until[endpoint] = self._reactor.seconds() + REST
            raise
        self._rests_until.pop(endpoint, None)
        return token

    async def _token(self, tenant: Tenant) -> str:
        # The token URL's own query is dropped: Scalelite's rule.
        scheme, netloc, path, _, _ = urlsplit(tenant.kc_token_url or "")
        form = encode(
            {
                "client_id": tenant.kc_client_id or "",
                "client_secret": tenant.kc_client_secret or "",
                "username": tenant.kc_username or "",
                "password": tenant.kc_password or "",
                "grant_type": "password",
            }
        ).encode()
        response = await self._transport(
            b"POST",
            urlunsplit((scheme, netloc, path, "", "")).encode(),
            _FORM,
            self._post(form),  # type: ignore[arg-type]
        )
        body = await collect(response, MAX_TOKEN_ANSWER)
        if response.code != 200:
            raise ValueError(f"the token endpoint answered HTTP {response.code}")
        token = orjson.loads(body)["access_token"]
        if not isinstance(token, str):
            raise TypeError("the token endpoint gave no text for access_token")
        return token
