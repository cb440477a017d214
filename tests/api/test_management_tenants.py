"""Tenants over REST: what each route takes, answers and stores, line by line of Scalelite's contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted

from tests.api.rest import Rest, refused, said
from tests.api.support import add_tenant_setting, running

BOTH_REQUIRED = "Error: both name and secrets are required to create a Tenant"
MISSING = "param is missing or the value is empty: tenant"
LRS = {
    "lrs_endpoint": "https://lrs", "lrs_username": "lu", "lrs_password": "lp", "kc_token_url": "https://kc",
    "kc_client_id": "ci", "kc_client_secret": "cs", "kc_username": "ku", "kc_password": "kp",
}  # fmt: skip
ROUTES = ["getTenants", "getTenantInfo", "addTenant", "updateTenant", "deleteTenant"]


@pytest_twisted.async_yield_fixture()
async def shared_rest() -> AsyncIterator[Rest]:
    """The API of an installation with tenants."""
    async with running(multitenancy_enabled=True) as balancer:
        yield Rest(balancer)


@pytest.fixture
def rest(shared_rest: Rest) -> Rest:
    return shared_rest


def no_tenant(tenant_id: str) -> tuple[int, Any]:
    return 404, {"error": f"Couldn't find Tenant with id={tenant_id}"}


async def add(rest: Rest, name: str = "acme", secrets: str = "s1:s2") -> str:
    """A new tenant; its id."""
    status, content = said(await rest.post("addTenant", {"tenant": {"name": name, "secrets": secrets}}))
    assert status == 201, content
    return str(content["tenant"]["id"])


@pytest.mark.parametrize("route", ROUTES)
@pytest_twisted.ensureDeferred
async def test_without_multitenancy_there_are_no_tenants(route: str) -> None:
    async with running() as balancer:
        rest = Rest(balancer)
        ask = rest.get if route.startswith("get") else rest.post
        assert said(await ask(route)) == (412, {"message": "Multitenancy is disabled"})
        rest.secret = "wrong"
        assert refused(await ask(route), "checksumError")


@pytest_twisted.ensureDeferred
async def test_without_tenants_a_message_says_so(rest: Rest) -> None:
    assert said(await rest.get("getTenants")) == (200, {"message": "No tenants exist"})


@pytest.mark.parametrize("flat", [True, False])
@pytest_twisted.ensureDeferred
async def test_an_added_tenant_is_stored_as_scalelite_does(rest: Rest, flat: bool) -> None:
    record = {"name": "acme", "secrets": "s1:s2", "lrs_endpoint": "https://x", "unknown": "y"}
    answer = await rest.post("addTenant", record if flat else {"tenant": record})
    status, content = said(answer)
    tenant_id = content["tenant"]["id"]
    dumped = {"name": "acme", "secrets": "s1:s2", "new_record": False, "destroyed": False, "id": tenant_id}
    assert (status, content) == (201, {"tenant": dumped})
    assert list(content["tenant"]) == list(dumped)
    assert await rest.stored(f"tenant:{tenant_id}") == {"name": "acme", "secrets": "s1:s2"}
    assert await rest.stored("tenant_name:acme") == {"id": tenant_id}
    assert await rest.keys() == {"tenants", f"tenant:{tenant_id}", "tenant_name:acme"}


@pytest.mark.parametrize(
    "record",
    [
        {"name": "acme"}, {"secrets": "s"}, {"name": " ", "secrets": "s"}, {"name": "acme", "secrets": ""},
        {"name": "acme", "secrets": None}, {"name": ["acme"], "secrets": "s"}, {"foo": 1},
    ],
)  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_a_tenant_needs_both_name_and_secrets(rest: Rest, record: dict[str, Any]) -> None:
    assert said(await rest.post("addTenant", {"tenant": record})) == (400, {"message": BOTH_REQUIRED})
    assert await rest.keys() == set()


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"name": "a.b", "secrets": "s"}, "Error: A tenant's name must be the first label of its host name"),
        ({"name": "Acme", "secrets": "s"}, "Error: A tenant's name must be the first label of its host name"),
        ({"name": "acme", "secrets": "::"}, "Error: A tenant needs a secret that is not blank"),
        ({"name": "acme", "secrets": "a\nb"}, "Error: A secret must have no control characters"),
        ({"name": "taken", "secrets": "s"}, "Error: A tenant named taken exists already"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_tenant_that_cannot_be_is_refused(rest: Rest, record: dict[str, str], message: str) -> None:
    await add(rest, "taken")
    before = await rest.keys()
    status, content = said(await rest.post("addTenant", {"tenant": record}))
    assert (status, list(content)) == (409 if record["name"] == "taken" else 400, ["message"])
    assert content["message"].startswith(message)
    assert await rest.keys() == before


@pytest.mark.parametrize("route", ["addTenant", "updateTenant"])
@pytest.mark.parametrize("body", [{}, {"tenant": {}}, {"tenant": None}, {"tenant": "x"}])
@pytest_twisted.ensureDeferred
async def test_without_a_record_there_is_nothing_to_do(rest: Rest, route: str, body: Any) -> None:
    tenant_id = await add(rest)
    assert refused(await rest.post(route, body, f"id={tenant_id}"), "internalError", MISSING)


@pytest_twisted.ensureDeferred
async def test_tenants_are_listed_by_name_with_their_secrets(rest: Rest) -> None:
    club, acme = await add(rest, "club", "c"), await add(rest, "acme", "s1:s2")
    assert said(await rest.get("getTenants")) == (
        200,
        [{"id": acme, "name": "acme", "secrets": "s1:s2"}, {"id": club, "name": "club", "secrets": "c"}],
    )


@pytest_twisted.ensureDeferred
async def test_a_tenant_is_dumped_with_every_field_that_it_has(rest: Rest) -> None:
    tenant_id = await add(rest)
    dumped = {"new_record": False, "destroyed": False, "name": "acme", "secrets": "s1:s2", "id": tenant_id}
    answer = await rest.get("getTenantInfo", f"id={tenant_id}")
    assert said(answer) == (200, dumped)
    assert list(said(answer)[1]) == list(dumped)
    key = rest.balancer.key(f"tenant:{tenant_id}")
    await rest.balancer.redis("HSET", key, *[part for pair in LRS.items() for part in pair])
    assert said(await rest.get("getTenantInfo", f"id={tenant_id}")) == (200, {**dumped, **LRS})


@pytest.mark.parametrize("route", ["getTenantInfo", "updateTenant", "deleteTenant"])
@pytest_twisted.ensureDeferred
async def test_a_tenant_that_is_not_there_is_not_found(rest: Rest, route: str) -> None:
    ask = rest.get if route.startswith("get") else rest.post
    assert said(await ask(route, query="id=nobody")) == no_tenant("nobody")
    assert said(await ask(route)) == no_tenant("")


@pytest.mark.parametrize(
    ("change", "stored"),
    [
        ({"name": "club"}, {"name": "club", "secrets": "s1:s2"}),
        ({"secrets": "new:s1"}, {"name": "acme", "secrets": "new:s1"}),
        ({"secrets": "a::b"}, {"name": "acme", "secrets": "a:b"}),
        ({"name": "club", "secrets": "new"}, {"name": "club", "secrets": "new"}),
        ({"name": "", "secrets": " "}, {"name": "acme", "secrets": "s1:s2"}),
        ({"name": "acme", "lrs_endpoint": "https://x"}, {"name": "acme", "secrets": "s1:s2"}),
    ],
)
@pytest.mark.parametrize("flat", [True, False])
@pytest_twisted.ensureDeferred
async def test_update_changes_what_is_given(
    rest: Rest, change: dict[str, str], stored: dict[str, str], flat: bool
) -> None:
    tenant_id = await add(rest)
    body = {"id": tenant_id, **change} if flat else {"id": tenant_id, "tenant": change}
    dumped = {"new_record": False, "destroyed": False, **stored, "id": tenant_id}
    assert said(await rest.post("updateTenant", body)) == (200, {"tenant": dumped})
    assert await rest.stored(f"tenant:{tenant_id}") == stored
    assert await rest.keys() == {"tenants", f"tenant:{tenant_id}", f"tenant_name:{stored['name']}"}
    assert await rest.stored(f"tenant_name:{stored['name']}") == {"id": tenant_id}


@pytest_twisted.ensureDeferred
async def test_an_id_alone_changes_nothing(rest: Rest) -> None:
    tenant_id = await add(rest)
    assert said(await rest.post("updateTenant", {"id": tenant_id}))[0] == 200
    assert await rest.stored(f"tenant:{tenant_id}") == {"name": "acme", "secrets": "s1:s2"}


@pytest.mark.parametrize("change", [{"name": "taken"}, {"name": "x.y"}, {"secrets": ":"}, {"secrets": "a\x00"}])
@pytest_twisted.ensureDeferred
async def test_an_update_that_cannot_be_is_refused(rest: Rest, change: dict[str, str]) -> None:
    await add(rest, "taken")
    tenant_id = await add(rest)
    status, content = said(await rest.post("updateTenant", {"id": tenant_id, "tenant": change}))
    assert (status, list(content)) == (409 if change.get("name") == "taken" else 422, ["error"])
    assert await rest.stored(f"tenant:{tenant_id}") == {"name": "acme", "secrets": "s1:s2"}


@pytest_twisted.ensureDeferred
async def test_a_deleted_tenant_leaves_nothing(rest: Rest) -> None:
    tenant_id = await add(rest)
    await add_tenant_setting(rest.balancer, tenant_id, "logo", "x", override=True)
    answer = await rest.post("deleteTenant", {"id": tenant_id})
    assert said(answer) == (200, {"success": f"Tenant id={tenant_id} was destroyed"})
    assert await rest.keys() == set()
    assert said(await rest.post("deleteTenant", {"id": tenant_id})) == no_tenant(tenant_id)


@pytest_twisted.ensureDeferred
async def test_a_tenant_with_meetings_is_deleted_only_by_force(rest: Rest) -> None:
    tenant_id = await add(rest)
    balancer = rest.balancer
    await balancer.add_servers(1)
    url = balancer.url("create", secret="s1", meetingID="m1", name="Meeting")
    assert (await balancer.request("GET", url, headers={"Host": "acme.lb"})).returncode == "SUCCESS"
    status, content = said(await rest.post("deleteTenant", {"id": tenant_id}))
    assert (status, list(content)) == (422, ["error"])
    assert "has 1 meeting" in content["error"]
    assert said(await rest.post("deleteTenant", {"id": tenant_id, "force": True}))[0] == 200
    assert said(await rest.get("getTenants"))[1] == {"message": "No tenants exist"}


@pytest_twisted.ensureDeferred
async def test_no_tenants_secret_opens_the_api_whatever_the_host(rest: Rest) -> None:
    await add(rest, "acme", "tenant-secret")
    for host in ("acme.lb.example", "lb.example", "acme"):
        rest.secret = "tenant-secret"
        for route in ("getTenants", "getServers"):
            assert refused(await rest.get(route, Host=host), "checksumError")
        rest.secret = "secret"
        assert said(await rest.get("getTenants", Host=host))[0] == 200


@pytest_twisted.ensureDeferred
async def test_a_tenant_that_was_added_can_be_called_at_once_and_no_more_when_deleted(rest: Rest) -> None:
    async def key(secret: str) -> str | None:
        url = rest.balancer.url("getMeetings", secret=secret)
        return (await rest.balancer.request("GET", url, headers={"Host": "acme.lb"})).key

    assert await key("s1") == "checksumError"
    tenant_id = await add(rest)
    assert (await key("s1"), await key("s2")) == ("noMeetings", "noMeetings")
    await rest.post("updateTenant", {"id": tenant_id, "secrets": "s3:s2"})
    assert (await key("s1"), await key("s2"), await key("s3")) == ("checksumError", "noMeetings", "noMeetings")
    await rest.post("deleteTenant", {"id": tenant_id})
    assert await key("s3") == "checksumError"
