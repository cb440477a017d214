"""The commands for tenants and their settings: every line they print, in both spellings, and what they store."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
import pytest_twisted

from tests.admin.desk import Desk, Result, both, spelled
from tests.balancer import Balancer

LRS = {
    "lrs_endpoint": "https://lrs.example/xapi", "lrs_username": "lu", "lrs_password": "lp",
    "kc_token_url": "https://kc.example/token", "kc_client_id": "ci", "kc_client_secret": "cs", "kc_username": "ku",
    "kc_password": "kp",
}  # fmt: skip
BASIC = [LRS[name] for name in ("lrs_endpoint", "lrs_username", "lrs_password")]
KEYCLOAK = [value for name, value in LRS.items() if name not in ("lrs_username", "lrs_password")]
BOTH_REQUIRED = "Error: both name and secrets are required to create a Tenant\n"


@pytest_twisted.async_yield_fixture()
async def shared_balancer() -> AsyncIterator[Balancer]:
    """A balancer with tenants."""
    running = await Balancer.start(multitenancy_enabled=True)
    yield running
    await running.stop()


@pytest.fixture
def balancer(shared_balancer: Balancer) -> Balancer:
    return shared_balancer


async def stored(balancer: Balancer, key: str) -> Any:
    """A hash as a dict, a set as a set; empty if there is none."""
    kind = await balancer.redis("TYPE", balancer.key(key))
    if kind == "set":
        return set(await balancer.redis("SMEMBERS", balancer.key(key)))
    flat = await balancer.redis("HGETALL", balancer.key(key))
    return dict(flat) if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))


async def keys(balancer: Balancer) -> set[str]:
    names = {name.removeprefix(balancer.key("")) for name in await balancer.redis("KEYS", "*")}
    return names - {"balancer:audit"}


@both
@pytest_twisted.ensureDeferred
async def test_a_tenant_is_recorded_in_scalelites_layout(balancer: Balancer, desk: Desk, spelling: str) -> None:
    result = await desk.run(*spelled(spelling, "tenants:add", "acme", "s1:s2"))
    assert result == Result(0, "OK\nNew Tenant id: new-1\n", "")
    assert await keys(balancer) == {"tenants", "tenant:new-1", "tenant_name:acme"}
    assert await stored(balancer, "tenants") == {"new-1"}
    assert await stored(balancer, "tenant:new-1") == {"name": "acme", "secrets": "s1:s2"}
    assert await stored(balancer, "tenant_name:acme") == {"id": "new-1"}


@pytest.mark.parametrize("words", [["tenants:add"], ["tenants:add", "acme"], ["tenants:add", "", "s"]])
@both
@pytest_twisted.ensureDeferred
async def test_a_tenant_needs_both_name_and_secrets(
    balancer: Balancer, desk: Desk, spelling: str, words: list[str]
) -> None:
    assert await desk.run(*spelled(spelling, *words)) == Result(1, "", BOTH_REQUIRED)
    assert await keys(balancer) == set()


@pytest.mark.parametrize("name", ["a.b", "Acme", "a_b", "-a", "a-", "ä", "a b", "a" * 64, "a\n"])
@pytest_twisted.ensureDeferred
async def test_a_name_that_no_host_could_have_is_refused(balancer: Balancer, desk: Desk, name: str) -> None:
    result = await desk.run(*(["tenants:add", name, "s"] if name[0] != "-" else [f"tenants:add[{name},s]"]))
    assert result.status == 1
    assert result.err.startswith("ERROR: A tenant's name must be the first label of its host name")
    assert await keys(balancer) == set()


@pytest_twisted.ensureDeferred
async def test_a_name_is_given_once(balancer: Balancer, desk: Desk) -> None:
    assert (await desk.run("tenants:add", "acme", "one")).status == 0
    again = await desk.run("tenants:add", "acme", "two")
    assert again == Result(1, "", "ERROR: A tenant named acme exists already\n")
    assert (await desk.run("tenants:add", "club", "two")).status == 0
    renamed = await desk.run("tenants:update", "new-3", "acme")
    assert renamed == Result(1, "", "ERROR: A tenant named acme exists already\n")
    assert await stored(balancer, "tenant_name:acme") == {"id": "new-1"}


@pytest.mark.parametrize(
    ("given", "kept"),
    [("a::b", "a:b"), (":a: :b:", "a:b"), ("b:a:b", "b:a"), ("::", None), (" ", None), ("a\x01", None)],
)
@pytest_twisted.ensureDeferred
async def test_empty_secrets_are_never_stored(balancer: Balancer, desk: Desk, given: str, kept: str | None) -> None:
    result = await desk.run("tenants:add", "acme", given)
    assert (result.status == 0) == (kept is not None)
    assert (await stored(balancer, "tenant:new-1")).get("secrets") == kept


@pytest_twisted.ensureDeferred
async def test_secrets_may_come_from_standard_input(balancer: Balancer, desk: Desk) -> None:
    assert (await desk.run("tenants:add", "acme", "-", answers=("s1:s2",))).status == 0
    assert (await stored(balancer, "tenant:new-1"))["secrets"] == "s1:s2"
    assert await desk.run("tenants:add", "club", "-") == Result(1, "", BOTH_REQUIRED)
    assert (await desk.run("tenants:update", "new-1", "--secrets-from-stdin", answers=("s3:s1",))).status == 0
    assert await stored(balancer, "tenant:new-1") == {"name": "acme", "secrets": "s3:s1"}
    basic = await desk.run("tenants:update_lrs_basic", "new-1", "https://l", "u", "-", answers=("hush",))
    assert basic.status == 0
    assert (await stored(balancer, "tenant:new-1"))["lrs_password"] == "hush"
    token = await desk.run(
        "tenants:update_lrs_kc", "new-1", "https://l", "https://k", "c", "-", "u", "-", answers=("cs", "kp")
    )
    assert token.status == 0
    record = await stored(balancer, "tenant:new-1")
    assert (record["kc_client_secret"], record["kc_password"]) == ("cs", "kp")


@pytest_twisted.ensureDeferred
async def test_tenants_are_listed_line_by_line_as_scalelite_does(balancer: Balancer, desk: Desk) -> None:
    await desk.run("tenants:add", "club", "c")
    await desk.run("tenants:add", "acme", "s1:s2")
    await balancer.redis("HSET", balancer.key("tenant:new-2"), *[part for pair in LRS.items() for part in pair])
    assert await desk.run("rake", "tenants") == Result(
        0,
        "id: new-2\n"
        "\tname: acme\n"
        "\tsecrets: s1:s2\n"
        "\tlrs_endpoint: https://lrs.example/xapi\n"
        "\tlrs_username: lu\n"
        "\tlrs_password: lp\n"
        "\tkc_token_url: https://kc.example/token\n"
        "\tkc_client_id: ci\n"
        "\tkc_client_secret: cs\n"
        "\tkc_username: ku\n"
        "\tkc_password: kp\n"
        "id: new-1\n"
        "\tname: club\n"
        "\tsecrets: c\n"
        "Total number of tenants: 2\n",
        "",
    )


@pytest_twisted.ensureDeferred
async def test_without_tenants_the_total_is_none(desk: Desk) -> None:
    assert await desk.run("tenants") == Result(0, "Total number of tenants: 0\n", "")
    assert await desk.run("tenants", "--json") == Result(0, "[]\n", "")
    assert await desk.run("tenantSettings") == Result(0, "", "")


@pytest.mark.parametrize("flags", [[], ["--json"]])
@pytest_twisted.ensureDeferred
async def test_secrets_are_masked_unless_asked_for(balancer: Balancer, desk: Desk, flags: list[str]) -> None:
    await desk.run("tenants:add", "acme", "hush1:hush2")
    await balancer.redis("HSET", balancer.key("tenant:new-1"), *[part for pair in LRS.items() for part in pair])
    masked = await desk.run("tenants", *flags)
    assert not any(secret in masked.out for secret in ("hush", '"lp"', ": lp", '"cs"', ": cs", '"kp"', ": kp"))
    assert masked.out.count("*****") == 5
    clear = await desk.run("tenants", *flags, "--show-secrets")
    assert "hush1" in clear.out
    assert "*" not in clear.out


@pytest_twisted.ensureDeferred
async def test_json_lists_every_field_of_a_tenant(desk: Desk) -> None:
    await desk.run("tenants:add", "acme", "s1:s2")
    await desk.run("tenants:update_lrs_basic", "new-1", *BASIC)
    result = await desk.run("tenants", "--json", "--show-secrets")
    assert json.loads(result.out) == [
        {
            "id": "new-1", "name": "acme", "secrets": ["s1", "s2"], "lrs_endpoint": LRS["lrs_endpoint"],
            "lrs_username": "lu", "lrs_password": "lp",
        }
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("plain", "rake", "record"),
    [
        (["new-1", "club"], "tenants:update[new-1,club]", {"name": "club", "secrets": "s1"}),
        (["new-1", "-", "s2:s1"], "tenants:update[new-1,,s2:s1]", {"name": "acme", "secrets": "s2:s1"}),
        (["new-1", "club", "s2"], "tenants:update[new-1,club,s2]", {"name": "club", "secrets": "s2"}),
        (["new-1", "acme"], "tenants:update[new-1,acme]", {"name": "acme", "secrets": "s1"}),
    ],
)
@both
@pytest_twisted.ensureDeferred
async def test_update_changes_what_is_given(
    balancer: Balancer, desk: Desk, spelling: str, plain: list[str], rake: str, record: dict[str, str]
) -> None:
    await desk.run("tenants:add", "acme", "s1")
    words = ["tenants:update", *plain] if spelling == "plain" else [rake]
    assert await desk.run(*words) == Result(0, "OK\nUpdated Tenant id: new-1\n", "")
    assert await stored(balancer, "tenant:new-1") == record
    assert {key for key in await keys(balancer) if key.startswith("tenant_name:")} == {f"tenant_name:{record['name']}"}
    assert await stored(balancer, f"tenant_name:{record['name']}") == {"id": "new-1"}


@pytest_twisted.ensureDeferred
async def test_a_name_that_scalelite_let_pass_may_stay(balancer: Balancer, desk: Desk) -> None:
    await balancer.redis("HSET", balancer.key("tenant:old"), "name", "Big Co", "secrets", "s")
    await balancer.redis("HSET", balancer.key("tenant_name:Big Co"), "id", "old")
    await balancer.redis("SADD", balancer.key("tenants"), "old")
    assert (await desk.run("tenants:update", "old", "Big Co", "new")).status == 0
    assert await stored(balancer, "tenant:old") == {"name": "Big Co", "secrets": "new"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tenants:update"], "Error: id and either name or secrets are required to update a Tenant"),
        (["tenants:update", "new-1"], "Error: id and either name or secrets are required to update a Tenant"),
        (
            ["tenants:update_lrs_basic", "new-1", "https://l", "u"],
            "Error: id, LRS_ENDPOINT, LRS_USERNAME, LRS_PASSWORD are required to update a Tenant",
        ),
        (
            ["tenants:update_lrs_kc", "new-1", "https://l", "https://k", "c", "s", "u"],
            "Error: LRS_ENDPOINT, KC_TOKEN_URL, KC_CLIENT_ID, KC_CLIENT_SECRET, KC_USERNAME, KC_PASSWORD are required "
            "to update a Tenant",
        ),
        (
            ["tenantSettings:add", "new-1", "p", "v"],
            "Error: tenant_id, param, value and override are required to create a TenantSetting",
        ),
        (
            ["tenantSettings:add", "new-1", "p", "", "true"],
            "Error: tenant_id, param, value and override are required to create a TenantSetting",
        ),
        (["tenants:update", "nobody", "x"], "ERROR: Couldn't find Tenant with id=nobody"),
        (["tenants:update_lrs_basic", "nobody", *BASIC], "ERROR: Couldn't find Tenant with id=nobody"),
        (["tenants:update_lrs_kc", "nobody", *KEYCLOAK], "ERROR: Couldn't find Tenant with id=nobody"),
        (["tenants:remove", "nobody"], "ERROR: Couldn't find Tenant with id=nobody"),
        (["tenantSettings:add", "nobody", "p", "v", "true"], "ERROR: Couldn't find Tenant with id=nobody"),
        (["tenantSettings:remove", "nothing"], "ERROR: Couldn't find TenantSetting with id=nothing"),
        (["tenants:update_lrs_basic", "new-1", "lrs.example", "u", "p"], "ERROR: LRS_ENDPOINT must be an http:// or"),
        (["tenantSettings:add", "new-1", "meta_tenant-id", "x", "true"], "ERROR: The parameter meta_tenant-id is not"),
        (["tenantSettings:add", "new-1", "checksum", "x", "true"], "ERROR: The parameter checksum is not for settings"),
    ],
)
@both
@pytest_twisted.ensureDeferred
async def test_mistakes_are_told_in_one_line_and_change_nothing(
    balancer: Balancer, desk: Desk, spelling: str, words: list[str], message: str
) -> None:
    await desk.run("tenants:add", "acme", "s1")
    before = await keys(balancer), await stored(balancer, "tenant:new-1")
    result = await desk.run(*spelled(spelling, *words))
    assert (result.status, result.out) == (1, "")
    assert result.err.startswith(message)
    assert result.err.count("\n") == 1
    assert (await keys(balancer), await stored(balancer, "tenant:new-1")) == before


@both
@pytest_twisted.ensureDeferred
async def test_a_login_or_a_way_to_tokens_is_stored(balancer: Balancer, desk: Desk, spelling: str) -> None:
    await desk.run("tenants:add", "acme", "s1")
    plain = {"name": "acme", "secrets": "s1"}
    result = await desk.run(*spelled(spelling, "tenants:update_lrs_kc", "new-1", *KEYCLOAK))
    assert result == Result(0, "OK\nUpdated Tenant id: new-1\n", "")
    token = {name: value for name, value in LRS.items() if name not in ("lrs_username", "lrs_password")}
    assert await stored(balancer, "tenant:new-1") == {**plain, **token}
    result = await desk.run(*spelled(spelling, "tenants:update_lrs_basic", "new-1", *BASIC))
    assert result == Result(0, "OK\nUpdated Tenant id: new-1\n", "")
    assert await stored(balancer, "tenant:new-1") == {**plain, **LRS}
    # A login goes on winning over tokens for as long as it is there.
    result = await desk.run(*spelled(spelling, "tenants:update_lrs_kc", "new-1", *KEYCLOAK))
    assert (result.status, result.out) == (0, "OK\nUpdated Tenant id: new-1\n")
    assert result.err.startswith("WARNING: LRS_USERNAME and LRS_PASSWORD were removed")
    assert await stored(balancer, "tenant:new-1") == {**plain, **token}


@both
@pytest_twisted.ensureDeferred
async def test_removing_a_tenant_leaves_nothing_of_it(balancer: Balancer, desk: Desk, spelling: str) -> None:
    await desk.run("tenants:add", "acme", "s1")
    await desk.run("tenants:add", "club", "s2")
    await desk.run("tenantSettings:add", "new-1", "logo", "x", "true")
    await desk.run("tenantSettings:add", "new-2", "logo", "y", "true")
    words = spelled(spelling, "tenants:remove", "new-1")
    result = await desk.run(*words, *(["--yes"] if spelling == "plain" else []))
    assert result == Result(0, "Tenant was successfully deleted.\n", "")
    assert await keys(balancer) == {
        "tenants", "tenant:new-2", "tenant_name:club", "tenant_settings:new-2", "tenant_setting:new-4",
    }  # fmt: skip


@pytest_twisted.ensureDeferred
async def test_removing_a_tenant_asks(balancer: Balancer, desk: Desk) -> None:
    await desk.run("tenants:add", "acme", "s1")
    silent = await desk.run("tenants:remove", "new-1")
    assert (silent.status, silent.out) == (2, "")
    no = await desk.run("tenants:remove", "new-1", answers=("no",), terminal=True)
    assert (no.status, no.out.splitlines()[-1]) == (1, "Aborted")
    assert "tenant acme and its settings" in no.out
    assert "tenant:new-1" in await keys(balancer)
    yes = await desk.run("tenants:remove", "new-1", answers=("yes",), terminal=True)
    assert (yes.status, yes.out.splitlines()[-1]) == (0, "Tenant was successfully deleted.")
    assert await keys(balancer) == set()


@pytest_twisted.ensureDeferred
async def test_in_rakes_spelling_only_a_tenant_with_meetings_is_asked_about(balancer: Balancer, desk: Desk) -> None:
    await desk.run("tenants:add", "acme", "s1")
    await balancer.add_servers(1)
    url = balancer.url("create", secret="s1", meetingID="m1", name="Meeting")
    created = await balancer.request("GET", url, headers={"Host": "acme.lb"})
    assert created.returncode == "SUCCESS", created.body
    refused = await desk.run("tenants:remove[new-1]")
    assert (refused.status, refused.err.startswith("ERROR: Nothing was changed")) == (2, True)
    agreed = await desk.run("tenants:remove[new-1]", answers=("YES",))
    assert agreed.status == 0
    assert "It has 1 running meeting, which nobody could join then" in agreed.out


@both
@pytest_twisted.ensureDeferred
async def test_settings_are_stored_and_listed_as_scalelite_does(balancer: Balancer, desk: Desk, spelling: str) -> None:
    await desk.run("tenants:add", "acme", "s1")
    await desk.run("tenants:add", "club", "s2")
    added = await desk.run(*spelled(spelling, "tenantSettings:add", "new-1", "logo", "https://x/l.png", "false"))
    assert added == Result(0, "OK\nNew TenantSetting id: new-3\n", "")
    added = await desk.run(*spelled(spelling, "tenantSettings:add", "new-1", "record", "true", "true"))
    assert added == Result(0, "OK\nNew TenantSetting id: new-4\n", "")
    assert await stored(balancer, "tenant_settings:new-1") == {"new-3", "new-4"}
    assert await stored(balancer, "tenant_setting:new-4") == {
        "param": "record", "value": "true", "override": "true", "tenant_id": "new-1",
    }  # fmt: skip
    assert await desk.run(*spelled(spelling, "tenantSettings")) == Result(
        0,
        "Tenant: acme\n"
        "  id: new-3\n"
        "\tparam: logo\n"
        "\tvalue: https://x/l.png\n"
        "\toverride: false\n"
        "  id: new-4\n"
        "\tparam: record\n"
        "\tvalue: true\n"
        "\toverride: true\n"
        "Tenant: club\n",
        "  No custom settings are configured\n",
    )
    removed = await desk.run(*spelled(spelling, "tenantSettings:remove", "new-3"))
    assert removed == Result(0, "TenantSetting was successfully deleted.\n", "")
    assert await stored(balancer, "tenant_settings:new-1") == {"new-4"}
    assert "tenant_setting:new-3" not in await keys(balancer)


@pytest_twisted.ensureDeferred
async def test_a_setting_takes_the_place_of_its_like(balancer: Balancer, desk: Desk) -> None:
    await desk.run("tenants:add", "acme", "s1")
    await desk.run("tenantSettings:add", "new-1", "logo", "a", "false")
    await desk.run("tenantSettings:add", "new-1", "logo", "b", "true")
    again = await desk.run("tenantSettings:add", "new-1", "logo", "c", "no")
    assert (again.status, again.out) == (0, "OK\nNew TenantSetting id: new-4\n")
    assert again.err == "WARNING: It replaces the setting new-2 of the same parameter\n"
    listed = json.loads((await desk.run("tenantSettings", "--json")).out)
    assert listed == [
        {
            "tenant": "acme",
            "tenant_id": "new-1",
            "settings": [
                {"id": "new-4", "param": "logo", "value": "c", "override": False},
                {"id": "new-3", "param": "logo", "value": "b", "override": True},
            ],
        }
    ]
    misread = await desk.run("tenantSettings:add", "new-1", "logo", "c", "maybe")
    assert (misread.status, misread.err) == (2, "ERROR: OVERRIDE must be true or false, not 'maybe'\n")


@pytest_twisted.ensureDeferred
async def test_settings_that_are_passwords_are_masked(desk: Desk) -> None:
    await desk.run("tenants:add", "acme", "s1")
    await desk.run("tenantSettings:add", "new-1", "moderatorPW", "hush", "true")
    assert "hush" not in (await desk.run("tenantSettings")).out
    assert "hush" not in (await desk.run("tenantSettings", "--json")).out
    assert "hush" in (await desk.run("tenantSettings", "--show-secrets")).out
    assert "hush" in (await desk.run("tenantSettings[]")).out


@pytest.mark.parametrize(
    "words",
    [
        ["tenants"], ["tenants:add", "acme", "s"], ["tenants:update", "id", "acme"],
        ["tenants:update_lrs_basic", "id", *BASIC], ["tenants:update_lrs_kc", "id", *KEYCLOAK],
        ["tenants:remove", "id"], ["tenantSettings"], ["tenantSettings:add", "id", "p", "v", "true"],
        ["tenantSettings:remove", "id"],
    ],
)  # fmt: skip
@both
@pytest_twisted.ensureDeferred
async def test_without_multitenancy_there_are_no_such_tasks(
    balancer: Balancer, desk: Desk, spelling: str, words: list[str]
) -> None:
    desk.settings = attrs.evolve(desk.settings, multitenancy_enabled=False)
    result = await desk.run(*spelled(spelling, *words))
    assert result == Result(1, "", "Multitenancy is disabled, task can not be completed\n")
    assert await keys(balancer) == set()


@pytest_twisted.ensureDeferred
async def test_a_rotated_secret_counts_from_the_next_call_on(balancer: Balancer, desk: Desk) -> None:
    async def signs(secret: str) -> bool:
        url = balancer.url("getMeetings", secret=secret)
        return (await balancer.request("GET", url, headers={"Host": "acme.lb"})).key == "noMeetings"

    await desk.run("tenants:add", "acme", "old")
    await desk.run("tenants:update", "new-1", "-", "new:old")
    assert (await signs("old"), await signs("new")) == (True, True)
    await desk.run("tenants:update", "new-1", "-", "new")
    assert (await signs("old"), await signs("new")) == (False, True)
