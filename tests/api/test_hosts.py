"""Which hosts are answered, and which tenant a host stands for."""

from __future__ import annotations

import pytest
import pytest_twisted

from scalelite.api.hosts import tenant_names, without_port
from tests.api.support import exchange, running

BLOCKED = [
    "evil.example", "lb.example.evil.example", "xlb.example", "a.lb.example", "lb.example.", "127.0.0.1", "localhost",
    "", "lb.example:80:90", "lb.example@evil.example", "lb.example evil.example", "evil.example#lb.example",
]  # fmt: skip


async def status(port: int, path: str, *headers: str) -> tuple[int, str | None]:
    lines = "\r\n".join((f"GET {path} HTTP/1.1", *headers, "Connection: close"))
    (answer,) = await exchange(port, (lines + "\r\n\r\n").encode())
    return answer.status, answer.key if answer.body.startswith(b"<") else answer.body.decode()


@pytest_twisted.ensureDeferred
async def test_only_the_configured_host_is_answered_in_production() -> None:
    async with running(environment="production", url_host="lb.example") as balancer:
        for host in ("lb.example", "LB.Example", "lb.example:443", "lb.example:3000"):
            assert await status(balancer.port, "/bigbluebutton/api", f"Host: {host}") == (200, None)
        for host in BLOCKED:
            for path in ("/bigbluebutton/api", "/bigbluebutton/api/create", "/", "/nothing"):
                assert (await status(balancer.port, path, f"Host: {host}")) == (403, "unsupportedRequest"), host
        assert (await status(balancer.port, "/bigbluebutton/api"))[0] == 403


@pytest_twisted.ensureDeferred
async def test_health_checks_come_by_any_host_but_the_root_does_not() -> None:
    async with running(environment="production", url_host="lb.example") as balancer:
        for path in ("/health_check", "/health_check.xml", "/health_check/"):
            assert await status(balancer.port, path, "Host: 10.0.0.1") == (200, "success")
        for path in ("/", "/bigbluebutton/api/health_check", "/video/health_check/"):
            assert (await status(balancer.port, path, "Host: 10.0.0.1"))[0] == 403
        assert await status(balancer.port, "/", "Host: lb.example") == (200, "success")


@pytest_twisted.ensureDeferred
async def test_a_forwarded_host_must_pass_as_well() -> None:
    async with running(environment="production", url_host="lb.example") as balancer:
        for host, forwarded, expected in (
            ("lb.example", "lb.example", 200),
            ("lb.example", "LB.example:8080", 200),
            ("lb.example", "evil.example, lb.example", 200),
            ("lb.example", "lb.example, evil.example", 403),
            ("lb.example", "evil.example", 403),
            ("evil.example", "lb.example", 403),
        ):
            headers = (f"Host: {host}", f"X-Forwarded-Host: {forwarded}")
            assert (await status(balancer.port, "/bigbluebutton/api", *headers))[0] == expected, headers


@pytest_twisted.ensureDeferred
async def test_with_tenants_one_label_before_the_host_is_answered() -> None:
    async with running(environment="production", url_host="lb.example", multitenancy_enabled=True) as balancer:
        for host in ("lb.example", "school.lb.example", "School-1.lb.example:443"):
            assert (await status(balancer.port, "/bigbluebutton/api", f"Host: {host}"))[0] == 200
        for host in ("a.b.lb.example", "evil.example", "a_b.lb.example", ".lb.example", "xlb.example"):
            assert (await status(balancer.port, "/bigbluebutton/api", f"Host: {host}"))[0] == 403, host


@pytest.mark.parametrize(
    "settings",
    [
        {"environment": "production", "url_host": None},
        {"environment": "development", "url_host": "lb.example"},
        {"environment": "test", "url_host": "lb.example"},
    ],
)
@pytest_twisted.ensureDeferred
async def test_elsewhere_any_host_is_answered(settings: dict[str, str | None]) -> None:
    async with running(**settings) as balancer:
        for host in ("evil.example", "", "127.0.0.1"):
            assert (await status(balancer.port, "/bigbluebutton/api", f"Host: {host}"))[0] == 200


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("a.example", "a.example"), ("a.example:80", "a.example"), ("a.example:", "a.example"), ("[::1]:80", "[::1]"),
        ("[::1]", "[::1]"), ("", ""), ("a:b", "a:b"), ("a", "a"),
    ],
)  # fmt: skip
def test_ports_are_dropped(host: str, name: str) -> None:
    assert without_port(host) == name


@pytest.mark.parametrize(
    ("host", "names"),
    [
        ("school.lb.example", ("school",)),
        ("School.lb.example", ("School", "school")),
        ("", ("",)),
        ("school", ("school",)),
    ],
)
def test_a_tenant_is_named_by_the_first_label(host: str, names: tuple[str, ...]) -> None:
    assert tenant_names(host) == names
