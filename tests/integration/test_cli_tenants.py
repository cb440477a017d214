"""Tenants administered by the command line on a real redis-server, and what it leaves there, key by key."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.command_line import Shell, dump, record_meeting, spelled
from tests.integration.redis_server import RedisServer

pytestmark = pytest.mark.integration

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def shell(tmp_path: Path, redis: RedisServer) -> Shell:
    return Shell(tmp_path, REDIS_URL=redis.url, MULTITENANCY_ENABLED="true")


def the_id(pattern: str, text: str) -> str:
    found = re.fullmatch(pattern.replace("ID", f"({UUID})"), text)
    assert found, text
    return found[1]


@pytest.mark.parametrize("spelling", ["plain", "rake"])
def test_the_life_of_a_tenant_key_by_key(shell: Shell, redis: RedisServer, spelling: str) -> None:
    added = shell.ok(*spelled(spelling, "tenants:add", "acme", "s2:s1"))
    tid = the_id("OK\nNew Tenant id: ID\n", added)
    record = {"name": "acme", "secrets": "s2:s1"}
    assert dump(redis) == {
        "scalelite:tenants": [tid],
        f"scalelite:tenant:{tid}": record,
        "scalelite:tenant_name:acme": {"id": tid},
    }

    renamed = shell.ok(*spelled(spelling, "tenants:update", tid, "club", "s3:s2"))
    assert renamed == f"OK\nUpdated Tenant id: {tid}\n"
    record = {"name": "club", "secrets": "s3:s2"}
    whole = {
        "scalelite:tenants": [tid],
        f"scalelite:tenant:{tid}": record,
        "scalelite:tenant_name:club": {"id": tid},
    }
    assert dump(redis) == whole

    lrs = ["https://lrs.example/xapi", "user", "pass"]
    assert shell.ok(*spelled(spelling, "tenants:update_lrs_basic", tid, *lrs)) == f"OK\nUpdated Tenant id: {tid}\n"
    record |= dict(zip(("lrs_endpoint", "lrs_username", "lrs_password"), lrs, strict=True))
    assert dump(redis) == whole

    added = shell.ok(*spelled(spelling, "tenantSettings:add", tid, "logo", "https://x.example/l.png", "true"))
    sid = the_id("OK\nNew TenantSetting id: ID\n", added)
    setting = {"param": "logo", "value": "https://x.example/l.png", "override": "true", "tenant_id": tid}
    assert dump(redis) == {
        **whole, f"scalelite:tenant_settings:{tid}": [sid], f"scalelite:tenant_setting:{sid}": setting,
    }  # fmt: skip
    listed = f"Tenant: club\n  id: {sid}\n\tparam: logo\n\tvalue: https://x.example/l.png\n\toverride: true\n"
    assert shell.ok(*spelled(spelling, "tenantSettings")) == listed

    removed = shell.ok(*spelled(spelling, "tenantSettings:remove", sid))
    assert removed == "TenantSetting was successfully deleted.\n"
    assert dump(redis) == whole
    shell.ok(*spelled(spelling, "tenantSettings:add", tid, "logo", "x", "false"))
    agreed = ["--yes"] if spelling == "plain" else []
    removed = shell.ok(*spelled(spelling, "tenants:remove", tid), *agreed)
    assert removed == "Tenant was successfully deleted.\n"
    assert dump(redis) == {}
    assert shell.ok("tenants") == "Total number of tenants: 0\n"


def test_secrets_come_through_a_pipe_and_are_shown_only_if_asked_for(shell: Shell) -> None:
    tid = the_id("OK\nNew Tenant id: ID\n", shell.ok("tenants:add", "acme", "-", stdin="hush1:hush2\n"))
    assert shell.ok("tenants") == f"id: {tid}\n\tname: acme\n\tsecrets: *****:*****\nTotal number of tenants: 1\n"
    assert "hush1:hush2" in shell.ok("tenants", "--show-secrets")
    assert "hush1:hush2" in shell.ok("rake", "tenants")
    shell.ok("tenants:update", tid, "-", "--secrets-from-stdin", stdin="new:hush1\n")
    assert "new:hush1" in shell.ok("rake", "tenants")


def test_removal_asks_on_a_terminal_and_not_on_a_pipe(shell: Shell, redis: RedisServer) -> None:
    tid = the_id("OK\nNew Tenant id: ID\n", shell.ok("tenants:add", "acme", "s"))
    record_meeting(redis, "m1", "s1", "123456789")
    redis.command("HSET", "scalelite:meeting:m1", "tenant_id", tid)
    before = dump(redis)
    for words in (["tenants:remove", tid], [f"tenants:remove[{tid}]"]):
        done = shell.run(*words)
        assert (done.returncode, done.stderr.startswith("ERROR: Nothing was changed")) == (2, True)
    status, shown = shell.on_terminal("tenants:remove", tid, type_in="no\r", after="enter `yes`")
    assert (status, "It has 1 running meeting" in shown, "Aborted" in shown) == (1, True, True)
    assert dump(redis) == before
    status, shown = shell.on_terminal("tenants:remove", tid, type_in="yes\r", after="enter `yes`")
    assert (status, "Tenant was successfully deleted." in shown) == (0, True)
    assert "scalelite:tenants" not in dump(redis)


def test_without_multitenancy_there_is_one_line_and_status_one(shell: Shell, redis: RedisServer) -> None:
    for words in (["tenants"], ["tenants:add[a,b]"], ["tenantSettings"], ["rake", "tenants:remove[x]"]):
        for value in ("false", ""):
            done = shell.run(*words, MULTITENANCY_ENABLED=value)
            assert (done.returncode, done.stdout) == (1, "")
            assert done.stderr == "Multitenancy is disabled, task can not be completed\n"
    assert dump(redis) == {}
