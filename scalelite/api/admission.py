"""What every BBB action checks before it acts: body type, checksum, tenant, required parameters; in this order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any

import attrs

from scalelite.api.bodies import Accepts, read_body
from scalelite.api.hosts import request_host, tenant_names
from scalelite.api.replies import Reply, StreamedReply
from scalelite.api.site import Handler, Request
from scalelite.bbb import checksum, query
from scalelite.bbb.errors import ChecksumError, MissingMeetingID
from scalelite.bbb.query import Params
from scalelite.cluster.records import Tenant
from scalelite.store.tenants import TenantStore


@attrs.frozen
class Call:
    """An admitted call: merged parameters, XML body, and the tenant if tenants are on."""

    params: Params = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    tenant: Tenant | None
    strict_tenant_id: str | None
    """What meetings' tenant ids must equal for this caller; None without tenants."""

    @property
    def meeting_id(self) -> str:
        """The required meetingID, verbatim. Raises MissingMeetingID if it is absent or blank."""
        meeting_id = self.params.get("meetingID")
        if not meeting_id or not meeting_id.strip():
            raise MissingMeetingID
        return meeting_id


Action = Callable[[Request, Call], Coroutine[Any, Any, Reply | StreamedReply]]


class Admission:
    """Checks calls. `tenants` is None where there is only one customer."""

    def __init__(self, secrets: Sequence[bytes], algorithms: Collection[str], tenants: TenantStore | None) -> None:
        self._secrets = tuple(secret for secret in secrets if secret)
        self._algorithms = frozenset(algorithms)
        self._tenants = tenants

    @property
    def has_tenants(self) -> bool:
        """Whether a call belongs to the tenant of the host that it names."""
        return self._tenants is not None

    def read(self, request: Request, accepts: Accepts) -> tuple[Params, bytes]:
        """Parameters and XML body of a request. What the query says beats what the body says; only the query is signed.

        Raises UnsupportedContentType or MalformedQuery.
        """
        form, body = read_body(request, accepts) if request.method == b"POST" else ({}, b"")
        params = query.parse(request.raw_query)
        return ({**form, **params} if form else params), body

    def admit(self, request: Request, action: str, accepts: Accepts) -> Call:
        """Check a call where there are no tenants. Raises BBBError or MalformedQuery."""
        params, body = self.read(request, accepts)
        checksum.verify(action, request.raw_query, params.get("checksum"), self._secrets, self._algorithms)
        return Call(params, body, None, None)

    async def admit_tenant(self, request: Request, action: str, accepts: Accepts) -> Call:
        """Check a call where there are tenants: only that tenant's own secrets sign.

        Raises BBBError, MalformedQuery or StoreError.
        """
        params, body = self.read(request, accepts)
        tenant = await self.tenant(request)
        checksum.verify(action, request.raw_query, params.get("checksum"), tenant.secrets, self._algorithms)
        return Call(params, body, tenant, tenant.id)

    async def tenant(self, request: Request) -> Tenant:
        """The tenant of the host that the request names. Raises ChecksumError if there is none."""
        assert self._tenants is not None
        for name in tenant_names(request_host(request)):
            tenant = await self._tenants.find(name) if name else None
            if tenant is not None:
                return tenant
        raise ChecksumError

    def admitted(self, name: str, accepts: Accepts, action: Action) -> Handler:
        """`action` behind the checks."""
        if self.has_tenants:

            async def with_tenant(request: Request) -> Reply | StreamedReply:
                return await action(request, await self.admit_tenant(request, name, accepts))

            return with_tenant

        def without_tenant(request: Request) -> Coroutine[Any, Any, Reply | StreamedReply]:
            return action(request, self.admit(request, name, accepts))

        return without_tenant

    def fixed(self, document: bytes) -> Handler:
        """An action that is switched off: always the same answer, unsigned calls included."""
        reply = Reply(document)

        def fixed(request: Request) -> Reply:
            self.read(request, Accepts.FORM)
            return reply

        return fixed

    def signing_secrets(self, tenant: Tenant | None) -> Sequence[bytes]:
        """The secrets that this caller and we share."""
        return self._secrets if tenant is None else tenant.secrets
