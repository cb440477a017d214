"""The REST API for operators below /scalelite/api: servers and tenants, by the operations that the commands use."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

import attrs
import orjson
from twisted.logger import Logger

from scalelite.admin.audit import Recorder
from scalelite.admin.table import Actor
from scalelite.admin.text import host_of, url_fault
from scalelite.api.management_door import Door
from scalelite.api.management_input import Call, Refusal, as_text, missing_record, multiplier, printable, read_call
from scalelite.api.management_openapi import DESCRIPTION
from scalelite.api.replies import NO_CACHE, Reply
from scalelite.api.routing import Routes, unsupported
from scalelite.api.site import Request
from scalelite.bbb import xml
from scalelite.bbb.errors import BBBError, InternalError
from scalelite.bbb.query import MalformedQuery
from scalelite.cluster.operations import tenants as tenant_operations
from scalelite.cluster.operations.servers import Clearing, NotEnded, ServerClearance, ServerGone, change_state
from scalelite.cluster.operations.tenants import NoSuchTenant
from scalelite.cluster.records import Server, ServerState
from scalelite.cluster.tenants import Taken, TenantRecord, Unfit
from scalelite.store.audit import AuditStore
from scalelite.store.errors import StoreError
from scalelite.store.servers import ServerStore
from scalelite.store.tenants import TenantStore

T = TypeVar("T")
Work = Callable[[Call], Coroutine[Any, Any, Reply]]

ROOT: Final = "/scalelite/api"
_JSON: Final = b"application/json; charset=utf-8"
_XML: Final = b"application/xml; charset=utf-8"
_STATES: Final = {"enable": ServerState.ENABLED, "cordon": ServerState.CORDONED, "disable": ServerState.DISABLED}

#: What an operation may end with that tells the client something.
_EXPECTED: Final = (Refusal, ServerGone, NoSuchTenant, Unfit, StoreError)

NO_TENANTS: Final = "Multitenancy is disabled"
INCOMPLETE_SERVER: Final = "Server needs a URL and a secret"
INCOMPLETE_TENANT: Final = "Error: both name and secrets are required to create a Tenant"


@attrs.frozen
class ManagementRules:
    """Settings of the REST API."""

    server_id_is_hostname: bool = False
    multitenancy_enabled: bool = False


class ManagementAPI:
    """The routes. `new_id` makes an id for a new record."""

    _log = Logger()

    def __init__(
        self,
        door: Door,
        servers: ServerStore,
        tenants: TenantStore,
        clearance: ServerClearance,
        new_id: Callable[[], str],
        rules: ManagementRules,
        audit: AuditStore,
    ) -> None:
        self._door = door
        self._servers = servers
        self._tenants = tenants
        self._clearance = clearance
        self._new_id = new_id
        self._rules = rules
        self._audit = audit

    def register(self, routes: Routes) -> None:
        """Add the routes, each with a suffix such as `.json` as well, as Scalelite takes them."""
        routes.add(f"{ROOT}/openapi.json", ("GET",), _describe)
        for name, method, work in (
            ("getServers", "GET", self.get_servers),
            ("getServerInfo", "GET", self.get_server),
            ("addServer", "POST", self.add_server),
            ("updateServer", "POST", self.update_server),
            ("deleteServer", "POST", self.delete_server),
            ("panicServer", "POST", self.panic_server),
            ("getTenants", "GET", self._of_tenants(self.get_tenants)),
            ("getTenantInfo", "GET", self._of_tenants(self.get_tenant)),
            ("addTenant", "POST", self._of_tenants(self.add_tenant)),
            ("updateTenant", "POST", self._of_tenants(self.update_tenant)),
            ("deleteTenant", "POST", self._of_tenants(self.delete_tenant)),
        ):
            handler = self._admitted(name, work)
            routes.add(f"{ROOT}/{name}", (method,), handler)
            routes.add(f"{ROOT}/{name}.<suffix>", (method,), _suffixed(handler))

    async def act(self, actor: Actor, command: str, target: str, work: Coroutine[Any, Any, T]) -> T:
        """Make a change, and keep it in the audit log; raises what `work` raises.

        Every change of this API goes through here, by the name of the command that would do the same to `target`.
        """
        recorder = Recorder(self._audit, actor, command, target)
        await recorder.begin()
        try:
            result = await work
        except _EXPECTED as error:
            await recorder.end(str(error), by_store=isinstance(error, StoreError))
            raise
        except Exception as error:
            await recorder.end(f"broke: {type(error).__name__}")
            raise
        await recorder.end("ok")
        return result

    def _admitted(self, name: str, work: Work) -> Callable[[Request], Coroutine[Any, Any, Reply]]:
        """`work` behind the checks, and every failure as an answer of this API."""

        async def handler(request: Request) -> Reply:
            try:
                call = read_call(request)
                await self._door.admit(request, name, call)
                return await work(call)
            except Refusal as refusal:
                request.note = str(refusal.status)
                return _json({refusal.key: str(refusal)}, refusal.status)
            except BBBError as error:
                request.note = error.message_key
                return Reply(xml.render_error(error), 200, _XML, NO_CACHE)
            except MalformedQuery:
                return _json({"error": "The request could not be parsed."}, 400)
            except StoreError as error:
                self._log.error("the store failed {name}: {error}", name=name, error=error)
                return _json({"error": "Unable to access the data store."}, 503)
            except Exception:  # noqa: BLE001 - every failure is answered
                self._log.failure("{name} failed unexpectedly", name=name)
                return _json({"error": "An unexpected error occurred."}, 500)

        return handler

    def _of_tenants(self, work: Work) -> Work:
        if self._rules.multitenancy_enabled:
            return work

        async def refused(_call: Call) -> Reply:
            raise Refusal(412, NO_TENANTS, "message")

        return refused

    # Servers

    async def get_servers(self, call: Call) -> Reply:
        """All servers, by id."""
        servers = await self._servers.all()
        if not servers:
            raise Refusal(404, "No servers are configured")
        return _json([_server(server) for server in servers])

    async def get_server(self, call: Call) -> Reply:
        """One server."""
        return _json(_server(await self._server(call)))

    async def add_server(self, call: Call) -> Reply:
        """Record a new server, disabled and offline."""
        given = call.record("server")
        if given is None:
            raise InternalError(missing_record("server"))
        url, secret = printable("url", given.get("url")), printable("secret", given.get("secret"))
        if not url or not secret:
            raise Refusal(400, INCOMPLETE_SERVER)
        fault = url_fault(url)
        if fault is not None:
            raise Refusal(400, fault)
        load_multiplier = multiplier(given.get("load_multiplier")) or 1.0
        tag = printable("tag", given.get("tag")) or ""
        server_id = host_of(url).lower() if self._rules.server_id_is_hostname else self._new_id()

        async def add() -> None:
            if not await self._servers.add(server_id, url, secret, load_multiplier, tag):
                raise Refusal(409, f"Server already exists with id '{server_id}'")

        await self.act(call.actor, "servers:add", f"{server_id} {url}", add())
        return _json(_server(await self._found(server_id)), 201)

    async def update_server(self, call: Call) -> Reply:
        """Change what is given of a server's state, secret, load multiplier and tag, once all of it is found good."""
        server = await self._server(call)
        given = call.record("server")
        if given is None:
            raise Refusal(400, missing_record("server"))
        verb = (as_text(given.get("state")) or "").strip()
        if verb and verb not in _STATES:
            raise Refusal(400, f"Invalid state parameter: {verb}")
        load_multiplier = multiplier(given.get("load_multiplier"))
        if load_multiplier == 0:
            raise Refusal(400, "Load-multiplier must be a non-zero number")
        secret, tag = printable("secret", given.get("secret")) or None, printable("tag", given.get("tag"))

        async def update() -> None:
            if not await self._servers.update(server.id, secret=secret, load_multiplier=load_multiplier, tag=tag):
                raise _no_server(server.id)

        if not (secret is None and load_multiplier is None and tag is None):
            await self.act(call.actor, "servers:update", server.id, update())
        if verb:
            changing = change_state(self._servers, server.id, _STATES[verb])
            try:
                await self.act(call.actor, f"servers:{verb}", server.id, changing)
            except ServerGone:
                raise _no_server(server.id) from None
        return _json(_server(await self._found(server.id)))

    async def delete_server(self, call: Call) -> Reply:
        """Take a server out of the pool, unless meetings are recorded there and it is not forced."""
        server, force = await self._server(call), call.flag("force", "server")

        async def remove() -> None:
            recorded = await self._servers.remove(server.id, force=force)
            if recorded is None:
                raise _no_server(server.id)
            if recorded and not force:
                what = "1 meeting is" if recorded == 1 else f"{recorded} meetings are"
                reason = f"{what} recorded there; with force=true, they are forgotten"
                raise Refusal(400, f"Couldn't destroy server id={server.id}: {reason}")

        await self.act(call.actor, "servers:remove", server.id, remove())
        return _json({"success": f"Server id={server.id} was destroyed"})

    async def panic_server(self, call: Call) -> Reply:
        """Disable a server unless its state is to be kept, end its meetings and forget them."""
        server, keep_state = await self._server(call), call.flag("keep_state", "server")
        clearing = self._clearance.panic(server, self._tell, keep_state=keep_state)
        try:
            await self.act(call.actor, "servers:panic", server.id, clearing)
        except ServerGone:
            raise _no_server(server.id) from None
        except StoreError as error:
            raise Refusal(400, f"Couldn't disable server id={server.id}") from error
        return _json({"success": f"Server id={server.id} has been disabled and the meetings have been destroyed"})

    def _tell(self, event: Clearing | NotEnded) -> None:
        if isinstance(event, NotEnded):
            self._log.warn("could not end meeting {id}: {reason}", id=event.meeting_id, reason=event.reason)

    async def _server(self, call: Call) -> Server:
        return await self._found(call.text("id") or "")

    async def _found(self, server_id: str) -> Server:
        server = await self._servers.find(server_id)
        if server is None:
            raise _no_server(server_id)
        return server

    # Tenants

    async def get_tenants(self, call: Call) -> Reply:
        """All tenants, by name."""
        tenants = await self._tenants.all()
        if not tenants:
            return _json({"message": "No tenants exist"})
        return _json([{"id": tenant.id, "name": tenant.name, "secrets": tenant.secrets} for tenant in tenants])

    async def get_tenant(self, call: Call) -> Reply:
        """One tenant, with all its fields."""
        return _json(_tenant(await self._tenant(call)))

    async def add_tenant(self, call: Call) -> Reply:
        """Record a new tenant."""
        name, secrets = _name_and_secrets(call)
        if not name or not secrets:
            raise Refusal(400, INCOMPLETE_TENANT, "message")
        adding = tenant_operations.add_tenant(self._tenants, self._new_id(), name, secrets)
        try:
            tenant = await self.act(call.actor, "tenants:add", name, adding)
        except Unfit as fault:
            status = 409 if isinstance(fault, Taken) else 400
            raise Refusal(status, f"Error: {fault}", "message") from None
        added = {"name": tenant.name, "secrets": tenant.secrets, "new_record": False, "destroyed": False}
        return _json({"tenant": {**added, "id": tenant.id}}, 201)

    async def update_tenant(self, call: Call) -> Reply:
        """Change what is given of a tenant's name and secrets."""
        tenant = await self._tenant(call)
        name, secrets = _name_and_secrets(call)
        if name or secrets:
            updating = tenant_operations.update_tenant(
                self._tenants, tenant.id, name=name or None, secrets=secrets or None
            )
            try:
                tenant = await self.act(call.actor, "tenants:update", tenant.id, updating)
            except NoSuchTenant as gone:
                raise Refusal(404, str(gone)) from None
            except Unfit as fault:
                raise Refusal(409 if isinstance(fault, Taken) else 422, str(fault)) from None
        return _json({"tenant": _tenant(tenant)})

    async def delete_tenant(self, call: Call) -> Reply:
        """Remove a tenant with its settings, unless it has meetings and it is not forced."""
        tenant, force = await self._tenant(call), call.flag("force", "tenant")
        meetings = 0 if force else await self._tenants.count_meetings(tenant.id)
        if meetings:
            what = "1 meeting" if meetings == 1 else f"{meetings} meetings"
            raise Refusal(422, f"Tenant id={tenant.id} has {what}, which nobody could join then: force=true goes on")
        try:
            removing = tenant_operations.remove_tenant(self._tenants, tenant.id)
            await self.act(call.actor, "tenants:remove", tenant.id, removing)
        except NoSuchTenant as gone:
            raise Refusal(404, str(gone)) from None
        return _json({"success": f"Tenant id={tenant.id} was destroyed"})

    async def _tenant(self, call: Call) -> TenantRecord:
        try:
            return await tenant_operations.find_tenant(self._tenants, call.text("id") or "")
        except NoSuchTenant as none:
            raise Refusal(404, str(none)) from None


