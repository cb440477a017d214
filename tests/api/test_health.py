"""The health check: success in plain text, or 503 with a reason."""

from __future__ import annotations

from pathlib import Path

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


@pytest_twisted.ensureDeferred
async def test_the_database_is_part_of_the_health(tmp_path: Path) -> None:
    file = tmp_path / "scalelite.sqlite3"
    running = await Balancer.start(database_url=f"sqlite:///{file}")
    url = f"http://127.0.0.1:{running.port}/health_check"
    try:
        assert (await running.request("GET", url)).body == b"success"
        assert running.parts.archive is not None
        await running.schema_settled()
        running.parts.archive.database.hold("it is at /var/secret")
        ill = await running.request("GET", url)
        assert (ill.code, ill.body) == (503, b"Health Check Failure: the database cannot be used; the log says why")
        assert (await running.call("getRecordings")).key == "internalError"
        assert (await running.call("getMeetings")).returncode == "SUCCESS"
    finally:
        await running.stop()
