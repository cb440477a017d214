"""The health check: success in plain text, or 503 with a reason."""

from __future__ import annotations

import pytest
import pytest_twisted

from tests.balancer import Balancer


@pytest.mark.parametrize("path", ["/", "/health_check", "/health_check/", "/health_check.xml", "/health_check.json"])
@pytest_twisted.ensureDeferred
async def test_health_is_told_in_plain_text(shared: Balancer, path: str) -> None:
    url = f"http://127.0.0.1:{shared.port}{path}"
    answer = await shared.request("GET", url)
    assert (answer.code, answer.body) == (200, b"success")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    head = await shared.request("HEAD", url)
    assert (head.code, head.body) == (200, b"")
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert (await shared.request(method, url)).key == "unsupportedRequest"


@pytest.mark.parametrize("path", ["/health_check/x", "/health_checks", "/Health_check", "/health_check.a/b"])
@pytest_twisted.ensureDeferred
async def test_other_paths_are_no_health_checks(shared: Balancer, path: str) -> None:
    assert (await shared.request("GET", f"http://127.0.0.1:{shared.port}{path}")).key == "unsupportedRequest"


@pytest_twisted.ensureDeferred
async def test_without_the_store_it_is_ill_and_calls_fail_in_xml(balancer: Balancer) -> None:
    await balancer.parts.redis.stopService()
    answer = await balancer.request("GET", f"http://127.0.0.1:{balancer.port}/health_check")
    assert answer.code == 503
    assert answer.body.startswith(b"Health Check Failure: ")
    for action in ("create", "join", "getMeetings", "getMeetingInfo", "end"):
        failed = await balancer.call(action, meetingID="m1", name="Meeting", fullName="A")
        assert (failed.code, failed.key) == (200, "internalError"), action
        assert failed.message == "Unable to access the data store."
    # What needs no store is still answered.
    assert (await balancer.request("GET", balancer.api)).returncode == "SUCCESS"