def _suffixed(handler: Callable[[Request], Coroutine[Any, Any, Reply]]) -> Callable[[Request], Any]:
    """`handler` behind a suffix of letters and digits; with others the path could look like that of a health check."""

    async def checked(request: Request) -> Reply:
        suffix = request.path.rpartition(b"/")[2].partition(b".")[2]
        return await handler(request) if suffix.isalnum() else unsupported(request)

    return checked


def _describe(_request: Request) -> Reply:
    return DESCRIPTION


def _no_server(server_id: str) -> Refusal:
    return Refusal(404, f"Couldn't find server with id={server_id}")


def _name_and_secrets(call: Call) -> tuple[str, str]:
    """What a call says of a tenant; "" for what is blank or absent. Raises InternalError where there is no record."""
    given = call.record("tenant")
    if given is None:
        raise InternalError(missing_record("tenant"))
    return (as_text(given.get("name")) or "").strip(), (as_text(given.get("secrets")) or "").strip()


def _server(server: Server) -> dict[str, Any]:
    return {
        "id": server.id,
        "url": server.url,
        "secret": server.secret,
        "tag": server.tag or "",
        "bbb_version": server.bbb_version or "",
        "state": server.state.value,
        "load": "unavailable" if server.load is None else server.load,
        "load_multiplier": str(server.load_multiplier),
        "online": "online" if server.online else "offline",
    }


def _tenant(tenant: TenantRecord) -> dict[str, Any]:
    stored = {"name": tenant.name, "secrets": tenant.secrets, **tenant.lrs}
    return {"new_record": False, "destroyed": False, **stored, "id": tenant.id}


def _json(value: object, status: int = 200) -> Reply:
    # What Scalelite, or anybody else, has stored need not be UTF-8.
    body = orjson.dumps(value, default=lambda raw: bytes(raw).decode("utf-8", "replace"))
    return Reply(body, status, _JSON, NO_CACHE)
